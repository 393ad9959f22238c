//! Asks the API server whose service account token it is.

use std::{fmt, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

/// What the API server calls a service account: this, its namespace and its name.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// How long the API server may take; Envoys ask again.
const DEADLINE: Duration = Duration::from_secs(5);
/// For so long a token is still good after its last review when the API server cannot be asked: as long as fleets' tokens last.
const REMEMBERED: Duration = Duration::from_hours(1);
/// Tokens that are remembered at most.
const CAPACITY: u64 = 10_000;

/// Accepts the tokens that were made for one audience.
#[derive(Clone)]
pub struct Reviewer {
    client: Client,
    audience: String,
    /// Whose the good ones are, by their digests.
    good: Cache<[u8; 32], String>,
}

/// Why nobody knows whose token it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server cannot be reached or does not allow it.
    #[error("asking the API server whose token it is")]
    Ask(#[from] kube::Error),
    /// The API server says nothing.
    #[error("the API server has not said within {} seconds whose token it is", DEADLINE.as_secs())]
    Late,
}

impl fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviewer").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Reviewer {
    /// For tokens whose audience is `audience`.
    pub fn new(client: Client, audience: impl Into<String>) -> Self {
        let good = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        Self { client, audience: audience.into(), good }
    }

    /// `<name>.<namespace>` of the service account that `token` is of; `None` when it is not good, or not for us. While the API
    /// server cannot be asked, what it said last counts: an Envoy that starts again must find its configuration then, too.
    pub async fn name(&self, token: &str) -> Result<Option<String>, Error> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let reviewed = match timeout(DEADLINE, self.review(token)).await {
            Ok(reviewed) => reviewed.map_err(Error::from),
            Err(_) => Err(Error::Late),
        };
        match reviewed {
            Ok(Some(name)) => {
                self.good.insert(digest, name.clone());
                Ok(Some(name))
            }
            Ok(None) => {
                self.good.invalidate(&digest);
                Ok(None)
            }
            Err(error) => self.good.get(&digest).map(Some).ok_or(error),
        }
    }

    async fn review(&self, token: &str) -> Result<Option<String>, kube::Error> {
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
