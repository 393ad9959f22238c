//! Secrets of our own making.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a random text.
const LENGTH: usize = 32;

/// 256 random bits as 43 characters; `None` when the system has none to give.
pub(crate) fn text() -> Option<String> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a text may be one of [`text`]'s.
pub(crate) fn plausible(text: &str) -> bool {
    bytes(text).is_some()
}

/// SHA-256 of the parts, which cannot be shifted against each other.
pub(crate) fn digest(parts: &[&str]) -> [u8; LENGTH] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut digest = [0; LENGTH];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The same as 43 characters.
pub(crate) fn hash(parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(digest(parts))
}

/// The bytes of what may be one of [`text`]'s or [`hash`]'s texts.
pub(crate) fn bytes(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? == LENGTH).then_some(bytes)
}
