//! The service as Envoy meets it: over gRPC.

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use extauth::service::{Authorizer, LARGEST_REQUEST};
use proto::drain::{self, Trigger};
use proto::extauth::{Method, Policy};
use proto::serve::{Grpc, Listener};
use serde_json::json;
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::Channel;

use crate::support::{Answer, Issuer, api_keys, key, request, resources};

struct Server {
    client: AuthorizationClient<Channel>,
    authorizer: Authorizer,
    trigger: Trigger,
    serving: tokio::task::JoinHandle<()>,
}

async fn serve() -> Server {
    let authorizer = Authorizer::new(resources());
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("http://{}", listener.address().unwrap());
    let (trigger, signal) = drain::new();
    let routes = Routes::new(authorizer.service());
    let serving = tokio::spawn(async move { Grpc::new(listener).serve(routes, signal).await.unwrap() });
    let client = AuthorizationClient::connect(address).await.unwrap();
    Server { client, authorizer, trigger, serving }
}

fn policy(methods: Vec<Method>) -> Vec<Policy> {
    vec![Policy { name: "guard".into(), methods, ..Policy::default() }]
}

#[tokio::test]
async fn a_client_gets_verdicts_until_the_drain_is_over() {
    let mut server = serve().await;
    let asked = request(&[("x-api-key", "a-key"), ("x_client", "root")]);
    let answer = Answer::of(server.client.check(asked.clone()).await.unwrap().into_inner());
    assert_eq!(answer.status, 403, "without policies everything is denied");

    let keys = Method::ApiKey(api_keys(vec![key("a-key", "acme")]));
    server.authorizer.replace(&policy(vec![keys])).unwrap();
    let answer = Answer::of(server.client.check(asked).await.unwrap().into_inner());
    assert_eq!((answer.status, answer.set["x-client"].as_str()), (200, "acme"));
    assert_eq!(answer.metadata, json!({"method": "api_key", "client": "acme"}));
    assert!(answer.removes("x_client") && answer.removes("x-api-key"));

    server.authorizer.replace(&policy(Vec::new())).unwrap_err();
    let still = Answer::of(server.client.check(request(&[])).await.unwrap().into_inner());
    assert_eq!(still.status, 401, "a policy that does not compile changes nothing");
    server.trigger.drain();
    server.serving.await.unwrap();
}

#[tokio::test]
async fn tokens_are_judged_by_the_real_clock() {
    let mut server = serve().await;
    let issuer = Issuer::new("ES256");
    server.authorizer.replace(&policy(vec![Method::Jwt(issuer.provider())])).unwrap();
    let bearer = |token: &str| request(&[("authorization", &format!("Bearer {token}"))]);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (exp, expected) in [(now + 600, 200), (now - 600, 401)] {
        let asked = bearer(&issuer.token(json!({"exp": exp})));
        for _ in 0..2 {
            let answer = Answer::of(server.client.check(asked.clone()).await.unwrap().into_inner());
            assert_eq!(answer.status, expected);
            let (method, sub) = (&answer.metadata["method"], &answer.metadata["main"]["sub"]);
            assert!(expected != 200 || (method == "jwt" && sub == "ada"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn e5_a_question_that_is_too_large_is_not_read() {
    let mut server = serve().await;
    let large = "x".repeat(LARGEST_REQUEST);
    let status = server.client.check(request(&[("x-large", &large)])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let next = server.client.check(request(&[])).await.unwrap().into_inner();
    assert_eq!(Answer::of(next).status, 403, "the server goes on");
}

#[tokio::test]
async fn nothing_secret_is_in_the_debug_form() {
    let mut server = serve().await;
    let issuer = Issuer::new("EdDSA");
    let a_key = key("a-key", "acme");
    let hash = a_key.hash.trim_start_matches("sha256:").to_owned();
    let methods = vec![Method::Jwt(issuer.provider()), Method::ApiKey(api_keys(vec![a_key]))];
    server.authorizer.replace(&policy(methods)).unwrap();
    let token = issuer.token(json!({}));
    let asked = request(&[("authorization", &format!("Bearer {token}"))]);
    assert_eq!(Answer::of(server.client.check(asked).await.unwrap().into_inner()).status, 200);
    let debug = format!("{:?}", server.authorizer);
    assert!(debug.contains("x-api-key") && !debug.contains(&token) && !debug.contains(&hash), "{debug}");
}
