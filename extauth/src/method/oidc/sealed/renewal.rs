//! What the policies of this process share about sealed sessions: the next tokens of those whose browsers still have the last
//! ones, and the logins that have ended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::background::Background;
use crate::session::{Record, Refused, Renewal};
use crate::{metrics, random};

/// How long a browser may go on with the old cookies: each of its requests gets the same new ones.
const GRACE: Duration = Duration::from_mins(5);
/// How long a provider that did not answer is left alone.
const RESPITE: Duration = Duration::from_secs(5);
/// Bytes of tokens that browsers do not have yet.
const RENEWED: u64 = 32 << 20;
/// Logins that are remembered.
const REMEMBERED: u64 = 10_000;
/// How long a login that has ended is remembered; the provider's code is good for less.
const SPENT: Duration = Duration::from_mins(10);

type Told = watch::Receiver<Option<Renewal<Arc<Record>>>>;

/// Clones share it.
#[derive(Clone)]
pub struct Shared {
    renewals: moka::sync::Cache<[u8; 32], Told>,
    spent: moka::sync::Cache<String, ()>,
    background: Background,
}

impl Shared {
    /// Nothing is known yet.
    pub fn new(background: Background) -> Self {
        let renewals = moka::sync::Cache::builder()
            .max_capacity(RENEWED)
            .weigher(|_: &[u8; 32], told: &Told| weight(told))
            .time_to_live(GRACE)
            .build();
        let spent = moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(SPENT).build();
        Self { renewals, spent, background }
    }

    /// Has `refresh` fetch the tokens that follow, unless somebody has, and returns where they will be told. It goes on when
    /// nobody waits for it.
    pub(super) fn renew<F, R>(&self, record: Record, refresh: F) -> Told
    where
        F: FnOnce(Record) -> R + Send + 'static,
        R: Future<Output = Result<Record, Refused>> + Send + 'static,
    {
        let refresh_token = record.refresh_token.as_deref().unwrap_or_default();
        let renewed = record.renewed.to_string();
        let which = random::digest(&[&record.issuer, &record.client_id, &record.access_token, refresh_token, &renewed]);
        self.renewals.get_with(which, || {
            let (tell, told) = watch::channel(None);
            let (renewals, answer) = (self.renewals.clone(), told.clone());
            let asking = refresh(record);
            self.background.spawn(async move {
                let outcome = outcome(asking.await);
                metrics::session(outcome.name());
                let again = matches!(outcome, Renewal::Unchanged);
                tell.send_replace(Some(outcome));
                if again {
                    tokio::time::sleep(RESPITE).await;
                    renewals.invalidate(&which);
                } else {
                    // Only now it has its weight.
                    renewals.insert(which, answer);
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

/// Bytes that a renewal takes.
fn weight(told: &Told) -> u32 {
    const FRAME: usize = 1024;
    let tokens = match &*told.borrow() {
        Some(Renewal::Renewed(record)) => record.bytes(),
        _ => 0,
    };
    u32::try_from(FRAME + tokens).unwrap_or(u32::MAX)
}

fn outcome(refreshed: Result<Record, Refused>) -> Renewal<Arc<Record>> {
    match refreshed {
        Ok(record) if record.claims().is_some() => Renewal::Renewed(Arc::new(record)),
        Ok(_) => Renewal::Unchanged,
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
