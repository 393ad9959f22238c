//! Where a provider's keys come from.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::Error;
use super::token::Token;
use crate::jwks::{self, Address, KeySet, Remote, Remotes};
use crate::method::Invalid;

/// A provider's keys, and which of their algorithms it accepts.
#[derive(Debug)]
pub(super) struct Keys {
    algorithms: Vec<Algorithm>,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    /// Written in the configuration.
    Local(Arc<KeySet>),
    /// Published by the issuer.
    Remote(Arc<Remote>),
}

impl Keys {
    /// Checks the configured keys, or starts to fetch those that are published.
    pub(super) fn compile(config: &proto::extauth::Jwt, remotes: &Remotes) -> Result<Self, Invalid> {
        let algorithms = algorithms(&config.algorithms)?;
        if config.jwks_file.is_some() {
            return Err(Invalid::new("jwksFile", "is only known where policies are read from files"));
        }
        let address = match (&config.jwks, &config.jwks_uri) {
            (Some(_), Some(_)) => return Err(Invalid::new("jwksUri", "`jwks` is set as well; one of the two must go")),
            (Some(jwks), None) => {
                let keys = KeySet::parse(jwks, &algorithms).map_err(|e| Invalid::new("jwks", &e))?;
                return Ok(Self { algorithms, origin: Origin::Local(Arc::new(keys)) });
            }
            (None, Some(uri)) => Address::key_set_at(uri).map_err(|e| Invalid::new("jwksUri", &e))?,
            (None, None) => Address::issuer(&config.issuer)
                .map_err(|e| Invalid::new("jwks", &format!("is missing, and cannot be discovered: the issuer {e}")))?,
        };
        if config.cache_duration_seconds == 0 {
            return Err(Invalid::new("cacheDurationSeconds", "must be at least 1"));
        }
        let cache_duration = Duration::from_secs(config.cache_duration_seconds);
        let remote = remotes
            .follow(address, config.backends.clone(), cache_duration)
            .map_err(|(field, problem)| Invalid::new(format!("backends.{field}"), &problem))?;
        Ok(Self { algorithms, origin: Origin::Remote(remote) })
    }

    /// The keys in force, if there are any yet.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        match &self.origin {
            Origin::Local(keys) => Some(Arc::clone(keys)),
            Origin::Remote(remote) => remote.current(),
        }
    }

    /// A key set that has made the token's signature. Waits, for a bounded time, when the issuer may have newer keys.
    pub(super) async fn vouch(&self, token: &Token<'_>) -> Result<Arc<KeySet>, Error> {
        let keys = match (&self.origin, self.current()) {
            (_, Some(keys)) => keys,
            (Origin::Remote(remote), None) => remote.settled().await.ok_or(Error::NoKeys)?,
            (Origin::Local(_), None) => return Err(Error::NoKeys),
        };
        let outcome = self.verify(&keys, token);
        let Origin::Remote(remote) = &self.origin else { return outcome.map(|()| keys) };
        // An id without a key may be that of a new key; an algorithm that nobody accepts is none of the issuer's business.
        let kid = token.kid.as_deref();
        if outcome != Err(Error::NoKey) || !self.algorithms.contains(&token.algorithm) || keys.knows(kid) {
            return outcome.map(|()| keys);
        }
        let keys = remote.refetched(kid).await.ok_or(Error::NoKeys)?;
        let outcome = self.verify(&keys, token);
        if outcome == Err(Error::NoKey) {
            remote.unknown(kid);
        }
        outcome.map(|()| keys)
    }

    fn verify(&self, keys: &KeySet, token: &Token<'_>) -> Result<(), Error> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(Error::NoKey);
        }
        let message = token.message.as_bytes();
        match keys.verify(token.algorithm, token.kid.as_deref(), message, &token.signature) {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Signature),
            None => Err(Error::NoKey),
        }
    }
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, Invalid> {
    if names.is_empty() {
        return Ok(jwks::ALGORITHMS.into());
    }
    let known = || jwks::ALGORITHMS.map(|algorithm| format!("{algorithm:?}")).join(", ");
    let algorithms = names.iter().enumerate().map(|(index, name)| {
        let problem = || format!("`{name}` is none of {}", known());
        jwks::algorithm(name).ok_or_else(|| Invalid::new(format!("algorithms[{index}]"), &problem()))
    });
    algorithms.collect()
}
