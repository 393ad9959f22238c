//! A rate limit service that counts in Redis as envoyproxy/ratelimit does, and does nothing else.

use std::time::{SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use redis::aio::MultiplexedConnection;

/// Length of its windows in seconds.
const WINDOW: u64 = 3600;

/// Sends INCRBY and EXPIRE for each descriptor in one pipeline for each request, over a connection that all requests share.
/// It answers OK whatever the counts are.
pub(super) struct Pipelined(pub(super) MultiplexedConnection);

#[tonic::async_trait]
impl RateLimitService for Pipelined {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, tonic::Status> {
        let request = request.into_inner();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let window = now - now % WINDOW;
        let mut pipeline = redis::pipe();
        for descriptor in &request.descriptors {
            let mut key = request.domain.clone();
            for entry in &descriptor.entries {
                key = key + "_" + &entry.key + "_" + &entry.value;
            }
            key = format!("{key}_{window}");
            pipeline.cmd("INCRBY").arg(&key).arg(1);
            pipeline.cmd("EXPIRE").arg(&key).arg(WINDOW).ignore();
        }
        let counts: Result<Vec<u64>, _> = pipeline.query_async(&mut self.0.clone()).await;
        match counts {
            Ok(_) => Ok(tonic::Response::new(super::ok())),
            Err(error) => Err(tonic::Status::unavailable(error.to_string())),
        }
    }
}
