//! Key sets (RFC 7517): which keys an issuer signs with, and for which algorithms each of them is good.

mod remote;

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, OtherKeyParameters, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::remote::uri;
pub use self::remote::{Address, AddressError, Error as RemoteError, PATIENCE, Remote, Remotes};

/// The most keys that a set may hold. Issuers have a handful; a token without `kid` tries all of those without.
const MOST_KEYS: usize = 100;

/// Bits of the shortest RSA modulus that is trusted (NIST SP 800-131A).
const SHORTEST_MODULUS: usize = 2048;

/// The algorithms that are trusted: all asymmetric ones that the library has. There is no HMAC and no `none` to choose.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What is wrong with a key set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not `{"keys": […]}`.
    #[error("is no JSON Web Key Set: {0}")]
    Syntax(serde_json::Error),
    /// A key that should verify signatures cannot.
    #[error("keys[{index}]{}: {problem}", kid.as_ref().map(|kid| format!(" (kid `{kid}`)")).unwrap_or_default())]
    Key {
        /// Position in the set.
        index: usize,
        /// The key's id, if it has one.
        kid: Option<String>,
        /// What is wrong with it.
        problem: KeyError,
    },
    /// More than any issuer needs.
    #[error("holds {0} keys, more than the {MOST_KEYS} that are read")]
    TooMany(usize),
    /// Nothing in the set verifies signatures of the accepted algorithms.
    #[error("holds no key that verifies signatures of the accepted algorithms")]
    Empty,
}

/// What is wrong with one key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No object, or one whose `kid`, `use` and the like are of the wrong type.
    #[error("is no JSON Web Key: {0}")]
    Syntax(serde_json::Error),
    /// A parameter that the key's type needs.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Not base64url without padding.
    #[error("{0} is not base64url without padding")]
    Encoding(&'static str),
    /// The private half as well: whoever can read the set can sign.
    #[error("the key is published with its private half")]
    Private,
    /// RSA below 2048 bits, a point that is not on its curve, or a key of small order.
    #[error("the key is too weak or not valid for its type")]
    Unfit,
}

/// The trusted algorithm that a JOSE name stands for, compared exactly.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    name.parse().ok().filter(|algorithm| ALGORITHMS.contains(algorithm))
}

/// The keys of one issuer, ready to verify.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    fingerprint: Fingerprint,
}

/// Tells sets apart by the keys that can be used, whatever their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// A key, parsed once for each algorithm and not again for each token.
#[derive(Debug)]
struct Key {
    kid: Option<String>,
    public: Vec<(Algorithm, ParsedPublicKey)>,
}

/// A key set whose keys are read one by one, so that one of them does not spoil the others.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a key set. Keys for encryption, symmetric keys and types nobody knows are passed over; so is a signature key
    /// that is weak or broken, with a warning, unless no other is left (RFC 7517, section 5).
    pub fn parse(text: &str, accepted: &[Algorithm]) -> Result<Self, Error> {
        let document: Document = serde_json::from_str(text).map_err(Error::Syntax)?;
        if document.keys.len() > MOST_KEYS {
            return Err(Error::TooMany(document.keys.len()));
        }
        let (mut keys, mut errors) = (Vec::new(), Vec::new());
        for (index, jwk) in document.keys.iter().enumerate() {
            match Key::parse(jwk, accepted) {
                Ok(key) => keys.extend(key),
                Err(problem) => {
                    let kid = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
                    errors.push(Error::Key { index, kid, problem });
                }
            }
        }
        if keys.is_empty() {
            return Err(errors.into_iter().next().unwrap_or(Error::Empty));
        }
        for error in errors {
            tracing::warn!(%error, "a key set has a key that cannot be used");
        }
        Ok(Self { fingerprint: Fingerprint::of(&keys), keys })
    }

    /// What is known by these keys and by no others.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set without a key does not parse.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the set has a key with this id, or for `None` one without.
    pub fn knows(&self, kid: Option<&str>) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == kid)
    }

    /// Whether one of the keys that a token with this `alg` and `kid` may have been signed with made the signature: exactly
    /// those with that id, and for a token without one exactly those without. `None` when there is no such key.
    pub fn verify(&self, algorithm: Algorithm, kid: Option<&str>, message: &[u8], signature: &[u8]) -> Option<bool> {
        let named = self.keys.iter().filter(|key| key.kid.as_deref() == kid);
        let keys = named.flat_map(|key| &key.public).filter(|(good_for, _)| *good_for == algorithm);
        let verified = keys.map(|(_, key)| key.verify_sig(message, signature).is_ok());
        verified.reduce(|one, other| one || other)
    }
}

impl Fingerprint {
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(keys: &[Key]) -> Self {
        let print = |Key { kid, public }: &Key| {
            // Quoted, so that no id can look like another and a key.
            let mut print = format!("{kid:?}");
            for (algorithm, key) in public {
                let _ = write!(print, " {algorithm:?} {:?}", key.as_ref());
            }
            print
        };
        let mut prints: Vec<String> = keys.iter().map(print).collect();
        prints.sort_unstable();
        let mut context = Context::new(&SHA256);
        for print in &prints {
            context.update(print.as_bytes());
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        Self(fingerprint)
    }
}

impl Key {
    /// The key with every algorithm that its type, its `alg` and the policy all admit; `None` when there is none, or when
    /// the key is for something else.
    fn parse(jwk: &Value, accepted: &[Algorithm]) -> Result<Option<Self>, KeyError> {
        let private = jwk.get("d").is_some();
        let jwk = Jwk::deserialize(jwk).map_err(KeyError::Syntax)?;
        let common = &jwk.common;
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !verifies || common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return Ok(None);
        }
        if private {
            return Err(KeyError::Private);
        }
        let (possible, parameters) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (AlgorithmFamily::Rsa.algorithms(), "`n` or `e`"),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => ([Algorithm::ES256].as_slice(), "`x` or `y`"),
                EllipticCurve::P384 => ([Algorithm::ES384].as_slice(), "`x` or `y`"),
                _ => return Ok(None),
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                ([Algorithm::EdDSA].as_slice(), "`x`")
            }
            AlgorithmParameters::Other(key) => {
                return missing(key).map_or(Ok(None), |name| Err(KeyError::Missing(name)));
            }
            _ => return Ok(None),
        };
        let admitted = |algorithm: &Algorithm| {
            accepted.contains(algorithm) && common.key_algorithm.is_none_or(|named| named == (*algorithm).into())
        };
        let mut algorithms = possible.iter().copied().filter(admitted).peekable();
        if algorithms.peek().is_none() {
            return Ok(None);
        }
        let decoded = DecodingKey::from_jwk(&jwk).map_err(|_| KeyError::Encoding(parameters))?;
        let parse = |algorithm| parsed(&decoded, algorithm).map(|key| (algorithm, key)).ok_or(KeyError::Unfit);
        let public = algorithms.map(parse).collect::<Result<_, _>>()?;
        Ok(Some(Self { kid: jwk.common.key_id, public }))
    }
}

/// What a key of a known type lacks, which the library therefore takes for one of an unknown type.
fn missing(key: &OtherKeyParameters) -> Option<&'static str> {
    let needed: &[_] = match key.fields.get("kty").and_then(Value::as_str)? {
        "RSA" => &["n", "e"],
        "EC" => &["crv", "x", "y"],
        "OKP" => &["crv", "x"],
        _ => &[],
    };
    needed.iter().copied().find(|name| !key.fields.contains_key(*name))
}

/// The key for one algorithm, if it can be trusted at all.
fn parsed(public: &DecodingKey, algorithm: Algorithm) -> Option<ParsedPublicKey> {
    match public.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } if modulus_bits(n) >= SHORTEST_MODULUS => {
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(rsa(algorithm)?).ok()
        }
        DecodingKeyKind::RsaModulusExponent { .. } => None,
        DecodingKeyKind::SecretOrDer(point) => match algorithm {
            Algorithm::ES256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok(),
            Algorithm::ES384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok(),
            Algorithm::EdDSA => ParsedPublicKey::new(&ED25519, point).ok().filter(|key| !small_order(key)),
            _ => None,
        },
    }
}

/// Padding and hash of an RSA signature (RFC 7518, sections 3.3 and 3.5).
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// A shorter key would be parsed and then verify nothing.
fn modulus_bits(n: &[u8]) -> usize {
    let significant = n.iter().skip_while(|byte| **byte == 0);
    let leading = significant.clone().next().map_or(0, |byte| byte.leading_zeros() as usize);
    (8 * significant.count()).saturating_sub(leading)
}

/// A key of small order accepts signatures that nobody made: with `R` the neutral point and `s` zero, one message in eight
/// or more. Trying some messages finds all such keys, in every encoding of theirs, and never refuses an honest one.
fn small_order(key: &ParsedPublicKey) -> bool {
    let mut forged = [0; 64];
    forged[0] = 1;
    (0..64).any(|message: u8| key.verify_sig(&[message], &forged).is_ok())
}
