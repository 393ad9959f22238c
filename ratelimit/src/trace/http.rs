//! Requests to the collector, made on the runtime that the client was made on: the exporter's thread has none.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

/// Larger answers, in bytes, are no answers.
const MAX_ANSWER: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Client {
    client: Hyper<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
}

impl Client {
    /// On the current runtime. Without certificates of the system, HTTPS fails and HTTP goes on.
    pub(super) fn new() -> Self {
        let connector = match HttpsConnectorBuilder::new().with_native_roots() {
            Ok(builder) => builder.https_or_http().enable_http1().build(),
            Err(error) => {
                tracing::warn!(%error, "the system has no certificate authorities; traces cannot be sent over HTTPS");
                let none = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
                let builder = HttpsConnectorBuilder::new().with_tls_config(none.with_no_client_auth());
                builder.https_or_http().enable_http1().build()
            }
        };
        Self { client: Hyper::builder(TokioExecutor::new()).build(connector), runtime: Handle::current() }
    }
}

#[tonic::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let answer = self.runtime.spawn(async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        });
        answer.await?
    }
}
