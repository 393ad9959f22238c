//! Asks the API server whose service account token it is.

use std::fmt;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};

/// What the API server calls a service account: this, its namespace and its name.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Accepts the tokens that were made for one audience.
#[derive(Clone)]
pub struct Reviewer {
    client: Client,
    audience: String,
}

impl fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviewer").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Reviewer {
    /// For tokens whose audience is `audience`.
    pub fn new(client: Client, audience: impl Into<String>) -> Self {
        Self { client, audience: audience.into() }
    }

    /// `<name>.<namespace>` of the service account that `token` is of; `None` when it is not good, or not for us.
    pub async fn name(&self, token: &str) -> Result<Option<String>, kube::Error> {
        let audiences = Some(vec![self.audience.clone()]);
        let spec = TokenReviewSpec { token: token.to_owned(), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let is_for_us = status.audiences.is_some_and(|audiences| audiences.contains(&self.audience));
        if status.authenticated != Some(true) || !is_for_us {
            return Ok(None);
        }
        let user = status.user.and_then(|user| user.username).unwrap_or_default();
        let account = user.strip_prefix(SERVICE_ACCOUNT).and_then(|account| account.split_once(':'));
        Ok(account.map(|(namespace, name)| format!("{name}.{namespace}")))
    }
}
