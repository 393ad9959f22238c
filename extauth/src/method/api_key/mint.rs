//! New keys: `PREFIX_ID_SECRET`, where `PREFIX_ID` is the key's id and no secret.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of the id, written in hexadecimal.
const ID: usize = 6;
/// Bytes of the secret part.
const SECRET: usize = 32;
/// The longest prefix, or name of a set of keys.
const LONGEST_NAME: usize = 63;

/// A key that was just made.
pub struct Minted {
    /// What it is called.
    pub id: String,
    /// What its owner sends. Nobody can find it again.
    pub key: String,
}

/// The system has no random numbers, or the prefix is none.
#[derive(Debug, thiserror::Error)]
#[error("no key can be made: the prefix is not letters and digits, or there are no random numbers")]
pub struct NoRandom;

/// Makes a key at random.
pub fn mint(prefix: &str) -> Result<Minted, NoRandom> {
    let (mut id, mut secret) = ([0; ID], [0; SECRET]);
    let legal = is_prefix(prefix) && rand::fill(&mut id).is_ok() && rand::fill(&mut secret).is_ok();
    if !legal {
        return Err(NoRandom);
    }
    let digits: String = id.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
    let id = format!("{prefix}_{digits}");
    Ok(Minted { key: format!("{id}_{}", URL_SAFE_NO_PAD.encode(secret)), id })
}

/// The id that a key begins with, if it was made here.
pub(super) fn id(key: &str) -> Option<&str> {
    let (prefix, rest) = key.split_once('_')?;
    let (digits, _) = rest.split_once('_')?;
    let hexadecimal = digits.len() == 2 * ID && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_prefix(prefix) && hexadecimal).then(|| key.get(..prefix.len() + 1 + digits.len()))?
}

/// Whether a set of keys can be called this.
pub(super) fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(legal)
}

fn is_prefix(prefix: &str) -> bool {
    (1..=LONGEST_NAME).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
