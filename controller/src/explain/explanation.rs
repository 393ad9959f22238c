//! What is said of one object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use controller_core::{
    Translation,
    ir::{Destination, HttpRoute, ObjectRef, Proxy, TcpRoute, UdpRoute},
    translate::{Decision as Decided, ObjectStatus},
};
use serde::Serialize;

use super::{limit, words};
use crate::status::problems;

/// Everything about one route or policy.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    object: String,
    /// Of a route, one for each match on each hostname of each listener; of a policy, those that it targets.
    matches: Vec<Entry>,
    /// What is wrong with the object and with what decides about it.
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    route: String,
    listener: String,
    hostname: String,
    rule: usize,
    request: String,
    action: String,
    policies: Vec<Decision>,
    rate_limits: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Decision {
    winner: String,
    reason: String,
    losers: Vec<Loser>,
}

#[derive(Debug, Serialize)]
struct Loser {
    policy: String,
    reason: String,
}

/// Decisions by listener and by the route's name in Envoy.
type Decisions<'t> = BTreeMap<(&'t str, &'t str), Vec<&'t Decided>>;

impl Explanation {
    /// What `translation` makes of `object`, and what is wrong with it, there and in the statuses that stand.
    pub(super) fn new(object: &ObjectRef, translation: &Translation, standing: &[ObjectStatus]) -> Self {
        let mut decisions = Decisions::new();
        for decided in translation.decisions.iter().filter(|decided| concerns(decided, object)) {
            decisions.entry((&decided.listener, &decided.route.name)).or_default().push(decided);
        }
        let mut gateways = BTreeSet::new();
        let mut matches = Vec::new();
        for proxy in translation.proxies.values().map(|proxy| &proxy.ir) {
            for listener in &proxy.http {
                for route in &listener.routes {
                    let decisions = decisions.get(&(listener.name.as_str(), route.name.as_str()));
                    if route.route == *object || decisions.is_some() {
                        gateways.insert(listener.gateway.to_string());
                        matches.push(Entry::http(&listener.name, route, decisions.map_or(&[], Vec::as_slice), object));
                    }
                }
            }
            matches.extend(connections(proxy, object, &mut gateways));
        }
        let policies = matches.iter().flat_map(|entry| &entry.policies);
        let others = policies.flat_map(|one| one.losers.iter().map(|loser| &loser.policy).chain([&one.winner]));
        let concerned: BTreeSet<String> = others.cloned().chain([object.to_string()]).collect();
        let name = |status: &ObjectStatus| object_ref(status).to_string();
        let made =
            translation.statuses.iter().map(|status| &**status).filter(|status| concerned.contains(&name(status)));
        // Envoy's refusal of a listener stands in the status of its Gateway.
        let stands = |status: &&ObjectStatus| concerned.contains(&name(status)) || gateways.contains(&name(status));
        let mut known = BTreeSet::new();
        let mut problems: Vec<String> = made.chain(standing.iter().filter(stands)).flat_map(problems).collect();
        problems.retain(|problem| known.insert(problem.clone()));
        Self { object: object.to_string(), matches, problems }
    }
}

/// What becomes of connections and datagrams, where `object` is a route of theirs; and the Gateways it is attached to.
fn connections(proxy: &Proxy, object: &ObjectRef, gateways: &mut BTreeSet<String>) -> Vec<Entry> {
    let mut matches = Vec::new();
    for listener in &proxy.tcp {
        for TcpRoute { sni, destination, .. } in listener.routes.iter().filter(|route| route.route == *object) {
            gateways.insert(listener.gateway.to_string());
            let names = if sni.is_empty() { std::slice::from_ref(&listener.hostname) } else { sni };
            let request = if listener.tls.is_some() { "TLS connections" } else { "connections" };
            for name in names {
                matches.push(Entry::plain(object, &listener.name, name, request, destination));
            }
        }
    }
    for listener in &proxy.udp {
        for UdpRoute { destination, .. } in listener.route.iter().filter(|route| route.route == *object) {
            gateways.insert(listener.gateway.to_string());
            matches.push(Entry::plain(object, &listener.name, "*", "datagrams", destination));
        }
    }
    matches
}

/// It is about this route, or this policy is or could be in force there.
fn concerns(decided: &Decided, object: &ObjectRef) -> bool {
    decided.route.route == *object
        || *decided.winner == *object
        || decided.losers.iter().any(|(policy, _)| **policy == *object)
}

fn object_ref(status: &ObjectStatus) -> ObjectRef {
    ObjectRef { kind: status.kind, namespace: status.namespace.clone(), name: status.name.clone() }
}

impl Entry {
    fn http(listener: &str, route: &HttpRoute, decisions: &[&Decided], object: &ObjectRef) -> Self {
        let is_about_limits = decisions.iter().any(|decided| {
            decided.winner.kind == "BackendTrafficPolicy" && (route.route == *object || *decided.winner == *object)
        });
        let limits = route.traffic.as_ref().and_then(|traffic| traffic.spec.rate_limit.as_ref());
        Self {
            route: route.route.to_string(),
            listener: listener.to_owned(),
            hostname: route.hostname.clone(),
            rule: route.rule,
            request: words::request(&route.matches),
            action: words::action(&route.action),
            policies: decisions.iter().map(|decided| Decision::new(decided)).collect(),
            rate_limits: limits.filter(|_| is_about_limits).map(limit::lines).unwrap_or_default(),
        }
    }

    fn plain(route: &ObjectRef, listener: &str, name: &str, request: &str, destination: &Destination) -> Self {
        Self {
            route: route.to_string(),
            listener: listener.to_owned(),
            hostname: name.to_owned(),
            rule: 0,
            request: request.to_owned(),
            action: words::forwarding(destination),
            policies: Vec::new(),
            rate_limits: Vec::new(),
        }
    }
}

impl Decision {
    fn new(decided: &Decided) -> Self {
        let losers = decided.losers.iter();
        let losers = losers.map(|(policy, reason)| Loser { policy: policy.to_string(), reason: reason.to_string() });
        Self { winner: decided.winner.to_string(), reason: decided.reason.to_string(), losers: losers.collect() }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.object)?;
        let is_policy = self.object.split(' ').next().is_some_and(|kind| kind.ends_with("Policy"));
        if self.matches.is_empty() {
            let nowhere = if is_policy { "in force on no route" } else { "attached to no listener" };
            writeln!(f, "\n  {nowhere}")?;
        }
        for entry in &self.matches {
            let Entry { route, listener, hostname, rule, request, action, .. } = entry;
            let of = if is_policy { format!(" of {route}") } else { String::new() };
            writeln!(f, "\n  rule {rule}{of}: {request} on {hostname}, listener {listener}")?;
            writeln!(f, "    {action}")?;
            if entry.policies.is_empty() && matches!(route.split(' ').next(), Some("HTTPRoute" | "GRPCRoute")) {
                writeln!(f, "    no policy applies")?;
            }
            for Decision { winner, reason, losers } in &entry.policies {
                writeln!(f, "    {winner} is in force: {reason}")?;
                for Loser { policy, reason } in losers {
                    writeln!(f, "      {policy} is not: {reason}")?;
                }
            }
            for limit in &entry.rate_limits {
                writeln!(f, "    limit: {limit}")?;
            }
        }
        if !self.problems.is_empty() {
            writeln!(f, "\n  problems:")?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "    {problem}"))
    }
}
