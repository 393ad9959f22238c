//! The API server of the cluster.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use serde_json::Value;

use crate::background::Background;
use crate::fetch::Fetch;
use crate::jwks::uri;

/// Where the API server is, and who we are there.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its address; by default that of the cluster in which this process runs.
    pub api: Option<String>,
    /// File with our own token, which is read again for each question: the kubelet replaces it.
    pub token_file: PathBuf,
    /// PEM file with the authority of its certificate.
    pub ca_file: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        let mounted = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount");
        Self { api: None, token_file: mounted.join("token"), ca_file: mounted.join("ca.crt") }
    }
}

/// The API server; clones share the connections to it.
#[derive(Clone, Debug)]
pub struct Api {
    address: Arc<str>,
    token_file: Arc<PathBuf>,
    fetch: Fetch,
}

impl Api {
    /// Finds the API server; asks it nothing. The error says what is missing.
    pub fn new(options: &Options, background: &Background) -> Result<Self, String> {
        let address = match &options.api {
            Some(address) => address.trim_end_matches('/').to_owned(),
            None => in_cluster().ok_or("this process runs in no Kubernetes cluster: set EXTAUTH_KUBERNETES_API")?,
        };
        let parsed: Uri = uri(&address).map_err(|error| format!("EXTAUTH_KUBERNETES_API {error}"))?;
        let authorities = (parsed.scheme_str() == Some("https")).then_some(options.ca_file.as_path());
        let fetch = Fetch::new(background.clone(), authorities).map_err(|error| error.to_string())?;
        Ok(Self { address: address.into(), token_file: Arc::new(options.token_file.clone()), fetch })
    }

    /// Posts an object and yields what the API server made of it.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Bytes, String> {
        let file = Arc::clone(&self.token_file);
        let reading = tokio::task::spawn_blocking(move || fs::read_to_string(file.as_path()));
        let token = reading.await.map_err(|error| error.to_string())?;
        let token =
            token.map_err(|error| format!("reading our own token in {}: {error}", self.token_file.display()))?;
        let request = Request::post(format!("{}{path}", self.address))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(Bytes::from(object.to_string()))
            .map_err(|_| "our own token is no header value".to_owned())?;
        let answer = self.fetch.send(request).await.map_err(|error| format!("the API server: {error}"))?;
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(answer.into_body()),
            status => Err(format!("the API server answered {status}")),
        }
    }
}

/// What the kubelet tells each container.
fn in_cluster() -> Option<String> {
    let host = env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty())?;
    let port = env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
    let host = host.parse::<Ipv6Addr>().map_or_else(|_| host.clone(), |address| format!("[{}]", IpAddr::V6(address)));
    Some(format!("https://{host}:{port}"))
}
