//! Logins at a certified provider, seen from a browser. `i` in a test's name stands for the identity faults, `o` for the attacks.

mod browser;
mod chromium;
mod ends;
mod failover;
mod faults;
mod flows;
pub(crate) mod forger;
mod hosts;
mod introspection;
mod login;
mod navigation;
mod sealed;
mod sessions;
mod started;
mod tokens;

use std::sync::LazyLock;
use std::time::Duration;

use extauth::policy::Policies;
use extauth::resources::Resources;
use extauth::service::Authorizer;
use logins::Provider;
use proto::drain::{self, Trigger};
use proto::extauth::{ClaimToHeader, Method, Oidc, OidcProvider, Policy, Secret};
use proto::serve::{Grpc, Listener};
use serde_json::{Value, json};
use tonic::service::Routes;

pub(crate) use self::browser::{Browser, Page};
use crate::support::resources;

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SHOP: &str = "https://shop.example.com";
const CALLBACK: &str = "https://shop.example.com/oauth2/callback";

/// Most tests can share one: they differ in users and browsers.
pub(crate) static SHARED: LazyLock<Provider> =
    LazyLock::new(|| Provider::start(&json!({"clients": [client(&json!({}))]})));

/// `extauth` over gRPC with one policy.
pub(crate) struct Gate {
    pub(crate) address: String,
    pub(crate) resources: Resources,
    pub(crate) authorizer: Authorizer,
    _trigger: Trigger,
}

impl Gate {
    pub(crate) fn open(policy: Policy) -> Self {
        Self::with(resources(), policy)
    }

    /// Everything that is shared is the caller's.
    pub(crate) fn with(resources: Resources, policy: Policy) -> Self {
        let authorizer = Authorizer::new(resources.clone());
        authorizer.replace(&[policy]).unwrap();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = format!("http://{}", listener.address().unwrap());
        let (trigger, signal) = drain::new();
        let routes = Routes::new(authorizer.service());
        tokio::spawn(async move { Grpc::new(listener).serve(routes, signal).await.unwrap() });
        Self { address, resources, authorizer, _trigger: trigger }
    }
}

/// What the provider knows us by.
pub(crate) fn client(more: &Value) -> Value {
    let mut client = json!({
        "client_id": "shop",
        "client_secret": "shop's secret",
        "redirect_uris": [CALLBACK],
        "post_logout_redirect_uris": [format!("{SHOP}/bye")],
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let client_fields = client.as_object_mut().unwrap();
    client_fields.extend(more.as_object().unwrap().clone());
    client_fields.retain(|_, value| !value.is_null());
    client
}

pub(crate) fn known_as(issuer: &str) -> OidcProvider {
    OidcProvider {
        name: "main".into(),
        issuer: issuer.into(),
        client_id: "shop".into(),
        client_secret: Some(Secret::new("shop's secret")),
        scopes: vec!["email".into(), "groups".into()],
        ..OidcProvider::default()
    }
}

pub(crate) fn oidc(issuer: &str) -> Oidc {
    Oidc {
        providers: vec![known_as(issuer)],
        claims_to_headers: vec![ClaimToHeader {
            claim: "sub".into(),
            header: "x-user".into(),
            ..ClaimToHeader::default()
        }],
        ..Oidc::default()
    }
}

pub(crate) fn policy(oidc: Oidc) -> Policy {
    Policy { name: "guard".into(), methods: vec![Method::Oidc(Box::new(oidc))], ..Policy::default() }
}

/// Why a configuration is refused.
pub(crate) fn refusal(oidc: Oidc) -> String {
    Policies::compile(&[policy(oidc)], &resources()).unwrap_err().to_string()
}
