//! How keys are known without being kept.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

/// The longest key that is looked at, in bytes.
pub const LONGEST_KEY: usize = 512;
/// The shortest pepper, in bytes.
const SHORTEST_PEPPER: usize = 16;

const PLAIN: &str = "sha256:";
const KEYED: &str = "hmac-sha256:";

/// A key's fingerprint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash {
    pub(super) digest: [u8; 32],
    /// Made with a [`Pepper`].
    pub(super) keyed: bool,
}

/// A secret without which nobody can test guesses against stored hashes. It lies in a file, not where the hashes are.
#[derive(Clone)]
pub struct Pepper(Arc<hmac::Key>);

/// Why there is no pepper.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// No such file, or it cannot be read.
    #[error("reading the pepper of keys: {0}")]
    Read(#[from] std::io::Error),
    /// Too easy to guess.
    #[error("the pepper of keys is shorter than {SHORTEST_PEPPER} bytes")]
    Short,
}

impl Pepper {
    /// Reads a file; white space at its end is no part of the pepper.
    pub fn read(path: &Path) -> Result<Self, PepperError> {
        let text = std::fs::read(path)?;
        Self::new(text.trim_ascii_end())
    }

    /// Takes the bytes as they are.
    pub fn new(bytes: &[u8]) -> Result<Self, PepperError> {
        let long = bytes.len() >= SHORTEST_PEPPER;
        long.then(|| Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))).ok_or(PepperError::Short)
    }

    pub(super) fn digest(&self, key: &str) -> [u8; 32] {
        array(hmac::sign(&self.0, key.as_bytes()).as_ref())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pepper(…)")
    }
}

impl Hash {
    /// Hashes a key, with the pepper if there is one. `None` when no request could carry such a key: it must be 1 to
    /// [`LONGEST_KEY`] visible ASCII characters without a comma.
    pub fn of(key: &str, pepper: Option<&Pepper>) -> Option<Self> {
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        let valid = !key.is_empty() && key.len() <= LONGEST_KEY && key.bytes().all(legal);
        valid.then(|| match pepper {
            Some(pepper) => Self { digest: pepper.digest(key), keyed: true },
            None => Self { digest: plain(key), keyed: false },
        })
    }

    /// The part of a set in the store that the key belongs to.
    pub(crate) fn shard(&self) -> usize {
        let [first, ..] = self.digest;
        first.into()
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, keyed) = match text.strip_prefix(PLAIN) {
            Some(digits) => (digits, false),
            None => (text.strip_prefix(KEYED)?, true),
        };
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (position, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * position..2 * position + 2)?, 16).ok()?;
        }
        Some(Self { digest, keyed })
    }
}

/// As configuration and the store hold it.
impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.keyed { KEYED } else { PLAIN })?;
        self.digest.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Without the digest, which would let a leaked log be searched for short keys.
impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hash(…)")
    }
}

pub(super) fn plain(key: &str) -> [u8; 32] {
    array(digest(&SHA256, key.as_bytes()).as_ref())
}

fn array(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(bytes);
    array
}
