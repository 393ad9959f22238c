//! What the policies of this process share about sealed sessions: the next tokens of those whose browsers still have the last
//! ones, and the logins that have ended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::background::Background;
use crate::session::{Record, Refused, Renewal, Session};
use crate::{metrics, random};

/// How long a browser may go on with the old cookies: each of its requests gets the same new ones.
const GRACE: Duration = Duration::from_mins(5);
/// How long a provider that did not answer is left alone.
const RESPITE: Duration = Duration::from_secs(5);
/// Renewals and logins that are remembered.
const REMEMBERED: u64 = 10_000;
/// How long a login that has ended is remembered; the provider's code is good for less.
const SPENT: Duration = Duration::from_mins(10);

type Told = watch::Receiver<Option<Renewal>>;

/// Clones share it.
#[derive(Clone)]
pub struct Shared {
    renewals: moka::sync::Cache<String, Told>,
    spent: moka::sync::Cache<String, ()>,
    background: Background,
}

impl Shared {
    /// Nothing is known yet.
    pub fn new(background: Background) -> Self {
        let renewals = moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(GRACE).build();
        let spent = moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(SPENT).build();
        Self { renewals, spent, background }
    }

    /// Has `refresh` fetch the tokens that follow, unless somebody has, and returns where they will be told. It goes on when
    /// nobody waits for it.
    pub(super) fn renew<F, R>(&self, record: &Record, refresh: F) -> Told
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = Result<Record, Refused>> + Send + 'static,
    {
        let refresh_token = record.refresh_token.as_deref().unwrap_or_default();
        let renewed = record.renewed.to_string();
        let which = random::hash(&[&record.issuer, &record.client_id, &record.access_token, refresh_token, &renewed]);
        self.renewals.get_with_by_ref(&which, || {
            let (tell, told) = watch::channel(None);
            let (renewals, place) = (self.renewals.clone(), which.clone());
            let asking = refresh();
            self.background.spawn(async move {
                let outcome = outcome(asking.await);
                metrics::session(outcome.name());
                let again = matches!(outcome, Renewal::Unchanged);
                tell.send_replace(Some(outcome));
                if again {
                    tokio::time::sleep(RESPITE).await;
                    renewals.invalidate(&place);
                }
            });
            told
        })
    }

    /// Whether a login was not ended before.
    pub(super) fn spend(&self, state: &str) -> bool {
        self.spent.entry(random::hash(&["spent", state])).or_insert(()).is_fresh()
    }
}

fn outcome(refreshed: Result<Record, Refused>) -> Renewal {
    match refreshed {
        Ok(record) => {
            Session::of(record, &[]).map_or(Renewal::Unchanged, |session| Renewal::Renewed(Arc::new(session)))
        }
        Err(Refused::Unavailable(reason)) => {
            tracing::warn!(reason, "a provider did not renew a session");
            Renewal::Unchanged
        }
        Err(Refused::Final(reason)) => {
            tracing::debug!(reason, "a provider ended a session");
            Renewal::Ended
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}
