//! Policies from an xDS server over mutual TLS that changes, errs, and comes and goes.

use std::path::Path;
use std::process::Command;

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use proto::extauth::{AuthPolicy, Method, Policy};
use tonic::transport::{Certificate, Channel, Identity, ServerTlsConfig};

use crate::certificates::Authority;
use crate::running::{Running, ask, until};
use crate::support::{api_keys, get, key, request};
use crate::xds_server::XdsServer;

const ANY: &str = "127.0.0.1:0";

/// Certificates of both sides.
struct Pki(Authority);

impl Pki {
    fn server(&self) -> ServerTlsConfig {
        let pair = self.0.issue("envoy-gateway");
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&pair.cert, &pair.key))
            .client_ca_root(Certificate::from_pem(self.0.pem()))
    }

    /// The settings of a client of `server`, whose certificate `issuer` has made.
    fn client(&self, server: &XdsServer, issuer: &Authority, dir: &Path, command: &mut Command) {
        let [cert, key, ca] = issuer.issue("envoy-extauth.system").write(dir, &self.0);
        let pauses = ["XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL"];
        for pause in pauses {
            command.env(format!("EXTAUTH_{pause}"), "20ms");
        }
        command
            .env("EXTAUTH_CONFIG_TYPE", "GRPC_XDS_DELTA")
            .env("EXTAUTH_CONFIG_GRPC_XDS_SERVER_URL", server.address.to_string())
            .env("EXTAUTH_CONFIG_GRPC_XDS_NODE_ID", "me")
            .env("EXTAUTH_CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "x-token:t")
            .env("EXTAUTH_CONFIG_GRPC_XDS_SERVER_USE_TLS", "true")
            .env("EXTAUTH_CONFIG_GRPC_XDS_SERVER_TLS_SAN", "envoy-gateway")
            .env("EXTAUTH_CONFIG_GRPC_XDS_SERVER_TLS_CACERT", ca)
            .env("EXTAUTH_CONFIG_GRPC_XDS_CLIENT_TLS_CERT", cert)
            .env("EXTAUTH_CONFIG_GRPC_XDS_CLIENT_TLS_KEY", key)
            .env("EXTAUTH_CONFIG_GRPC_XDS_STATE_DIR", dir.join("state"));
    }
}

fn policy(name: &str, secret: &str) -> Policy {
    Policy { name: name.into(), methods: vec![Method::ApiKey(api_keys(vec![key(secret, "ann")]))], ..Policy::default() }
}

async fn status(client: &mut AuthorizationClient<Channel>, key: &str) -> u16 {
    ask(client, request(&[("x-api-key", key)])).await.status
}

/// The program is up, and says what it waits for.
fn waits(running: &Running) {
    let health = || get(&running.path("http.sock"), "/healthcheck", &[]);
    until("the wait", || health().is_some_and(|answer| answer.body == "waiting for policies"), || running.log());
}

#[tokio::test]
async fn policies_take_effect_one_by_one_and_bad_ones_leave_the_last_good_in_force() {
    let pki = Pki(Authority::new());
    let mut server = XdsServer::start(ANY, pki.server()).await;
    let running = Running::begin(vec![], |dir, command| pki.client(&server, &pki.0, dir, command));
    let mut stream = server.accept().await;
    let first = stream.request().await;
    assert_eq!((first.type_url.as_str(), first.node.unwrap().id.as_str()), (AuthPolicy::TYPE_URL, "me"));
    assert_eq!(first.resource_names_subscribe, ["*"]);
    assert!(first.initial_resource_versions.is_empty());
    assert_eq!(stream.metadata.get("x-token").unwrap(), "t");
    waits(&running);

    assert_eq!(stream.send("1", &[policy("guard", "one"), policy("other", "x")], &[]).await, Ok(()));
    running.ready();
    let mut client = running.client().await;
    assert_eq!((status(&mut client, "one").await, status(&mut client, "two").await), (200, 401));

    let bad = Policy { methods: vec![], ..policy("guard", "two") };
    let refused = stream.send("2", &[bad, policy("other", "y")], &[]).await;
    let reason = "policy `guard`: methods: is empty: a policy needs at least one method";
    assert_eq!(refused, Err(reason.to_owned()));
    running.log_with("the policy is refused");
    assert_eq!((status(&mut client, "one").await, status(&mut client, "two").await), (200, 401));
    assert!(running.metrics().contains("extauth_policies 2\n"));
    assert!(running.metrics().contains("extauth_config_reloads_total{result=\"failure\"} 1\n"));

    assert_eq!(stream.send("3", &[policy("guard", "two")], &["other"]).await, Ok(()));
    assert_eq!((status(&mut client, "one").await, status(&mut client, "two").await), (401, 200));
    assert!(running.metrics().contains("extauth_policies 1\n"));
    assert_eq!(stream.send("4", &[], &["guard"]).await, Ok(()));
    assert_eq!(status(&mut client, "two").await, 403);
    assert!(running.is_healthy());
}

#[tokio::test]
async fn policies_stay_in_force_while_the_server_is_away_and_only_what_differs_is_asked_for() {
    let pki = Pki(Authority::new());
    let mut server = XdsServer::start(ANY, pki.server()).await;
    let mut running = Running::begin(vec![], |dir, command| pki.client(&server, &pki.0, dir, command));
    let mut stream = server.accept().await;
    stream.request().await;
    stream.send("1", &[policy("guard", "one"), policy("other", "x")], &[]).await.unwrap();
    let mut client = running.client().await;
    let kept = running.path("state/extauth.xds");
    until("the policies are kept", || kept.is_file(), || running.log());

    let address = server.address.to_string();
    drop(server);
    running.log_with("no xDS server; the configuration stays");
    assert_eq!(status(&mut client, "one").await, 200);
    // Nor does it need the server to start.
    let _ = running.process.0.kill();
    let _ = running.process.0.wait();
    running.restart();
    let mut client = running.client().await;
    assert_eq!((status(&mut client, "one").await, status(&mut client, "two").await), (200, 401));

    let mut server = XdsServer::start(&address, pki.server()).await;
    let mut stream = server.accept().await;
    let versions = stream.request().await.initial_resource_versions;
    assert_eq!(versions, [("guard", "1"), ("other", "1")].map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    stream.send("2", &[policy("guard", "two")], &[]).await.unwrap();
    assert_eq!((status(&mut client, "one").await, status(&mut client, "two").await), (401, 200));
}

#[tokio::test]
async fn a_first_answer_without_policies_is_one_and_denies_everything() {
    let pki = Pki(Authority::new());
    let mut server = XdsServer::start(ANY, pki.server()).await;
    let running = Running::begin(vec![], |dir, command| pki.client(&server, &pki.0, dir, command));
    let mut stream = server.accept().await;
    stream.request().await;
    waits(&running);
    stream.send("1", &[], &[]).await.unwrap();
    running.ready();
    assert_eq!(status(&mut running.client().await, "one").await, 403);
}

#[tokio::test]
async fn a_stranger_is_told_nothing_until_it_has_another_certificate() {
    let (pki, stranger) = (Pki(Authority::new()), Authority::new());
    let mut server = XdsServer::start(ANY, pki.server()).await;
    let running = Running::begin(vec![], |dir, command| pki.client(&server, &stranger, dir, command));
    // The file with the authority holds the server's; only the client's own certificate is a stranger's.
    running.log_with("no xDS server; the configuration stays");
    waits(&running);
    pki.0.issue("envoy-extauth.system").write(running.dir.path(), &pki.0);
    let mut stream = server.accept().await;
    stream.request().await;
    stream.send("1", &[policy("guard", "one")], &[]).await.unwrap();
    running.ready();
    assert_eq!(status(&mut running.client().await, "one").await, 200);
}

#[test]
fn settings_that_never_can_connect_end_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = crate::support::program(dir.path());
    command.env("EXTAUTH_CONFIG_TYPE", "GRPC_XDS_DELTA").env("EXTAUTH_CONFIG_GRPC_XDS_SERVER_URL", "a b");
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("`a b` is no xDS server; say HOST:PORT"), "{text}");
}
