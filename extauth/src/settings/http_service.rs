//! The port for Envoy's `http_service`.

use clap::Args;
use http::HeaderName;
use proto::serve::Address;

use crate::http_service::Options;

#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "a comment would become a text of --help")]
pub struct HttpService {
    /// Where Envoy asks over HTTP (`http_service`): `HOST:PORT` or `unix:PATH`; nowhere by default.
    #[arg(long, env = "EXTAUTH_HTTP_SERVICE_ADDR")]
    pub http_service_addr: Option<Address>,
    /// What Envoy puts before the request's path (`path_prefix`).
    #[arg(long, env = "EXTAUTH_HTTP_SERVICE_PATH_PREFIX", default_value = "")]
    pub http_service_path_prefix: String,
    /// Header that names the policy; Envoy must set it (`headers_to_add`), so that no client can.
    #[arg(long, env = "EXTAUTH_HTTP_SERVICE_POLICY_HEADER")]
    pub http_service_policy_header: Option<HeaderName>,
    /// Read X-Forwarded-Method, -Host and -Uri instead of the request itself; whoever asks must set all of them.
    #[arg(long, env = "EXTAUTH_HTTP_SERVICE_TRUST_FORWARDED")]
    pub http_service_trust_forwarded: bool,
}

impl HttpService {
    /// Where a question's parts stand.
    pub fn options(&self) -> Options {
        Options {
            path_prefix: self.http_service_path_prefix.clone(),
            policy_header: self.http_service_policy_header.clone(),
            trust_forwarded: self.http_service_trust_forwarded,
        }
    }
}
