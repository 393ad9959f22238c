//! A session as it is kept for the requests that carry it: what they ask for, and nothing else of its [`Record`].

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::{Record, Version};
use crate::claims::{Claims, Lookup};
use crate::random;
use crate::shared::Shared;

/// A session in use.
pub struct Session {
    /// Where the user logged in.
    pub client: Client,
    /// When the access token ends; seconds since 1970, like all times here.
    pub access_expires: u64,
    /// When the user logged in.
    pub created: u64,
    /// When the tokens were last renewed.
    pub renewed: u64,
    /// When the session ends, unless it is renewed.
    pub expires: u64,
    /// Whether there is a refresh token.
    pub renewable: bool,
    /// Who it is.
    pub user: User,
    /// For the upstream, if anybody has asked for them.
    pub tokens: Option<Box<Tokens>>,
    pub(super) version: Version,
}

/// A client of a provider: a digest of the provider's name in the policy, the issuer, and the client's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client([u8; 32]);

/// What is known about the user of a session.
pub struct User {
    /// The claims for Envoy's dynamic metadata. They are read here, too: beside them, a tree would take several times the memory.
    metadata: Arc<Shared>,
    /// The claims as they were, if they have numbers that metadata cannot hold.
    exact: Option<Box<Claims>>,
}

/// What the upstream may be given.
pub struct Tokens {
    /// The access token.
    pub access: Box<str>,
    /// The ID token.
    pub id: Box<str>,
}

/// Whether the tokens of a session are kept with it: they are larger than all the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// The upstream gets them.
    Tokens,
    /// Nobody asks for them.
    Nothing,
}

impl Client {
    /// The client with this id at the issuer of the provider with this name.
    pub fn of(provider: &str, issuer: &str, client_id: &str) -> Self {
        Self(random::digest(&["client", provider, issuer, client_id]))
    }
}

impl Session {
    /// `None` when the claims cannot be read.
    pub(super) fn of(record: Record, version: Version, keep: Keep) -> Option<Self> {
        let claims = record.claims()?;
        let metadata = Arc::new(Shared::of_claims(&record.provider, &claims));
        let exact = (!claims.values().all(crate::json::survives)).then(|| Box::new(claims));
        Some(Self {
            client: record.client(),
            access_expires: record.access_expires,
            created: record.created,
            renewed: record.renewed,
            expires: record.expires,
            renewable: record.refresh_token.is_some(),
            user: User { metadata, exact },
            tokens: (keep == Keep::Tokens)
                .then(|| Box::new(Tokens { access: record.access_token.into(), id: record.id_token.into() })),
            version,
        })
    }

    /// The same for one that no store has.
    pub(crate) fn sealed(record: Record, keep: Keep) -> Option<Self> {
        Self::of(record, Version::default(), keep)
    }

    /// Bytes that it takes in a cache, with what the cache itself needs for it.
    pub(crate) fn weight(&self) -> u32 {
        const FRAME: usize = 768;
        /// A tree beside its encoded form.
        const TREE: usize = 5;
        let encoded = self.user.metadata.encoded_len();
        let tokens = self.tokens.as_ref().map_or(0, |tokens| tokens.access.len() + tokens.id.len());
        let exact = self.user.exact.as_ref().map_or(0, |_| TREE * encoded);
        u32::try_from(FRAME + encoded + tokens + exact).unwrap_or(u32::MAX)
    }
}

impl User {
    /// The claims for Envoy's dynamic metadata.
    pub(crate) fn metadata(&self) -> Arc<Shared> {
        Arc::clone(&self.metadata)
    }
}

impl Lookup for User {
    fn find(&self, path: &str) -> Option<Cow<'_, Value>> {
        match &self.exact {
            Some(claims) => Lookup::find(claims.as_ref(), path),
            None => self.metadata.claims()?.find(path)?.value().map(Cow::Owned),
        }
    }
}

/// Without the tokens: they are credentials.
impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("client", &self.client).finish_non_exhaustive()
    }
}
