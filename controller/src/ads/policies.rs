//! Serves `extauth` its policies: delta ADS with one type of resource.

use std::{collections::BTreeMap, sync::Arc};

use controller_core::xds::{Resources, Type};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use proto::extauth::{AuthPolicy, Policy};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::{
    refused::{Stream, owner},
    session::{Rejection, Subscription},
};

/// The latest policies and where they are asked for. `None` until they are known.
pub type Policies = watch::Receiver<Option<Arc<Resources>>>;

/// Policies as resources.
pub fn resources(policies: &[Policy]) -> Resources {
    let mut resources = Resources::default();
    for policy in policies {
        match AuthPolicy::of(policy) {
            Ok(message) => resources.add(&message),
            // Without it, `extauth` denies the requests of its routes.
            Err(error) => tracing::error!(policy = policy.name, "the policy cannot be written as JSON: {error}"),
        }
    }
    resources
}

/// Serves one stream until the client ends it.
pub(super) async fn serve(
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    mut policies: Policies,
    refusals: &Stream,
) -> Result<(), Status> {
    let (mut subscription, mut node, mut nonce) = (None, String::new(), 0_u64);
    let mut refused = BTreeMap::new();
    loop {
        let latest = policies.borrow_and_update().clone();
        if let (Some(subscription), Some(latest)) = (subscription.as_mut(), latest) {
            let subscription: &mut Subscription = subscription;
            report(&node, &mut refused, subscription.rejected(), refusals);
            let nonce = || {
                nonce += 1;
                nonce.to_string()
            };
            if let Some(response) = subscription.additions(&latest, nonce, true) {
                responses.send(Ok(response)).await.map_err(|_| Status::cancelled("the client has gone"))?;
            }
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) if request.type_url == Type::AuthPolicy.url() => {
                    node = request.node.as_ref().map_or(node, |node| node.id.clone());
                    accept(&mut subscription, &request);
                }
                // A type that this server has no resources of is never answered.
                Some(_) => {}
                None => return Ok(()),
            },
            changed = policies.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

fn accept(subscription: &mut Option<Subscription>, request: &DeltaDiscoveryRequest) {
    match subscription {
        None => *subscription = Some(Subscription::new(Type::AuthPolicy, request)),
        Some(subscription) => {
            let error = request.error_detail.as_ref().map(|status| status.message.trim());
            subscription.answer(&request.response_nonce, error);
            subscription.subscribe(&request.resource_names_subscribe);
            subscription.unsubscribe(&request.resource_names_unsubscribe);
        }
    }
}

/// Counts and logs what has been refused since the last time, and tells what is refused now.
fn report(
    node: &str,
    known: &mut BTreeMap<String, Rejection>,
    refused: &BTreeMap<String, Rejection>,
    refusals: &Stream,
) {
    if known == refused {
        return;
    }
    let owned = refused.iter().filter_map(|(name, rejection)| Some((owner(name, &["SecurityPolicy"])?, rejection)));
    refusals.tell(owned.map(|(owner, rejection)| (owner, rejection.message.as_str())));
    for (name, rejection) in refused.iter().filter(|(name, rejection)| known.get(*name) != Some(rejection)) {
        let url = Type::AuthPolicy.url();
        metrics::counter!("xds_nack_total", "nodeID" => node.to_owned(), "typeURL" => url).increment(1);
        let message = &rejection.message;
        tracing::warn!(
            node,
            policy = name,
            "the authorization service refuses a policy and keeps the one before: {message}"
        );
    }
    known.clone_from(refused);
}
