//! Tokens that only somebody else can judge: what was said of one is remembered for a bounded time, and nobody asks about
//! it twice at once.

mod breaker;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use http::StatusCode;
use prost::Message as _;
use tokio::sync::watch;

use self::breaker::Breaker;
use crate::background::Background;
use crate::check::Check;
use crate::credential;
use crate::method::{bearer_challenge, unauthorized};
use crate::metrics::Questions;
use crate::revocation::{Identity, Refusal, Revocations};
use crate::verdict::{Denial, Grant};

/// Bytes for what one authority said.
const CAPACITY: u64 = 16 << 20;

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No place holds one.
    #[error("no token was sent")]
    Missing,
    /// More than one, empty, or with characters no token has.
    #[error("no one well-formed token: {0}")]
    Credential(#[from] credential::Error),
    /// Longer than any that is looked at.
    #[error("the token is too long")]
    TooLong,
    /// The authority does not vouch for it.
    #[error("the token is not active")]
    Inactive,
    /// Somebody revoked it.
    #[error("the token is revoked")]
    Revoked,
    /// It is good, but not for this place.
    #[error("the token is not for this place: {0}")]
    Forbidden(&'static str),
    /// The authority does not answer, or not what it should.
    #[error("the token cannot be verified: {0}")]
    Undecided(String),
}

/// Whom an authority vouches for.
#[derive(Debug)]
pub(crate) struct Vouched {
    pub(crate) grant: Grant,
    pub(crate) identity: Identity,
}

/// What an authority said of one token.
pub(crate) struct Judgement {
    /// Who it stands for, or why it stands for nobody.
    pub(crate) outcome: Result<Vouched, Error>,
    /// For how many seconds that is good.
    pub(crate) seconds: u64,
}

type Fingerprint = [u8; 32];
type Answer = Result<Arc<Vouched>, Error>;
type Flight = watch::Receiver<Option<Answer>>;

/// The authorities that policies of this process ask. What is known outlives policies that do not change.
#[derive(Clone)]
pub struct Authorities {
    background: Background,
    revocations: Revocations,
    known: Arc<Mutex<HashMap<Fingerprint, Weak<Authority>>>>,
}

/// One authority, under one configuration.
pub(crate) struct Authority {
    background: Background,
    revocations: Revocations,
    most: usize,
    known: moka::sync::Cache<Fingerprint, Known>,
    asking: Mutex<HashMap<Fingerprint, Flight>>,
    breaker: Breaker,
    questions: Questions,
}

#[derive(Clone)]
struct Known {
    /// Seconds since 1970 at which it has to be asked again.
    until: u64,
    answer: Answer,
}

impl Authorities {
    pub(crate) fn new(background: Background, revocations: Revocations) -> Self {
        Self { background, revocations, known: Arc::default() }
    }

    /// The authority with a configuration, all of which the text must tell. `seconds` is how long it may be believed, and
    /// `most` how many questions may be open. `name` is the method's and the provider's, for the metrics.
    pub(crate) fn with(
        &self,
        name: (&'static str, &str),
        configuration: &str,
        seconds: u64,
        most: usize,
    ) -> Arc<Authority> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, authority| authority.strong_count() > 0);
        let fingerprint = fingerprint(configuration);
        if let Some(authority) = known.get(&fingerprint).and_then(Weak::upgrade) {
            return authority;
        }
        let authority = Arc::new(Authority::new(self, name, seconds, most));
        known.insert(fingerprint, Arc::downgrade(&authority));
        authority
    }
}

impl Authority {
    fn new(authorities: &Authorities, (method, provider): (&'static str, &str), seconds: u64, most: usize) -> Self {
        let Authorities { background, revocations, .. } = authorities.clone();
        let cache = moka::sync::Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(Duration::from_secs(seconds.clamp(1, 24 * 60 * 60)))
            .weigher(|_: &Fingerprint, known: &Known| known.weight());
        Self {
            background,
            revocations,
            most,
            known: cache.build(),
            asking: Mutex::default(),
            breaker: Breaker::default(),
            questions: Questions::new(method, provider),
        }
    }

    /// Who a token stands for; `judge` asks, unless that is known or being asked. An answer comes when the question has
    /// its own: it must be bounded in time.
    pub(crate) async fn ask<F>(
        self: &Arc<Self>,
        token: &str,
        now: u64,
        judge: impl FnOnce() -> F,
    ) -> Result<Grant, Error>
    where
        F: Future<Output = Result<Judgement, Error>> + Send + 'static,
    {
        let vouched = self.answer(token, now, judge).await?;
        if !self.revocations.known() {
            self.revocations.settled().await;
        }
        self.revocations.check(&vouched.identity)?;
        Ok(vouched.grant.clone())
    }

    async fn answer<F>(self: &Arc<Self>, token: &str, now: u64, judge: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Result<Judgement, Error>> + Send + 'static,
    {
        let token = fingerprint(token);
        if let Some(known) = self.known.get(&token).filter(|known| now < known.until) {
            return known.answer;
        }
        let mut flight = self.flight(token, now, judge)?;
        let ended = Error::Undecided("given up at the end of the process".to_owned());
        let answer = flight.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        answer.unwrap_or(Err(ended))
    }

    fn flight<F>(self: &Arc<Self>, token: Fingerprint, now: u64, judge: impl FnOnce() -> F) -> Result<Flight, Error>
    where
        F: Future<Output = Result<Judgement, Error>> + Send + 'static,
    {
        let mut asking = self.asking();
        if let Some(flight) = asking.get(&token) {
            return Ok(flight.clone());
        }
        if asking.len() >= self.most {
            self.questions.refused.increment(1);
            return Err(Error::Undecided(format!("{} questions are open already", self.most)));
        }
        if !self.breaker.admits(Instant::now()) {
            self.questions.refused.increment(1);
            return Err(Error::Undecided(
                "it was not answered the last times, and is not asked for a few seconds".to_owned(),
            ));
        }
        let (done, flight) = watch::channel(None);
        asking.insert(token, flight.clone());
        drop(asking);
        let (this, judging) = (Arc::clone(self), judge());
        self.background.spawn(async move {
            // Ends the flight whatever comes, even a panic.
            let landing = Landing { authority: this, token };
            let asked = Instant::now();
            let judgement = judging.await;
            landing.authority.heard(&judgement, asked);
            let answer = match judgement {
                Ok(Judgement { outcome, seconds }) => {
                    let answer = outcome.map(Arc::new);
                    let known = Known { until: now.saturating_add(seconds), answer: answer.clone() };
                    if seconds > 0 {
                        landing.authority.known.insert(token, known);
                        // Else what it displaces goes some 60 answers later, which may be as many half megabytes.
                        landing.authority.known.run_pending_tasks();
                    }
                    answer
                }
                Err(error) => Err(error),
            };
            drop(landing);
            done.send_replace(Some(answer));
        });
        Ok(flight)
    }

    /// Notes what came of a question.
    fn heard(&self, judgement: &Result<Judgement, Error>, asked: Instant) {
        let questions = &self.questions;
        questions.seconds.record(asked.elapsed());
        let counter = match judgement {
            Ok(Judgement { outcome: Ok(_), .. }) => &questions.active,
            Ok(_) => &questions.inactive,
            Err(_) => &questions.failed,
        };
        counter.increment(1);
        let closed = self.breaker.report(judgement.is_ok(), Instant::now());
        questions.breaker.set(if closed { 0.0 } else { 1.0 });
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<Fingerprint, Flight>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Landing {
    authority: Arc<Authority>,
    token: Fingerprint,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.authority.asking().remove(&self.token);
    }
}

impl Known {
    /// Bytes that it takes: metadata as maps, about thrice their encoded size, and the frame.
    fn weight(&self) -> u32 {
        const FRAME: usize = 256;
        let Ok(Vouched { grant, identity }) = self.answer.as_deref() else { return 256 };
        let headers: usize = grant.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let metadata: usize = grant.metadata.iter().map(|(name, value)| name.len() + value.encoded_len()).sum();
        u32::try_from(FRAME + headers + identity.len() + 3 * metadata).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authorities").finish_non_exhaustive()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").field("known", &self.known.entry_count()).finish_non_exhaustive()
    }
}

fn fingerprint(text: &str) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    fingerprint
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Revoked => Self::Revoked,
            Refusal::Unknown => Self::Undecided("it is not known yet which tokens are revoked".to_owned()),
        }
    }
}

/// What the client is told: nothing of what the authority said.
pub fn denial(error: &Error, check: &Check<'_>) -> Denial {
    let (status, body) = match error {
        Error::Missing => (StatusCode::UNAUTHORIZED, "a token is missing"),
        Error::Credential(_) | Error::TooLong | Error::Inactive | Error::Revoked => {
            (StatusCode::UNAUTHORIZED, "the token is not valid")
        }
        Error::Forbidden(_) => (StatusCode::FORBIDDEN, "the token is not for this place"),
        Error::Undecided(_) => (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be verified now"),
    };
    let challenge = bearer_challenge(check, *error != Error::Missing);
    let denial = Denial { status, ..unauthorized(challenge, body, error.to_string()) };
    match error {
        Error::Undecided(_) => Denial { challenges: Vec::new(), ..denial },
        _ => denial,
    }
}
