//! The name of a counter.

use std::fmt;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use sha2::{Digest, Sha256};

use crate::store::Algorithm;

/// 128 bits that stand for a domain, a window length, an algorithm and the entries of a descriptor.
///
/// Every part is hashed behind its length, so no two descriptors share a counter, and values that identify people do
/// not reach the store. SHA-256 is cut to half its length: clients choose values, and must not find two that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) u128);

/// What stands before each level, so that a shared wildcard never equals a value.
const ENTRY: u8 = 0;
const SHARED: u8 = 1;
/// What stands before the first level, but for fixed windows, which had no mark when they were the only algorithm.
const SLIDING_WINDOW: u8 = 2;
const GCRA: u8 = 3;
const CONCURRENCY: u8 = 4;

/// What keys are made with besides the descriptor. Who does not know it cannot compute keys, and so cannot look for
/// descriptors whose counters meet in one bucket or cluster slot. Holds the hash of the secret, ready to go on from.
#[derive(Clone, Default)]
pub struct Secret {
    hash: Sha256,
    /// Tells secrets apart without being one; none if empty.
    mark: Option<[u8; 32]>,
}

impl Secret {
    /// Keys are those without a secret if it is empty.
    pub fn new(secret: &[u8]) -> Self {
        if secret.is_empty() {
            return Self::default();
        }
        let digest = Sha256::digest(secret);
        let mut hash = Sha256::new();
        hash.update(digest);
        // A whole block of SHA-256, so that it is dealt with here and not for each key.
        hash.update([0; 32]);
        Self { mark: Some(hash.clone().finalize().into()), hash }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.mark.is_some() { "Secret(set)" } else { "Secret(none)" })
    }
}

impl Key {
    /// Without a secret. `window` is in seconds. `shared` holds, by level, the wildcard text that replaces an entry; levels it does not reach are not replaced.
    pub fn new(domain: &str, window: u32, algorithm: Algorithm, entries: &[Entry], shared: &[Option<String>]) -> Self {
        Self::keyed(&Secret::default(), domain, window, algorithm, entries, shared)
    }

    /// With a secret; the rest is as for [`Key::new`].
    pub fn keyed(
        secret: &Secret,
        domain: &str,
        window: u32,
        algorithm: Algorithm,
        entries: &[Entry],
        shared: &[Option<String>],
    ) -> Self {
        let mut hash = secret.hash.clone();
        part(&mut hash, domain);
        hash.update(window.to_be_bytes());
        match algorithm {
            Algorithm::FixedWindow => {}
            Algorithm::SlidingWindow => hash.update([SLIDING_WINDOW]),
            Algorithm::Gcra { .. } => hash.update([GCRA]),
            Algorithm::Concurrency => hash.update([CONCURRENCY]),
        }
        for (level, entry) in entries.iter().enumerate() {
            if let Some(Some(text)) = shared.get(level) {
                hash.update([SHARED]);
                part(&mut hash, text);
            } else {
                hash.update([ENTRY]);
                part(&mut hash, &entry.key);
                part(&mut hash, &entry.value);
            }
        }
        let digest = hash.finalize();
        Self(digest.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn part(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn entries(pairs: &[(String, String)]) -> Vec<Entry> {
        pairs.iter().map(|(key, value)| Entry { key: key.clone(), value: value.clone() }).collect()
    }

    fn key(domain: &str, pairs: &[(String, String)]) -> Key {
        Key::new(domain, 60, Algorithm::FixedWindow, &entries(pairs), &[])
    }

    /// Few letters and short texts, so that parts often have the same concatenation.
    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        vec(("[a_]{0,3}", "[a_]{0,3}"), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn l1_different_descriptors_have_different_keys(
            (d1, p1) in ("[a_]{0,3}", pairs()), (d2, p2) in ("[a_]{0,3}", pairs()),
        ) {
            prop_assert_eq!((&d1, &p1) == (&d2, &p2), key(&d1, &p1) == key(&d2, &p2));
        }
    }

    #[test]
    fn key_tells_apart_what_upstream_joins() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_ne!(key("d", &[pair("a", "b_c")]), key("d", &[pair("a_b", "c")]));
        assert_ne!(key("d_a", &[pair("b", "c")]), key("d", &[pair("a_b", "c")]));
        assert_ne!(key("d", &[pair("a", "b"), pair("c", "d")]), key("d", &[pair("a", "b_c_d")]));
    }

    #[test]
    fn window_and_algorithm_are_part_of_the_key() {
        use Algorithm::{Concurrency, FixedWindow, Gcra, SlidingWindow};
        let key = |window, algorithm, levels: usize| {
            let entries = entries(&vec![(String::new(), String::new()); levels]);
            Key::new("d", window, algorithm, &entries, &[])
        };
        let mut keys = HashSet::new();
        for (window, levels) in [(60, 0), (60, 1), (60, 2), (3600, 0), (3600, 1)] {
            for algorithm in [FixedWindow, SlidingWindow, Gcra { per_window: 1 }, Concurrency] {
                assert!(keys.insert(key(window, algorithm, levels)), "{window} {algorithm:?} {levels}");
            }
        }
        let (slow, fast) = (Gcra { per_window: 1 }, Gcra { per_window: 2 });
        assert_eq!(key(60, slow, 1), key(60, fast, 1), "another limit goes on with the count");
    }

    #[test]
    fn l3_keys_cannot_be_computed_without_the_secret() {
        let of = |secret: &str, value: &str| {
            let (secret, entries) = (Secret::new(secret.as_bytes()), entries(&[("a".into(), value.into())]));
            Key::keyed(&secret, "d", 60, Algorithm::FixedWindow, &entries, &[])
        };
        let known = |value: &str| key("d", &[("a".into(), value.into())]);
        // The first bits choose the bucket of a window in Redis, and so the slot of a cluster: anybody can aim without a secret.
        let bucket = |key: Key| key.0 >> 120;
        let aimed: Vec<String> =
            (0..5000).map(|n| n.to_string()).filter(|value| bucket(known(value)) == 0).take(10).collect();
        assert_eq!(aimed.len(), 10);
        assert!(aimed.iter().all(|value| of("", value) == known(value)), "the keys of a release without secrets");
        let met = |secret: &str| aimed.iter().map(|value| bucket(of(secret, value))).collect::<HashSet<_>>().len();
        assert!(met("one") > 5 && met("two") > 5);
        let secrets = ["", "one", "two", "one ", "\0", "\0\0"];
        assert_eq!(secrets.map(|secret| of(secret, "b")).into_iter().collect::<HashSet<_>>().len(), secrets.len());
        assert_eq!(of("one", "b"), of("one", "b"));
        assert_ne!(Secret::new(b"one"), Secret::new(b"two"));
        assert_eq!(format!("{:?}", Secret::new(b"one")), "Secret(set)");
    }

    #[test]
    fn shared_levels_ignore_the_value() {
        let shared = [Some("a_*".to_owned())];
        let of =
            |value: &str| Key::new("d", 60, Algorithm::FixedWindow, &entries(&[("a".into(), value.into())]), &shared);
        assert_eq!(of("x"), of("y"));
        assert_ne!(of("x"), Key::new("d", 60, Algorithm::FixedWindow, &entries(&[("a".into(), "*".into())]), &[]));
    }

    /// Changing how keys are made forgets every counter in Redis at the next rollout.
    #[test]
    fn key_is_stable() {
        assert_eq!(key("d", &[("a".into(), "b".into())]).to_string(), "5e944a7280092c9768ea3ea140f6bda5");
    }
}
