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
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == LENGTH)
}

/// SHA-256 of the parts, which cannot be shifted against each other, as 43 characters.
pub(crate) fn hash(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(context.finish())
}
