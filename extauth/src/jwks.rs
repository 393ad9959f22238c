//! Key sets (RFC 7517): which keys an issuer signs with, and for which algorithms each of them is good.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, OtherKeyParameters, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

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
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    public: DecodingKey,
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
        Ok(Self(keys))
    }

    /// The keys that a token with this `alg` and `kid` may have been signed with: exactly those with that id, and for a
    /// token without one exactly those without.
    pub fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| key.algorithms.contains(&algorithm) && key.kid.as_deref() == kid;
        self.0.iter().filter(fits).map(|key| &key.public)
    }
}

impl Key {
    /// The key with every algorithm that its type, its `alg` and the policy all admit; `None` when there is none, or when
    /// the key is for something else.
    fn parse(jwk: &Value, accepted: &[Algorithm]) -> Result<Option<Self>, KeyError> {
        let jwk = Jwk::deserialize(jwk).map_err(KeyError::Syntax)?;
        let common = &jwk.common;
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !verifies || common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return Ok(None);
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
        let algorithms: Vec<_> = possible.iter().copied().filter(admitted).collect();
        let Some(algorithm) = algorithms.first() else { return Ok(None) };
        let public = DecodingKey::from_jwk(&jwk).map_err(|_| KeyError::Encoding(parameters))?;
        if !fit(&public, *algorithm) {
            return Err(KeyError::Unfit);
        }
        Ok(Some(Self { kid: jwk.common.key_id, algorithms, public }))
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

/// Whether a key can be trusted at all; the library only finds out when it verifies, and then blames the signature.
fn fit(public: &DecodingKey, algorithm: Algorithm) -> bool {
    match (public.kind(), algorithm) {
        (DecodingKeyKind::RsaModulusExponent { n, e }, _) => {
            let components = RsaPublicKeyComponents { n, e };
            modulus_bits(n) >= SHORTEST_MODULUS && components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok()
        }
        (DecodingKeyKind::SecretOrDer(point), Algorithm::ES256) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok()
        }
        (DecodingKeyKind::SecretOrDer(point), Algorithm::ES384) => {
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).is_ok()
        }
        (DecodingKeyKind::SecretOrDer(x), _) => ParsedPublicKey::new(&ED25519, x).is_ok_and(|key| !small_order(&key)),
    }
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
