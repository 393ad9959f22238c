//! How keys are known without being kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use proto::directory::Changes;

/// The longest key that is looked at, in bytes.
pub const LONGEST_KEY: usize = 512;
/// The shortest pepper, in bytes.
const SHORTEST_PEPPER: usize = 16;
/// Peppers that may be in use at once: each costs a digest for a key that none of them knows.
pub(super) const MOST_PEPPERS: usize = 4;

const PLAIN: &str = "sha256:";
const KEYED: &str = "hmac-sha256:";

/// A key's fingerprint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash {
    pub(super) digest: [u8; 32],
    /// Made with a [`Pepper`].
    pub(super) keyed: bool,
}

/// Secrets without which nobody can test guesses against stored hashes. They lie in a file, not where the hashes are: one a
/// line, of which the first makes hashes and all are tried.
#[derive(Clone)]
pub struct Pepper(Arc<ArcSwap<Vec<Secret>>>);

struct Secret {
    key: hmac::Key,
    /// To see whether the file has changed.
    fingerprint: [u8; 32],
}

/// Why there is no pepper.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// No such file, or it cannot be read.
    #[error("reading the pepper of keys: {0}")]
    Read(#[from] std::io::Error),
    /// Too easy to guess.
    #[error("line {0} of the pepper of keys is shorter than {SHORTEST_PEPPER} bytes")]
    Short(usize),
    /// There is none, or too many to try.
    #[error("the pepper of keys has {0} lines instead of 1 to {MOST_PEPPERS}")]
    Count(usize),
}

impl Pepper {
    /// Reads a file; white space at the end of a line is no part of the pepper, and empty lines are none.
    pub fn read(path: &Path) -> Result<Self, PepperError> {
        Self::new(&std::fs::read(path)?)
    }

    /// Reads the lines of a file.
    pub fn new(text: &[u8]) -> Result<Self, PepperError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(secrets(text)?))))
    }

    /// Keeps up with the file; when it makes no sense, what it last said goes on.
    pub(crate) async fn follow(self, path: PathBuf) {
        let mut changes = Changes::of(path.parent().unwrap_or(Path::new(".")));
        loop {
            changes.watch();
            let read = std::fs::read(&path).map_err(PepperError::from).and_then(|text| secrets(&text));
            match read {
                Ok(secrets) => {
                    let known = self.0.load();
                    if !secrets
                        .iter()
                        .map(|secret| secret.fingerprint)
                        .eq(known.iter().map(|secret| secret.fingerprint))
                    {
                        tracing::info!(peppers = secrets.len(), "the pepper of keys has changed");
                        self.0.store(Arc::new(secrets));
                    }
                }
                Err(error) => tracing::warn!(%error, "the last good pepper stays in force"),
            }
            changes.wait().await;
        }
    }

    /// The key's digest with the pepper that makes hashes.
    fn digest(&self, key: &str) -> [u8; 32] {
        let [first, ..] = self.digests(key);
        first.unwrap_or_default()
    }

    /// The key's digests with all peppers.
    pub(super) fn digests(&self, key: &str) -> [Option<[u8; 32]>; MOST_PEPPERS] {
        let mut digests = [None; MOST_PEPPERS];
        for (digest, secret) in digests.iter_mut().zip(self.0.load().iter()) {
            *digest = Some(array(hmac::sign(&secret.key, key.as_bytes()).as_ref()));
        }
        digests
    }
}

fn secrets(text: &[u8]) -> Result<Vec<Secret>, PepperError> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).zip(1..);
    let lines = lines.filter(|(line, _)| !line.is_empty()).map(|(line, number)| {
        let secret = || Secret {
            key: hmac::Key::new(hmac::HMAC_SHA256, line),
            fingerprint: array(digest(&SHA256, line).as_ref()),
        };
        (line.len() >= SHORTEST_PEPPER).then(secret).ok_or(PepperError::Short(number))
    });
    let secrets = lines.collect::<Result<Vec<_>, _>>()?;
    if (1..=MOST_PEPPERS).contains(&secrets.len()) { Ok(secrets) } else { Err(PepperError::Count(secrets.len())) }
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
