//! Credentials for a load of `authz`, made beforehand, with the policy for `extauth` that accepts them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value, json};

use crate::process;

mod sessions;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// API keys, for the header `x-api-key`.
    ApiKey,
    /// Tokens of about 1 kB signed with RSA and a modulus of 2048 bits.
    Rs256,
    /// Tokens of about 1 kB signed on the curve P-256.
    Es256,
    /// Sessions of browsers, which are put into a Redis; for the cookie `session`.
    Session,
}

/// Why there are no credentials, or none that can be verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The cryptography failed.
    #[error("cannot make a key or a signature")]
    Signing(#[from] Unspecified),
    /// The tokens are not what this program has written.
    #[error("cannot verify a token: {0}")]
    Verification(String),
    /// The sessions cannot be put into Redis.
    #[error("cannot begin a session: {0}")]
    Sessions(String),
    /// Nobody said where the sessions shall be.
    #[error("sessions need --redis URL")]
    NoRedis,
    /// The CPU time is not known.
    #[error(transparent)]
    Process(#[from] process::Error),
}

const ISSUER: &str = "https://issuer.example.com";
const AUDIENCE: &str = "shop";

/// A day, so that no token expires during a load.
const LIFETIME: u64 = 24 * 3600;

/// The classes of service of API keys, and how many tenants own them.
const TIERS: [&str; 3] = ["bronze", "silver", "gold"];
const TENANTS: u32 = 1_000;

/// Writes `count` of them to `dir/credentials`, a line each, and the policy `bench` to `dir/policies`. Sessions also go to the Redis
/// at the URL `redis`.
pub fn write(kind: Kind, count: NonZeroU32, redis: Option<&str>, dir: &Path) -> Result<(), Error> {
    let policies = dir.join("policies");
    fs::create_dir_all(&policies).map_err(|source| Error::File { path: policies.clone(), source })?;
    let mut credentials = String::new();
    match kind {
        Kind::ApiKey => {
            let mut keys = "keys:\n".to_owned();
            for number in 0..count.get() {
                let key = api_key(number);
                let hash = hex(digest(&SHA256, key.as_bytes()).as_ref());
                // Writing to a string does not fail.
                let (tier, tenant) = (TIERS.get(number as usize % TIERS.len()).unwrap_or(&""), number % TENANTS);
                let owner = format!("client: client-{number:06}, tier: {tier}, tenant: tenant-{tenant:04}");
                let _ = writeln!(keys, "- {{hash: 'sha256:{hash}', {owner}}}");
                credentials.push_str(&key);
                credentials.push('\n');
            }
            put(policies.join("keys.yaml"), &keys)?;
            put(policies.join("policies.yaml"), API_KEYS)?;
        }
        Kind::Rs256 | Kind::Es256 => {
            let signer = Signer::generate(kind)?;
            for number in 0..count.get() {
                credentials.push_str(&signer.token(number)?);
                credentials.push('\n');
            }
            put(policies.join("jwks.json"), &json!({ "keys": [signer.jwk()] }).to_string())?;
            put(policies.join("policies.yaml"), TOKENS)?;
        }
        Kind::Session => return sessions::write(count.get(), redis.ok_or(Error::NoRedis)?, dir),
    }
    put(dir.join("credentials"), &credentials)
}

fn put(path: PathBuf, text: &str) -> Result<(), Error> {
    fs::write(&path, text).map_err(|source| Error::File { path, source })
}

/// CPU time in microseconds (over some thousands of tokens) that verifying one of the tokens in `dir` takes by itself: the bare library, on one thread.
pub fn verify(dir: &Path) -> Result<f64, Error> {
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(|source| Error::File { path, source });
    let tokens = read(dir.join("credentials"))?;
    let fail = |error: &dyn std::fmt::Display| Error::Verification(error.to_string());
    let keys: JwkSet = serde_json::from_str(&read(dir.join("policies/jwks.json"))?).map_err(|error| fail(&error))?;
    let key = keys.keys.first().ok_or_else(|| fail(&"the key set is empty"))?;
    let algorithm = if matches!(key.algorithm, jsonwebtoken::jwk::AlgorithmParameters::RSA(_)) {
        Algorithm::RS256
    } else {
        Algorithm::ES256
    };
    let key = DecodingKey::from_jwk(key).map_err(|error| fail(&error))?;
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let before = process::thread_cpu()?;
    let mut verified = 0_u32;
    for token in tokens.lines() {
        jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| fail(&error))?;
        verified += 1;
    }
    let spent = process::thread_cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(verified.max(1)))
}

const API_KEYS: &str = "\
policies:
- name: bench
  methods:
  - apiKey:
      from: [{header: {name: x-api-key}}]
      clientHeader: x-client
      keysFile: keys.yaml
";

const TOKENS: &str = "\
policies:
- name: bench
  methods:
  - jwt:
      name: main
      issuer: https://issuer.example.com
      audiences: [shop]
      jwksFile: jwks.json
      claimsToHeaders:
      - {claim: sub, header: x-sub}
      - {claim: org.tenant, header: x-tenant}
";

/// Forty digits that nobody could guess if the number were a secret.
fn api_key(number: u32) -> String {
    hex(digest(&SHA256, &number.to_be_bytes()).as_ref()).chars().take(40).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |hex, byte| hex + &format!("{byte:02x}"))
}

enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKeyPair),
}

impl Signer {
    fn generate(kind: Kind) -> Result<Self, Unspecified> {
        match kind {
            Kind::Es256 => Ok(Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?)),
            _ => Ok(Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048)?))),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ecdsa(_) => "ES256",
        }
    }

    fn jwk(&self) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                // RSAPublicKey in DER: headers and a zero before the 256 bytes of n, a header before the three of e.
                let der = pair.public_key().as_ref();
                let part = |range| encode(der.get(range).unwrap_or_default());
                json!({"kty": "RSA", "n": part(9..265), "e": part(267..der.len())})
            }
            Self::Ecdsa(pair) => {
                // An uncompressed point: 4, x, y.
                let (x, y) = pair.public_key().as_ref().get(1..).unwrap_or_default().split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
        };
        jwk["kid"] = "bench".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    /// A token of a subject of its own. All are equally long.
    fn token(&self, number: u32) -> Result<String, Unspecified> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let header = json!({"alg": self.algorithm(), "kid": "bench", "typ": "JWT"});
        let claims = json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": format!("user-{number:010}"),
            "iat": now,
            "exp": now + LIFETIME,
            "name": "Ada Lovelace",
            "email": format!("user-{number:010}@example.com"),
            "scope": "openid profile email orders:read orders:write",
            "org": {"tenant": "acme", "unit": "sales"},
            "roles": ["reader", "writer", "auditor"],
            "session": "3f0a9d6e-6d5e-4bd6-8f4c-3a1d6f1f0b1a",
            "locale": "en-GB",
            "azp": "shop-frontend",
            "amr": ["pwd", "otp"],
            "acr": "urn:example:loa:2",
            "picture": "https://cdn.example.com/people/ada-lovelace/portrait-256.png",
        });
        let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.signature(message.as_bytes())?;
        Ok(format!("{message}.{}", encode(&signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Ecdsa(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn tokens_are_long_distinct_and_good() {
        for kind in [Kind::Rs256, Kind::Es256] {
            let folder = tempfile::tempdir().unwrap();
            write(kind, NonZeroU32::new(3).unwrap(), None, folder.path()).unwrap();
            let text = fs::read_to_string(folder.path().join("credentials")).unwrap();
            let tokens: std::collections::BTreeSet<_> = text.lines().collect();
            assert_eq!(tokens.len(), 3);
            assert!(tokens.iter().all(|token| (800..1200).contains(&token.len())), "{text}");
            assert!(verify(folder.path()).unwrap() >= 0.0);
        }
    }

    #[test]
    fn a_token_of_somebody_else_is_no_figure() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&one, &other] {
            write(Kind::Es256, NonZeroU32::MIN, None, folder.path()).unwrap();
        }
        fs::copy(other.path().join("credentials"), one.path().join("credentials")).unwrap();
        assert!(matches!(verify(one.path()), Err(Error::Verification(_))));
    }
}
