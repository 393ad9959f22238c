//! The policies that the server has sent and that are in force, by name; without IO.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;
use proto::extauth::{AuthPolicy, Policy};
use proto::messages::pack;
use serde_json::Deserializer;
use tonic::Code;

use crate::service::Authorizer;

/// The one type that is asked for.
pub(super) const TYPE_URL: &str = AuthPolicy::TYPE_URL;

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<String, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// The server's name for this state of the policy; none if it was refused, and only denies.
    version: Option<String>,
    policy: Policy,
}

/// A policy that is not in force as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) policy: String,
    /// What is wrong with it. Tells nothing secret.
    pub(super) problem: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy `{}`: {}", self.policy, self.problem)
    }
}

impl Held {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first request of a new stream. It says what is there, so that only what differs is sent.
    pub(super) fn open(&self, node: Node) -> DeltaDiscoveryRequest {
        let known = self.0.iter().filter_map(|(name, entry)| Some((name.clone(), entry.version.clone()?)));
        DeltaDiscoveryRequest {
            node: Some(node),
            type_url: TYPE_URL.to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            initial_resource_versions: known.collect(),
            ..Default::default()
        }
    }

    /// What would be sent to somebody who has nothing.
    pub(super) fn message(&self) -> DeltaDiscoveryResponse {
        let resources = self.0.iter().filter_map(|(name, entry)| {
            let (version, message) = (entry.version.clone()?, AuthPolicy::of(&entry.policy).ok()?);
            Some(Resource { name: name.clone(), version, resource: Some(pack(&message)), ..Default::default() })
        });
        let resources = resources.collect();
        DeltaDiscoveryResponse { type_url: TYPE_URL.to_owned(), resources, ..Default::default() }
    }

    /// Takes in changes and puts the outcome in force.
    pub(super) fn take(&mut self, response: DeltaDiscoveryResponse, authorizer: &Authorizer) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut latest = self.0.clone();
        for name in &response.removed_resources {
            latest.remove(name);
        }
        let mut changed = BTreeSet::new();
        for resource in response.resources {
            match read(&resource) {
                Ok(policy) => {
                    changed.insert(resource.name.clone());
                    latest.insert(resource.name, Entry { version: Some(resource.version), policy });
                }
                Err(problem) => refusals.push(Refusal { policy: resource.name, problem }),
            }
        }
        let policies =
            |entries: &BTreeMap<String, Entry>| entries.values().map(|e| e.policy.clone()).collect::<Vec<_>>();
        let (mut compiled, errors) = authorizer.compile_each(&policies(&latest));
        let mut goes_back = false;
        for error in errors.into_iter().filter(|error| changed.contains(&error.policy)) {
            if let Some(entry) = latest.get_mut(&error.policy) {
                match self.0.get(&error.policy).filter(|before| before.version.is_some()) {
                    Some(before) => (*entry, goes_back) = (before.clone(), true),
                    None => entry.version = None,
                }
            }
            refusals.push(Refusal { policy: error.policy, problem: error.source.to_string() });
        }
        if goes_back {
            (compiled, _) = authorizer.compile_each(&policies(&latest));
        }
        authorizer.put(compiled);
        self.0 = latest;
        refusals
    }
}

/// The ACK of the response `nonce`, or with a reason its NACK.
pub(super) fn answer(nonce: String, refused: Option<String>) -> DeltaDiscoveryRequest {
    let status = |message| Status { code: Code::InvalidArgument.into(), message, ..Default::default() };
    DeltaDiscoveryRequest {
        type_url: TYPE_URL.to_owned(),
        response_nonce: nonce,
        error_detail: refused.map(status),
        ..Default::default()
    }
}

fn read(resource: &Resource) -> Result<Policy, String> {
    let any = resource.resource.as_ref().filter(|any| any.type_url == TYPE_URL);
    let message = any.and_then(|any| AuthPolicy::decode(any.value.as_slice()).ok());
    let Some(message) = message.filter(|message| message.name == resource.name) else {
        return Err(format!("the resource is no `{TYPE_URL}` of this name"));
    };
    // What the parser says of a value would quote it, and it may be a secret.
    let policy: Policy = serde_path_to_error::deserialize(&mut Deserializer::from_str(&message.json))
        .map_err(|error| format!("{}: this version of extauth does not know such a field or value", error.path()))?;
    if policy.name == resource.name { Ok(policy) } else { Err("its `name` is another one".to_owned()) }
}

#[cfg(test)]
mod tests;
