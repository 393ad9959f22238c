//! User names and passwords (RFC 7617).

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::AUTHORIZATION;
use proto::extauth::{FailedAttempts, Source};

use self::htpasswd::Users;
use self::passwords::LONGEST_CACHE;
pub use self::passwords::{Busy, NoRandom, Passwords};
use crate::attempts::{Attempts, TooMany};
use crate::check::Check;
use crate::credential::{self, Places};
use crate::header;
use crate::method::{Invalid, too_many, unauthorized, unavailable};
use crate::resources::Resources;
use crate::verdict::{Denial, Grant, Removal, text};

mod htpasswd;
mod passwords;

/// The longest user name or password, in bytes: hashing takes longer for longer ones.
const LONGEST: usize = 256;
const DEFAULT_REALM: &str = "protected";
const DEFAULT_CACHE: u64 = 300;

/// Why a user name and a password prove nothing. The client is told none of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is not one well-formed header.
    #[error("{0}")]
    Credential(#[from] credential::Error),
    /// Not base64, not UTF-8, without a colon, with control characters, or too long.
    #[error("the user name and the password are malformed")]
    Malformed,
    /// No such user, or another password.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// Somebody guesses.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Too many passwords at once.
    #[error(transparent)]
    Busy(#[from] Busy),
}

/// The users of one policy.
pub struct Basic {
    places: Places,
    challenge: Arc<str>,
    users: Users,
    passwords: Passwords,
    attempts: Attempts,
    bounds: FailedAttempts,
    cache_seconds: u64,
    username_header: Option<HeaderName>,
    forward: bool,
}

impl Basic {
    /// Checks the configuration.
    pub fn compile(config: &proto::extauth::Basic, resources: &Resources) -> Result<Self, Invalid> {
        if config.htpasswd_file.is_some() {
            return Err(Invalid::new("htpasswdFile", "is only known where policies are read from files"));
        }
        let Some(htpasswd) = &config.htpasswd else {
            return Err(Invalid::new("htpasswd", "is missing, and so is `htpasswdFile`"));
        };
        let realm = config.realm.as_deref().unwrap_or(DEFAULT_REALM);
        let quotable = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if realm.is_empty() || !realm.bytes().all(quotable) {
            return Err(Invalid::new("realm", "is not one or more ASCII characters without `\"` and `\\`"));
        }
        let cache_seconds = config.cache_seconds.unwrap_or(DEFAULT_CACHE);
        if cache_seconds > LONGEST_CACHE {
            return Err(Invalid::new("cacheSeconds", &format!("is more than {LONGEST_CACHE}")));
        }
        let header = config.username_header.as_deref().map(header::name).transpose();
        let source = Source::Header { name: AUTHORIZATION.to_string(), prefix: "Basic ".to_owned() };
        Ok(Self {
            places: Places::compile(&[source]).map_err(|(_, e)| Invalid::new("from", &e))?,
            challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\"").into(),
            users: Users::parse(htpasswd.expose()).map_err(|problem| Invalid::new("htpasswd", &problem))?,
            passwords: resources.passwords.clone(),
            attempts: resources.attempts.clone(),
            bounds: config.failed_attempts,
            cache_seconds,
            username_header: header.map_err(|e| Invalid::new("usernameHeader", &e))?,
            forward: config.forward,
        })
    }

    /// Which user sends the request.
    pub async fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let credential = match self.places.find(check) {
            Ok(None) => return Ok(None),
            Ok(Some(credential)) => decode(&credential),
            Err(error) => Err(error.into()),
        };
        let pair = match &credential {
            Ok(pair) => pair.split_once(':').ok_or(Error::Malformed),
            Err(_) => Err(Error::Malformed),
        };
        let Ok((user, password)) = pair else {
            self.attempts.start(&self.bounds, check, None)?.failed("");
            return Err(credential.err().unwrap_or(Error::Malformed));
        };
        let attempt = self.attempts.start(&self.bounds, check, Some(user))?;
        if self.verify(user, password, check.now()).await? {
            return Ok(Some(self.grant(user)));
        }
        attempt.failed(password);
        Err(Error::Wrong)
    }

    /// Somebody unknown takes as long as a user does.
    async fn verify(&self, user: &str, password: &str, now: u64) -> Result<bool, Busy> {
        let known = self.users.find(user);
        let stand_in = || self.users.stand_in(self.passwords.number(user));
        let Some(hash) = known.or_else(stand_in) else { return Ok(false) };
        let digest = self.passwords.digest(hash, user, password);
        if known.is_some() && self.passwords.remembers(&digest, now) {
            return Ok(true);
        }
        let right =
            if hash.is_slow() { self.passwords.verify(digest, hash, password).await? } else { hash.verify(password) };
        let right = right && known.is_some();
        if right && hash.is_slow() && self.cache_seconds > 0 {
            self.passwords.remember(&digest, now.saturating_add(self.cache_seconds));
        }
        Ok(right)
    }

    fn grant(&self, user: &str) -> Grant {
        let headers = self.username_header.iter().map(|name| (name.clone(), user.to_owned())).collect();
        let metadata = [("client".to_owned(), text(user))].into();
        Grant { headers, metadata, ..Grant::default() }
    }

    /// Headers that tell the upstream about the user.
    pub fn identity(&self) -> Vec<HeaderName> {
        self.username_header.iter().cloned().collect()
    }

    /// Takes the password away, unless it is to be forwarded.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if !self.forward {
            self.places.strip(check, removal);
        }
    }

    /// How a client is asked for a password.
    pub fn challenge(&self) -> &Arc<str> {
        &self.challenge
    }
}

/// Without the users.
impl fmt::Debug for Basic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Basic").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

/// What the client is told: the same for an unknown user and a wrong password; without an error, that it sent neither.
pub fn denial(challenge: &str, error: Option<&Error>) -> Denial {
    let reason = error.map_or_else(|| "no password was sent".to_owned(), ToString::to_string);
    match error {
        Some(Error::TooMany(TooMany(seconds))) => too_many(*seconds, reason),
        Some(Error::Busy(_)) => unavailable(reason),
        _ => unauthorized(challenge.to_owned(), "User authentication failed.", reason),
    }
}

/// `user:password`: in UTF-8, without control characters (RFC 7617, section 2), in one spelling of base64.
fn decode(credential: &str) -> Result<String, Error> {
    let bytes = STANDARD.decode(credential).map_err(|_| Error::Malformed)?;
    let pair = String::from_utf8(bytes).map_err(|_| Error::Malformed)?;
    let (user, password) = pair.split_once(':').ok_or(Error::Malformed)?;
    let legal = user.len() <= LONGEST && password.len() <= LONGEST && !pair.chars().any(char::is_control);
    if legal { Ok(pair) } else { Err(Error::Malformed) }
}
