//! User names and passwords.

use std::time::{Duration, Instant, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use extauth::check::Check;
use extauth::config::{Config, Files};
use extauth::policy::Policies;
use extauth::verdict::Verdict;
use proto::extauth::{Basic, FailedAttempts, Method, Policy, Secret};
use serde_json::json;

use crate::attempts::from;
use crate::support::{Answer, Service, api_keys, key, request, resources, wait};

/// Made by other programs: crypt(3), the reference implementation of argon2, `htpasswd`.
const HASHES: [(&str, &str, &str); 8] = [
    ("y", "Hello world!", "$2y$04$abcdefghijklmnopqrstuuyeG8laUfZvsCmc.AE6qIDYSPGM2efmK"),
    ("b", "Hello world!", "$2b$04$abcdefghijklmnopqrstuuyeG8laUfZvsCmc.AE6qIDYSPGM2efmK"),
    ("a", "Hello world!", "$2a$04$abcdefghijklmnopqrstuuyeG8laUfZvsCmc.AE6qIDYSPGM2efmK"),
    ("argon", "password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"),
    ("five", "Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    (
        "six",
        "Hello world!",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "rounds",
        "Hello world!",
        "$6$rounds=1000$saltstring$Zu2Vknok2/f53APfN687ADnzeNBLcsEgTwvcBHMD2./07rZQAt8vsuKVufD15dyZh.LOLB/uZKf6I3GyON4bp/",
    ),
    ("sha", "secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
];

fn basic(users: &[(&str, &str)]) -> Basic {
    let lines = users.iter().fold(String::new(), |lines, (user, hash)| format!("{lines}{user}:{hash}\n"));
    Basic { htpasswd: Some(Secret::new(lines)), username_header: Some("x-user".into()), ..Basic::default() }
}

fn service(method: Basic) -> Service {
    Service::new(vec![Method::Basic(method)])
}

fn login(user: &str, password: &str) -> CheckRequest {
    raw(format!("{user}:{password}").as_bytes())
}

fn raw(pair: &[u8]) -> CheckRequest {
    request(&[("authorization", &format!("Basic {}", STANDARD.encode(pair)))])
}

fn hash(password: &str, cost: u32) -> String {
    bcrypt::hash(password, cost).unwrap()
}

#[test]
fn every_scheme_of_htpasswd_is_known() {
    let users = HASHES.map(|(user, _, hash)| (user, hash));
    let service = service(Basic { realm: Some("shop".into()), ..basic(&users) });
    for (user, password, _) in HASHES {
        for _ in 0..2 {
            let answer = service.ask(&login(user, password));
            assert_eq!(answer.status, 200, "{user}");
            assert_eq!(answer.set["x-user"], user);
            assert_eq!(answer.metadata, json!({"method": "basic", "client": user}));
            assert!(answer.removes("authorization"));
        }
        for wrong in ["", "hello world!", "Hello world! ", &format!("{password}x")] {
            let answer = service.ask(&login(user, wrong));
            assert_eq!(answer.status, 401, "{user} {wrong}");
            assert_eq!(answer.challenge.as_deref(), Some("Basic realm=\"shop\", charset=\"UTF-8\""));
        }
    }
}

#[test]
fn names_and_passwords_are_utf8_and_only_the_first_colon_parts_them() {
    let service = service(basic(&[("jürgen", &hash("pa:ß:wört€", 4)), ("ada", &hash(&"x".repeat(72), 4))]));
    let answer = service.ask(&login("jürgen", "pa:ß:wört€"));
    assert_eq!((answer.status, answer.set["x-user"].as_str()), (200, "jürgen"));
    assert_eq!(service.ask(&login("ju\u{308}rgen", "pa:ß:wört€")).status, 401, "k2 nothing is folded");
    assert_eq!(service.ask(&raw(b"j\xfcrgen:x")).status, 401, "ISO 8859-1");
    assert_eq!(service.ask(&login("ada", &"x".repeat(72))).status, 200);
    assert_eq!(service.ask(&login("ada", &"x".repeat(73))).status, 401, "bcrypt reads 72 bytes");
}

#[test]
fn cve_2026_0707_one_strict_spelling_of_a_credential() {
    let service = Service::optional(vec![Method::Basic(basic(&[("ada", &hash("secret", 4))]))]);
    let good = STANDARD.encode("ada:secret");
    assert_eq!(service.ask(&request(&[("authorization", &format!("bAsIc {good}"))])).status, 200);
    for bad in [
        format!("Basic  {good}"),
        format!("Basic\t{good}"),
        format!("Basic {good} "),
        format!("Basic {good}="),
        format!("Basic {}", good.trim_end_matches('=')),
        format!("Basic {good}, Basic {good}"),
        format!("Bearer x, Basic {good}"),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic !!!!".to_owned(),
        format!("Basic {}", STANDARD.encode("ada")),
        format!("Basic {}", STANDARD.encode("ada:sec\nret")),
        format!("Basic {}", STANDARD.encode("ada:secret\0")),
        format!("Basic {}", STANDARD.encode(b"ada:\xff\xfe")),
        format!("Basic {}", STANDARD.encode(format!("ada:{}", "x".repeat(100_000)))),
        // Bits that say nothing in another spelling.
        format!("Basic {}", STANDARD.encode("ada:secre").replace("ZQ==", "ZR==")),
    ] {
        let answer = service.ask(&request(&[("authorization", &bad)]));
        assert_eq!((answer.status, answer.body.as_str()), (401, "User authentication failed."), "{bad:.60}");
    }
    assert_eq!(service.ask(&request(&[("authorization", "Bearer x")])).status, 200, "not ours: anonymous");
    assert_eq!(service.ask(&request(&[])).status, 200);
}

#[test]
fn the_password_is_forwarded_when_asked_for_and_the_name_cannot_be_forged() {
    let forwarding = service(Basic { forward: true, ..basic(&[("ada", &hash("secret", 4))]) });
    assert!(!forwarding.ask(&login("ada", "secret")).removes("authorization"));
    let service = Service::new(vec![
        Method::Basic(basic(&[("ada", &hash("secret", 4))])),
        Method::ApiKey(api_keys(vec![key("a-key", "acme")])),
    ]);
    let forged = request(&[("x-api-key", "a-key"), ("x-user", "root"), ("X_User", "root"), ("x.user", "root")]);
    let answer = service.ask(&forged);
    assert!(answer.status == 200 && ["x-user", "X_User", "x.user"].iter().all(|name| answer.removes(name)));
    let missing = service.ask(&request(&[]));
    assert_eq!(missing.challenge.as_deref(), Some("Basic realm=\"protected\", charset=\"UTF-8\", ApiKey"));
}

/// How long an answer takes, and what it is.
fn timed(service: &Service, request: &CheckRequest) -> (Duration, Answer) {
    let start = Instant::now();
    let answer = service.ask(request);
    (start.elapsed(), answer)
}

#[test]
fn a_slow_hash_is_paid_once_for_a_right_password_and_each_time_for_a_wrong_one() {
    let slow = hash("secret", 11);
    let mut service = service(Basic { cache_seconds: Some(60), ..basic(&[("ada", &slow)]) });
    let (first, answer) = timed(&service, &login("ada", "secret"));
    assert_eq!(answer.status, 200);
    let again = (0..10).map(|_| timed(&service, &login("ada", "secret")).0).min().unwrap();
    assert!(again < first / 5, "{again:?} after {first:?}");
    let wrong = (0..3).map(|_| timed(&service, &login("ada", "wrong"))).min_by_key(|(time, _)| *time).unwrap();
    assert!(wrong.1.status == 401 && wrong.0 > again * 5, "{wrong:?} beside {again:?}");
    service.now += 60;
    let expired = timed(&service, &login("ada", "secret"));
    assert!(expired.1.status == 200 && expired.0 > again * 5, "it is hashed anew: {:?}", expired.0);
}

#[test]
fn a_changed_password_is_in_force_at_once() {
    let resources = resources();
    let with = |password: &str| {
        let methods = vec![Method::Basic(basic(&[("ada", &hash(password, 4))]))];
        let policy = Policy { name: "guard".into(), methods, ..Policy::default() };
        Policies::compile(&[policy], &resources).unwrap()
    };
    let ask = |policies: &Policies, password: &str| {
        crate::support::ask_at(policies, &login("ada", password), crate::support::NOW).status
    };
    let old = with("old");
    assert_eq!(ask(&old, "old"), 200);
    let new = with("new");
    assert_eq!(ask(&new, "old"), 401, "what was right before is forgotten");
    assert_eq!(ask(&new, "new"), 200);
    assert!(!format!("{new:?} {resources:?}").contains("$2"));
}

#[test]
fn k1_an_unknown_user_takes_as_long_as_a_known_one() {
    let unlimited = FailedAttempts { per_address: 0, per_credential: 0, trusted_hops: 0 };
    let service =
        service(Basic { failed_attempts: unlimited, ..basic(&[("ada", &hash("secret", 7)), ("bob", &hash("x", 7))]) });
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for round in 0..60 {
        known.push(timed(&service, &login("ada", &format!("guess-{round}"))).0);
        unknown.push(timed(&service, &login(&format!("nobody-{round}"), "secret")).0);
    }
    known.sort();
    unknown.sort();
    let (known, unknown) = (known[30], unknown[30]);
    let ratio = unknown.as_secs_f64() / known.as_secs_f64();
    assert!((0.6..1.6).contains(&ratio), "{unknown:?} for unknown users, {known:?} for known ones");
}

#[test]
fn slow_hashes_are_bounded_and_never_in_the_way_of_others() {
    let unlimited = FailedAttempts { per_address: 0, per_credential: 0, trusted_hops: 0 };
    let service =
        service(Basic { failed_attempts: unlimited, ..basic(&[("ada", &hash("secret", 8)), ("sha", HASHES[7].2)]) });
    let guesses: Vec<_> = (0..200).map(|number| login("ada", &format!("guess-{number}"))).collect();
    let now = UNIX_EPOCH + Duration::from_secs(service.now);
    let statuses = wait(async {
        let asked = guesses.iter().map(|guess| {
            let service = &service;
            async move { service.check(&Check::new(guess, now).unwrap()).await }
        });
        let mut slowest = Duration::ZERO;
        let flood = futures::future::join_all(asked);
        let others = async {
            // On the same thread, while the flood waits.
            for _ in 0..20 {
                let start = Instant::now();
                let sha = login("sha", "secret");
                let verdict = service.check(&Check::new(&sha, now).unwrap()).await;
                assert!(matches!(verdict, Verdict::Allow(_)));
                slowest = slowest.max(start.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let start = Instant::now();
        let (answers, ()) = tokio::join!(flood, others);
        assert!(slowest < start.elapsed() / 4, "{slowest:?} of {:?}", start.elapsed());
        answers.into_iter().map(|verdict| Answer::of(verdict.into()).status).collect::<Vec<_>>()
    });
    let count = |status| statuses.iter().filter(|other| **other == status).count();
    assert_eq!((count(401), count(503)), (64, 136), "the queue takes 64");
    assert_eq!(service.ask(&login("ada", "secret")).status, 200, "it is empty again");
}

#[test]
fn one_password_that_many_send_at_once_is_hashed_once() {
    let service = service(basic(&[("ada", &hash("secret", 10))]));
    let one = Instant::now();
    assert_eq!(service.ask(&login("ada", "wrong")).status, 401);
    let one = one.elapsed();
    let request = login("ada", "secret");
    let check = Check::new(&request, UNIX_EPOCH + Duration::from_secs(service.now)).unwrap();
    let start = Instant::now();
    let verdicts = wait(futures::future::join_all((0..500).map(|_| service.check(&check))));
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Allow(_))));
    assert!(start.elapsed() < one * 20, "{:?} for 500, {one:?} for one", start.elapsed());
}

#[test]
fn k6_a_user_under_attack_gets_in_from_elsewhere() {
    let bounds = FailedAttempts { per_address: 0, per_credential: 5, trusted_hops: 0 };
    let service = service(Basic { failed_attempts: bounds, ..basic(&[("ada", &hash("secret", 4))]) });
    for number in 0..5 {
        let guess = from(&format!("192.0.2.{number}"), login("ada", &format!("guess-{number}")));
        assert_eq!(service.ask(&guess).status, 401);
    }
    let answer = service.ask(&from("192.0.2.1", login("ada", "secret")));
    assert!(answer.status == 429 && answer.challenge.is_none() && answer.headers.contains_key("retry-after"));
    assert_eq!(service.ask(&from("198.51.100.1", login("ada", "secret"))).status, 200);
}

#[test]
fn users_that_make_no_sense_are_refused_by_line_and_not_repeated() {
    let problem = |text: &str| {
        let method = Basic { htpasswd: Some(Secret::new(text)), ..Basic::default() };
        let policy = Policy { name: "guard".into(), methods: vec![Method::Basic(method)], ..Policy::default() };
        Policies::compile(&[policy], &resources()).unwrap_err().to_string()
    };
    for (text, said) in [
        ("", "has no user"),
        ("# nobody\r\n\r\n", "has no user"),
        ("hunter2", "line 1 is not `user:hash`"),
        ("\nada:hunter2", "line 2 has no hash that is known"),
        ("ada:$apr1$hunter2$x", "line 1 has no hash that is known"),
        (":{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "line 1 has a user name"),
        ("ada:{SHA}hunter2", "{SHA} hash that is not 20 bytes"),
        ("ada:$2y$04$hunter2", "bcrypt hash that is malformed"),
        ("ada:$2x$04$abcdefghijklmnopqrstuuyeG8laUfZvsCmc.AE6qIDYSPGM2efmK", "bcrypt hash that is malformed"),
        ("ada:$2y$31$abcdefghijklmnopqrstuuyeG8laUfZvsCmc.AE6qIDYSPGM2efmK", "cost is not 4..=14"),
        ("ada:$argon2id$v=19$m=256$hunter2", "argon2id hash that is malformed"),
        (
            "ada:$argon2id$v=19$m=4000000,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "more than m=",
        ),
        (
            "ada:$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "no hash that is known",
        ),
        (
            "ada:$6$rounds=999999999$saltstring$Zu2Vknok2/f53APfN687ADnzeNBLcsEgTwvcBHMD2./07rZQAt8vsuKVufD15dyZh.LOLB/uZKf6I3GyON4bp/",
            "rounds are not",
        ),
        ("ada:$5$saltstring$hunter2", "SHA-crypt hash that is malformed"),
        ("ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "line 2 names a user again"),
    ] {
        let error = problem(text);
        assert!(error.contains("methods[0].basic.htpasswd: ") && error.contains(said), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn users_come_from_a_file_or_from_the_htpasswd_of_a_secret() {
    let text = |rest: &str| format!("policies: [{{name: guard, methods: [{{basic: {{{rest}}}}}]}}]");
    let users = format!("ada:{}\r\n", hash("secret", 4));
    let compile = |rest: &str| {
        let files: Files = [("p.yaml", text(rest)), ("users", users.clone()), ("shop/.htpasswd", users.clone())]
            .map(|(name, text)| (name.to_owned(), text))
            .into();
        Config::parse(&files).map_err(|error| error.to_string()).map(|config| {
            let policies = Policies::compile(&config.policies, &resources()).unwrap();
            assert!(!format!("{config:?}").contains("$2"));
            crate::support::ask_at(&policies, &login("ada", "secret"), crate::support::NOW).status
        })
    };
    assert_eq!(compile("htpasswdFile: users"), Ok(200));
    assert_eq!(compile("htpasswdFile: shop/.htpasswd"), Ok(200));
    assert_eq!(compile("htpasswd: 'ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ='"), Ok(200));
    assert!(compile("htpasswdFile: missing").unwrap_err().contains("basic.htpasswdFile: there is no file"));
    assert!(compile("htpasswdFile: users, htpasswd: 'a:b'").unwrap_err().contains("one of the two must go"));
}
