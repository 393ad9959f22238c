//! State-of-the-world ADS for `RateLimitConfig`, seen from the client and without IO.

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    },
    google::rpc::Status,
    ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use prost::Message;
use tonic::Code;

use crate::config::{self, Config, Domains};

/// The one type that is asked for.
const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Why a response is refused. The server is told this text.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A resource is of another type.
    #[error("resource {index} is a `{type_url}`, not a RateLimitConfig")]
    Type {
        /// Its place in the response, counted from zero.
        index: usize,
        /// What it is.
        type_url: String,
    },
    /// A resource cannot be decoded.
    #[error("resource {index} is no RateLimitConfig: {source}")]
    Decode {
        /// Its place in the response, counted from zero.
        index: usize,
        /// What is wrong with it.
        source: prost::DecodeError,
    },
    /// The resources do not make a configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
}

/// What the server has been told on the stream that is open.
#[derive(Debug)]
pub(super) struct Session {
    node: Node,
    domains: Domains,
    accepted: String,
    /// Version that was refused last and not followed by one that was accepted.
    refused: Option<String>,
}

/// What a response leads to.
#[derive(Debug)]
pub(super) struct Answer {
    /// All that the server has, or why it is refused.
    pub(super) config: Result<Config, Error>,
    /// ACK or NACK to send.
    pub(super) request: DiscoveryRequest,
    /// The server insists on a version that has just been refused.
    pub(super) refused_again: bool,
}

impl Session {
    /// No stream is open.
    pub(super) fn new(node: Node, domains: Domains) -> Self {
        Self { node, domains, accepted: String::new(), refused: None }
    }

    /// The first request of a new stream. It names no version: a server that has restarted may count from the
    /// beginning, so that an equal version does not mean an equal configuration.
    pub(super) fn open(&mut self) -> DiscoveryRequest {
        self.accepted.clear();
        self.refused = None;
        self.request(String::new(), None)
    }

    /// Takes in a response; one of a type that was not asked for has no answer.
    pub(super) fn receive(&mut self, response: &DiscoveryResponse) -> Option<Answer> {
        if response.type_url != TYPE_URL {
            return None;
        }
        let config = self.read(response);
        let version = &response.version_info;
        let refused_again = config.is_err() && self.refused.as_ref() == Some(version);
        let error = match &config {
            Ok(_) => {
                self.accepted.clone_from(version);
                self.refused = None;
                None
            }
            Err(error) => {
                self.refused = Some(version.clone());
                Some(Status { code: Code::InvalidArgument.into(), message: error.to_string(), ..Default::default() })
            }
        };
        Some(Answer { config, request: self.request(response.nonce.clone(), error), refused_again })
    }

    /// The configuration of a response, whoever it was sent to.
    pub(super) fn read(&self, response: &DiscoveryResponse) -> Result<Config, Error> {
        read(response, self.domains)
    }

    fn request(&self, response_nonce: String, error_detail: Option<Status>) -> DiscoveryRequest {
        DiscoveryRequest {
            version_info: self.accepted.clone(),
            node: Some(self.node.clone()),
            type_url: TYPE_URL.to_owned(),
            response_nonce,
            error_detail,
            ..Default::default()
        }
    }
}

fn read(response: &DiscoveryResponse, domains: Domains) -> Result<Config, Error> {
    let resources = response.resources.iter().enumerate().map(|(index, resource)| {
        if resource.type_url != TYPE_URL {
            return Err(Error::Type { index, type_url: resource.type_url.clone() });
        }
        RateLimitConfig::decode(resource.value.as_slice()).map_err(|source| Error::Decode { index, source })
    });
    Ok(Config::from_xds(&resources.collect::<Result<Vec<_>, _>>()?, domains)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use envoy_types::pb::google::protobuf::Any;

    use super::*;

    fn session() -> Session {
        Session::new(Node { id: "envoy-ratelimit".into(), ..Default::default() }, Domains::Distinct)
    }

    fn config(domain: &str) -> Any {
        let message = RateLimitConfig { name: domain.into(), domain: domain.into(), descriptors: vec![] };
        proto::messages::pack(&message)
    }

    fn response(version: &str, resources: Vec<Any>) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: version.into(),
            nonce: format!("nonce-{version}"),
            type_url: TYPE_URL.into(),
            resources,
            ..Default::default()
        }
    }

    #[test]
    fn a_stream_begins_with_a_wildcard_request_that_names_no_version() {
        let mut session = session();
        session.receive(&response("7", vec![])).unwrap();
        let request = session.open();
        assert_eq!((request.version_info.as_str(), request.response_nonce.as_str()), ("", ""));
        assert_eq!(request.type_url, TYPE_URL);
        assert_eq!(request.resource_names, [""; 0]);
        assert_eq!(request.node.unwrap().id, "envoy-ratelimit");
    }

    #[test]
    fn all_domains_come_in_one_response_and_an_empty_one_clears_them() {
        let mut session = session();
        let answer = session.receive(&response("1", vec![config("a"), config("b")])).unwrap();
        let loaded = answer.config.unwrap();
        assert!(loaded.domain("a").is_some() && loaded.domain("b").is_some());
        assert_eq!((answer.request.version_info.as_str(), answer.request.response_nonce.as_str()), ("1", "nonce-1"));
        assert_eq!(answer.request.error_detail, None);
        assert!(answer.request.node.is_some());

        let answer = session.receive(&response("2", vec![])).unwrap();
        assert!(answer.config.unwrap().domain("a").is_none());
        assert_eq!(answer.request.version_info, "2");
    }

    #[test]
    fn a_refusal_names_the_last_good_version_the_latest_nonce_and_the_reason() {
        let garbage = Any { value: vec![0xff], ..config("a") };
        let other = Any { type_url: "type.googleapis.com/x".into(), ..config("a") };
        for (bad, reason) in [
            (vec![config("")], "RateLimitConfig \"\": domain must not be empty"),
            (vec![config("a"), other], "resource 1 is a `type.googleapis.com/x`, not a RateLimitConfig"),
            (vec![garbage], "resource 0 is no RateLimitConfig: "),
        ] {
            let mut session = session();
            session.receive(&response("1", vec![])).unwrap();
            let answer = session.receive(&response("2", bad)).unwrap();
            assert!(answer.config.is_err());
            let (version, nonce) = (answer.request.version_info, answer.request.response_nonce);
            assert_eq!((version.as_str(), nonce.as_str()), ("1", "nonce-2"));
            let error = answer.request.error_detail.unwrap();
            assert_eq!(error.code, 3);
            assert!(error.message.starts_with(reason), "{}", error.message);
        }
    }

    #[test]
    fn a_server_that_insists_is_noticed() {
        let mut session = session();
        let again = |session: &mut Session, version, bad: bool| {
            let resources = if bad { vec![config("")] } else { vec![] };
            session.receive(&response(version, resources)).unwrap().refused_again
        };
        assert!(!again(&mut session, "1", true));
        assert!(again(&mut session, "1", true));
        assert!(!again(&mut session, "2", true));
        assert!(!again(&mut session, "3", false));
        assert!(!again(&mut session, "2", true));
    }

    #[test]
    fn another_type_has_no_answer() {
        let other = DiscoveryResponse { type_url: "type.googleapis.com/x".into(), ..response("1", vec![]) };
        assert!(session().receive(&other).is_none());
    }
}
