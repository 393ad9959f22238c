//! Hearing what is announced: a connection of its own, which comes back by itself.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use redis::aio::PubSub;
use redis::{Client, RedisResult};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

use super::pools::Pools;
use crate::store::News;

/// How long subscribing, and an answer to a sign of life, may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How often a silent connection is asked for a sign of life.
const LOOK: Duration = Duration::from_millis(500);
/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// Passes the channel's messages on until it is aborted.
pub(super) async fn follow(pools: Pools, channel: String, news: broadcast::Sender<News>) {
    let mut pause = FIRST_PAUSE;
    for attempt in 0_usize.. {
        match timeout(DEADLINE, subscribe(&pools, &channel, attempt)).await {
            Ok(Ok(subscription)) => {
                pause = FIRST_PAUSE;
                // Whoever listens reads anew what was announced while nobody heard it.
                let _ = news.send(News::Missed);
                pass_on(subscription, &news).await;
                tracing::debug!(channel, "announcements are not heard for a moment");
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, channel, "cannot listen to announcements");
                pools.mistrust();
            }
            Err(_) => tracing::debug!(channel, "listening to announcements took too long"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn subscribe(pools: &Pools, channel: &str, attempt: usize) -> RedisResult<PubSub> {
    let servers = pools.listening().await?;
    let server = servers.into_iter().cycle().nth(attempt % 64);
    let server = server.ok_or_else(|| std::io::Error::other("there is no server to listen to"))?;
    let mut subscription = Client::open(server)?.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    Ok(subscription)
}

/// Until the connection is lost or mute.
async fn pass_on(subscription: PubSub, news: &broadcast::Sender<News>) {
    let (mut asking, mut messages) = subscription.split();
    loop {
        match timeout(LOOK, messages.next()).await {
            Ok(Some(message)) => drop(news.send(News::Message(Bytes::copy_from_slice(message.get_payload_bytes())))),
            Ok(None) => return,
            Err(_) => {
                let alive = timeout(DEADLINE, asking.ping::<redis::Value>()).await;
                if !matches!(alive, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}
