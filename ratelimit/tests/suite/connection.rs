//! Redis in every layout, and what becomes of the connection when the layout changes.

use std::time::Duration;

use ratelimit::store::redis::{Connection, Shard};
use redis::{Cmd, cmd, from_redis_value};
use tokio::time::timeout;

use crate::redis_topology::{Cluster, Replicated};

const PATIENCE: Duration = Duration::from_secs(30);

fn increment(key: &str) -> Cmd {
    cmd("INCR").arg(key).to_owned()
}

async fn run(connection: &Connection, shard: Shard, command: &Cmd) -> u64 {
    from_redis_value(timeout(PATIENCE, connection.run(shard, command)).await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_primary_is_found_by_its_sentinels() {
    let redis = Replicated::start();
    let connection = Connection::open(&redis.options(PATIENCE)).unwrap();
    let shard = connection.shard(7);
    assert_eq!(shard, connection.shard(16_000));
    assert_eq!(run(&connection, shard, &increment("a")).await, 1);
    assert_eq!(redis.servers[0].cli(&["GET", "a"]).trim(), "1");
    assert_eq!(connection.active(), 1);
}

#[tokio::test]
async fn a_clusters_slots_are_reached_at_their_primaries() {
    let redis = Cluster::start();
    let connection = Connection::open(&redis.options(PATIENCE)).unwrap();
    timeout(PATIENCE, connection.ping()).await.unwrap().unwrap();
    assert_eq!(connection.shards().len(), 3);
    for name in 0..100 {
        let key = format!("key{name}");
        let slot = redis.nodes[0].cli(&["CLUSTER", "KEYSLOT", &key]).trim().parse().unwrap();
        assert_eq!(run(&connection, connection.shard(slot), &increment(&key)).await, 1);
        let elsewhere = connection.shard((slot + 8_000) % 16_384);
        assert_eq!(run(&connection, elsewhere, &increment(&key)).await, 2, "it is sent on");
    }
    assert_eq!(connection.active(), 3);
}
