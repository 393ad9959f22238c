//! API keys: a shared secret per client, known here by its hash only.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use http::HeaderName;
use proto::extauth::Key;
use subtle::ConstantTimeEq as _;

use crate::check::Check;
use crate::credential::{self, Places};
use crate::header;
use crate::method::{Invalid, unauthorized};
use crate::verdict::{Denial, Grant, Removal, text};

/// Why a key that is there proves nothing. The client is told none of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not one well-formed key.
    #[error("{0}")]
    Credential(#[from] credential::Error),
    /// Nobody has it.
    #[error("the API key is unknown")]
    Unknown,
}

/// The longest key that is looked at, in bytes.
pub const LONGEST_KEY: usize = 512;

const PREFIX: &str = "sha256:";

/// The API keys of one policy.
#[derive(Debug)]
pub struct ApiKey {
    places: Places,
    /// By the first eight bytes of the hash, so that the whole hash is compared by us, in constant time.
    keys: HashMap<u64, Vec<Entry>, ahash::RandomState>,
    forward: bool,
    client_header: Option<HeaderName>,
    tier_header: Option<HeaderName>,
    label_headers: BTreeMap<String, HeaderName>,
}

struct Entry {
    hash: [u8; 32],
    client: String,
    tier: Option<String>,
    labels: BTreeMap<String, String>,
}

/// Hashes a key as configuration holds it: `sha256:` and 64 hexadecimal digits. `None` when no request could carry such a
/// key: it must be 1 to [`LONGEST_KEY`] visible ASCII characters without a comma.
pub fn hash(key: &str) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    let valid = !key.is_empty() && key.len() <= LONGEST_KEY && key.bytes().all(legal);
    valid.then(|| {
        let hex = sha256(key).iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}"));
        format!("{PREFIX}{hex}")
    })
}

impl ApiKey {
    /// Checks the configuration. Two keys with one hash are refused: nobody could say whose request it is.
    pub fn compile(config: &proto::extauth::ApiKey) -> Result<Self, Invalid> {
        if config.keys_file.is_some() {
            return Err(Invalid::new("keysFile", "is only known where policies are read from files"));
        }
        if config.from.is_empty() {
            return Err(Invalid::new("from", "names no place to look for a key"));
        }
        let places = Places::compile(&config.from).map_err(|(index, e)| Invalid::new(format!("from[{index}]"), &e))?;
        let label_headers = config.label_headers.iter().map(|(label, name)| {
            let header = header::name(name).map_err(|e| Invalid::new(format!("labelHeaders.{label}"), &e))?;
            Ok((label.clone(), header))
        });
        Ok(Self {
            places,
            keys: index(&config.keys)?,
            forward: config.forward,
            client_header: optional_header("clientHeader", config.client_header.as_deref())?,
            tier_header: optional_header("tierHeader", config.tier_header.as_deref())?,
            label_headers: label_headers.collect::<Result<_, Invalid>>()?,
        })
    }

    /// Whose key the request carries.
    pub fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let Some(key) = self.places.find(check)? else { return Ok(None) };
        self.find(&key).map(|entry| Some(self.grant(entry))).ok_or(Error::Unknown)
    }

    /// Headers that tell the upstream about the client.
    pub fn identity(&self) -> Vec<HeaderName> {
        let single = self.client_header.iter().chain(&self.tier_header);
        single.chain(self.label_headers.values()).cloned().collect()
    }

    /// Takes the key away, unless it is to be forwarded.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if !self.forward {
            self.places.strip(check, removal);
        }
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        if key.len() > LONGEST_KEY {
            return None;
        }
        let hash = sha256(key);
        let slot = self.keys.get(&slot(&hash))?;
        slot.iter().find(|entry| bool::from(entry.hash.ct_eq(&hash)))
    }

    fn grant(&self, entry: &Entry) -> Grant {
        let client = self.client_header.iter().map(|name| (name.clone(), entry.client.clone()));
        let tier = self.tier_header.iter().zip(&entry.tier).map(|(name, tier)| (name.clone(), tier.clone()));
        let labels = self
            .label_headers
            .iter()
            .filter_map(|(label, name)| entry.labels.get(label).map(|value| (name.clone(), value.clone())));
        let mut metadata = HashMap::from([("client".to_owned(), text(&entry.client))]);
        if let Some(tier) = &entry.tier {
            metadata.insert("tier".to_owned(), text(tier));
        }
        if !entry.labels.is_empty() {
            let fields = entry.labels.iter().map(|(label, value)| (label.clone(), text(value))).collect();
            metadata.insert("labels".to_owned(), Value { kind: Some(Kind::StructValue(Struct { fields })) });
        }
        Grant { headers: client.chain(tier).chain(labels).collect(), metadata, ..Grant::default() }
    }
}

/// The one answer to every failed attempt: it does not tell an unknown key from a malformed one.
pub fn denial(reason: String) -> Denial {
    unauthorized("ApiKey".to_owned(), "Client authentication failed.", reason)
}

fn index(keys: &[Key]) -> Result<HashMap<u64, Vec<Entry>, ahash::RandomState>, Invalid> {
    let mut index: HashMap<u64, Vec<Entry>, _> = HashMap::default();
    for (position, key) in keys.iter().enumerate() {
        let entry = Entry::compile(position, key)?;
        let slot = index.entry(slot(&entry.hash)).or_default();
        if let Some(other) = slot.iter().find(|other| other.hash == entry.hash) {
            let problem =
                format!("is also the key of client `{}`; give `{}` a key of its own", other.client, key.client);
            return Err(Invalid::new(format!("keys[{position}].hash"), &problem));
        }
        slot.push(entry);
    }
    Ok(index)
}

/// Without the hash, which would let a leaked log be searched for short keys.
impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Entry").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Entry {
    fn compile(position: usize, key: &Key) -> Result<Self, Invalid> {
        let field = |name: &str| format!("keys[{position}].{name}");
        let hash = parse(&key.hash).ok_or_else(|| {
            // The text is not repeated: somebody may have put the key itself here.
            Invalid::new(field("hash"), "is not `sha256:` and 64 hexadecimal digits (`extauth hash-key` makes one)")
        })?;
        if key.client.is_empty() {
            return Err(Invalid::new(field("client"), "is empty"));
        }
        header::value(&key.client).map_err(|e| Invalid::new(field("client"), &e))?;
        header::value(key.tier.as_deref().unwrap_or_default()).map_err(|e| Invalid::new(field("tier"), &e))?;
        for (label, value) in &key.labels {
            header::value(value).map_err(|e| Invalid::new(field(&format!("labels.{label}")), &e))?;
        }
        Ok(Self { hash, client: key.client.clone(), tier: key.tier.clone(), labels: key.labels.clone() })
    }
}

fn parse(hash: &str) -> Option<[u8; 32]> {
    let digits = hash.strip_prefix(PREFIX)?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * position..2 * position + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn sha256(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

fn slot(hash: &[u8; 32]) -> u64 {
    hash.iter().take(8).fold(0, |slot, byte| slot << 8 | u64::from(*byte))
}

fn optional_header(field: &str, name: Option<&str>) -> Result<Option<HeaderName>, Invalid> {
    name.map(|name| header::name(name).map_err(|e| Invalid::new(field, &e))).transpose()
}
