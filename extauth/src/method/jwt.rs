//! JSON Web Tokens (RFC 7519) of one issuer, signed with a key of its key set.

mod cache;
pub(super) mod claims;
mod error;
mod keys;
pub(super) mod token;

use std::sync::Arc;

use http::HeaderName;
use proto::extauth::{RequiredClaim, Source};

pub use self::cache::Cache;
use self::cache::{Entry, Provider};
use self::claims::{Lifetime, Times};
pub(super) use self::claims::{audience, seconds};
pub use self::error::{Error, denial};
use self::keys::Keys;
use self::token::Token;
use crate::check::Check;
use crate::claims::{ToHeaders, check_required, has};
use crate::credential::Places;
use crate::method::Invalid;
use crate::resources::Resources;
use crate::revocation::{Identity, Revocations};
use crate::shared::Shared;
use crate::verdict::{Grant, Removal};

/// The longest token that is looked at, in bytes.
pub const LONGEST_TOKEN: usize = 8 * 1024;

/// Keys of the metadata that are not a provider's.
pub(crate) const RESERVED: [&str; 6] = ["method", "client", "tier", "tenant", "scopes", "labels"];

/// What a token that a client may send says that it is, unless the provider says otherwise (RFC 7519, section 5.1; RFC
/// 9068, section 2.1).
const TYPES: [&str; 3] = ["jwt", "jose", "at+jwt"];

/// Tokens of one issuer.
#[derive(Debug)]
pub struct Jwt {
    provider: Provider,
    name: String,
    issuer: String,
    audiences: Vec<String>,
    subjects: Vec<String>,
    required_claims: Vec<RequiredClaim>,
    /// In lower case; none when the usual ones are accepted.
    types: Vec<String>,
    times: Times,
    keys: Keys,
    places: Places,
    remove: bool,
    to_headers: ToHeaders,
    tokens: Cache,
    revocations: Revocations,
}

/// What is known about a token that was verified: all that is needed to answer for it again.
#[derive(Debug)]
struct Verified {
    lifetime: Lifetime,
    identity: Identity,
    grant: Grant,
}

impl Verified {
    /// Bytes that it takes in the cache: its encoded claims, what is read of them, and the frame.
    fn weight(&self) -> u32 {
        const FRAME: usize = 768;
        let headers: usize = self.grant.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let metadata = self.grant.shared.as_ref().map_or(0, |shared| shared.encoded_len());
        u32::try_from(FRAME + self.identity.len() + metadata + headers).unwrap_or(u32::MAX)
    }
}

impl Jwt {
    /// Checks the configuration.
    pub fn compile(config: &proto::extauth::Jwt, resources: &Resources) -> Result<Self, Invalid> {
        if config.issuer.is_empty() {
            return Err(Invalid::new("issuer", "is empty"));
        }
        if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
            return Err(Invalid::new("audiences", "must name at least one audience, and no empty one"));
        }
        if let Some(index) = config.subjects.iter().position(String::is_empty) {
            return Err(Invalid::new(format!("subjects[{index}]"), "is empty"));
        }
        check_required(&config.required_claims)?;
        Ok(Self {
            provider: Provider::of(config),
            name: provider_name(&config.name)?,
            issuer: config.issuer.clone(),
            audiences: config.audiences.clone(),
            subjects: config.subjects.clone(),
            required_claims: config.required_claims.clone(),
            types: config.types.iter().map(|typ| media_type(typ)).collect(),
            times: Times {
                leeway: config.leeway_seconds,
                require_expiration: config.require_expiration,
                max_lifetime: config.max_lifetime_seconds,
            },
            places: places(&config.from)?,
            remove: config.remove,
            to_headers: ToHeaders::compile(&config.claims_to_headers)?,
            tokens: resources.tokens.clone(),
            revocations: resources.revocations.clone(),
            // Last: it may start to fetch.
            keys: Keys::compile(config, &resources.key_sets)?,
        })
    }

    /// Whether the request carries a valid token of the issuer.
    pub async fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let Some(token) = self.places.find(check)? else { return Ok(None) };
        if token.len() > LONGEST_TOKEN {
            return Err(Error::TooLong);
        }
        let known = self.keys.current().map(|keys| Entry::of(&self.provider, keys.fingerprint(), &token));
        let verified = match known.and_then(|entry| self.tokens.find(entry)) {
            Some(known) => known,
            None => Box::pin(self.verify(&token, check.now())).await?,
        };
        // A token grows old in the cache as it does outside.
        verified.lifetime.check(check.now())?;
        if !self.revocations.known() {
            Box::pin(self.revocations.settled()).await;
        }
        self.revocations.check(&verified.identity)?;
        Ok(Some(verified.grant.clone()))
    }

    /// The key of the claims in the metadata.
    pub fn provider(&self) -> &str {
        &self.name
    }

    /// Headers that tell the upstream about the token's claims.
    pub fn identity(&self) -> Vec<HeaderName> {
        self.to_headers.names()
    }

    /// Takes the token away, when that was asked for.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if self.remove {
            self.places.strip(check, removal);
        }
    }

    async fn verify(&self, text: &str, now: u64) -> Result<Arc<Verified>, Error> {
        let token = Token::parse(text)?;
        // Whose token it is comes first: of two providers, only the issuer's own keys may vouch for it.
        claims::issuer(&token.claims, &self.issuer)?;
        self.check_type(token.typ.as_deref())?;
        let lifetime = Lifetime::of(&token.claims, self.times)?;
        lifetime.check(now)?;
        let keys = self.keys.vouch(&token).await?;
        if !claims::audience(token.claims.get("aud"), &self.audiences) {
            return Err(Error::Audience);
        }
        claims::subject(&token.claims, &self.subjects)?;
        if !self.required_claims.iter().all(|required| has(&token.claims, required)) {
            return Err(Error::RequiredClaim);
        }
        let headers = self.to_headers.of(&token.claims).map_err(|_| Error::Claim)?;
        let identity = Identity::of(&token.claims, token.claims.get("iat").and_then(seconds));
        let shared = Some(Arc::new(Shared::of_claims(&self.name, &token.claims)));
        let grant = Grant { headers, shared, ..Grant::default() };
        let verified = Arc::new(Verified { lifetime, identity, grant });
        self.tokens.insert(Entry::of(&self.provider, keys.fingerprint(), text), Arc::clone(&verified));
        Ok(verified)
    }

    fn check_type(&self, typ: Option<&str>) -> Result<(), Error> {
        let typ = typ.map(media_type);
        let allowed = match typ {
            None => self.types.is_empty(),
            Some(typ) if self.types.is_empty() => TYPES.contains(&typ.as_str()),
            Some(typ) => self.types.contains(&typ),
        };
        if allowed { Ok(()) } else { Err(Error::Type) }
    }
}

/// A provider's name, which becomes a key of the metadata.
pub(super) fn provider_name(name: &str) -> Result<String, Invalid> {
    if name.is_empty() || RESERVED.contains(&name) {
        return Err(Invalid::new("name", &format!("must be set, and be none of {}", RESERVED.join(", "))));
    }
    Ok(name.to_owned())
}

/// Where tokens are looked for: as bearer tokens (RFC 6750, section 2.1) by default.
pub(super) fn places(from: &[Source]) -> Result<Places, Invalid> {
    let bearer = [Source::Header { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() }];
    let from = if from.is_empty() { bearer.as_slice() } else { from };
    Places::compile(from).map_err(|(index, e)| Invalid::new(format!("from[{index}]"), &e))
}

/// A `typ` as it is compared (RFC 7515, section 4.1.9).
fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").map_or_else(|| typ.clone(), str::to_owned)
}
