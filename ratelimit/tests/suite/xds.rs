//! Configuration from an xDS server that changes, errs, and comes and goes.

use std::{sync::Arc, time::Duration};

use clap::Parser;
use proto::readiness::Readiness;
use ratelimit::{config::Domains, service::CurrentConfig, settings::Settings, source::xds::Xds};
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    certificates::Authority,
    xds_server::{TYPE_URL, XdsServer},
};

const SOON: Duration = Duration::from_secs(20);
const ANY: &str = "127.0.0.1:0";

/// A client of a server, which stops when dropped.
struct Client {
    config: CurrentConfig,
    first: Readiness,
    follow: JoinHandle<()>,
}

impl Client {
    fn start(server: &XdsServer, arguments: &[&str]) -> Self {
        let url = format!("localhost:{}", server.address.port());
        let pauses = "--xds-client-backoff-initial-interval=20ms --config-grpc-xds-server-connect-retry-interval=20ms";
        let always = ["ratelimit", "--config-grpc-xds-node-id", "me", "--config-grpc-xds-server-url", &url];
        let arguments = always.into_iter().chain(pauses.split(' ')).chain(arguments.iter().copied());
        let settings = Settings::try_parse_from(arguments).unwrap();
        let (config, first) = (CurrentConfig::default(), Readiness::new());
        let xds = Xds::new(settings.source.xds, Domains::Distinct, Arc::clone(&config), first.block("configuration"))
            .unwrap();
        Self { config, first, follow: tokio::spawn(xds.follow()) }
    }

    fn dump(&self) -> String {
        self.config.load().as_ref().map(|config| config.dump()).unwrap_or_default()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.follow.abort();
    }
}

fn rule(domain: &str, requests: u32) -> String {
    format!("{domain}.user: unit=YEAR requests_per_unit={requests}, shadow_mode: false, quota_mode: false\n")
}

#[tokio::test]
async fn good_configurations_are_acknowledged_and_bad_ones_refused_with_a_reason() {
    let mut server = XdsServer::start(ANY.parse().unwrap(), None).await;
    let client = Client::start(&server, &["--config-grpc-xds-client-additional-headers", "x-token:t"]);
    let (request, metadata) = server.request().await;
    assert_eq!((request.version_info.as_str(), request.response_nonce.as_str()), ("", ""));
    assert_eq!((request.type_url.as_str(), request.node.unwrap().id.as_str()), (TYPE_URL, "me"));
    assert!(request.resource_names.is_empty());
    assert_eq!(metadata.get("x-token").unwrap(), "t");
    assert!(!client.first.is_ready());

    server.send("1", &["a", "b"], 5);
    let (ack, _) = server.request().await;
    assert_eq!((ack.version_info.as_str(), ack.response_nonce.as_str()), ("1", "nonce-1"));
    assert_eq!(ack.error_detail, None);
    assert_eq!(client.dump(), rule("a", 5) + &rule("b", 5));
    assert!(client.first.is_ready());

    server.send("2", &["a", ""], 6);
    let (nack, _) = server.request().await;
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("1", "nonce-2"));
    let reason = nack.error_detail.unwrap().message;
    assert_eq!(reason, "RateLimitConfig \"\": domain must not be empty");
    assert_eq!(client.dump(), rule("a", 5) + &rule("b", 5));

    server.send("3", &[], 0);
    assert_eq!(server.request().await.0.version_info, "3");
    assert!(client.config.load().is_some());
    assert_eq!(client.dump(), "");
}

#[tokio::test]
async fn a_first_configuration_that_is_bad_ends_the_wait() {
    let mut server = XdsServer::start(ANY.parse().unwrap(), None).await;
    server.send("1", &[""], 1);
    let client = Client::start(&server, &[]);
    tokio::time::timeout(SOON, client.first.wait()).await.unwrap();
    assert!(client.config.load().is_none());
    server.request().await;
    assert!(server.request().await.0.error_detail.is_some());
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_and_believed() {
    let mut server = XdsServer::start(ANY.parse().unwrap(), None).await;
    server.send("1", &["a"], 5);
    let client = Client::start(&server, &[]);
    server.request().await;
    assert_eq!(server.request().await.0.version_info, "1");

    let address = server.address;
    drop(server);
    assert_eq!(client.dump(), rule("a", 5));
    let mut server = XdsServer::start(address, None).await;
    // It counts from the beginning.
    server.send("1", &["a"], 6);
    assert_eq!(server.request().await.0.version_info, "");
    assert_eq!(server.request().await.0.version_info, "1");
    assert_eq!(client.dump(), rule("a", 6));
}

#[tokio::test]
async fn tls_verifies_both_sides_and_takes_up_new_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pair = authority.issue("envoy-gateway");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&pair.cert, &pair.key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let mut server = XdsServer::start(ANY.parse().unwrap(), Some(tls)).await;
    server.send("1", &["a"], 5);

    let dir = tempfile::tempdir().unwrap();
    let [cert, key, ca] = stranger.issue("envoy-ratelimit").write(dir.path(), &authority);
    let [cert, key, ca] = [&cert, &key, &ca].map(|path| path.to_str().unwrap());
    let files = ["--config-grpc-xds-client-tls-cert", cert, "--config-grpc-xds-client-tls-key", key];
    let tls = ["--config-grpc-xds-server-use-tls", "true", "--config-grpc-xds-server-tls-cacert", ca];
    let wrong_name = Client::start(&server, &[&files[..], &tls].concat());
    let name = ["--config-grpc-xds-server-tls-san", "envoy-gateway"];
    let client = Client::start(&server, &[&files[..], &tls, &name].concat());

    // The client's first certificate is a stranger's, so that nothing is heard before it has another one.
    let refused = tokio::time::timeout(Duration::from_millis(300), server.requests.recv()).await;
    assert!(refused.is_err(), "{refused:?}");
    authority.issue("envoy-ratelimit").write(dir.path(), &authority);
    tokio::time::timeout(SOON, client.first.wait()).await.unwrap();
    assert_eq!(client.dump(), rule("a", 5));
    assert!(!wrong_name.first.is_ready());
}
