//! How often the store is asked for a session.

use std::time::{Duration, Instant};

use extauth::session::{Id, Keep, Record, Sessions};
use extauth::store::Store;
use extauth::store::redis::Redis;
use futures::future::join_all;
use serde_json::{Map, json};

use crate::redis::Node;
use crate::support::{encode, resources};

const NOW: u64 = 1_900_000_000;

fn record(subject: &str) -> Record {
    let claims = json!({"iss": "https://issuer.example.com", "aud": "shop", "sub": subject});
    Record {
        provider: "main".into(),
        issuer: "https://issuer.example.com".into(),
        client_id: "shop".into(),
        subject: subject.into(),
        sid: None,
        id_token: format!("header.{}.signature", encode(claims.to_string().as_bytes())),
        user_info: Map::new(),
        access_token: "opaque".into(),
        access_expires: NOW + 3600,
        refresh_token: None,
        created: NOW,
        renewed: NOW,
        expires: NOW + 3600,
        latest: None,
    }
}

fn reads(redis: &Node) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let get = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    get.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

async fn all_there(sessions: &Sessions, ids: &[Id]) {
    // Ten requests of each browser at once.
    let loads = ids.iter().cycle().take(10 * ids.len()).map(|id| sessions.load(id, Keep::Nothing));
    for session in join_all(loads).await {
        assert!(session.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_session_is_read_once_a_second_at_most_however_many_requests_carry_it() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Node::start(dir.path(), &["--save", ""]);
    let background = resources().background;
    let store = Store::Redis(Redis::new(redis.options(), background.clone()).unwrap());
    let sessions = Sessions::new(store, background);
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(sessions.begin(record(&format!("user-{number}")), NOW).await.unwrap());
    }
    all_there(&sessions, &ids).await;
    let (before, start) = (reads(&redis), Instant::now());
    let mut rounds = 0;
    while start.elapsed() < Duration::from_millis(2500) {
        all_there(&sessions, &ids).await;
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (read, whole_seconds) = (reads(&redis) - before, start.elapsed().as_secs());
    assert!(read >= 5, "what was read is forgotten after a second");
    // Once more, as all is forgotten when the store begins to tell what changes.
    assert!(read <= 5 * (whole_seconds + 2), "{read} reads in {whole_seconds} s, for {rounds} rounds of 50 requests");
}
