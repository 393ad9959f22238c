//! Which of the replicas leads: the one that holds a Lease and keeps renewing it.
//!
//! The clocks of the replicas are not compared. A replica that does not lead takes the Lease over when it has seen no renewal for
//! the Lease's whole duration by its own clock; the leader gives up earlier, at two thirds of it, by its own clock too.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use proto::drain::Signal;
use tokio::{sync::watch, time::timeout};

use super::reason::{Failure, reason};

/// A Lease that replicas compete for.
#[derive(Clone, Debug)]
pub struct Lease {
    api: Api<Object>,
    name: String,
    identity: String,
    duration: Duration,
    seen: Option<(LeaseSpec, Instant)>,
}

impl Lease {
    /// The Lease `namespace`/`name`, for the replica that calls itself `identity`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, duration: Duration) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity: identity.to_owned(), duration, seen: None }
    }

    /// Competes until `signal`, and then lets go. `leads` shows until when it leads, if it does.
    pub async fn compete(mut self, leads: watch::Sender<Option<Instant>>, signal: Signal) {
        let deadline = self.duration * 2 / 3;
        let pause = self.duration * 2 / 15;
        let mut renewed: Option<Instant> = None;
        let mut failure = Failure::default();
        loop {
            let start = Instant::now();
            let left = renewed.map_or(deadline, |renewed| (renewed + deadline).saturating_duration_since(start));
            match timeout(left, self.try_hold()).await {
                Ok(Ok(is_ours)) => {
                    failure.is_over();
                    renewed = is_ours.then_some(start);
                }
                Ok(Err(error)) => self.tell(&mut failure, &reason(&error)),
                Err(_) => self.tell(&mut failure, "no answer in time"),
            }
            renewed = renewed.filter(|renewed| renewed.elapsed() < deadline);
            announce(&leads, renewed.map(|renewed| renewed + deadline));
            let until_deadline = renewed.map_or(pause, |renewed| deadline.saturating_sub(renewed.elapsed()));
            tokio::select! {
                () = tokio::time::sleep(pause.min(until_deadline)) => {}
                () = signal.clone().wait() => break,
            }
        }
        if leads.send_replace(None).is_some() {
            let _ = timeout(pause, self.release()).await;
        }
    }

    fn tell(&self, failure: &mut Failure, reason: &str) {
        if failure.is_new(reason) {
            tracing::warn!("the Lease {} can neither be taken nor renewed: {reason}", self.name);
        }
    }

    /// Takes, renews or leaves the Lease; whether it is ours for its duration from now.
    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Object { metadata, spec: Some(self.claim(&LeaseSpec::default())) };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.is_free(&spec) {
            return Ok(false);
        }
        // It names the version that was read: of two replicas, the second fails.
        let lease = Object { spec: Some(self.claim(&spec)), ..lease };
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// It is ours, nobody's, or has not been renewed for as long as its holder asked for.
    fn is_free(&mut self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        match &self.seen {
            Some((seen, since)) if seen == spec => {
                let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                since.elapsed() >= seconds.map_or(self.duration, Duration::from_secs)
            }
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn claim(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_ours = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        let seconds = self.duration.as_secs().max(1);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: if is_ours { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if is_ours { transitions } else { transitions.saturating_add(1) }),
            ..before.clone()
        }
    }

    /// Lets the others have it at once.
    async fn release(&self) -> Result<(), kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            let spec = LeaseSpec { holder_identity: Some(String::new()), ..spec };
            let lease = Object { spec: Some(spec), ..lease };
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// Another replica may have been faster.
fn won(outcome: Result<Object, kube::Error>) -> Result<bool, kube::Error> {
    match outcome {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

fn announce(leads: &watch::Sender<Option<Instant>>, until: Option<Instant>) {
    let before = leads.send_replace(until);
    if before.is_some() != until.is_some() {
        tracing::info!("this replica {}", if until.is_some() { "leads" } else { "does not lead any more" });
        metrics::gauge!("controller_leader").set(if until.is_some() { 1.0 } else { 0.0 });
    }
}
