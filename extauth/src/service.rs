//! The gRPC service that Envoy asks, and the seat that the policies in force have in it.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};

pub use self::server::Server;
use crate::check::{self, Check};
use crate::explain::{Explanation, Question};
use crate::metrics;
use crate::policy::{Error, Policies, forbidden};
use crate::resources::Resources;
use crate::verdict::Verdict;

mod server;

/// The largest question that is read, in bytes; Envoy gets an error for a larger one and denies.
pub const LARGEST_REQUEST: usize = 1024 * 1024;

/// Answers Envoy with the policies in force. Clones share them, so that one writer serves many listeners. Without any
/// policy it denies everything.
#[derive(Clone, Debug)]
pub struct Authorizer {
    policies: Arc<ArcSwap<Policies>>,
    resources: Resources,
}

impl Authorizer {
    /// Starts without policies.
    pub fn new(resources: Resources) -> Self {
        // Policies keep their counters, and must not get them before somebody counts.
        proto::metrics::install();
        Self { policies: Arc::default(), resources }
    }

    /// Puts all policies in force at once, or leaves what is in force when one of them is wrong.
    pub fn replace(&self, policies: &[proto::extauth::Policy]) -> Result<(), Error> {
        self.put(Policies::compile(policies, &self.resources)?);
        Ok(())
    }

    /// Puts all policies in force at once; those that are wrong deny everything, and are returned.
    pub fn replace_each(&self, policies: &[proto::extauth::Policy]) -> Vec<Error> {
        let (policies, errors) = self.compile_each(policies);
        self.put(policies);
        errors
    }

    /// See [`Policies::compile_each`].
    pub(crate) fn compile_each(&self, policies: &[proto::extauth::Policy]) -> (Policies, Vec<Error>) {
        Policies::compile_each(policies, &self.resources)
    }

    /// The gRPC service, with its bound on the size of a question.
    pub fn service(&self) -> Server {
        Server(Arc::clone(&self.policies))
    }

    /// Answers a question, whichever way it came.
    pub async fn answer(&self, request: &CheckRequest, now: SystemTime) -> CheckResponse {
        judge(&self.policies, Check::new(request, now)).await.into()
    }

    /// Says what would become of a request and why; nothing comes of it. The error says what is wrong with the question.
    pub async fn explain(&self, question: &Question) -> Result<Explanation, String> {
        question.ask(&self.policies.load_full()).await
    }

    /// Puts compiled policies in force.
    pub(crate) fn put(&self, policies: Policies) {
        metrics::in_force(policies.len());
        self.policies.store(Arc::new(policies));
    }
}

/// Judges a request by the policies in force. What cannot be understood is denied.
async fn judge(policies: &ArcSwap<Policies>, check: Result<Check<'_>, check::Error>) -> Verdict {
    match check {
        Ok(check) => policies.load_full().check(&check).await,
        Err(error) => {
            tracing::debug!(%error, "denied");
            Verdict::Deny(forbidden(&error.to_string()))
        }
    }
}
