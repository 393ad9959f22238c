//! A provider that answers whatever a test wants, signed with its own key.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use extauth::resources::Resources;
use serde_json::{Value, json};

use super::{Browser, Gate, Page, SHOP, known_as, policy};
use crate::support::{Issuer, resources};

type Answer = (u16, String);

pub(crate) struct Forger {
    pub(crate) issuer: String,
    pub(crate) key: Issuer,
    answers: Arc<Mutex<Answers>>,
}

#[derive(Default)]
struct Answers {
    token: Option<Answer>,
    discovery: Option<Answer>,
    jwks: Option<Answer>,
    asked: Vec<&'static str>,
    metadata: Value,
    keys: String,
}

impl Forger {
    pub(crate) async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// With more metadata than the usual.
    pub(crate) async fn with(more: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = Issuer::new("RS256");
        let mut metadata = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        });
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answers = Arc::new(Mutex::new(Answers { metadata, keys: key.jwks(), ..Answers::default() }));
        let (discovery, jwks, token) = (Arc::clone(&answers), Arc::clone(&answers), Arc::clone(&answers));
        let answer = |answer: Answer| {
            let headers = [("content-type", "application/json")];
            (StatusCode::from_u16(answer.0).unwrap(), headers, answer.1).into_response()
        };
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(move || async move {
                    let mut answers = discovery.lock().unwrap();
                    answers.asked.push("discovery");
                    answer(answers.discovery.clone().unwrap_or_else(|| (200, answers.metadata.to_string())))
                }),
            )
            .route(
                "/jwks",
                get(move || async move {
                    let mut answers = jwks.lock().unwrap();
                    answers.asked.push("jwks");
                    answer(answers.jwks.clone().unwrap_or_else(|| (200, answers.keys.clone())))
                }),
            )
            .route(
                "/token",
                post(move || async move {
                    let mut answers = token.lock().unwrap();
                    answers.asked.push("token");
                    answer(answers.token.clone().unwrap_or((500, String::new())))
                }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { issuer, key, answers }
    }

    pub(crate) fn asked(&self, what: &str) -> usize {
        self.answers.lock().unwrap().asked.iter().filter(|asked| **asked == what).count()
    }

    /// What the token endpoint says from now on.
    pub(crate) fn token(&self, status: u16, body: &impl ToString) {
        self.answers.lock().unwrap().token = Some((status, body.to_string()));
    }

    /// What discovery says from now on; `None` is the truth.
    pub(crate) fn discovery(&self, answer: Option<(u16, String)>) {
        self.answers.lock().unwrap().discovery = answer;
    }

    pub(crate) fn jwks(&self, answer: Option<(u16, String)>) {
        self.answers.lock().unwrap().jwks = answer;
    }

    /// Claims of a good ID token.
    pub(crate) fn claims(&self, nonce: &str) -> Value {
        let now = now();
        json!({"iss": self.issuer, "aud": "shop", "sub": "ada", "nonce": nonce, "iat": now, "exp": now + 600})
    }

    /// A token endpoint's good answer with this ID token.
    pub(crate) fn tokens(id_token: &str) -> Value {
        json!({"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 600, "id_token": id_token})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.key.sign(&self.key.header().to_string(), &claims.to_string())
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate_on(resources())
    }

    pub(crate) fn gate_on(&self, resources: Resources) -> Gate {
        Gate::with(resources, policy(super::oidc(&self.issuer)))
    }

    /// A login whose code is answered with what `answer` makes of the nonce.
    pub(crate) async fn login(&self, browser: &mut Browser, answer: impl FnOnce(&str) -> Value) -> Page {
        let started = Started::by(browser, SHOP).await;
        self.token(200, &answer(&started.nonce));
        browser.go(&started.callback("code=a-code")).await
    }
}

/// A login that has started.
pub(crate) struct Started {
    pub(crate) state: String,
    pub(crate) nonce: String,
    redirect: String,
}

impl Started {
    pub(crate) async fn by(browser: &mut Browser, url: &str) -> Self {
        Self::of(&browser.go(url).await)
    }

    pub(crate) fn of(page: &Page) -> Self {
        assert_eq!(page.status, 302, "{page:?}");
        let url = page.location();
        let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        Self { state: parameter("state"), nonce: parameter("nonce"), redirect: parameter("redirect_uri") }
    }

    /// The URL with which the browser would come back.
    pub(crate) fn callback(&self, answer: &str) -> String {
        format!("{}?{answer}&state={}", self.redirect, self.state)
    }
}

pub(crate) fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// A provider of that name besides the usual one.
pub(crate) fn second(issuer: &str) -> proto::extauth::OidcProvider {
    proto::extauth::OidcProvider { name: "second".into(), ..known_as(issuer) }
}
