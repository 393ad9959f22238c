//! Service-account tokens, about which a server in the shape of Kubernetes' API is asked.

use std::fs;

use axum::http::StatusCode;
use extauth::method::kubernetes::Options as Cluster;
use extauth::resources::{Options, Resources};
use proto::extauth::{Kubernetes, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{NOW, Service, bearer};
use crate::web::{Reply, Web};

const NOT_NOW: &str = "the token cannot be verified now";

/// A review of a good token of `shop/web`.
fn review() -> Value {
    json!({
        "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {"token": "echoed-secret"},
        "status": {
            "authenticated": true,
            "audiences": ["api"],
            "user": {
                "username": "system:serviceaccount:shop:web", "uid": "u-1",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/pod-name": ["web-0"]},
            },
        },
    })
}

fn created(review: &Value) -> Reply {
    Reply::Body(StatusCode::CREATED, review.to_string())
}

struct Api {
    web: Web,
    dir: TempDir,
    resources: Resources,
}

impl Api {
    fn new(reply: Reply) -> Self {
        let web = Web::replying(reply);
        let dir = TempDir::new().unwrap();
        let token_file = dir.path().join("token");
        fs::write(&token_file, "own-token\n").unwrap();
        let kubernetes = Cluster { api: Some(web.url("")), token_file, ..Cluster::default() };
        let resources = Resources::new(&Options { kubernetes, ..Options::default() }).unwrap();
        Self { web, dir, resources }
    }

    fn service(&self, config: Kubernetes) -> Service {
        Service::sharing(&self.resources, vec![Method::Kubernetes(config)])
    }
}

fn config() -> Kubernetes {
    Kubernetes {
        name: "cluster".into(),
        audiences: vec!["api".into()],
        client_header: Some("x-client".into()),
        ..Kubernetes::default()
    }
}

#[test]
fn a_service_account_becomes_the_client() {
    let api = Api::new(created(&review()));
    let service = api.service(config());
    let answer = service.ask(&bearer("pod-token"));
    assert_eq!((answer.status, answer.set["x-client"].as_str()), (200, "system:serviceaccount:shop:web"));
    assert_eq!(answer.metadata["method"], "kubernetes");
    assert_eq!(answer.metadata["client"], "system:serviceaccount:shop:web");
    assert_eq!(answer.metadata["cluster"]["namespace"], "shop");
    assert_eq!(answer.metadata["cluster"]["serviceAccount"], "web");
    assert_eq!(answer.metadata["cluster"]["groups"][1], "system:serviceaccounts:shop");
    assert!(answer.removes("authorization"), "whoever has the token is that account");
    let asked = &api.web.asked()[0];
    assert_eq!(asked.path, "/apis/authentication.k8s.io/v1/tokenreviews");
    assert_eq!(asked.authorization.as_deref(), Some("Bearer own-token"));
    let sent: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(sent["spec"], json!({"token": "pod-token", "audiences": ["api"]}));
    assert_eq!((&sent["kind"], &sent["apiVersion"]), (&json!("TokenReview"), &json!("authentication.k8s.io/v1")));
}

#[test]
fn our_own_token_is_read_again_and_answers_are_remembered_briefly() {
    let api = Api::new(created(&review()));
    let mut service = api.service(config());
    assert_eq!((service.ask(&bearer("a")).status, service.ask(&bearer("a")).status), (200, 200));
    assert_eq!(api.web.asked().len(), 1);
    fs::write(api.dir.path().join("token"), "rotated").unwrap();
    service.now = NOW + 10;
    assert_eq!(service.ask(&bearer("a")).status, 200);
    assert_eq!(api.web.asked()[1].authorization.as_deref(), Some("Bearer rotated"));
    api.web.reply(created(&json!({"status": {"error": "expired"}})));
    assert_eq!((service.ask(&bearer("b")).status, service.ask(&bearer("b")).status), (401, 401));
    assert_eq!(api.web.asked().len(), 3);
    service.now = NOW + 20;
    assert_eq!(service.ask(&bearer("a")).status, 401, "it was good, and is no longer");
}

#[test]
fn namespaces_and_accounts_may_be_named() {
    let api = Api::new(created(&review()));
    let status = |namespaces: &[&str], accounts: &[&str]| {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let config = Kubernetes { namespaces: texts(namespaces), service_accounts: texts(accounts), ..config() };
        api.service(config).ask(&bearer("a")).status
    };
    assert_eq!(status(&["shop"], &[]), 200);
    assert_eq!(status(&["other"], &["shop/web"]), 200);
    assert_eq!(status(&["other"], &[]), 403);
    assert_eq!(status(&["shop-2", "sho"], &["shop/web-2", "other/web"]), 403);
}

/// C.2, case 21: an empty principal must deny.
#[test]
fn c21_who_is_nobody_is_denied() {
    let api = Api::new(created(&review()));
    let mut cases = Vec::new();
    for username in [
        "",
        "system:serviceaccount:",
        "system:serviceaccount::",
        "system:serviceaccount:shop:",
        "admin",
        "system:anonymous",
        "system:serviceaccount::web",
        "system:serviceaccount:shop:web\nx",
    ] {
        let mut review = review();
        review["status"]["user"]["username"] = username.into();
        cases.push((review, 403));
    }
    let with = |pointer: &str, value: Value| {
        let mut review = review();
        *review.pointer_mut(pointer).unwrap() = value;
        review
    };
    cases.extend([
        (with("/status/user", json!({})), 403),
        (with("/status/user", Value::Null), 503),
        (with("/status/authenticated", json!(false)), 401),
        (with("/status/authenticated", json!("true")), 503),
        (with("/status", json!({})), 401),
        (with("/status", Value::Null), 503),
        // An API server that knows nothing of audiences, and one that found another.
        (with("/status/audiences", Value::Null), 403),
        (with("/status/audiences", json!([])), 403),
        (with("/status/audiences", json!(["https://kubernetes.default.svc"])), 403),
        (json!({}), 503),
        (json!([]), 503),
    ]);
    for (index, (review, expected)) in cases.into_iter().enumerate() {
        api.web.reply(created(&review));
        let answer = api.service(config()).ask(&bearer(&format!("token-{index}")));
        assert_eq!(answer.status, expected, "{review}");
        assert!(!answer.body.contains("secret"));
    }
}

#[test]
fn an_api_server_that_refuses_us_or_is_down_denies() {
    let api = Api::new(Reply::error());
    let service = api.service(config());
    for reply in [Reply::error(), Reply::Body(StatusCode::FORBIDDEN, review().to_string()), Reply::ok("<html>")] {
        api.web.reply(reply);
        let answer = service.ask(&bearer("a"));
        assert_eq!((answer.status, answer.body.as_str()), (503, NOT_NOW));
    }
    fs::remove_file(api.dir.path().join("token")).unwrap();
    api.web.reply(created(&review()));
    assert_eq!(service.ask(&bearer("a")).status, 503, "without our own token nobody is asked");
    fs::write(api.dir.path().join("token"), "own").unwrap();
    assert_eq!(service.ask(&bearer("a")).status, 200);
}

#[test]
fn a_provider_that_could_not_protect_is_refused() {
    let cases = [
        (Kubernetes { audiences: Vec::new(), ..config() }, "audiences: must name at least one"),
        (Kubernetes { namespaces: vec![String::new()], ..config() }, "namespaces[0]: is empty"),
        (
            Kubernetes { service_accounts: vec!["web".into()], ..config() },
            "serviceAccounts[0]: is not `namespace/name`",
        ),
        (Kubernetes { client_header: Some("host".into()), ..config() }, "clientHeader"),
        (config(), "set EXTAUTH_KUBERNETES_API"),
    ];
    for (config, expected) in cases {
        let error = crate::support::refused(Method::Kubernetes(config));
        assert!(error.contains("methods[0].kubernetes.") && error.contains(expected), "{error}");
    }
}
