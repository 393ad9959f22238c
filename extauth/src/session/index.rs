//! Which sessions a user has, so that somebody else can end them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Hash, Record, Sessions};
use crate::{metrics, random};

/// A session as others see it: without its id, and without its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Hash of the session's id.
    pub session: String,
    /// When the user logged in, in seconds since 1970.
    pub created: u64,
    /// The provider's name in the policy.
    pub provider: String,
}

impl Sessions {
    /// The sessions of a user of an issuer.
    pub async fn list(&self, issuer: &str, subject: &str) -> Result<Vec<Listed>, Error> {
        let set = by_subject(issuer, subject);
        let mut found = Vec::new();
        for member in self.members(&set).await? {
            if let Some(hash) = Hash::parse(member.session.as_bytes())
                && self.store.get(&hash.key()).await?.is_some()
            {
                found.push(member);
            }
        }
        found.sort_by_key(|listed| listed.created);
        Ok(found)
    }

    /// Ends all sessions of a user, and says how many there were.
    pub async fn revoke(&self, issuer: &str, subject: &str) -> Result<usize, Error> {
        self.revoke_set(&by_subject(issuer, subject)).await
    }

    /// Ends the sessions that came of one session at the provider, and says how many there were.
    pub async fn revoke_sid(&self, issuer: &str, sid: &str) -> Result<usize, Error> {
        self.revoke_set(&by_sid(issuer, sid)).await
    }

    /// Makes a session known by its user and by the provider's session. It must be known before it can be used.
    pub(super) async fn enlist(&self, hash: &Hash, record: &Record, ttl: Duration) -> Result<(), Error> {
        let listed = Listed { session: hash.to_string(), created: record.created, provider: record.provider.clone() };
        let member = serde_json::to_vec(&listed).map_err(|_| Error::Form)?;
        self.store.add(&by_subject(&record.issuer, &record.subject), &member, ttl).await?;
        if let Some(sid) = &record.sid {
            self.store.add(&by_sid(&record.issuer, sid), &member, ttl).await?;
        }
        Ok(())
    }

    async fn revoke_set(&self, set: &str) -> Result<usize, Error> {
        let mut ended = 0;
        for member in self.members(set).await? {
            let Some(hash) = Hash::parse(member.session.as_bytes()) else { continue };
            if self.end_hash(&hash).await? {
                metrics::session("revoked");
                ended += 1;
            }
            let member = serde_json::to_vec(&member).map_err(|_| Error::Form)?;
            self.store.discard(set, &member).await?;
        }
        Ok(ended)
    }

    async fn members(&self, set: &str) -> Result<Vec<Listed>, Error> {
        let members = self.store.members(set).await?;
        Ok(members.iter().filter_map(|member| serde_json::from_slice(member).ok()).collect())
    }
}

fn by_subject(issuer: &str, subject: &str) -> String {
    format!("subject:{}", random::hash(&[issuer, subject]))
}

fn by_sid(issuer: &str, sid: &str) -> String {
    format!("sid:{}", random::hash(&[issuer, sid]))
}
