//! What each check wants of a server. Pure.

use std::{collections::HashMap, time::Duration};

use super::{Finding, Status};

/// What a server says about itself.
pub(super) struct Facts {
    pub(super) info: Info,
    /// None where this user may not ask.
    pub(super) config: Option<HashMap<String, String>>,
    /// Between its clock and this machine's.
    pub(super) offset: Option<Duration>,
    /// Sorted.
    pub(super) pings: Vec<Duration>,
}

/// Fields of `INFO`.
pub(super) type Info = HashMap<String, String>;

/// All checks.
pub(super) fn all(facts: &Facts, under_sentinel: bool, timeout: Duration) -> Vec<Finding> {
    let info = &facts.info;
    let mut findings = vec![version(info), role(info)];
    findings.extend(dangers(info));
    findings.extend([persistence(facts), latency(&facts.pings, timeout)]);
    findings.extend(facts.offset.map(clock));
    match &facts.config {
        Some(config) => {
            findings.extend(replicas(info, config, under_sentinel));
            findings.extend(packing(config));
            if number(info, "cluster_enabled") == 1 {
                findings.push(coverage(config));
            }
            findings.push(idle(config));
        }
        None => findings.push(
            Finding::new("config", Status::Warn, "this user may not read it, so not all could be checked")
                .advise("ACL SETUSER NAME +config|get"),
        ),
    }
    named(info, findings)
}

/// What loses counters while all seems well.
pub(super) fn dangers(info: &Info) -> Vec<Finding> {
    named(info, vec![eviction(info), memory(info), evicted(info)])
}

fn named(info: &Info, findings: Vec<Finding>) -> Vec<Finding> {
    let server = format!("port {}", text(info, "tcp_port"));
    findings.into_iter().map(|finding| Finding { server: server.clone(), ..finding }).collect()
}

fn text<'i>(fields: &'i Info, name: &str) -> &'i str {
    fields.get(name).map_or("", String::as_str)
}

fn number(fields: &Info, name: &str) -> u64 {
    text(fields, name).parse().unwrap_or_default()
}

fn version(info: &Info) -> Finding {
    let (name, version) = match info.get("valkey_version") {
        Some(version) => ("Valkey", version.as_str()),
        None => ("Redis", text(info, "redis_version")),
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let release = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let value = format!("{name} {version}");
    match release {
        (..5, _) => Finding::new("version", Status::Fail, &value).advise("use Redis 6.2 or later, or Valkey"),
        (5, _) | (6, ..2) => Finding::new("version", Status::Warn, &value).advise("use Redis 6.2 or later, or Valkey"),
        _ => Finding::new("version", Status::Ok, &value),
    }
}

fn role(info: &Info) -> Finding {
    match text(info, "role") {
        "master" => Finding::new("role", Status::Ok, "primary"),
        role => Finding::new("role", Status::Fail, role)
            .advise("hits can be counted only in a primary: set REDIS_URL to it, or to its Sentinels with REDIS_TYPE"),
    }
}

fn eviction(info: &Info) -> Finding {
    let policy = text(info, "maxmemory_policy");
    match (policy, number(info, "maxmemory")) {
        ("noeviction" | "", _) => Finding::new("maxmemory-policy", Status::Ok, policy),
        (_, 0) => Finding::new("maxmemory-policy", Status::Warn, policy)
            .advise("with a maxmemory it would drop counters: CONFIG SET maxmemory-policy noeviction"),
        _ => Finding::new("maxmemory-policy", Status::Fail, policy)
            .advise("it drops counters, and their limits begin anew: CONFIG SET maxmemory-policy noeviction"),
    }
}

fn memory(info: &Info) -> Finding {
    let (used, most) = (number(info, "used_memory"), number(info, "maxmemory"));
    let share = used.saturating_mul(100).checked_div(most).unwrap_or_default();
    let value = format!("{used} of {most} bytes");
    match share {
        _ if most == 0 => Finding::new("maxmemory", Status::Ok, "no bound but the machine's"),
        ..80 => Finding::new("maxmemory", Status::Ok, &value),
        80..95 => Finding::new("maxmemory", Status::Warn, &value).advise("CONFIG SET maxmemory to more"),
        _ => Finding::new("maxmemory", Status::Fail, &value)
            .advise("without room no hit is counted: CONFIG SET maxmemory to more"),
    }
}

fn evicted(info: &Info) -> Finding {
    match number(info, "evicted_keys") {
        0 => Finding::new("evicted_keys", Status::Ok, "0"),
        keys => Finding::new("evicted_keys", Status::Warn, &keys).advise("counters have been dropped since it started"),
    }
}

fn persistence(facts: &Facts) -> Finding {
    let appends = text(&facts.info, "aof_enabled") == "1";
    let save = facts.config.as_ref().map_or("", |config| text(config, "save"));
    if appends {
        Finding::new("persistence", Status::Ok, "append-only file: a restart forgets a second at most")
    } else if save.is_empty() {
        Finding::new("persistence", Status::Warn, "none: a restart forgets all counts")
            .advise("where that matters: CONFIG SET appendonly yes")
    } else {
        Finding::new(
            "persistence",
            Status::Warn,
            &format!("snapshots ({save}): a restart forgets what came after the last"),
        )
        .advise("where that matters: CONFIG SET appendonly yes")
    }
}

fn replicas(info: &Info, config: &Info, under_sentinel: bool) -> Vec<Finding> {
    if !under_sentinel && number(info, "connected_slaves") == 0 {
        return vec![];
    }
    let write = match number(config, "min-replicas-to-write") {
        0 => Finding::new("min-replicas-to-write", Status::Warn, "0")
            .advise("after a failover the old primary goes on counting: CONFIG SET min-replicas-to-write 1"),
        replicas => Finding::new("min-replicas-to-write", Status::Ok, &replicas),
    };
    let lag = match number(config, "min-replicas-max-lag") {
        lag @ 1..=2 => Finding::new("min-replicas-max-lag", Status::Ok, &lag),
        lag => Finding::new("min-replicas-max-lag", Status::Warn, &lag)
            .advise("so many seconds of counts can be lost: CONFIG SET min-replicas-max-lag 1"),
    };
    vec![write, lag]
}

fn packing(config: &Info) -> Option<Finding> {
    // The name before Redis 7.
    let name = ["hash-max-listpack-entries", "hash-max-ziplist-entries"]
        .into_iter()
        .find(|name| config.contains_key(*name))?;
    Some(match number(config, name) {
        entries @ ..128 => Finding::new(name, Status::Warn, &entries)
            .advise(format!("counters take several times the memory: CONFIG SET {name} 128")),
        entries => Finding::new(name, Status::Ok, &entries),
    })
}

fn coverage(config: &Info) -> Finding {
    match text(config, "cluster-require-full-coverage") {
        "yes" => Finding::new("cluster-require-full-coverage", Status::Warn, "yes")
            .advise("one lost primary stops all of them: CONFIG SET cluster-require-full-coverage no"),
        value => Finding::new("cluster-require-full-coverage", Status::Ok, value),
    }
}

fn idle(config: &Info) -> Finding {
    match number(config, "timeout") {
        seconds @ 1..=2 => Finding::new("timeout", Status::Warn, &seconds)
            .advise("it may close connections that are in use: CONFIG SET timeout 0"),
        seconds => Finding::new("timeout", Status::Ok, &seconds),
    }
}

fn clock(offset: Duration) -> Finding {
    let value = format!("{offset:.0?} from this machine's");
    if offset < Duration::from_secs(1) {
        Finding::new("clock", Status::Ok, &value)
    } else {
        Finding::new("clock", Status::Warn, &value)
            .advise("windows run on its clock, so they end at other times than people expect: synchronise it")
    }
}

fn latency(pings: &[Duration], timeout: Duration) -> Finding {
    let rank = |percent: usize| pings.get((pings.len() * percent / 100).min(pings.len().saturating_sub(1)));
    let (p50, p99) = (rank(50).copied().unwrap_or_default(), rank(99).copied().unwrap_or_default());
    let value = format!("p50 {p50:.1?}, p99 {p99:.1?} with REDIS_TIMEOUT {timeout:?}");
    if p99 * 2 <= timeout {
        Finding::new("latency", Status::Ok, &value)
    } else if p99 <= timeout {
        Finding::new("latency", Status::Warn, &value).advise("raise REDIS_TIMEOUT, or bring Redis nearer")
    } else {
        Finding::new("latency", Status::Fail, &value)
            .advise("requests get errors: raise REDIS_TIMEOUT, or bring Redis nearer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(fields: &[(&str, &str)]) -> Info {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn statuses_follow_what_breaks_limits() {
        use Status::{Fail, Ok, Warn};
        for (check, fields, status) in [
            (version as fn(&Info) -> Finding, &[("redis_version", "7.0.15")][..], Ok),
            (version, &[("redis_version", "6.0.16")], Warn),
            (version, &[("redis_version", "4.0.1")], Fail),
            (version, &[("redis_version", "7.2.4"), ("valkey_version", "8.1.0")], Ok),
            (role, &[("role", "master")], Ok),
            (role, &[("role", "slave")], Fail),
            (eviction, &[("maxmemory_policy", "noeviction"), ("maxmemory", "100")], Ok),
            (eviction, &[("maxmemory_policy", "allkeys-lru"), ("maxmemory", "0")], Warn),
            (eviction, &[("maxmemory_policy", "volatile-ttl"), ("maxmemory", "100")], Fail),
            (memory, &[("used_memory", "50"), ("maxmemory", "100")], Ok),
            (memory, &[("used_memory", "90"), ("maxmemory", "100")], Warn),
            (memory, &[("used_memory", "99"), ("maxmemory", "100")], Fail),
            (evicted, &[("evicted_keys", "3")], Warn),
            (coverage, &[("cluster-require-full-coverage", "yes")], Warn),
            (idle, &[("timeout", "0")], Ok),
        ] {
            let finding = check(&info(fields));
            assert_eq!(finding.status, status, "{finding:?}");
            assert_eq!(finding.advice.is_empty(), status == Ok, "{finding:?}");
        }
        assert!(version(&info(&[("valkey_version", "8.1.0")])).value.contains("Valkey"));
        let ping = |millis| vec![Duration::from_millis(millis); 100];
        for (millis, status) in [(1, Ok), (80, Warn), (200, Fail)] {
            assert_eq!(latency(&ping(millis), Duration::from_millis(100)).status, status);
        }
        let none = replicas(&info(&[("connected_slaves", "0")]), &info(&[]), false);
        assert!(none.is_empty(), "a server alone has no failover");
        let lagging =
            replicas(&info(&[]), &info(&[("min-replicas-to-write", "0"), ("min-replicas-max-lag", "10")]), true);
        assert!(lagging.iter().all(|finding| finding.status == Warn));
    }
}
