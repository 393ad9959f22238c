//! Service-account tokens, about which the Kubernetes API server is asked (`authentication.k8s.io/v1`, `TokenReview`).

mod api;

use std::sync::Arc;

use envoy_types::pb::google::protobuf::Value as ProtoValue;
use http::HeaderName;
use serde_json::{Value, json};

pub use self::api::{Api, Options};
use super::jwt::{LONGEST_TOKEN, places, provider_name};
use crate::authority::{Authority, Error, Judgement, Vouched};
use crate::check::Check;
use crate::credential::Places;
use crate::method::Invalid;
use crate::resources::Resources;
use crate::revocation::Identity;
use crate::verdict::{Grant, Removal, text};
use crate::{header, json};

/// How the API server names service accounts.
const PREFIX: &str = "system:serviceaccount:";

/// Service accounts of one cluster.
#[derive(Debug)]
pub struct Kubernetes {
    places: Places,
    forward: bool,
    reviewer: Arc<Reviewer>,
    authority: Arc<Authority>,
}

/// The API server, and who may pass.
#[derive(Debug)]
struct Reviewer {
    api: Api,
    name: String,
    audiences: Vec<String>,
    namespaces: Vec<String>,
    /// As `namespace/name`.
    service_accounts: Vec<String>,
    client_header: Option<HeaderName>,
    cache: u64,
    negative_cache: u64,
}

impl Kubernetes {
    /// Checks the configuration; nobody is asked yet.
    pub fn compile(config: &proto::extauth::Kubernetes, resources: &Resources) -> Result<Self, Invalid> {
        if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
            return Err(Invalid::new("audiences", "must name at least one audience, and no empty one"));
        }
        if let Some(index) = config.namespaces.iter().position(String::is_empty) {
            return Err(Invalid::new(format!("namespaces[{index}]"), "is empty"));
        }
        let named =
            |account: &String| account.split_once('/').is_some_and(|(ns, name)| !ns.is_empty() && !name.is_empty());
        if let Some(index) = config.service_accounts.iter().position(|account| !named(account)) {
            return Err(Invalid::new(format!("serviceAccounts[{index}]"), "is not `namespace/name`"));
        }
        if config.max_concurrent == 0 {
            return Err(Invalid::new("maxConcurrent", "must be at least 1"));
        }
        let client_header = config.client_header.as_deref().map(header::name).transpose();
        let reviewer = Reviewer {
            name: provider_name(&config.name)?,
            audiences: config.audiences.clone(),
            namespaces: config.namespaces.clone(),
            service_accounts: config.service_accounts.clone(),
            client_header: client_header.map_err(|e| Invalid::new("clientHeader", &e))?,
            cache: config.cache_seconds,
            negative_cache: config.negative_cache_seconds,
            api: Api::new(&resources.kubernetes, &resources.background).map_err(|e| Invalid::new("name", &e))?,
        };
        let longest = config.cache_seconds.max(config.negative_cache_seconds);
        Ok(Self {
            places: places(&config.from)?,
            forward: config.forward,
            reviewer: Arc::new(reviewer),
            authority: resources.authorities.with(
                ("kubernetes", &config.name),
                &format!("{config:?}"),
                longest,
                config.max_concurrent,
            ),
        })
    }

    /// Whether the request carries a token of a service account that may pass.
    pub async fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let Some(token) = self.places.find(check)? else { return Ok(None) };
        if token.len() > LONGEST_TOKEN {
            return Err(Error::TooLong);
        }
        let judge = || {
            let (reviewer, token) = (Arc::clone(&self.reviewer), token.to_string());
            async move { reviewer.judge(&token).await }
        };
        self.authority.ask(&token, check.now(), judge).await.map(Some)
    }

    /// The key of the account in the metadata.
    pub fn provider(&self) -> &str {
        &self.reviewer.name
    }

    /// The header that tells the upstream who the client is.
    pub fn identity(&self) -> Vec<HeaderName> {
        self.reviewer.client_header.iter().cloned().collect()
    }

    /// Takes the token away, unless it is to be forwarded.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if !self.forward {
            self.places.strip(check, removal);
        }
    }
}

impl Reviewer {
    async fn judge(&self, token: &str) -> Result<Judgement, Error> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": self.audiences},
        });
        let answer = self.api.create("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
        let judgement = answer.and_then(|answer| self.read(&answer)).map_err(Error::Undecided);
        if let Err(error) = &judgement {
            tracing::warn!(provider = self.name, %error, "reviewing a token failed");
        }
        judgement
    }

    /// What the review says. Nothing of it gets into an error: it repeats the token.
    fn read(&self, review: &[u8]) -> Result<Judgement, String> {
        let review = json::object(review).ok_or("the token's review is no JSON object")?;
        let status = review.get("status").and_then(Value::as_object).ok_or("the token's review has no status")?;
        let authenticated = match status.get("authenticated") {
            // The API leaves out what is false.
            None => false,
            Some(authenticated) => authenticated.as_bool().ok_or("the token's review is neither true nor false")?,
        };
        let refused = |error| Ok(Judgement { outcome: Err(error), seconds: self.negative_cache });
        if !authenticated {
            return refused(Error::Inactive);
        }
        // An API server that knows nothing of audiences leaves them out, and has not compared them.
        let confirmed =
            status.get("audiences").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        if !confirmed.into_iter().any(|audience| self.audiences.iter().any(|own| own == audience)) {
            return refused(Error::Forbidden("it is for another audience"));
        }
        let user = status.get("user").and_then(Value::as_object).ok_or("the token's review names no user")?;
        let username = user.get("username").and_then(Value::as_str).unwrap_or_default();
        let account = username.strip_prefix(PREFIX).and_then(|account| account.split_once(':'));
        let Some((namespace, name)) = account.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        else {
            return refused(Error::Forbidden("it is no service account's"));
        };
        if !self.admits(namespace, name) {
            return refused(Error::Forbidden("the service account may not pass"));
        }
        if header::value(username).is_err() {
            return refused(Error::Forbidden("the service account's name is no header value"));
        }
        let account = json!({
            "username": username,
            "namespace": namespace,
            "serviceAccount": name,
            "uid": user.get("uid").cloned().unwrap_or_default(),
            "groups": user.get("groups").cloned().unwrap_or_default(),
        });
        let vouched = Vouched { grant: self.grant(username, account), identity: Identity::named(username) };
        Ok(Judgement { outcome: Ok(vouched), seconds: self.cache })
    }

    fn admits(&self, namespace: &str, name: &str) -> bool {
        let any = self.namespaces.is_empty() && self.service_accounts.is_empty();
        let mut accounts = self.service_accounts.iter().filter_map(|account| account.split_once('/'));
        any || self.namespaces.iter().any(|own| own == namespace) || accounts.any(|own| own == (namespace, name))
    }

    fn grant(&self, username: &str, account: Value) -> Grant {
        let metadata: [(String, ProtoValue); 2] =
            [("client".to_owned(), text(username)), (self.name.clone(), json::value(account))];
        let header = self.client_header.iter().map(|header| (header.clone(), username.to_owned()));
        Grant { headers: header.collect(), metadata: metadata.into(), ..Grant::default() }
    }
}
