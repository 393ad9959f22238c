//! The authorization service gets its policies, and nobody else does.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use clap::Parser;
use controller_core::{infra, xds::Type};
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::{
        auth::v3::{
            AttributeContext, CheckRequest,
            attribute_context::{HttpRequest, Request},
            authorization_client::AuthorizationClient,
            check_response::HttpResponse,
        },
        discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
};
use prost::Message;
use proto::extauth::{AuthPolicy, Policy};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    api_server::ApiServer,
    controller::manifests,
    identity::Secured,
    tool::{PATIENCE, eventually},
};

/// A SecurityPolicy with its Secret, in the namespace of the test.
fn keys(name: &str, client: &str, key: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: {name}}}
stringData: {{{client}: {key}}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{name: keys, namespace: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app}}]
  apiKeyAuth:
    credentialRefs: [{{name: keys}}]
    extractFrom: [{{headers: [x-api-key]}}]
"
    )
}

/// The real service, over mutual TLS; it ends with the process of the tests.
struct Extauth {
    folder: tempfile::TempDir,
    policy: String,
}

impl Extauth {
    async fn start(secured: &Secured, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = secured.authority.issue(&[&format!("envoy-extauth.{name}")]);
        let files =
            [("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &secured.authority.certificate())];
        for (file, content) in files {
            fs::write(folder.path().join(file), content).unwrap();
        }
        let file = |name: &str| folder.path().join(name).display().to_string();
        let (grpc, http) = (format!("unix:{}", file("grpc.sock")), format!("unix:{}", file("http.sock")));
        let url = secured.controller.rate_limit_xds.to_string();
        let (certificate, key, authority) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
        let settings = extauth::settings::Settings::parse_from([
            "extauth",
            "--cores=1",
            "--grpc-addr",
            &grpc,
            "--http-addr",
            &http,
            "--config-type=GRPC_XDS_DELTA",
            "--config-grpc-xds-node-id=extauth-1",
            "--config-grpc-xds-server-url",
            &url,
            "--config-grpc-xds-server-use-tls=true",
            "--config-grpc-xds-server-tls-san=envoy-gateway",
            "--config-grpc-xds-server-tls-cacert",
            &authority,
            "--config-grpc-xds-client-tls-cert",
            &certificate,
            "--config-grpc-xds-client-tls-key",
            &key,
            "--config-grpc-xds-server-connect-retry-interval=50ms",
            "--xds-client-backoff-initial-interval=50ms",
            "--xds-client-backoff-max-interval=200ms",
        ]);
        thread::spawn(move || extauth::server::run(&settings).unwrap());
        let extauth = Self { folder, policy: format!("securitypolicy/{name}/keys") };
        eventually("extauth listens", async || extauth.client().await).await;
        extauth
    }

    async fn client(&self) -> Option<AuthorizationClient<Channel>> {
        let endpoint =
            Endpoint::from_shared(format!("unix:{}", self.folder.path().join("grpc.sock").display())).unwrap();
        endpoint.connect().await.ok().map(AuthorizationClient::new)
    }

    /// The status that Envoy gets for a request of the route; 200 if it passes.
    async fn ask(&self, key: &str) -> u32 {
        let http = HttpRequest {
            method: "GET".into(),
            path: "/".into(),
            headers: [("x-api-key".to_owned(), key.to_owned())].into(),
            ..Default::default()
        };
        let attributes = AttributeContext {
            request: Some(Request { http: Some(http), ..Default::default() }),
            context_extensions: [("policy".to_owned(), self.policy.clone())].into(),
            ..Default::default()
        };
        let mut client = self.client().await.expect("it listens");
        let answer = client.check(CheckRequest { attributes: Some(attributes) }).await.unwrap().into_inner();
        match answer.http_response {
            Some(HttpResponse::DeniedResponse(denied)) => u32::try_from(denied.status.unwrap().code).unwrap(),
            _ => 200,
        }
    }

    async fn answers(&self, key: &str, status: u32) {
        let what = format!("{key} gets {status}");
        eventually(&what, async || (self.ask(key).await == status).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extauth_follows_the_security_policies_and_their_secrets() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("guarded")).await;
    server.apply(&keys("guarded", "ann", "one-key")).await;
    let secured = Secured::start(&server, "guarded", &[]).await;
    let extauth = Extauth::start(&secured, "guarded").await;
    extauth.answers("one-key", 200).await;
    assert_eq!(extauth.ask("another-key").await, 401);

    server.apply(&keys("guarded", "ann", "another-key")).await;
    extauth.answers("another-key", 200).await;
    assert_eq!(extauth.ask("one-key").await, 401);

    server.delete(&keys("guarded", "ann", "another-key")).await;
    extauth.answers("another-key", 403).await;
}

/// A client of the policies that answers as the test says.
struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    /// Says what it has already.
    async fn open(channel: Channel, cluster: &str, versions: &BTreeMap<String, String>) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: "test".into(), cluster: cluster.to_owned(), ..Default::default() }),
            type_url: AuthPolicy::TYPE_URL.to_owned(),
            resource_names_subscribe: vec!["*".into()],
            initial_resource_versions: versions.clone().into_iter().collect(),
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("in time").unwrap().unwrap()
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, refusal: Option<&str>) {
        let status = |message: &str| envoy_types::pb::google::rpc::Status {
            code: Code::InvalidArgument.into(),
            message: message.to_owned(),
            ..Default::default()
        };
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: refusal.map(status),
            ..Default::default()
        };
        self.requests.send(answer).await.unwrap();
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

#[tokio::test]
async fn only_the_authorization_service_gets_policies() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("private")).await;
    server.apply(&keys("private", "ann", "a-key")).await;
    let secured = Secured::start(&server, "private", &[]).await;
    let address = secured.controller.rate_limit_xds;
    for name in
        ["*.private", "envoy-abc.private", "envoy-ratelimit.private", "envoy-extauth.elsewhere", "envoy-extauth"]
    {
        let channel = secured.connect(address, &[name]).await.unwrap();
        let refused = Client::open(channel, "", &BTreeMap::new()).await.err().expect(name);
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}");
    }
    // Where Envoys ask, there is no such type: the first thing that is answered is what they ask for next.
    let fleet = format!("{}.private", infra::fleet_name("private", "private"));
    let channel = secured.connect(secured.controller.xds, &[&fleet, "envoy-extauth.private"]).await.unwrap();
    let mut envoy = Client::open(channel, "private/private", &BTreeMap::new()).await.unwrap();
    let clusters = DeltaDiscoveryRequest {
        type_url: Type::Cluster.url().to_owned(),
        resource_names_subscribe: vec!["*".into()],
        ..Default::default()
    };
    envoy.requests.send(clusters).await.unwrap();
    assert_eq!(envoy.next().await.type_url, Type::Cluster.url());
}

#[tokio::test]
async fn only_what_changed_is_sent_and_a_refusal_is_counted() {
    // One of its own: the policies of all namespaces are served.
    let server = ApiServer::start().await;
    server.apply(&manifests("changing")).await;
    server.apply(&keys("changing", "ann", "a-key")).await;
    let secured = Secured::start(&server, "changing", &[]).await;
    let connect = async || {
        let channel = secured.connect(secured.controller.rate_limit_xds, &["envoy-extauth.changing"]).await;
        channel.unwrap()
    };
    let mut client = Client::open(connect().await, "", &BTreeMap::new()).await.unwrap();
    let response = client.next().await;
    assert_eq!(names(&response), ["securitypolicy/changing/keys"]);
    let resource = &response.resources[0];
    let message = AuthPolicy::decode(resource.resource.as_ref().unwrap().value.as_slice()).unwrap();
    let policy: Policy = serde_json::from_str(&message.json).unwrap();
    assert_eq!(policy.name, "securitypolicy/changing/keys");
    client.answer(&response, None).await;
    let versions = BTreeMap::from([(resource.name.clone(), resource.version.clone())]);

    // Another replica's stream of a client that has it all hears of the next change only.
    let replica = Secured::start_beside(&server, "changing", &secured).await;
    let channel = replica.connect(replica.controller.rate_limit_xds, &["envoy-extauth.changing"]).await.unwrap();
    eventually("the replica is ready", async || replica.controller.is_ready().await.then_some(())).await;
    let mut elsewhere = Client::open(channel, "", &versions).await.unwrap();
    server.apply(&keys("changing", "ann", "another-key")).await;
    let (here, there) = (client.next().await, elsewhere.next().await);
    assert_eq!(names(&here), ["securitypolicy/changing/keys"]);
    assert_eq!(here.resources, there.resources, "all replicas serve the same");
    assert_ne!(here.resources[0].version, versions["securitypolicy/changing/keys"]);

    client.answer(&here, Some("policy `x`: methods: no")).await;
    let refusals = format!("xds_nack_total{{nodeID=\"test\",typeURL=\"{}\"}}", AuthPolicy::TYPE_URL);
    let counted = async || (secured.controller.metric(&refusals).await == 1).then_some(());
    eventually("the refusal is counted", counted).await;
    let again = tokio::time::timeout(Duration::from_millis(300), client.responses.message()).await;
    assert!(again.is_err(), "what was refused is not sent again");
    let refused = ["Programmed", "False", "Invalid"];
    let policy = server.until_condition("SecurityPolicy", "changing", "keys", refused).await;
    assert!(policy["status"].to_string().contains("keeps what it had before: policy `x`: methods: no"));
    server.apply(&keys("changing", "ann", "a-third-key")).await;
    let better = client.next().await;
    client.answer(&better, None).await;
    server.until_not_refused("SecurityPolicy", "changing", "keys").await;
    server.delete(&keys("changing", "ann", "a-third-key")).await;
    let gone = client.next().await;
    assert_eq!(gone.removed_resources, ["securitypolicy/changing/keys"]);
}
