//! Serves `ratelimit` its configuration: state-of-the-world ADS with one type of resource.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    google::protobuf::Any,
    ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::refused::{Stream, owner};

/// Who may have asked for a limit.
const ASKING: [&str; 3] = ["BackendTrafficPolicy", "HTTPRoute", "GRPCRoute"];
const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// The latest configuration and where it is asked for. `None` until there is one.
pub type Limits = watch::Receiver<Option<Arc<Vec<RateLimitConfig>>>>;

/// What one client has been told.
#[derive(Debug, Default)]
struct Told {
    version: String,
    nonce: u64,
    /// It has not answered yet.
    is_open: bool,
}

/// Serves one stream until the client ends it.
pub(super) async fn serve(
    mut requests: Streaming<DiscoveryRequest>,
    responses: &mpsc::Sender<Result<DiscoveryResponse, Status>>,
    mut limits: Limits,
    refusals: &Stream,
) -> Result<(), Status> {
    let mut told: Option<Told> = None;
    loop {
        let latest = limits.borrow_and_update().clone();
        if let (Some(told), Some(latest)) = (told.as_mut().filter(|told| !told.is_open), latest) {
            let response = response(&latest, told.nonce + 1);
            if response.version_info != told.version {
                *told = Told { version: response.version_info.clone(), nonce: told.nonce + 1, is_open: true };
                responses.send(Ok(response)).await.map_err(|_| Status::cancelled("the client has gone"))?;
            }
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) if request.type_url == TYPE_URL => answered(told.get_or_insert_default(), &request, refusals),
                // A type that this server has no resources of is never answered.
                Some(_) => {}
                None => return Ok(()),
            },
            changed = limits.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Notes an ACK or a NACK. After either, the next thing that the client hears is another version.
fn answered(told: &mut Told, request: &DiscoveryRequest, refusals: &Stream) {
    if told.nonce == 0 || request.response_nonce != told.nonce.to_string() {
        return;
    }
    told.is_open = false;
    // All of it is refused together; the reason says where the first mistake is.
    let reason = request.error_detail.as_ref().map(|error| error.message.as_str());
    refusals.tell(reason.and_then(|reason| Some((owner(reason, &ASKING)?, reason))).into_iter());
    if let Some(error) = &request.error_detail {
        let node = request.node.as_ref().map(|node| node.id.clone()).unwrap_or_default();
        metrics::counter!("xds_nack_total", "nodeID" => node, "typeURL" => TYPE_URL).increment(1);
        tracing::warn!("the rate limit service refuses its configuration and keeps the one before: {}", error.message);
    }
}

fn response(limits: &[RateLimitConfig], nonce: u64) -> DiscoveryResponse {
    let encoded: Vec<Vec<u8>> = limits.iter().map(Message::encode_to_vec).collect();
    let mut digest = Sha256::new();
    for value in &encoded {
        digest.update(value.len().to_be_bytes());
        digest.update(value);
    }
    let version_info = format!("{:x}", digest.finalize()).chars().take(16).collect();
    let resources = encoded.into_iter().map(|value| Any { type_url: TYPE_URL.to_owned(), value });
    DiscoveryResponse {
        version_info,
        resources: resources.collect(),
        type_url: TYPE_URL.to_owned(),
        nonce: nonce.to_string(),
        ..Default::default()
    }
}
