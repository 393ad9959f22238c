//! Follows the primary that Sentinels name.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{ConnectionAddr, ErrorKind, Pipeline, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::StreamExt;

use super::{
    link::Link,
    login::{Login, Refused},
};

/// How often a Sentinel is asked without a reason.
const LOOK: Duration = Duration::from_secs(1);
/// How long a Sentinel may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a Sentinel that failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// What a Sentinel publishes when it knows another primary.
const SWITCHES: [&str; 3] = ["+switch-master", "+promoted-slave", "+config-update-from"];

/// Where a Sentinel says that the primary is, and all that it knows about it.
type Reply = (Option<(String, u16)>, Vec<String>);

/// What the Sentinels that can be reached say; the newest configuration wins.
pub(super) struct Sentinels {
    name: String,
    said: Mutex<Vec<Option<Sighting>>>,
    link: Arc<Link>,
    login: Login,
}

#[derive(Clone)]
struct Sighting {
    epoch: u64,
    address: ConnectionAddr,
}

impl Sentinels {
    pub(super) fn new(name: String, count: usize, link: Arc<Link>, login: Login) -> Self {
        Self { name, said: Mutex::new(vec![None; count]), link, login }
    }

    /// Asks one Sentinel each time it announces a switch, each time the link goes astray, and once a second.
    pub(super) async fn follow(
        self: Arc<Self>,
        index: usize,
        address: ConnectionAddr,
        servers: Login,
        mut astray: watch::Receiver<()>,
    ) {
        loop {
            let Refused { error, retry_at } = match self.listen(index, &address, &servers, &mut astray).await {
                Err(refused) => refused,
                Ok(()) => RedisError::from((ErrorKind::Io, "a Sentinel closed the connection")).into(),
            };
            tracing::warn!(sentinel = %address, %error, "cannot ask a Sentinel");
            self.hear(index, None);
            self.link_fails(error);
            sleep_until(retry_at.unwrap_or_else(|| Instant::now() + PAUSE)).await;
        }
    }

    async fn listen(
        &self,
        index: usize,
        address: &ConnectionAddr,
        servers: &Login,
        astray: &mut watch::Receiver<()>,
    ) -> Result<(), Refused> {
        let mut connection = self.login.connect_plainly(address).await?;
        let client = self.login.client(address).await?;
        let mut pubsub = within(client.get_async_pubsub()).await?;
        within(pubsub.subscribe(&SWITCHES[..])).await?;
        let mut messages = pubsub.into_on_message();
        loop {
            match self.ask(&mut connection, servers).await {
                Ok(sighting) => self.hear(index, Some(sighting)),
                Err(error) if error.kind() == ErrorKind::MasterNameNotFoundBySentinel => {
                    self.hear(index, None);
                    self.link_fails(error);
                }
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                message = messages.next() => if message.is_none() { return Ok(()) },
                _ = astray.changed() => sleep(LOOK / 10).await,
                () = sleep(LOOK) => {}
            }
        }
    }

    /// During a failover a Sentinel names the new primary before it announces it.
    async fn ask(&self, connection: &mut MultiplexedConnection, servers: &Login) -> RedisResult<Sighting> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        pipeline.cmd("SENTINEL").arg("MASTER").arg(&self.name);
        let unknown = |detail: String| {
            let what = "a Sentinel does not know the primary of this name";
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, what, detail))
        };
        let (address, fields): Reply = match within(pipeline.query_async(connection)).await {
            Err(error) if error.detail().is_some_and(|detail| detail.contains("No such master")) => {
                return Err(unknown(self.name.clone()));
            }
            reply => reply?,
        };
        let (host, port) = address.ok_or_else(|| unknown(self.name.clone()))?;
        let epoch = fields.chunks(2).find_map(|field| match field {
            [name, value] if name == "config-epoch" => value.parse().ok(),
            _ => None,
        });
        Ok(Sighting { epoch: epoch.unwrap_or_default(), address: servers.address(&host, port) })
    }

    fn hear(&self, index: usize, sighting: Option<Sighting>) {
        let mut said = self.said.lock();
        if let Some(place) = said.get_mut(index) {
            *place = sighting;
        }
        if let Some(newest) = said.iter().flatten().max_by_key(|sighting| sighting.epoch) {
            self.link.aim(Some(newest.address.clone()));
        }
    }

    /// Nobody waits for Sentinels of which none answers.
    fn link_fails(&self, error: RedisError) {
        if self.said.lock().iter().all(Option::is_none) {
            self.link.fail(error);
        }
    }
}

async fn within<T>(call: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let timed_out = || RedisError::from((ErrorKind::Io, "a Sentinel did not answer in time"));
    timeout(TIMEOUT, call).await.unwrap_or_else(|_| Err(timed_out()))
}
