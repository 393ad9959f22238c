//! Envoy's global rate limit service, `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`.

use std::fmt;
use std::num::NonZeroU32;

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride};
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use http::Request;
use prost::Message;
use rand::rngs::SmallRng;

use super::{Answer, Target};
use crate::address::Address;
use crate::keys::{Distribution, Keys};

/// The method's path.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What the requests hold.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Domain of the requests
    #[arg(long, default_value = "bench")]
    pub domain: String,
    /// Key of each descriptor's one entry; its value is a drawn number and the descriptor's position, as 0000000042.0
    #[arg(long, default_value = "user")]
    pub entry_key: String,
    /// Descriptors in a request, all with the same drawn number
    #[arg(long, default_value = "1")]
    pub descriptors: NonZeroU32,
    /// Every descriptor brings a limit of its own, of so many requests a day
    #[arg(long, value_name = "N")]
    pub own_limit: Option<u32>,
    /// Distinct values to draw from
    #[arg(long, default_value = "10000")]
    pub keys: NonZeroU32,
    /// How often each value is used: uniform, zipf or zipf:EXPONENT
    #[arg(long, default_value_t)]
    pub distribution: Distribution,
}

/// Requests for decisions.
#[derive(Debug)]
pub struct Rls {
    settings: Settings,
    head: Request<()>,
    keys: Keys,
    template: Vec<u8>,
    /// Where in the template the drawn number stands, once for each descriptor.
    numbers: Vec<usize>,
}

/// Why no requests can be made up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The distribution cannot be drawn from.
    #[error("cannot draw from {0} keys with distribution {1}")]
    Keys(NonZeroU32, Distribution),
    /// The address makes no URI.
    #[error("cannot build a request: {0}")]
    Request(#[from] http::Error),
}

/// Stands for the drawn number in the encoded template; a `u32` has at most ten digits.
const NUMBER: [u8; 10] = *b"##########";

/// Of a `RateLimitResponse` only the verdict; the rest is skipped so that the load generator costs little.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(int32, tag = "1")]
    overall_code: i32,
}

impl Rls {
    /// Requests to the server at `address`, encoded once: for each request only the digits of the drawn number are written.
    pub fn new(address: &Address, settings: &Settings) -> Result<Self, Error> {
        let limit = settings
            .own_limit
            .map(|requests_per_unit| RateLimitOverride { requests_per_unit, unit: RateLimitUnit::Day.into() });
        let descriptors = (0..settings.descriptors.get()).map(|position| RateLimitDescriptor {
            entries: vec![Entry {
                key: settings.entry_key.clone(),
                value: format!("{}.{position}", String::from_utf8_lossy(&NUMBER)),
            }],
            limit,
            ..RateLimitDescriptor::default()
        });
        let request = RateLimitRequest {
            domain: settings.domain.clone(),
            descriptors: descriptors.collect(),
            ..RateLimitRequest::default()
        };
        let template = super::grpc_frame(&request).to_vec();
        let numbers = template.windows(NUMBER.len()).enumerate().filter(|(_, bytes)| *bytes == NUMBER);
        Ok(Self {
            settings: settings.clone(),
            head: super::grpc_request(address.authority(), PATH)?,
            keys: Keys::new(settings.keys, settings.distribution)
                .ok_or(Error::Keys(settings.keys, settings.distribution))?,
            numbers: numbers.map(|(offset, _)| offset).collect(),
            template,
        })
    }
}

impl fmt::Display for Rls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { domain, entry_key, descriptors, own_limit, keys, distribution } = &self.settings;
        write!(f, "domain {domain}, {descriptors} x {entry_key}, {keys} keys {distribution}")?;
        own_limit.map_or(Ok(()), |limit| write!(f, ", own limit {limit} a day"))
    }
}

impl Target for Rls {
    const VERDICTS: &'static [&'static str] = &["OK", "OVER_LIMIT"];

    fn request(&self, rng: &mut SmallRng) -> (Request<()>, Bytes) {
        let mut number = self.keys.draw(rng);
        let mut digits = [b'0'; NUMBER.len()];
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
        let mut body = self.template.clone();
        for offset in &self.numbers {
            if let Some(slot) = body.get_mut(*offset..*offset + digits.len()) {
                slot.copy_from_slice(&digits);
            }
        }
        (self.head.clone(), body.into())
    }

    fn verdict(&self, answer: &Answer) -> Result<&'static str, String> {
        let message = answer.grpc_message()?;
        match Response::decode(message) {
            Ok(Response { overall_code: 1 }) => Ok("OK"),
            Ok(Response { overall_code: 2 }) => Ok("OVER_LIMIT"),
            Ok(Response { overall_code }) => Err(format!("overall code {overall_code}")),
            Err(error) => Err(format!("not a RateLimitResponse: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rand::SeedableRng;

    fn settings(descriptors: u32) -> Settings {
        Settings {
            domain: "bench".to_owned(),
            entry_key: "user".to_owned(),
            descriptors: NonZeroU32::new(descriptors).unwrap(),
            own_limit: None,
            keys: NonZeroU32::new(1000).unwrap(),
            distribution: Distribution::Uniform,
        }
    }

    #[test]
    fn a_request_is_what_its_settings_say() {
        let rls = Rls::new(&"http://127.0.0.1:1".parse().unwrap(), &settings(3)).unwrap();
        let (head, body) = rls.request(&mut SmallRng::seed_from_u64(7));
        assert_eq!(head.uri().to_string(), format!("http://127.0.0.1:1{PATH}"));

        let request = RateLimitRequest::decode(body.slice(5..)).unwrap();
        assert_eq!(request.domain, "bench");
        assert_eq!(request.descriptors.len(), 3);
        let values: Vec<_> = request.descriptors.iter().map(|descriptor| &descriptor.entries[0].value).collect();
        let number: u32 = values[0].strip_suffix(".0").unwrap().parse().unwrap();
        assert!(number < 1000);
        assert_eq!(*values[2], format!("{number:010}.2"));
        assert_eq!(request.descriptors[1].entries[0].key, "user");
    }

    #[test]
    fn descriptors_bring_their_own_limit() {
        let settings = Settings { own_limit: Some(7), ..settings(2) };
        let rls = Rls::new(&"unix:/s".parse().unwrap(), &settings).unwrap();
        let (_, body) = rls.request(&mut SmallRng::seed_from_u64(7));
        let request = RateLimitRequest::decode(body.slice(5..)).unwrap();
        let limits: Vec<_> = request.descriptors.iter().filter_map(|descriptor| descriptor.limit).collect();
        assert_eq!(limits, [RateLimitOverride { requests_per_unit: 7, unit: RateLimitUnit::Day.into() }; 2]);
        assert!(rls.to_string().ends_with(", own limit 7 a day"));
    }

    #[test]
    fn requests_differ() {
        let rls = Rls::new(&"unix:/s".parse().unwrap(), &settings(1)).unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        let bodies: std::collections::HashSet<_> = (0..5000).map(|_| rls.request(&mut rng).1).collect();
        assert!((950..=1000).contains(&bodies.len()), "{} distinct bodies of 1,000", bodies.len());
    }
}
