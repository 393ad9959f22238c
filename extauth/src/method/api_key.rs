//! API keys: a shared secret per client, known here by its hash only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value};
use http::HeaderName;
use proto::extauth::FailedAttempts;

use self::record::Record;
use self::ring::Ring;
use self::table::{Builder, Digests, Key, Refused, Table};
use crate::attempts::{Attempts, TooMany};
use crate::check::Check;
use crate::credential::{self, Places};
use crate::header;
use crate::method::{Invalid, too_many, unauthorized, unavailable};
use crate::resources::Resources;
use crate::verdict::{Denial, Grant, Removal, text};

pub use self::hash::{Hash, LONGEST_KEY, Pepper, PepperError};
pub use self::mint::{Minted, NoRandom, mint};
pub(crate) use self::record::moment;
pub use self::ring::Rings;

mod hash;
mod mint;
mod record;
mod ring;
mod table;

/// Why a key that is there proves nothing. The client is told none of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not one well-formed key.
    #[error("{0}")]
    Credential(#[from] credential::Error),
    /// Nobody has it.
    #[error("the API key is unknown")]
    Unknown,
    /// It expired, or it is disabled.
    #[error("the API key of client `{0}` is not good any more")]
    Over(String),
    /// Somebody guesses.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The keys in the store are not known, or not any more.
    #[error("the keys in the store are not known at the moment")]
    Unavailable,
}

/// The API keys of one policy.
#[derive(Debug)]
pub struct ApiKey {
    places: Places,
    keys: Table,
    ring: Option<Arc<Ring>>,
    pepper: Option<Pepper>,
    attempts: Attempts,
    bounds: FailedAttempts,
    forward: bool,
    client_header: Option<HeaderName>,
    tenant_header: Option<HeaderName>,
    tier_header: Option<HeaderName>,
    scopes_header: Option<HeaderName>,
    label_headers: BTreeMap<String, HeaderName>,
}

impl ApiKey {
    /// Checks the configuration. Two keys with one hash are refused: nobody could say whose request it is.
    pub fn compile(config: &proto::extauth::ApiKey, resources: &Resources) -> Result<Self, Invalid> {
        for (field, file) in [("keysFile", &config.keys_file), ("keysDir", &config.keys_dir)] {
            if file.is_some() {
                return Err(Invalid::new(field, "is only known where policies are read from files"));
            }
        }
        if config.from.is_empty() {
            return Err(Invalid::new("from", "names no place to look for a key"));
        }
        let places = Places::compile(&config.from).map_err(|(index, e)| Invalid::new(format!("from[{index}]"), &e))?;
        let label_headers = config.label_headers.iter().map(|(label, name)| {
            let header = header::name(name).map_err(|e| Invalid::new(format!("labelHeaders.{label}"), &e))?;
            Ok((label.clone(), header))
        });
        let pepper = resources.rings.pepper();
        Ok(Self {
            places,
            keys: table(&config.keys, pepper)?,
            ring: config.key_set.as_deref().map(|set| open(set, &resources.rings)).transpose()?,
            pepper: pepper.cloned(),
            attempts: resources.attempts.clone(),
            bounds: config.failed_attempts,
            forward: config.forward,
            client_header: optional_header("clientHeader", config.client_header.as_deref())?,
            tenant_header: optional_header("tenantHeader", config.tenant_header.as_deref())?,
            tier_header: optional_header("tierHeader", config.tier_header.as_deref())?,
            scopes_header: optional_header("scopesHeader", config.scopes_header.as_deref())?,
            label_headers: label_headers.collect::<Result<_, Invalid>>()?,
        })
    }

    /// Whose key the request carries.
    pub fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let key = match self.places.find(check) {
            Ok(None) => return Ok(None),
            Ok(Some(key)) => key,
            Err(error) => {
                self.attempts.start(&self.bounds, check, None)?.failed("");
                return Err(error.into());
            }
        };
        let attempt = self.attempts.start(&self.bounds, check, mint::id(&key))?;
        let found = self.find(&key, check.now());
        if matches!(found, Err(Error::Unknown | Error::Over(_))) {
            attempt.failed(&key);
        }
        found.map(Some)
    }

    /// Headers that tell the upstream about the client.
    pub fn identity(&self) -> Vec<HeaderName> {
        let about = [&self.client_header, &self.tenant_header, &self.tier_header, &self.scopes_header];
        about.into_iter().flatten().chain(self.label_headers.values()).cloned().collect()
    }

    /// Takes the key away, unless it is to be forwarded.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if !self.forward {
            self.places.strip(check, removal);
        }
    }

    /// Looks in the policy's own keys, then in the set of the store.
    fn find(&self, key: &str, now: u64) -> Result<Grant, Error> {
        if key.len() > LONGEST_KEY {
            return Err(Error::Unknown);
        }
        let pepper = self.pepper.as_ref();
        if let Some(known) = self.keys.find(&self.keys.digests(key, pepper)) {
            return self.grant(&known, now);
        }
        let Some(ring) = &self.ring else { return Err(Error::Unknown) };
        let digests = Digests::both(key, pepper);
        for digest in digests.each() {
            let shard = ring.shard(&digest).ok_or(Error::Unavailable)?;
            if let Some(known) = shard.find(&digests) {
                return self.grant(&known, now);
            }
        }
        Err(Error::Unknown)
    }

    fn grant(&self, key: &Key<'_>, now: u64) -> Result<Grant, Error> {
        if !key.is_good(now) {
            return Err(Error::Over(key.client.to_owned()));
        }
        let profile = key.profile;
        let mut grant = Grant::default();
        let mut tell = |header: Option<&HeaderName>, value: Option<String>| {
            grant.headers.extend(header.cloned().zip(value));
        };
        tell(self.client_header.as_ref(), Some(key.client.to_owned()));
        tell(self.tenant_header.as_ref(), key.tenant.map(str::to_owned));
        tell(self.tier_header.as_ref(), profile.tier.clone());
        let scopes = || profile.scopes.join(" ");
        tell(self.scopes_header.as_ref(), (self.scopes_header.is_some() && !profile.scopes.is_empty()).then(scopes));
        for (label, name) in &self.label_headers {
            tell(Some(name), profile.labels.get(label).cloned());
        }
        grant.metadata = metadata(key);
        Ok(grant)
    }
}

/// What rules and rate limits learn about a key.
fn metadata(key: &Key<'_>) -> HashMap<String, Value> {
    let profile = key.profile;
    let mut metadata = HashMap::from([("client".to_owned(), text(key.client))]);
    let id = Some(key.id).filter(|id| !id.is_empty());
    for (name, value) in [("key_id", id), ("tenant", key.tenant), ("tier", profile.tier.as_deref())] {
        metadata.extend(value.map(|value| (name.to_owned(), text(value))));
    }
    if !profile.scopes.is_empty() {
        let values = profile.scopes.iter().map(|scope| text(scope)).collect();
        metadata.insert("scopes".to_owned(), Value { kind: Some(Kind::ListValue(ListValue { values })) });
    }
    if !profile.labels.is_empty() {
        let fields = profile.labels.iter().map(|(label, value)| (label.clone(), text(value))).collect();
        metadata.insert("labels".to_owned(), Value { kind: Some(Kind::StructValue(Struct { fields })) });
    }
    metadata
}

/// What the client is told: the same for an unknown key, a malformed one and one that is not good any more.
pub fn denial(error: Option<&Error>) -> Denial {
    let reason = error.map_or_else(|| "no API key was sent".to_owned(), ToString::to_string);
    match error {
        Some(Error::TooMany(TooMany(seconds))) => too_many(*seconds, reason),
        Some(Error::Unavailable) => unavailable(reason),
        _ => unauthorized("ApiKey".to_owned(), "Client authentication failed.", reason),
    }
}

fn table(keys: &[proto::extauth::Key], pepper: Option<&Pepper>) -> Result<Table, Invalid> {
    let mut table = Builder::new(keys.len());
    for (position, key) in keys.iter().enumerate() {
        let field = |name: &str| format!("keys[{position}].{name}");
        let record = Record::compile(key, pepper);
        let record = record.map_err(|Invalid { field: name, problem }| Invalid { field: field(&name), problem })?;
        table.insert(record).map_err(|refused| {
            let problem = match refused {
                Refused::Taken(owner) => {
                    format!("is also the key of client `{owner}`; give `{}` a key of its own", key.client)
                }
                Refused::Full => "is one key too many".to_owned(),
            };
            Invalid::new(field("hash"), &problem)
        })?;
    }
    Ok(table.finish())
}

fn open(set: &str, rings: &Rings) -> Result<Arc<Ring>, Invalid> {
    validate(set)?;
    Ok(rings.open(set))
}

/// Checks the name of a set of keys.
pub(crate) fn validate(set: &str) -> Result<(), Invalid> {
    let problem = "is not 1 to 63 letters, digits, `-`, `_` and `.`";
    if mint::is_name(set) { Ok(()) } else { Err(Invalid::new("keySet", problem)) }
}

/// Checks what is said about a key.
pub(crate) fn check(key: &proto::extauth::Key, pepper: Option<&Pepper>) -> Result<(), Invalid> {
    Record::compile(key, pepper).map(drop)
}

fn optional_header(field: &str, name: Option<&str>) -> Result<Option<HeaderName>, Invalid> {
    name.map(|name| header::name(name).map_err(|e| Invalid::new(field, &e))).transpose()
}
