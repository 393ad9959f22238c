//! Sessions and started logins that the browser itself keeps, for those who have no store: whole, in cookies that nobody but
//! us can read or make.
//!
//! The cipher is aws-lc's AES-256-GCM with a key of its own for each cookie (see [`crate::sealed`]).

mod chunks;
pub(super) mod flows;
mod keys;
mod renewal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::header::SET_COOKIE;
use proto::extauth::SessionKind;

use self::keys::Ring;
pub use self::renewal::Shared;
use super::cookie::Cookies;
use super::{Due, Error, Oidc, PATIENCE};
use crate::check::Check;
use crate::method::Invalid;
use crate::random;
use crate::resources::Resources;
use crate::session::{Keep, Record, Renewal, Session};
use crate::verdict::{Grant, Removal};

/// Bytes of sessions that were opened before.
const CACHED: u64 = 32 << 20;
/// How long a request waits for tokens that are not needed yet, so that its answer brings the browser the new ones.
const COURTESY: Duration = Duration::from_millis(500);
/// What is sealed.
const SESSION: &str = "session";

/// What one policy needs to seal and to open.
pub(super) struct Sealed {
    ring: Ring,
    /// Whose cookies these are: a cookie of another name, or of another client of a provider, does not open.
    context: String,
    opened: moka::sync::Cache<[u8; 32], Opened, ahash::RandomState>,
    shared: Shared,
}

/// A session out of its cookies.
#[derive(Clone)]
struct Opened {
    session: Arc<Session>,
    /// It was sealed with the key that seals today.
    current: bool,
}

/// A session for whose tokens the cookies of a browser have no room.
#[derive(Debug, thiserror::Error)]
#[error("the session takes {0} bytes in cookies, and {most} fit; ask the provider for smaller tokens, or keep sessions in a store", most = chunks::MOST_BYTES)]
pub(super) struct TooLarge(usize);

impl Sealed {
    /// Checks the configuration; nothing when sessions are in the store.
    pub(super) fn compile(
        config: &proto::extauth::Oidc,
        cookies: &Cookies,
        resources: &Resources,
    ) -> Result<Option<Self>, Invalid> {
        if config.sealing_keys_file.is_some() {
            return Err(Invalid::new("sealingKeysFile", "is only known where policies are read from files"));
        }
        if config.session == SessionKind::Stored {
            let unused = config.sealing_keys.is_some();
            return if unused {
                Err(Invalid::new("sealingKeys", "has no effect without `session: sealed`"))
            } else {
                Ok(None)
            };
        }
        if !config.hosts.is_empty() {
            let problem = "cannot be with `session: sealed`: a login is handed to another host over the store";
            return Err(Invalid::new("hosts", problem));
        }
        if config.back_channel_logout_path != proto::extauth::Oidc::default().back_channel_logout_path {
            let problem = "cannot be with `session: sealed`: nobody but its browser can end such a session";
            return Err(Invalid::new("backChannelLogoutPath", problem));
        }
        let keys = config.sealing_keys.as_ref().ok_or_else(|| Invalid::new("sealingKeys", "is missing"))?;
        let clients = config.providers.iter().flat_map(|provider| [provider.issuer.as_str(), &provider.client_id]);
        let whose =
            [cookies.session.as_str(), cookies.domain.as_deref().unwrap_or_default()].into_iter().chain(clients);
        Ok(Some(Self {
            ring: Ring::parse(keys).map_err(|problem| Invalid::new("sealingKeys", &problem))?,
            context: random::hash(&whose.collect::<Vec<_>>()),
            opened: moka::sync::Cache::builder()
                .max_capacity(CACHED)
                .weigher(|_: &[u8; 32], opened: &Opened| opened.session.weight())
                .build_with_hasher(ahash::RandomState::default()),
            shared: resources.sealed_sessions.clone(),
        }))
    }

    /// The cookies with a session, and without what is left of a larger one before it.
    pub(super) fn cookies(
        &self,
        names: &Cookies,
        check: &Check<'_>,
        record: &Record,
        now: u64,
    ) -> Result<Vec<String>, TooLarge> {
        // Neither can fail: a record is texts and numbers, and without random numbers nobody would have logged in.
        let text = serde_json::to_vec(record).ok().and_then(|text| self.ring.seal(&self.purpose(SESSION, ""), text));
        let text = text.unwrap_or_default();
        chunks::set(names, check, &text, record.expires.saturating_sub(now)).ok_or(TooLarge(text.len()))
    }

    /// All of the session that the request carries, and whether the key that seals today sealed it; an error when it is none
    /// (any more).
    pub(super) fn record(&self, names: &Cookies, check: &Check<'_>) -> Result<Option<(Record, bool)>, Error> {
        let text = chunks::join(names, check)?;
        text.map(|text| self.unseal(&text)).transpose()
    }

    fn open(&self, names: &Cookies, check: &Check<'_>, keep: Keep) -> Result<Option<Opened>, Error> {
        let Some(text) = chunks::join(names, check)? else { return Ok(None) };
        let mut place = [0; 32];
        place.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        if let Some(opened) = self.opened.get(&place) {
            return Ok(Some(opened));
        }
        let (record, current) = self.unseal(&text)?;
        let session = Session::sealed(record, keep).map(Arc::new).ok_or(Error::Over)?;
        let opened = Opened { session, current };
        self.opened.insert(place, opened.clone());
        Ok(Some(opened))
    }

    fn unseal(&self, text: &str) -> Result<(Record, bool), Error> {
        let (record, current) = self.ring.open(&self.purpose(SESSION, ""), text).ok_or(Error::Over)?;
        Ok((serde_json::from_slice(&record).map_err(|_| Error::Over)?, current))
    }

    fn purpose(&self, kind: &str, one: &str) -> String {
        format!("{kind} {} {one}", self.context)
    }
}

/// `Set-Cookie` for every cookie of a session that the browser has.
pub(super) fn clear(names: &Cookies, check: &Check<'_>) -> Vec<String> {
    chunks::clear(names, check, 0)
}

/// Takes the cookies that have no fixed name out of the upstream's request.
pub(super) fn strip(names: &Cookies, check: &Check<'_>, removal: &mut Removal) {
    chunks::names(names, check).for_each(|name| removal.cookie(name));
    flows::names(names, check).for_each(|name| removal.cookie(name));
}

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sealed").finish_non_exhaustive()
    }
}

impl Oidc {
    /// Whose sealed session the request carries. The answer brings the browser new cookies when the tokens or the key are new.
    pub(super) async fn unseal(&self, sealed: &Sealed, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let Some(Opened { mut session, current }) = sealed.open(&self.cookies, check, self.keep)? else {
            return Ok(None);
        };
        let mut new = self.renew_sealed(sealed, &session, check).await?;
        if let Some(record) = &new {
            session = Session::sealed(Record::clone(record), self.keep).map(Arc::new).ok_or(Error::Over)?;
        } else if !current {
            new = sealed.record(&self.cookies, check)?.map(|(record, _)| Arc::new(record));
        }
        let cookies = new.map(|record| sealed.cookies(&self.cookies, check, &record, check.now())).transpose();
        let cookies = cookies.unwrap_or_else(|error| {
            tracing::warn!(%error, "a renewed session does not fit into cookies, and will end");
            None
        });
        let cookies = cookies.unwrap_or_default();
        match self.users.admit(&session.user).map_err(Error::User).and_then(|()| self.grant(&session)) {
            Ok(mut grant) => {
                grant.response_headers.extend(cookies.into_iter().map(|cookie| (SET_COOKIE, cookie)));
                Ok(Some(grant))
            }
            Err(error) if cookies.is_empty() => Err(error),
            Err(error) => Err(Error::Kept { error: Box::new(error), cookies }),
        }
    }

    /// What follows on a session whose tokens are not good (for long), if there is something.
    async fn renew_sealed(
        &self,
        sealed: &Sealed,
        session: &Session,
        check: &Check<'_>,
    ) -> Result<Option<Arc<Record>>, Error> {
        let provider = self.owner(session.client).ok_or(Error::Over)?;
        let due = Due::of(session, provider, check.now())?;
        if due == Due::Later || check.is_rehearsal() {
            return Ok(None);
        }
        let (old, _) = sealed.record(&self.cookies, check)?.ok_or(Error::Over)?;
        let asked = Arc::clone(provider);
        let mut told = sealed.shared.renew(old, move |old| async move { asked.refresh(old).await });
        let patience = match due {
            Due::Now => PATIENCE,
            Due::Soon | Due::Later => COURTESY,
        };
        let outcome = match tokio::time::timeout(patience, told.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            _ => None,
        };
        match (outcome, due) {
            (Some(Renewal::Renewed(record)), _) => Ok(Some(record)),
            // Another replica may have used the refresh token; what was given out stays good until its end.
            (_, Due::Soon) => Ok(None),
            (Some(Renewal::Ended), _) => Err(Error::Over),
            (Some(Renewal::Unchanged) | None, _) => Err(Error::Provider),
        }
    }
}
