//! Entries that the store keeps and cannot read: AES-256-GCM under a key made from a secret that only a client has.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

/// Seals a text for whoever has the secret and knows the purpose; `None` when the system has no random bits to give.
pub(crate) fn seal(secret: &str, purpose: &str, mut text: Vec<u8>) -> Option<Vec<u8>> {
    let nonce = key(secret, purpose)?.seal_in_place_append_tag(Aad::from(purpose), &mut text).ok()?;
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut text);
    Some(sealed)
}

/// Opens what [`seal`] sealed with the same secret for the same purpose; `None` for everything else.
pub(crate) fn open(secret: &str, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let length = key(secret, purpose)?.open_in_place(nonce, Aad::from(purpose), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

fn key(secret: &str, purpose: &str) -> Option<RandomizedNonceKey> {
    let mut key = [0; 32];
    let info = [purpose.as_bytes()];
    Salt::new(HKDF_SHA256, b"tollgate extauth")
        .extract(secret.as_bytes())
        .expand(&info, HKDF_SHA256)
        .ok()?
        .fill(&mut key)
        .ok()?;
    RandomizedNonceKey::new(&AES_256_GCM, &key).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_sealed_opens_for_the_same_secret_and_purpose_only() {
        let sealed = seal("secret", "session", b"tokens".to_vec()).unwrap();
        assert_eq!(open("secret", "session", &sealed).as_deref(), Some(b"tokens".as_slice()));
        assert_eq!(open("other", "session", &sealed), None);
        assert_eq!(open("secret", "flow", &sealed), None);
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert_eq!(open("secret", "session", &changed), None, "byte {position}");
            assert_eq!(open("secret", "session", &sealed[..position]), None, "cut at {position}");
        }
    }

    #[test]
    fn no_two_sealings_are_alike() {
        assert_ne!(seal("secret", "session", b"tokens".to_vec()), seal("secret", "session", b"tokens".to_vec()));
    }
}
