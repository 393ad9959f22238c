//! What an issuer says about itself (OpenID Connect Discovery 1.0), fetched ahead of time and kept while it is silent.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, IssuerUrl, ProviderMetadata};
use proto::extauth::{Backends, OidcProvider, Retry};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use super::Http;
use crate::background::Background;
use crate::fetch::Fetch;
use crate::jwks::{self, KeySet};

/// When metadata and keys are fetched again.
const FRESH: Duration = Duration::from_mins(10);
/// How long an issuer that failed is left alone, and how often a key that nobody knows makes us ask again.
const RESPITE: Duration = Duration::from_secs(10);
/// How long the first answer's failure is believed, so that a login works soon after the issuer does.
const FIRST_RESPITE: Duration = Duration::from_secs(1);

/// What a provider's metadata has besides what the library knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct More {
    /// Where a browser logs out (RP-Initiated Logout 1.0).
    pub(super) end_session_endpoint: Option<Url>,
    /// Whether each answer says whose it is (RFC 9207).
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for More {}

pub(super) type Metadata = ProviderMetadata<
    More,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// Metadata and keys of one moment.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) metadata: Metadata,
    /// The keys once more, for what the library does not verify.
    pub(super) keys: KeySet,
    fetched: Instant,
}

/// Why an issuer is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("discovery of {issuer}: {reason}")]
pub(super) struct Error {
    issuer: String,
    reason: String,
}

/// One issuer, shared by all policies that name it.
pub(super) struct Issuer {
    url: IssuerUrl,
    allow_http: bool,
    fetch: Fetch,
    known: ArcSwapOption<Known>,
    attempt: tokio::sync::Mutex<Option<Attempt>>,
}

struct Attempt {
    when: Instant,
    outcome: Result<(), Error>,
}

/// The issuers that policies name. Clones share them; one that no policy names any more is forgotten.
#[derive(Clone, Default)]
pub struct Issuers(Arc<Mutex<HashMap<Key, Weak<Issuer>>>>);

/// URL, whether it may be `http`, and where and how it is reached.
type Key = (String, bool, Option<Backends>, Option<u64>, Option<Retry>);

impl fmt::Debug for Issuers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issuers").finish_non_exhaustive()
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Issuer").field(&self.url.as_str()).finish()
    }
}

impl Issuers {
    /// The issuer with this URL, which is asked in the background. Nothing waits for it before somebody logs in.
    pub(super) fn find(
        &self,
        url: &IssuerUrl,
        config: &OidcProvider,
        fetch: &Fetch,
        background: &Background,
    ) -> Arc<Issuer> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, issuer| issuer.strong_count() > 0);
        let key = (
            url.as_str().to_owned(),
            config.allow_http,
            config.backends.clone(),
            config.request_timeout_ms,
            config.retry.clone(),
        );
        if let Some(issuer) = all.get(&key).and_then(Weak::upgrade) {
            return issuer;
        }
        let issuer = Arc::new(Issuer {
            url: url.clone(),
            allow_http: config.allow_http,
            fetch: fetch.clone(),
            known: ArcSwapOption::empty(),
            attempt: tokio::sync::Mutex::new(None),
        });
        all.insert(key, Arc::downgrade(&issuer));
        let ahead = Arc::downgrade(&issuer);
        background.spawn(Issuer::follow(ahead));
        issuer
    }
}

impl Issuer {
    /// What it says, asked now if it was never asked with success.
    pub(super) async fn known(&self) -> Result<Arc<Known>, Error> {
        if let Some(known) = self.known.load_full() {
            return Ok(known);
        }
        self.ask(FIRST_RESPITE).await?;
        self.known.load_full().ok_or_else(|| self.error("nothing was said"))
    }

    /// What it says now, because of a key that was not among its keys; asked every [`RESPITE`] at most.
    pub(super) async fn known_again(&self) -> Result<Arc<Known>, Error> {
        self.ask(RESPITE).await?;
        self.known().await
    }

    /// Asks it again and again, for as long as a policy names it.
    async fn follow(issuer: Weak<Self>) {
        while let Some(issuer) = issuer.upgrade() {
            if let Err(error) = issuer.ask(FIRST_RESPITE).await {
                tracing::warn!(%error, last_good = issuer.known.load().is_some(), "an issuer is not to be had");
            }
            let fresh = issuer.known.load().as_ref().is_some_and(|known| known.fetched.elapsed() < RESPITE);
            let pause = if fresh { FRESH } else { RESPITE };
            drop(issuer);
            tokio::time::sleep(pause).await;
        }
    }

    /// One question at a time, and none within the respite after the last.
    async fn ask(&self, respite: Duration) -> Result<(), Error> {
        let mut attempt = self.attempt.lock().await;
        if let Some(last) = attempt.as_ref().filter(|last| last.when.elapsed() < respite) {
            return last.outcome.clone();
        }
        let outcome = self.discover().await.map(|known| self.known.store(Some(Arc::new(known))));
        *attempt = Some(Attempt { when: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    async fn discover(&self) -> Result<Known, Error> {
        let client = Http(self.fetch.clone());
        let metadata = Metadata::discover_async(self.url.clone(), &client).await.map_err(|e| self.error(&text(&e)))?;
        let more = metadata.additional_metadata();
        let endpoints = [
            Some(metadata.authorization_endpoint().url()),
            metadata.token_endpoint().map(openidconnect::TokenUrl::url),
            metadata.userinfo_endpoint().map(openidconnect::UserInfoUrl::url),
            more.end_session_endpoint.as_ref(),
            Some(metadata.jwks_uri().url()),
        ];
        if let Some(url) = endpoints.into_iter().flatten().find(|url| !acceptable(url, self.allow_http)) {
            return Err(self.error(&format!("the endpoint {url} is not https")));
        }
        let keys = serde_json::to_string(metadata.jwks()).map_err(|e| self.error(&e.to_string()))?;
        let keys = KeySet::parse(&keys, &jwks::ALGORITHMS).map_err(|e| self.error(&format!("its key set {e}")))?;
        Ok(Known { metadata, keys, fetched: Instant::now() })
    }

    fn error(&self, reason: &str) -> Error {
        Error { issuer: self.url.to_string(), reason: reason.to_owned() }
    }
}

/// Whether a URL may be an issuer's: TLS, unless it stays on this machine or that was asked for.
pub(super) fn acceptable(url: &Url, allow_http: bool) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => return false,
    };
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && (loopback || allow_http));
    scheme && url.username().is_empty() && url.password().is_none()
}

/// An error with its causes, on one line and not too long: some of it is the issuer's own words.
pub(super) fn text(error: &dyn std::error::Error) -> String {
    const LONGEST: usize = 512;
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    text.replace(char::is_control, " ").chars().take(LONGEST).collect()
}
