//! Replicas of two versions at once, as in a rolling upgrade: they share counters as long as their layout is the same.

use ratelimit::store::{Algorithm, Any, Charge, Redis};
use redis::{Connection, Script};

use super::{HOUR, PATIENCE, counts, settled, strict};
use crate::redis_server::RedisServer;

/// Writes and reads counters of layout `v2` in its own words. When one of these does not find what it wants, the layout has
/// changed: then give it another version, and let the program read both until the windows of the old one are over.
const FIXED: &str = "
local name = 'test:{' .. ARGV[1] .. '}v2:3600:' .. math.floor(redis.call('TIME')[1] / 3600)
redis.call('HINCRBY', name, ARGV[2], ARGV[3])
redis.call('EXPIRE', name, 3600)
return redis.call('HGET', name, ARGV[2])";
const BY_AGE: &str = "
local name, span = 'test:{' .. ARGV[1] .. '}v2:' .. ARGV[4] .. '3600:' .. ARGV[2], math.floor(redis.call('TIME')[1] / 60)
local spans = cmsgpack.unpack(redis.call('GET', name) or cmsgpack.pack({}))
spans[#spans + 1], spans[#spans + 2] = span, tonumber(ARGV[3])
redis.call('SET', name, cmsgpack.pack(spans), 'EX', 3600)
local sum = 0
for i = 2, #spans, 2 do
  sum = sum + spans[i]
end
return tostring(sum)";
const GCRA: &str = "
local name, time = 'test:{' .. ARGV[1] .. '}v2:g3600:' .. ARGV[2], redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = cmsgpack.unpack(redis.call('GET', name) or cmsgpack.pack({ now, 0 }))
local used = kept[2] + ARGV[3] * 3600000
redis.call('SET', name, cmsgpack.pack({ kept[1], used }), 'EX', 3600)
return tostring(math.ceil(used / 3600000))";

fn old(connection: &mut Connection, charge: &Charge, hits: u32) -> u64 {
    let (script, letter) = match charge.algorithm {
        Algorithm::FixedWindow => (FIXED, ""),
        Algorithm::SlidingWindow => (BY_AGE, "s"),
        Algorithm::Concurrency => (BY_AGE, "c"),
        Algorithm::Gcra { .. } => (GCRA, ""),
    };
    let key = u128::from_str_radix(&charge.key.to_string(), 16).unwrap();
    let (bucket, field) = (format!("{:04x}", key >> 114), key.to_be_bytes()[2..].to_vec());
    let count: String = Script::new(script).arg(bucket).arg(field).arg(hits).arg(letter).invoke(connection).unwrap();
    count.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_replicas_of_two_versions_share_one_limit() {
    let server = RedisServer::start();
    let store = Any::Redis(Redis::connect(server.options(PATIENCE)).unwrap());
    settled(&store).await;
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let algorithms =
        [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::Gcra { per_window: 1 }, Algorithm::Concurrency];
    for algorithm in algorithms {
        let hit = Charge { algorithm, window: HOUR, ..strict(&format!("{algorithm:?}"), 100) };
        let new = async |hits| counts(&store, &[Charge { hits, ..hit }]).await[0];
        assert_eq!(old(&mut connection, &hit, 5), 5, "{algorithm:?}");
        assert_eq!(new(2).await, 7, "the new one goes on with the count of the old one, {algorithm:?}");
        assert_eq!(old(&mut connection, &hit, 3), 10, "the old one with that of the new one, {algorithm:?}");
        assert_eq!(new(90).await, 100);
        assert_eq!(new(1).await, 101, "over the limit of both, {algorithm:?}");
        assert_eq!(old(&mut connection, &hit, 0), 100, "what is denied costs nothing, {algorithm:?}");
    }
}
