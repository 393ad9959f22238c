//! Key sets (RFC 7517): which keys an issuer signs with, and for which algorithms each of them is good.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Bits of the shortest RSA modulus that is trusted (NIST SP 800-131A).
const SHORTEST_MODULUS: usize = 2048;

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
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A parameter that the key's type needs.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Not base64url without padding.
    #[error("`{0}` is not base64url without padding")]
    Encoding(&'static str),
    /// RSA below 2048 bits, a point that is not on its curve, or a key of small order.
    #[error("the key is too weak or not valid for its type")]
    Unfit,
}

/// Asymmetric signature algorithms of JOSE (RFC 7518 and RFC 8037). There is no HMAC and no `none` to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// RSA-PSS with SHA-384.
    Ps384,
    /// RSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them, with their JOSE names.
    pub const ALL: [(&'static str, Self); 10] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
        ("EdDSA", Self::EdDsa),
    ];

    /// The algorithm that a JOSE name stands for, compared exactly.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => return None,
        })
    }
}

/// The keys of one issuer, ready to verify.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

/// A key set as it is written.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

/// The parameters of a key that matter for verifying; the rest is ignored as RFC 7517, section 4 asks.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set. Keys for encryption, symmetric keys and types nobody knows are passed over; a signature key that
    /// is weak or broken is an error, for it would be missed only when its first token is refused.
    pub fn parse(text: &str, accepted: &[Algorithm]) -> Result<Self, Error> {
        let document: Document = serde_json::from_str(text).map_err(Error::Syntax)?;
        let mut keys = Vec::new();
        for (index, jwk) in document.keys.iter().enumerate() {
            let parsed = jwk.keys(accepted);
            keys.extend(parsed.map_err(|problem| Error::Key { index, kid: jwk.kid.clone(), problem })?);
        }
        if keys.is_empty() { Err(Error::Empty) } else { Ok(Self(keys)) }
    }

    /// The keys that a token with this `alg` and `kid` may have been signed with: exactly those with that id, and for a
    /// token without one exactly those without.
    fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.algorithm == algorithm && key.kid.as_deref() == kid)
    }

    /// Whether the set has a key for such a token at all.
    pub fn has(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        self.candidates(algorithm, kid).next().is_some()
    }

    /// Whether one of the keys for such a token made the signature.
    pub fn verify(&self, algorithm: Algorithm, kid: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        self.candidates(algorithm, kid).any(|key| key.public.verify_sig(message, signature).is_ok())
    }
}

impl Jwk {
    /// The key once for every algorithm that its type, its `alg` and the policy all admit.
    fn keys(&self, accepted: &[Algorithm]) -> Result<Vec<Key>, KeyError> {
        let verifies = self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|name| name == "verify"));
        if !verifies || self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Ok(Vec::new());
        }
        let named = self.alg.as_deref().map(Algorithm::named);
        let admitted =
            |algorithm: Algorithm| accepted.contains(&algorithm) && named.is_none_or(|named| named == Some(algorithm));
        let key = |algorithm, public| Key { kid: self.kid.clone(), algorithm, public };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes("n", self.n.as_deref())?, bytes("e", self.e.as_deref())?);
                if modulus_bits(&n) < SHORTEST_MODULUS {
                    return Err(KeyError::Unfit);
                }
                let components = RsaPublicKeyComponents { n, e };
                let algorithms = Algorithm::ALL.iter().map(|(_, algorithm)| *algorithm).filter(|a| admitted(*a));
                algorithms
                    .filter_map(|algorithm| algorithm.rsa().map(|parameters| (algorithm, parameters)))
                    .map(|(algorithm, parameters)| {
                        let public = components.to_parsed_public_key(parameters).map_err(|_| KeyError::Unfit)?;
                        Ok(key(algorithm, public))
                    })
                    .collect()
            }
            ("EC", Some("P-256")) if admitted(Algorithm::Es256) => {
                Ok(vec![key(Algorithm::Es256, self.point(&ECDSA_P256_SHA256_FIXED, 32)?)])
            }
            ("EC", Some("P-384")) if admitted(Algorithm::Es384) => {
                Ok(vec![key(Algorithm::Es384, self.point(&ECDSA_P384_SHA384_FIXED, 48)?)])
            }
            ("EC", Some("P-521")) if admitted(Algorithm::Es512) => {
                Ok(vec![key(Algorithm::Es512, self.point(&ECDSA_P521_SHA512_FIXED, 66)?)])
            }
            ("OKP", Some("Ed25519")) if admitted(Algorithm::EdDsa) => {
                Ok(vec![key(Algorithm::EdDsa, edwards(&bytes("x", self.x.as_deref())?)?)])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn point(&self, curve: &'static dyn VerificationAlgorithm, length: usize) -> Result<ParsedPublicKey, KeyError> {
        let x = bytes("x", self.x.as_deref())?;
        let y = bytes("y", self.y.as_deref())?;
        if x.len() != length || y.len() != length {
            return Err(KeyError::Unfit);
        }
        let uncompressed = [[4].as_slice(), &x, &y].concat();
        ParsedPublicKey::new(curve, uncompressed).map_err(|_| KeyError::Unfit)
    }
}

fn bytes(name: &'static str, value: Option<&str>) -> Result<Vec<u8>, KeyError> {
    let value = value.ok_or(KeyError::Missing(name))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| KeyError::Encoding(name))
}

/// The library would load a shorter key and then verify nothing with it.
fn modulus_bits(n: &[u8]) -> usize {
    let significant = n.iter().skip_while(|byte| **byte == 0);
    let leading = significant.clone().next().map_or(0, |byte| byte.leading_zeros() as usize);
    (8 * significant.count()).saturating_sub(leading)
}

/// A key of small order accepts signatures that nobody made: with `R` the neutral point and `s` zero, one message in eight
/// or more. Trying some messages finds all such keys, in every encoding of theirs, and never refuses an honest one.
fn edwards(x: &[u8]) -> Result<ParsedPublicKey, KeyError> {
    let key = ParsedPublicKey::new(&ED25519, x).map_err(|_| KeyError::Unfit)?;
    let mut forged = [0; 64];
    forged[0] = 1;
    let small = (0..64).any(|message: u8| key.verify_sig(&[message], &forged).is_ok());
    if small { Err(KeyError::Unfit) } else { Ok(key) }
}
