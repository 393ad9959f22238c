//! The streams.

use std::{pin::Pin, sync::Arc, time::Instant};

use envoy_types::pb::envoy::service::rate_limit_quota::v3::{
    RateLimitQuotaResponse, RateLimitQuotaUsageReports,
    rate_limit_quota_service_server::{RateLimitQuotaService, RateLimitQuotaServiceServer},
};
use futures::{Stream, stream};
use parking_lot::Mutex;
use proto::{drain::Signal, serve::Peer};
use tonic::{Request, Response, Status, Streaming};

use super::quotas::{Quotas, ReportError, StreamId};
use crate::{clients::Clients, service::CurrentConfig, store::Local};

/// Answers streams of reports. Clones share everything.
#[derive(Clone, Debug)]
pub struct Service {
    quotas: Arc<Mutex<Quotas>>,
    config: CurrentConfig,
    clients: Arc<Clients>,
    /// Knows how many replicas there are.
    local: Arc<Local>,
    draining: Signal,
    start: Instant,
}

/// A stream while it is open.
struct Open {
    service: Service,
    id: StreamId,
    names: Vec<String>,
    reports: Streaming<RateLimitQuotaUsageReports>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.service.quotas.lock().close(self.id, self.service.now());
    }
}

impl From<ReportError> for Status {
    fn from(error: ReportError) -> Self {
        let code = match error {
            ReportError::UnknownDomain => tonic::Code::NotFound,
            ReportError::TooManyOfStream | ReportError::TooMany => tonic::Code::ResourceExhausted,
            ReportError::NoDomain | ReportError::OtherDomain | ReportError::NoId(_) | ReportError::LargeId(_) => {
                tonic::Code::InvalidArgument
            }
        };
        Self::new(code, error.to_string())
    }
}

impl Service {
    /// Divides the limits of `config`; streams end with the drain.
    pub fn new(
        quotas: Quotas,
        config: CurrentConfig,
        clients: Arc<Clients>,
        local: Arc<Local>,
        draining: Signal,
    ) -> Self {
        Self { quotas: Arc::new(Mutex::new(quotas)), config, clients, local, draining, start: Instant::now() }
    }

    /// The gRPC service to mount.
    pub fn into_server(self) -> RateLimitQuotaServiceServer<Self> {
        RateLimitQuotaServiceServer::new(self)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn answer(
        &self,
        id: StreamId,
        names: &[String],
        reports: &RateLimitQuotaUsageReports,
    ) -> Result<RateLimitQuotaResponse, Status> {
        // A later message may leave the domain out, and then has that of the first.
        if !reports.domain.is_empty() && !self.clients.may_ask(names, &reports.domain) {
            return Err(Status::permission_denied("this client may not ask for this domain"));
        }
        let config = self.config.load();
        let config = config.as_deref().ok_or_else(|| Status::unavailable("no rate limit configuration loaded"))?;
        let mut quotas = self.quotas.lock();
        Ok(quotas.report(id, reports, config, self.local.replicas(), self.now())?)
    }
}

impl Open {
    /// The next answer; `None` when the client or this program is leaving.
    async fn next(&mut self) -> Option<Result<RateLimitQuotaResponse, Status>> {
        loop {
            let reports = tokio::select! {
                () = self.service.draining.clone().wait() => return None,
                reports = self.reports.message() => reports.transpose()?,
            };
            match reports.and_then(|reports| self.service.answer(self.id, &self.names, &reports)) {
                Ok(response) if response.bucket_action.is_empty() => {}
                answer => return Some(answer),
            }
        }
    }
}

#[tonic::async_trait]
impl RateLimitQuotaService for Service {
    type StreamRateLimitQuotasStream = Pin<Box<dyn Stream<Item = Result<RateLimitQuotaResponse, Status>> + Send>>;

    async fn stream_rate_limit_quotas(
        &self,
        request: Request<Streaming<RateLimitQuotaUsageReports>>,
    ) -> Result<Response<Self::StreamRateLimitQuotasStream>, Status> {
        let names = request.extensions().get::<Peer>().map(Peer::names).unwrap_or_default().to_vec();
        let (service, id) = (self.clone(), self.quotas.lock().open());
        let open = Open { service, id, names, reports: request.into_inner() };
        let answers = stream::unfold(Some(open), async |open| {
            let mut open = open?;
            let answer = open.next().await?;
            // An error is the last that is said.
            let open = answer.is_ok().then_some(open);
            Some((answer, open))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
