//! One key as it is written down.

use std::collections::BTreeMap;

use proto::extauth::Key;

use super::hash::{Hash, Pepper};
use crate::header;
use crate::method::Invalid;

/// The longest id or client name, in bytes.
const LONGEST_NAME: usize = 255;

/// A key whose fields make sense.
pub(super) struct Record {
    pub(super) hash: Hash,
    pub(super) id: String,
    pub(super) client: String,
    pub(super) tenant: Option<String>,
    /// Seconds since 1970.
    pub(super) expires: Option<u64>,
    pub(super) disabled: bool,
    pub(super) profile: Profile,
}

/// What many keys have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Profile {
    pub(super) tier: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Record {
    /// Checks a key's fields; the error names the field below the key.
    pub(super) fn compile(key: &Key, pepper: Option<&Pepper>) -> Result<Self, Invalid> {
        let hash = Hash::parse(&key.hash).ok_or_else(|| {
            // The text is not repeated: somebody may have put the key itself here.
            let problem = "is not `sha256:` or `hmac-sha256:` and 64 hexadecimal digits (`extauth hash-key` makes one)";
            Invalid::new("hash", problem)
        })?;
        if hash.keyed && pepper.is_none() {
            return Err(Invalid::new("hash", "is keyed, and there is no pepper: set EXTAUTH_KEY_PEPPER_FILE"));
        }
        if key.client.is_empty() {
            return Err(Invalid::new("client", "is empty"));
        }
        for (name, text) in [("id", &key.id), ("client", &key.client)] {
            header::value(text).map_err(|e| Invalid::new(name, &e))?;
            if text.len() > LONGEST_NAME {
                return Err(Invalid::new(name, &format!("is longer than {LONGEST_NAME} bytes")));
            }
        }
        for (name, text) in [("tenant", &key.tenant), ("tier", &key.tier)] {
            header::value(text.as_deref().unwrap_or_default()).map_err(|e| Invalid::new(name, &e))?;
        }
        for (index, scope) in key.scopes.iter().enumerate() {
            if scope.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Invalid::new(format!("scopes[{index}]"), "is not one word of visible ASCII characters"));
            }
        }
        for (label, value) in &key.labels {
            header::value(value).map_err(|e| Invalid::new(format!("labels.{label}"), &e))?;
        }
        Ok(Self {
            hash,
            id: key.id.clone(),
            client: key.client.clone(),
            tenant: key.tenant.clone(),
            expires: key.expires.as_deref().map(moment).transpose()?,
            disabled: key.disabled,
            profile: Profile { tier: key.tier.clone(), scopes: key.scopes.clone(), labels: key.labels.clone() },
        })
    }
}

/// Seconds since 1970.
pub(crate) fn moment(text: &str) -> Result<u64, Invalid> {
    let moment = text.parse::<jiff::Timestamp>().ok();
    let seconds = moment.and_then(|moment| u64::try_from(moment.as_second()).ok());
    seconds.ok_or_else(|| Invalid::new("expires", "is no time after 1970 such as `2027-01-31T00:00:00Z`"))
}
