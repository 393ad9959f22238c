//! Shares of limits: what clients are told, by the core alone and by the program.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are small"
)]

use std::collections::{BTreeMap, VecDeque};

use envoy_types::pb::envoy::{
    service::rate_limit_quota::v3::{
        BucketId, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
        rate_limit_quota_response::bucket_action::BucketAction,
        rate_limit_quota_service_client::RateLimitQuotaServiceClient, rate_limit_quota_usage_reports::BucketQuotaUsage,
    },
    r#type::v3::rate_limit_strategy::{BlanketRule, Strategy as LimitStrategy},
};
use proptest::{collection::vec, prelude::*};
use ratelimit::{
    config::{Config, Domains},
    rlqs::{Quotas, ReportError, StreamId},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::program::{Program, fetch, until};

const TTL: u64 = 10_000;
/// How long a share stays reserved for who was told of it.
const HOLD: u64 = TTL + 2000;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Allow,
    Deny,
    Share { requests: u32, burst: u32, window: i64 },
    Abandon,
}

fn told(response: &RateLimitQuotaResponse) -> Vec<Told> {
    let action = |action: &BucketAction| match action {
        BucketAction::AbandonAction(_) => Told::Abandon,
        BucketAction::QuotaAssignmentAction(assignment) => {
            match assignment.rate_limit_strategy.unwrap().strategy.unwrap() {
                LimitStrategy::BlanketRule(rule) if rule == i32::from(BlanketRule::AllowAll) => Told::Allow,
                LimitStrategy::BlanketRule(_) => Told::Deny,
                LimitStrategy::TokenBucket(bucket) => Told::Share {
                    requests: bucket.tokens_per_fill.unwrap().value,
                    burst: bucket.max_tokens,
                    window: bucket.fill_interval.unwrap().seconds,
                },
                LimitStrategy::RequestsPerTimeUnit(_) => panic!("Envoy does not know it"),
            }
        }
    };
    response.bucket_action.iter().map(|answer| action(answer.bucket_action.as_ref().unwrap())).collect()
}

fn usage(pairs: &[(&str, &str)], allowed: u64) -> BucketQuotaUsage {
    let bucket = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let bucket_id = Some(BucketId { bucket });
    BucketQuotaUsage { bucket_id, time_elapsed: None, num_requests_allowed: allowed, num_requests_denied: 0 }
}

fn reports(domain: &str, bucket_quota_usages: Vec<BucketQuotaUsage>) -> RateLimitQuotaUsageReports {
    RateLimitQuotaUsageReports { domain: domain.to_owned(), bucket_quota_usages }
}

fn config(rules: &str) -> Config {
    Config::from_yaml([("rules", rules)], Domains::Distinct).unwrap()
}

fn per_minute(limit: u32) -> Config {
    config(&format!(
        "{{domain: d, descriptors: [{{key: user, rate_limit: {{unit: minute, requests_per_unit: {limit}}}}}]}}"
    ))
}

fn ask(quotas: &mut Quotas, stream: StreamId, pairs: &[(&str, &str)], config: &Config, now: u64) -> Told {
    told(&quotas.report(stream, &reports("d", vec![usage(pairs, 0)]), config, 1, now).unwrap())[0]
}

const SEVERAL: &str = "
domain: d
descriptors:
  - { key: none, rate_limit: { unit: second, requests_per_unit: 0 } }
  - { key: free, rate_limit: { unlimited: true } }
  - { key: slots, rate_limit: { unit: minute, requests_per_unit: 9, algorithm: concurrency } }
  - { key: shadow, shadow_mode: true, rate_limit: { unit: minute, requests_per_unit: 9 } }
  - { key: even, rate_limit: { unit: minute, unit_multiplier: 5, requests_per_unit: 100, algorithm: gcra, burst: 40 } }
  - key: path
    value: /buy
    descriptors:
      - { key: user, rate_limit: { unit: hour, requests_per_unit: 80 } }
      - { key: user, value: joe, rate_limit: { unit: hour, requests_per_unit: 8 } }
  - key: user
    descriptors:
      - { key: path, rate_limit: { unit: hour, requests_per_unit: 1 } }
  - { key: host, value: 'a*', share_threshold: true, rate_limit: { unit: hour, requests_per_unit: 12 } }
";

#[test]
fn buckets_come_to_rules() {
    let config = config(SEVERAL);
    let mut quotas = Quotas::new(TTL);
    let stream = quotas.open();
    let hour = |requests, burst| Told::Share { requests, burst, window: 3600 };
    for (pairs, expected) in [
        (&[("nobody", "x")][..], Told::Allow),
        (&[("free", "x")], Told::Allow),
        (&[("shadow", "x")], Told::Allow),
        (&[("none", "x")], Told::Deny),
        (&[("slots", "x")], Told::Abandon),
        (&[("even", "x")], Told::Share { requests: 100, burst: 10, window: 300 }),
        (&[("user", "ann"), ("path", "/buy")], hour(80, 20)),
        (&[("path", "/buy"), ("user", "joe")], hour(8, 2)),
        (&[("path", "/sell"), ("user", "joe")], hour(1, 1)),
        (&[("path", "/buy")], Told::Allow),
        (&[("path", "/buy"), ("user", "joe"), ("more", "x")], Told::Allow),
        (&[("host", "a1")], hour(12, 3)),
        (&[("host", "a2")], Told::Deny),
    ] {
        assert_eq!(ask(&mut quotas, stream, pairs, &config, 0), expected, "{pairs:?}");
    }
}

#[test]
fn replicas_divide_the_limit() {
    let config = per_minute(20);
    for (replicas, expected) in [
        (1, Told::Share { requests: 20, burst: 5, window: 60 }),
        (3, Told::Share { requests: 6, burst: 2, window: 60 }),
        (21, Told::Deny),
    ] {
        let mut quotas = Quotas::new(TTL);
        let stream = quotas.open();
        let response = quotas.report(stream, &reports("d", vec![usage(&[("user", "joe")], 0)]), &config, replicas, 0);
        assert_eq!(told(&response.unwrap()), [expected]);
    }
}

#[test]
fn what_a_gone_replica_has_given_is_free_only_when_it_has_lapsed() {
    let (config, mut quotas) = (per_minute(20), Quotas::new(TTL));
    let stream = quotas.open();
    let mut share = |replicas, now| {
        let report = reports("d", vec![usage(&[("user", "joe")], 0)]);
        match told(&quotas.report(stream, &report, &config, replicas, now).unwrap())[0] {
            Told::Share { requests, .. } => requests,
            _ => 0,
        }
    };
    let gone = 60_000;
    for now in (0..=gone).step_by(1000) {
        assert_eq!(share(2, now), 10);
    }
    for now in (gone + 1000..gone + HOLD).step_by(1000) {
        assert_eq!(share(1, now), 10, "{now}");
    }
    assert_eq!(share(1, gone + HOLD), 20);
    assert!(share(2, gone + HOLD + 1000) <= 10, "who comes is believed at once");
}

#[test]
fn a_share_is_renewed_while_its_client_surely_has_it() {
    let config = per_minute(20);
    let joe = &[("user", "joe")];
    for (late, renewed) in [(5001, true), (TTL - 2000, true), (TTL - 1999, false)] {
        let mut quotas = Quotas::new(TTL);
        let stream = quotas.open();
        let given = ask(&mut quotas, stream, joe, &config, 0);
        let told = ask(&mut quotas, stream, joe, &config, late);
        assert_eq!(told == given, renewed, "{late} ms later: {told:?}");
    }
}

#[test]
fn a_limit_that_is_a_little_lower_is_kept() {
    let mut quotas = Quotas::new(TTL);
    let stream = quotas.open();
    let joe = &[("user", "joe")];
    for second in 0..=60 {
        let told = ask(&mut quotas, stream, joe, &per_minute(100), second * 1000);
        assert!(matches!(told, Told::Share { requests: 100, .. }), "{told:?}");
    }
    for second in 61..90 {
        let told = ask(&mut quotas, stream, joe, &per_minute(95), second * 1000);
        assert!(matches!(told, Told::Share { requests: 95, .. }), "{told:?}");
    }
}

#[test]
fn what_a_gone_client_has_is_free_only_when_it_has_lapsed() {
    let config = per_minute(20);
    let mut quotas = Quotas::new(TTL);
    let (first, second) = (quotas.open(), quotas.open());
    let joe = &[("user", "joe")];
    assert!(matches!(ask(&mut quotas, first, joe, &config, 0), Told::Share { requests: 20, .. }));
    assert_eq!(ask(&mut quotas, second, joe, &config, 0), Told::Deny);
    quotas.close(first, 1);
    assert_eq!(ask(&mut quotas, second, joe, &config, HOLD - 1), Told::Deny);
    // The first began with all that token buckets may begin with, and it comes back within the window.
    assert!(matches!(ask(&mut quotas, second, joe, &config, HOLD), Told::Share { requests: 20, burst: 1, .. }));
    assert!(matches!(ask(&mut quotas, second, joe, &config, HOLD + 4000), Told::Share { requests: 20, .. }));
}

#[test]
fn shares_follow_demand() {
    let config = per_minute(100);
    let mut quotas = Quotas::new(TTL);
    let streams = [quotas.open(), quotas.open()];
    let mut shares = [0, 0];
    for second in 0..300 {
        for (index, allowed) in [(0, 9), (1, 1)] {
            let report = reports("", vec![usage(&[("user", "joe")], allowed)]);
            let report = if second == 0 { reports("d", report.bucket_quota_usages) } else { report };
            let told = told(&quotas.report(streams[index], &report, &config, 1, second * 1000).unwrap());
            shares[index] = if let Told::Share { requests, .. } = told[0] { requests } else { 0 };
        }
    }
    assert!((80..=90).contains(&shares[0]) && (9..=12).contains(&shares[1]), "{shares:?}");
}

#[test]
fn another_configuration_takes_effect_with_the_next_report() {
    let mut quotas = Quotas::new(TTL);
    let stream = quotas.open();
    let joe = &[("user", "joe")];
    ask(&mut quotas, stream, joe, &per_minute(100), 0);
    let less = ask(&mut quotas, stream, joe, &per_minute(10), 1000);
    assert!(matches!(less, Told::Deny | Told::Share { requests: 10, .. }), "{less:?}");
    let hours = config("{domain: d, descriptors: [{key: user, rate_limit: {unit: hour, requests_per_unit: 10}}]}");
    assert_eq!(ask(&mut quotas, stream, joe, &hours, 2000), Told::Abandon, "Envoy would keep the token bucket");
    assert!(matches!(ask(&mut quotas, stream, joe, &hours, 2001), Told::Share { requests: 10, window: 3600, .. }));
    let nothing = config("domain: d");
    assert_eq!(ask(&mut quotas, stream, joe, &nothing, 3000), Told::Abandon);
    assert_eq!(ask(&mut quotas, stream, joe, &nothing, 3001), Told::Allow);
}

#[test]
fn malformed_reports_are_refused() {
    let config = per_minute(10);
    let mut quotas = Quotas::new(TTL);
    let many: Vec<(String, String)> = (0..9).map(|index| (index.to_string(), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let buckets = (0..1001).map(|index| usage(&[("user", &index.to_string())], 0)).collect();
    for (domain, usages, error) in [
        ("", vec![], ReportError::NoDomain),
        ("x", vec![], ReportError::UnknownDomain),
        ("d", vec![BucketQuotaUsage::default()], ReportError::NoId(0)),
        ("d", vec![usage(&[("user", "joe")], 0), usage(&[], 0)], ReportError::NoId(1)),
        ("d", vec![usage(&many, 0)], ReportError::LargeId(0)),
        ("d", vec![usage(&[("user", &"x".repeat(1024))], 0)], ReportError::LargeId(0)),
        ("d", buckets, ReportError::TooManyOfStream),
    ] {
        let stream = quotas.open();
        assert_eq!(quotas.report(stream, &reports(domain, usages), &config, 1, 0), Err(error));
    }
    let stream = quotas.open();
    quotas.report(stream, &reports("d", vec![]), &config, 1, 0).unwrap();
    assert_eq!(quotas.report(stream, &reports("e", vec![]), &config, 1, 0), Err(ReportError::OtherDomain));
}

#[test]
fn buckets_of_all_streams_are_bounded_and_come_free() {
    let config = per_minute(10);
    let mut quotas = Quotas::new(TTL);
    let mut fill = |now| {
        let stream = quotas.open();
        let usages = (0..1000).map(|index| usage(&[("user", &format!("{stream:?} {index}"))], 0)).collect();
        quotas.report(stream, &reports("d", usages), &config, 1, now).map(drop)
    };
    let answers: Vec<_> = (0..=100).map(|_| fill(HOLD)).collect();
    assert!(answers[..100].iter().all(Result::is_ok));
    assert_eq!(answers[100], Err(ReportError::TooMany));
    assert_eq!(fill(9 * HOLD), Ok(()), "those that nobody reports are forgotten");
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Report { client: usize, requests: u64 },
    Leave(usize),
    Pass(u64),
    Limit(u32),
}

fn steps(changes: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5_usize, 0..50_u64).prop_map(|(client, requests)| Step::Report { client, requests }),
        1 => (0..5_usize).prop_map(Step::Leave),
        5 => (0..7000_u64).prop_map(Step::Pass),
        u32::from(changes) => prop_oneof![1..60_u32, 50..60_u32].prop_map(Step::Limit),
    ];
    vec(step, 1..150)
}

/// As Envoy does it: keeps its token bucket while it is told the same in time, and otherwise begins a full one.
#[derive(Default)]
struct Client {
    stream: Option<StreamId>,
    share: Option<(u32, u32)>,
    until: u64,
    tokens: f64,
    filled: u64,
}

impl Client {
    fn hear(&mut self, told: Told, now: u64) {
        let share = if let Told::Share { requests, burst, .. } = told { Some((requests, burst)) } else { None };
        if share != self.share || now >= self.until {
            self.tokens = share.map_or(0.0, |(_, burst)| burst.into());
        }
        (self.share, self.until, self.filled) = (share, now + TTL, now);
    }

    /// Takes all there is.
    fn take(&mut self, now: u64) -> u64 {
        let Some((requests, burst)) = self.share.filter(|_| now < self.until) else { return 0 };
        let filled = (now - self.filled) as f64 / 60_000.0 * f64::from(requests);
        self.tokens = (self.tokens + filled).min(burst.into());
        self.filled = now;
        let taken = self.tokens.floor();
        self.tokens -= taken;
        taken as u64
    }
}

fn play(limit: u32, steps: Vec<Step>, bounded: bool) -> Result<(), TestCaseError> {
    let mut quotas = Quotas::new(TTL);
    let (mut config, mut now) = (per_minute(limit), 0);
    let mut limits: VecDeque<(u64, u32)> = [(u64::MAX, limit)].into();
    let mut clients: Vec<Client> = (0..5).map(|_| Client::default()).collect();
    // Those that have left their stream go on with what they have.
    let mut orphans: Vec<Client> = vec![];
    let mut opened = 0;
    let mut told_shares: BTreeMap<String, Vec<(u64, u32)>> = BTreeMap::new();
    let mut admitted: Vec<(u64, u64)> = vec![];
    for step in steps {
        match step {
            Step::Pass(millis) => {
                for _ in 0..10 {
                    now += millis / 10;
                    let taken = clients.iter_mut().chain(&mut orphans).map(|client| client.take(now)).sum();
                    admitted.push((now, taken));
                }
            }
            Step::Limit(limit) => {
                limits.back_mut().unwrap().0 = now + TTL;
                limits.push_back((u64::MAX, limit));
                config = per_minute(limit);
            }
            Step::Leave(client) => {
                if let Some(stream) = clients[client].stream.take() {
                    quotas.close(stream, now);
                    orphans.push(std::mem::take(&mut clients[client]));
                }
            }
            Step::Report { client, requests } => {
                let client = &mut clients[client];
                let stream = *client.stream.get_or_insert_with(|| {
                    opened += 1;
                    quotas.open()
                });
                let report = reports("d", vec![usage(&[("user", "joe")], requests)]);
                let told = told(&quotas.report(stream, &report, &config, 1, now).unwrap())[0];
                let limited = matches!(told, Told::Share { .. } | Told::Deny);
                prop_assert!(limited, "{:?}", told);
                if let Told::Share { requests, .. } = told {
                    told_shares.entry(format!("{stream:?}")).or_default().push((now + TTL, requests));
                }
                client.hear(told, now);
                admitted.push((now, client.take(now)));
            }
        }
        limits.retain(|(until, _)| *until >= now);
        let most = limits.iter().map(|(_, limit)| *limit).max().unwrap();
        let in_force =
            |shares: &Vec<(u64, u32)>| shares.iter().filter(|(until, _)| *until > now).map(|(_, share)| *share).max();
        let sum: u32 = told_shares.values().filter_map(in_force).sum();
        prop_assert!(sum <= most, "{sum} of {most} are in force at {now}");
    }
    if bounded {
        let (limit, members) = (f64::from(limit), f64::from(opened));
        let bound = limit + (limit / 4.0).ceil() + members + 2.0 * f64::max((limit / 4.0).ceil(), 2.0 * members);
        for (index, (begin, _)) in admitted.iter().enumerate() {
            let window = admitted[index..].iter().take_while(|(at, _)| *at < begin + 60_000);
            let sum: u64 = window.map(|(_, taken)| taken).sum();
            prop_assert!(sum as f64 <= bound, "{sum} are admitted from {begin} on, more than {bound}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn shares_in_force_never_exceed_the_limit(limit in 1..60_u32, steps in steps(true)) {
        play(limit, steps, false)?;
    }

    #[test]
    fn what_clients_admit_is_bounded_in_any_window(limit in 1..400_u32, steps in steps(false)) {
        play(limit, steps, true)?;
    }

    #[test]
    fn all_clients_get_something(limit in 1..50_u32, count in 1..10_usize, demands in vec(0..100_u64, 10)) {
        prop_assume!(limit as usize >= count);
        let (mut quotas, config) = (Quotas::new(TTL), per_minute(limit));
        let streams: Vec<StreamId> = (0..count).map(|_| quotas.open()).collect();
        let mut shares = vec![0; count];
        for second in 0..200 {
            for (index, stream) in streams.iter().enumerate() {
                let report = reports("d", vec![usage(&[("user", "joe")], demands[index])]);
                let told = told(&quotas.report(*stream, &report, &config, 1, second * 1000).unwrap())[0];
                shares[index] = if let Told::Share { requests, .. } = told { requests } else { 0 };
            }
        }
        prop_assert!(shares.iter().all(|share| *share > 0), "{:?} of {}", shares, limit);
        let sum: u32 = shares.iter().sum();
        prop_assert!(sum * 2 >= limit, "{:?} of {}", shares, limit);
    }
}

/// An open stream to the program.
struct Talk {
    reports: mpsc::UnboundedSender<RateLimitQuotaUsageReports>,
    answers: Streaming<RateLimitQuotaResponse>,
}

impl Talk {
    async fn open(program: &Program) -> Result<Self, Status> {
        let url = format!("http://127.0.0.1:{}", program.grpc);
        let mut client = RateLimitQuotaServiceClient::connect(url).await.unwrap();
        let (reports, receiver) = mpsc::unbounded_channel();
        let answers = client.stream_rate_limit_quotas(UnboundedReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { reports, answers })
    }

    async fn say(&mut self, report: RateLimitQuotaUsageReports) -> Result<Vec<Told>, Status> {
        self.reports.send(report).unwrap();
        Ok(told(&self.answers.message().await?.unwrap()))
    }

    async fn ask(&mut self, allowed: u64) -> Told {
        self.say(reports("d", vec![usage(&[("user", "joe")], allowed)])).await.unwrap()[0]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_divides_a_limit_among_streams_and_drains_them() {
    let mut program = Program::start(&["--rlqs-enabled", "true", "--rlqs-assignment-ttl", "1m"]);
    let (mut first, mut second) = (Talk::open(&program).await.unwrap(), Talk::open(&program).await.unwrap());
    let year = 365 * 24 * 60 * 60;
    assert_eq!(first.ask(0).await, Told::Share { requests: 20, burst: 5, window: year });
    assert_eq!(second.ask(0).await, Told::Deny);
    // All token buckets of the year have begun, so the second waits for nothing but the first one's end here.
    assert_eq!(first.ask(7).await, Told::Share { requests: 20, burst: 5, window: year });
    let (_, metrics) = fetch(program.metrics, "GET", "/metrics", "");
    for line in [
        "ratelimit_rlqs_clients 2",
        "ratelimit_rlqs_buckets 1",
        r#"ratelimit_rlqs_reported_requests{result="allowed"} 7"#,
        r#"ratelimit_rlqs_assignments{kind="share"} 2"#,
        r#"ratelimit_rlqs_assignments{kind="deny_all"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    drop(second);
    until("the second's end", || fetch(program.metrics, "GET", "/metrics", "").1.contains("ratelimit_rlqs_clients 1"));

    for (report, code) in [
        (reports("", vec![]), Code::InvalidArgument),
        (reports("x", vec![]), Code::NotFound),
        (reports("d", vec![BucketQuotaUsage::default()]), Code::InvalidArgument),
    ] {
        assert_eq!(Talk::open(&program).await.unwrap().say(report).await.unwrap_err().code(), code);
    }

    let pid = program.process.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(first.answers.message().await.unwrap(), None);
    until("the end", || program.process.try_wait().unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_off_unless_asked_for() {
    let program = Program::start(&[]);
    assert_eq!(Talk::open(&program).await.err().unwrap().code(), Code::Unimplemented);
}
