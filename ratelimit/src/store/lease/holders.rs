//! Who holds leases: each replica answers for itself, through Redis, when somebody wants to know.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, sleep};

use super::{HEARTBEAT, Lease};
use crate::store::{
    Algorithm, Charge, StoreError,
    redis::{Answer, Question},
    standing::Holder,
};

/// Two heartbeats, with each of which replicas look for questions, and a little more.
const LONGEST: Duration = HEARTBEAT.saturating_mul(2).saturating_add(Duration::from_millis(150));
const PAUSE: Duration = Duration::from_millis(50);

impl Lease {
    /// For each charge who holds hits of its counter, this replica first, then those that have not answered in time.
    pub(super) async fn holders(&self, charges: &[Charge]) -> Result<Vec<Vec<Holder>>, StoreError> {
        let leased = |charge: &&Charge| charge.leases && charge.algorithm == Algorithm::FixedWindow;
        let questions: Vec<Question> =
            charges.iter().filter(leased).map(|charge| (charge.key, charge.window)).collect();
        let alone = self.table.members.load(Ordering::Relaxed) <= 1;
        let (members, answers) =
            if alone || questions.is_empty() { (vec![], vec![]) } else { self.ask(&questions).await? };
        let mut answers = answers.into_iter();
        let holders = charges.iter().map(|charge| {
            let said = if leased(&charge) { answers.next().unwrap_or_default() } else { vec![] };
            let held = self.table.held(charge);
            let own = (held > 0).then(|| Holder { replica: self.table.name.clone(), hits: Some(held), own: true });
            let others = members.iter().filter(|_| leased(&charge)).filter_map(|member| {
                match said.iter().find(|answer| answer.replica == *member) {
                    Some(answer) if answer.hits == 0 => None,
                    Some(answer) => Some(Holder { replica: answer.name.clone(), hits: Some(answer.hits), own: false }),
                    None => Some(Holder { replica: member.clone(), hits: None, own: false }),
                }
            });
            let mut holders: Vec<_> = own.into_iter().chain(others).collect();
            holders.sort_by_key(|holder| (!holder.own, holder.hits.is_none()));
            holders
        });
        Ok(holders.collect())
    }

    /// The other members, and for each question what they say, as far as they answer in time.
    async fn ask(&self, questions: &[Question]) -> Result<(Vec<String>, Vec<Vec<Answer>>), StoreError> {
        let began = Instant::now();
        let (mut members, mut answers) = self.redis.ask(self.table.replica, questions, true).await?;
        loop {
            let answered = |member: &String| {
                answers.iter().all(|answers: &Vec<Answer>| answers.iter().any(|answer| answer.replica == *member))
            };
            if members.iter().all(answered) || began.elapsed() >= LONGEST {
                return Ok((members, answers));
            }
            sleep(PAUSE).await;
            (members, answers) = self.redis.ask(self.table.replica, questions, false).await?;
        }
    }

    /// Says what this replica holds of the counters that somebody asks for.
    pub(super) async fn answer(&self, questions: &[Question]) -> Result<(), StoreError> {
        if questions.is_empty() {
            return Ok(());
        }
        let held: Vec<_> = questions.iter().map(|question| (*question, self.table.held_of(question.0))).collect();
        self.redis.answer(self.table.replica, &self.table.name, &held).await
    }
}
