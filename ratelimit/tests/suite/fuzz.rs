//! Arbitrary bytes where somebody else may write: configurations, requests. Nothing may panic, and what is read must be whole.

use envoy_types::pb::{
    envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code},
    ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message;
use ratelimit::{
    config::{Config, Domains},
    limiter::{self, Options},
    store::Memory,
};

const NESTED: &str = include_str!("config/good/nested.yaml");
const ALGORITHMS: &str = include_str!("config/good/algorithms.yaml");

fn read(text: &str) -> Result<Config, String> {
    Config::from_yaml([("fuzz.yaml", text)], Domains::Distinct).map_err(|error| error.to_string())
}

/// Decides whatever this is, if it is a request at all.
fn decide(config: &Config, bytes: &[u8]) {
    let Ok(request) = RateLimitRequest::decode(bytes) else { return };
    let (store, options) = (Memory::new(1000), Options { dynamic_metadata: true, ..Options::default() });
    if let Ok(plan) = limiter::plan(config, &request, &options) {
        let outcomes = store.charge_at(plan.charges(), 1_000_000).unwrap();
        plan.count(&outcomes, &options);
        let response = plan.decide(&outcomes, &options).response;
        assert_eq!(response.statuses.len(), request.descriptors.len());
        assert_ne!(response.overall_code(), Code::Unknown);
    }
}

/// Pieces of configurations, put together at random: closer to what is valid than bytes are.
fn pieces() -> impl Strategy<Value = String> {
    let words = "domain: d|descriptors:|key: k|value: 'v*'|rate_limit:|unit: hour|requests_per_unit: 5|unlimited: true|name: n|\
        replaces:|shadow_mode: on|algorithm: gcra|burst: 3|unit_multiplier: 9|on_store_loss: deny|metadata: {a: [1]}|&a|*a|<<: *a|---|!!str|\
        {|}|[|]|- |: |? |'|\"|#|\t|\u{0}|é";
    let word = select(words.split('|').collect::<Vec<_>>());
    vec((word, select(vec!["", " ", "\n", "\n  ", "\n    ", "\n  - ", "\n      - "])), 0..40)
        .prop_map(|pieces| pieces.into_iter().flat_map(|(word, space)| [word, space]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_configuration_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        read(&String::from_utf8_lossy(&bytes)).map(|config| config.dump()).ok();
        if let Ok(message) = RateLimitConfig::decode(bytes.as_slice()) {
            Config::from_xds([&message], Domains::Merged).map(|config| config.dump()).ok();
        }
    }

    #[test]
    fn any_pieces_are_a_configuration_or_an_error_with_its_place(text in pieces()) {
        if let Err(error) = read(&text) {
            prop_assert!(error.starts_with("fuzz.yaml:"), "{}", error);
        }
    }

    #[test]
    fn a_file_with_a_byte_changed_is_a_configuration_or_an_error(at in 0..NESTED.len(), byte: u8, algorithms: bool) {
        let mut bytes = if algorithms { ALGORITHMS } else { NESTED }.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        read(&String::from_utf8_lossy(&bytes)).map(|config| config.dump()).ok();
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        decide(&read(NESTED).unwrap(), &bytes);
    }

    #[test]
    fn a_request_with_a_byte_changed_is_a_request_or_an_error(at: usize, byte: u8) {
        let asked = crate::requests::descriptor(&[("database", "users"), ("role", "admin1")]);
        let asked = crate::requests::limit(crate::requests::hits(asked, 3), 7, 2);
        let mut bytes = crate::requests::request("mongo_cps", vec![asked]).encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        decide(&read(NESTED).unwrap(), &bytes);
    }
}

/// A file that is being written, at each moment: it is refused, or is a valid beginning of the file. It is never a rule that is
/// not in the whole file, but for the last one, whose end is missing.
#[test]
fn every_prefix_is_refused_or_is_a_beginning() {
    for text in [NESTED, ALGORITHMS] {
        let whole = read(text).unwrap().dump();
        for end in 0..text.len() {
            let Ok(config) = read(&text[..end]) else { continue };
            let dump = config.dump();
            let rules: Vec<_> = dump.lines().collect();
            let sound = rules.iter().rev().skip(1).all(|rule| whole.lines().any(|known| known == *rule));
            assert!(sound, "{end}: {dump}");
        }
        assert!(read("").is_err());
    }
}
