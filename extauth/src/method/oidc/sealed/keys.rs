//! The keys that seal cookies: the first seals, all of them open.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use proto::extauth::Secret;

use crate::sealed;

/// More keys would only make forgeries dearer to refuse.
const MOST: usize = 8;
/// Bytes of a key.
const LENGTH: usize = 32;
/// Bytes that give each cookie a key of its own, so that no key seals so much that its nonces could repeat.
const SALT: usize = 16;
/// As `openssl rand -base64 32` writes.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// At least one key.
pub(super) struct Ring(Vec<Secret>);

impl Ring {
    /// Reads a key a line; empty lines and those with `#` say nothing. The error says which line is wrong.
    pub(super) fn parse(text: &Secret) -> Result<Self, String> {
        let lines = text.expose().lines().zip(1..).map(|(line, number)| (line.trim(), number));
        let mut keys = Vec::new();
        for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
            let length = STANDARD.decode(line).map(|key| key.len());
            if length != Ok(LENGTH) {
                return Err(format!(
                    "line {number} is not {LENGTH} bytes in base64; `openssl rand -base64 32` makes some"
                ));
            }
            if keys.iter().any(|other: &Secret| other.expose() == line) {
                return Err(format!("line {number} has a key that stands before it"));
            }
            keys.push(Secret::new(line));
        }
        match keys.len() {
            0 => Err("there is no key in it".to_owned()),
            1..=MOST => Ok(Self(keys)),
            more => Err(format!("these are {more} keys, and {MOST} at most may be in use")),
        }
    }

    /// Seals with the first key, as a text for a cookie; `None` when the system has no random bits to give.
    pub(super) fn seal(&self, purpose: &str, text: Vec<u8>) -> Option<String> {
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).ok()?;
        let salt = URL_SAFE_NO_PAD.encode(salt);
        let sealed = sealed::seal(self.0.first()?.expose(), &format!("{purpose} {salt}"), text)?;
        Some(format!("{salt}.{}", URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// What was sealed for the same purpose, and whether the first key did.
    pub(super) fn open(&self, purpose: &str, text: &str) -> Option<(Vec<u8>, bool)> {
        let (salt, sealed) = text.split_once('.')?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let purpose = format!("{purpose} {salt}");
        let opened = |key: &Secret| sealed::open(key.expose(), &purpose, &sealed);
        self.0.iter().zip(0..).find_map(|(key, place)| Some((opened(key)?, place == 0)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NEW: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const OLD: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn ring(text: &str) -> Result<Ring, String> {
        Ring::parse(&Secret::new(text))
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = ring(OLD).unwrap();
        let both = ring(&format!("# new since Monday\n{NEW}\n\n{OLD}\r\n")).unwrap();
        let of_old = old.seal("session", b"text".to_vec()).unwrap();
        let of_new = both.seal("session", b"text".to_vec()).unwrap();
        assert_eq!(both.open("session", &of_old), Some((b"text".to_vec(), false)));
        assert_eq!(both.open("session", &of_new), Some((b"text".to_vec(), true)));
        assert_eq!(old.open("session", &of_new), None);
        assert_eq!(both.open("flow", &of_new), None);
    }

    #[test]
    fn nothing_that_was_touched_opens() {
        let ring = ring(NEW).unwrap();
        let sealed = ring.seal("session", b"a session".to_vec()).unwrap();
        for place in 0..sealed.len() {
            let mut touched = sealed.clone().into_bytes();
            touched[place] = if touched[place] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).unwrap();
            assert_eq!(ring.open("session", &touched), None, "character {place}");
            assert_eq!(ring.open("session", &sealed[..place]), None, "cut at {place}");
        }
    }

    #[test]
    fn what_is_no_ring_of_keys_is_refused() {
        let many = (0..9).map(|number| format!("{number}{}", &NEW[1..])).collect::<Vec<_>>().join("\n");
        for (text, problem) in [
            ("", "no key"),
            ("# none", "no key"),
            ("secret", "line 1"),
            (&format!("{NEW}\n{}", &OLD[4..]), "line 2"),
            (&format!("{NEW}\n{NEW}"), "line 2"),
            (&many, "9 keys"),
        ] {
            let error = ring(text).err().unwrap();
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!(ring(NEW.trim_end_matches('=')).is_ok(), "with or without padding");
    }
}
