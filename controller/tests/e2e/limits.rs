//! Limits hold whatever the number of those who count.

use futures::future::join_all;

use crate::redis::Redis;
use crate::standalone::{Manifests, Standalone};

const LIMIT: usize = 20;

#[tokio::test]
async fn two_replicas_on_one_redis_admit_exactly_the_limit() {
    let redis = Redis::start().await;
    let replica = async || {
        let manifests = Manifests::of("global-rate-limit");
        manifests.replace("policy.yaml", "requests: 3", &format!("requests: {LIMIT}"));
        Standalone::start_with(manifests, &["--redis", &redis.url()]).await
    };
    let replicas = [replica().await, replica().await];
    // Connections to the rate limit service are made before it counts.
    for replica in &replicas {
        assert_eq!(replica.get("ratelimit.example", "/", &[("x-user-id", "warm")]).await.status, 200);
    }
    let burst =
        (0..5 * LIMIT).map(|number| replicas[number % 2].get("ratelimit.example", "/", &[("x-user-id", "one")]));
    let statuses: Vec<u16> = join_all(burst).await.into_iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), LIMIT, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 4 * LIMIT, "{statuses:?}");
}

#[tokio::test]
async fn a_changed_limit_takes_effect_while_requests_flow() {
    let gateway = Standalone::start(Manifests::of("global-rate-limit")).await;
    let user = [("x-user-id", "one")];
    for _ in 0..3 {
        assert_eq!(gateway.get("ratelimit.example", "/", &user).await.status, 200);
    }
    assert_eq!(gateway.get("ratelimit.example", "/", &user).await.status, 429);
    gateway.manifests().replace("policy.yaml", "requests: 3", "requests: 1000");
    crate::tool::eventually("the new limit is in force", async || {
        let answer = gateway.get("ratelimit.example", "/", &user).await;
        (answer.status == 200 && answer.header("x-ratelimit-limit").starts_with("1000")).then_some(())
    })
    .await;
}
