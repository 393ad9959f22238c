//! Who is served what, over mutual TLS.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use controller_core::infra;
use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DiscoveryRequest, DiscoveryResponse, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    google::rpc::Status as RpcStatus,
    ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use prost::{Message, Name};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    api_server::ApiServer,
    controller::{Controller, manifests},
    pki::{Authority, Pair},
    tool::{PATIENCE, eventually},
    xds::Envoy,
};

const SERVER: &str = "envoy-gateway";

/// A controller with certificates in a folder, which end with the test.
pub(crate) struct Secured {
    pub(crate) controller: Controller,
    pub(crate) authority: Arc<Authority>,
    folder: tempfile::TempDir,
}

impl Secured {
    pub(crate) async fn start(server: &ApiServer, name: &str, more: &[&str]) -> Self {
        Self::with(server, name, Arc::new(Authority::new()), more).await
    }

    /// Another replica.
    pub(crate) async fn start_beside(server: &ApiServer, name: &str, other: &Self) -> Self {
        Self::with(server, name, Arc::clone(&other.authority), &["--identity", "other"]).await
    }

    async fn with(server: &ApiServer, name: &str, authority: Arc<Authority>, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &authority, &authority.issue(&[SERVER]));
        let arguments = [&["--certs", folder.path().to_str().unwrap()], more].concat();
        let controller = Controller::start_with(server, name, &arguments).await;
        Self { controller, authority, folder }
    }

    /// A connection of a client with a certificate for `names`.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        names: &[&str],
    ) -> Result<Channel, tonic::transport::Error> {
        connect(address, &self.authority, Some(&self.authority.issue(names))).await
    }
}

fn write(folder: &Path, clients: &Authority, server: &Pair) {
    fs::write(folder.join("tls.crt"), &server.certificate).unwrap();
    fs::write(folder.join("tls.key"), &server.key).unwrap();
    fs::write(folder.join("ca.crt"), clients.certificate()).unwrap();
}

async fn connect(
    address: SocketAddr,
    server: &Authority,
    client: Option<&Pair>,
) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().domain_name(SERVER).ca_certificate(Certificate::from_pem(server.certificate()));
    let tls = match client {
        Some(client) => tls.identity(Identity::from_pem(&client.certificate, &client.key)),
        None => tls,
    };
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect().await
}

#[tokio::test]
async fn an_envoy_gets_what_its_certificate_is_for() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("secured")).await;
    let secured = Secured::start(&server, "secured", &[]).await;
    let xds = secured.controller.xds;
    let cluster = "httproute/secured/app/rule/0";
    let fleet = |gateway| format!("{}.secured", infra::fleet_name("secured", gateway));
    let own = secured.connect(xds, &[&fleet("secured")]).await.unwrap();
    Envoy::open(own, "secured/secured").await.unwrap().until(cluster, true).await;
    for name in [fleet("other"), "*.elsewhere".to_owned(), "*.x.secured".to_owned()] {
        let channel = secured.connect(xds, &[&name]).await.unwrap();
        assert_eq!(answer(&channel, "secured/secured", None).await.err(), Some(Code::PermissionDenied), "{name}");
    }
    // A certificate that all Envoys share says nothing of whose configuration it is.
    let audience = "envoy-gateway.secured.svc.cluster.local";
    let service_account = infra::fleet_name("secured", "secured");
    let good = server.token("secured", &service_account, audience).await;
    let other = server.token("secured", "other", audience).await;
    let shared = secured.connect(xds, &["*.secured"]).await.unwrap();
    assert!(answer(&shared, "secured/secured", Some(&good)).await.is_ok());
    for (token, code) in [(None, Code::Unauthenticated), (Some(other.as_str()), Code::PermissionDenied)] {
        assert_eq!(answer(&shared, "secured/secured", token).await.err(), Some(code));
    }
    // Without a certificate, and with one of another authority, there is no stream at all.
    let stranger = Authority::new().issue(&["*.secured"]);
    for client in [None, Some(&stranger)] {
        if let Ok(channel) = connect(xds, &secured.authority, client).await {
            let outcome = Envoy::open(channel, "secured/secured").await;
            assert!(outcome.is_err());
        }
    }
}

#[tokio::test]
async fn a_shared_certificate_may_be_believed() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("believed")).await;
    let secured = Secured::start(&server, "believed", &["--identity-by", "certificate"]).await;
    let shared = secured.connect(secured.controller.xds, &["*.believed"]).await.unwrap();
    Envoy::open(shared, "believed/believed").await.unwrap().until("httproute/believed/app/rule/0", true).await;
}

#[tokio::test]
async fn new_certificates_take_effect() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("rotated")).await;
    let secured = Secured::start(&server, "rotated", &[]).await;
    let next = Authority::new();
    let fleet = format!("{}.rotated", infra::fleet_name("rotated", "rotated"));
    write(secured.folder.path(), &next, &next.issue(&[SERVER]));
    let channel = eventually("the new authority counts", async || {
        let channel = connect(secured.controller.xds, &next, Some(&next.issue(&[&fleet]))).await.ok()?;
        Envoy::open(channel, "rotated/rotated").await.ok()
    });
    channel.await.until("httproute/rotated/app/rule/0", true).await;
}

#[tokio::test]
async fn an_envoy_may_show_a_token_instead() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("tokens")).await;
    let secured = Secured::start(&server, "tokens", &["--identity-by", "token"]).await;
    let audience = "envoy-gateway.tokens.svc.cluster.local";
    let fleet = infra::fleet_name("tokens", "tokens");
    let token = server.token("tokens", &fleet, audience).await;
    let channel = connect(secured.controller.xds, &secured.authority, None).await.unwrap();
    let mut envoy = Envoy::open_with(channel.clone(), "tokens/tokens", Some(&token)).await.unwrap();
    envoy.until("httproute/tokens/app/rule/0", true).await;

    // Of another fleet, of the same name elsewhere, for somebody else, made up, and none.
    let elsewhere = server.token("default", &fleet, audience).await;
    let other = server.token("tokens", "other", audience).await;
    let misdirected = server.token("tokens", &fleet, "somebody-else").await;
    let denied = [Some(elsewhere), Some(other)].map(|token| (token, Code::PermissionDenied));
    let unknown = [Some(misdirected), Some("made-up".to_owned()), None].map(|token| (token, Code::Unauthenticated));
    for (token, code) in denied.into_iter().chain(unknown) {
        assert_eq!(answer(&channel, "tokens/tokens", token.as_deref()).await.err(), Some(code));
    }
}

/// A Gateway outside the controller's namespace.
const APART: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: apart-web}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: apart-web}
spec:
  gatewayClassName: apart
  infrastructure: {labels: {team: blue}, annotations: {note: x}}
  listeners: [{name: http, port: 80, protocol: HTTP}]
";

/// The answer to a stream for the proxy `cluster`.
pub(crate) async fn answer(channel: &Channel, cluster: &str, token: Option<&str>) -> Result<Envoy, Code> {
    let mut envoy = Envoy::open_with(channel.clone(), cluster, token).await.map_err(|status| status.code())?;
    envoy.next().await.map_err(|status| status.code())?;
    Ok(envoy)
}

#[tokio::test]
async fn envoys_beside_their_gateways_show_the_tokens_of_their_pods() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("apart")).await;
    let authorities = "apiVersion: v1\nkind: Secret\nmetadata: {name: envoy-gateway, namespace: apart}\n\
                       stringData: {ca.crt: the authorities}";
    server.apply(authorities).await;
    server.apply(APART).await;
    let secured = Secured::start(&server, "apart", &["--gateway-namespace-mode"]).await;
    for (kind, name) in [("Deployment", "web"), ("Service", "web"), ("ServiceAccount", "web")] {
        let object =
            eventually("what runs for the Gateway is beside it", async || server.find(kind, "apart-web", name).await)
                .await;
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"]["team"], "blue", "{kind}");
        assert_eq!(metadata["labels"]["gateway.networking.k8s.io/gateway-name"], "web", "{kind}");
        assert_eq!(metadata["annotations"]["note"], "x", "{kind}");
        assert_eq!(metadata["ownerReferences"][0]["kind"], "Gateway", "{kind}");
    }
    let map = eventually("the files are there", async || server.find("ConfigMap", "apart-web", "web").await).await;
    assert_eq!(map["data"]["ca.crt"], "the authorities");

    let audience = "envoy-gateway.apart.svc.cluster.local";
    let own = server.token("apart-web", "web", audience).await;
    let home = server.token("apart", "web", audience).await;
    let other = server.token("apart-web", "other", audience).await;
    let channel = connect(secured.controller.xds, &secured.authority, None).await.unwrap();
    assert!(answer(&channel, "apart-web/web", Some(&own)).await.is_ok());
    for (cluster, token) in
        [("apart-web/web", &home), ("apart-web/web", &other), ("apart/apart", &own), ("apart-web/missing", &own)]
    {
        assert_eq!(answer(&channel, cluster, Some(token)).await.err(), Some(Code::PermissionDenied), "{cluster}");
    }

    // The services are who they were.
    let limits = secured.controller.rate_limit_xds;
    let mut service = RateLimit::open(secured.connect(limits, &["*.apart"]).await.unwrap()).await.unwrap();
    assert!(service.next().await.is_empty());
    if let Ok(channel) = connect(limits, &secured.authority, None).await {
        assert!(RateLimit::open(channel).await.is_err());
    }
}

const POLICY: &str = r"
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: limited, namespace: limited}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app}]
  rateLimit:
    type: Global
    global: {rules: [{limit: {requests: 5, unit: Minute}}]}
";

struct RateLimit {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl RateLimit {
    async fn open(channel: Channel) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        let first = DiscoveryRequest { type_url: RateLimitConfig::type_url(), ..Default::default() };
        requests.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.stream_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// The next configuration: the limits of each domain.
    async fn next(&mut self) -> Vec<RateLimitConfig> {
        self.answer(None).await
    }

    /// The same, which is refused if there is a reason.
    async fn answer(&mut self, refusal: Option<&str>) -> Vec<RateLimitConfig> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("a response in time");
        let response = next.unwrap().unwrap();
        let acknowledgement = DiscoveryRequest {
            type_url: response.type_url,
            version_info: response.version_info,
            response_nonce: response.nonce,
            error_detail: refusal.map(|message| RpcStatus { message: message.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        self.requests.send(acknowledgement).await.unwrap();
        response.resources.iter().map(|any| RateLimitConfig::decode(any.value.as_slice()).unwrap()).collect()
    }
}

#[tokio::test]
async fn the_rate_limit_service_gets_its_limits() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("limited")).await;
    let secured = Secured::start(&server, "limited", &[]).await;
    let address = secured.controller.rate_limit_xds;
    let refused = RateLimit::open(secured.connect(address, &["envoy-abc.limited"]).await.unwrap()).await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);

    let mut service = RateLimit::open(secured.connect(address, &["*.limited"]).await.unwrap()).await.unwrap();
    assert!(service.next().await.is_empty());
    server.apply(POLICY).await;
    let limits = service.next().await;
    assert_eq!(limits.len(), 1);
    assert!(!limits[0].descriptors.is_empty());
    // What a refusal is about stands in its text, as the service writes it.
    server.apply(&POLICY.replace("requests: 5", "requests: 6")).await;
    let reason = r#"RateLimitConfig "limited/limited/http": httproute/limited/app/rule/0/match/0/app_example_com: no"#;
    service.answer(Some(reason)).await;
    server.until_condition("HTTPRoute", "limited", "app", ["Programmed", "False", "Invalid"]).await;
    server.apply(&POLICY.replace("requests: 5", "requests: 7")).await;
    service.answer(Some(r#"RateLimitConfig "backendtrafficpolicy/limited/limited": no"#)).await;
    server.until_condition("BackendTrafficPolicy", "limited", "limited", ["Programmed", "False", "Invalid"]).await;
    server.until_not_refused("HTTPRoute", "limited", "app").await;
    server.delete(POLICY).await;
    assert!(service.next().await.is_empty());
}
