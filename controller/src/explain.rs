//! `controller explain`: which policy is in force on each match of a route, which lost, and why.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use controller_core::{
    Settings, Translation,
    ir::{Action, Endpoints, HttpRoute, Match, ObjectRef, PathMatch, ValueMatch},
    translate,
};
use serde::Serialize;

use crate::{echo, pods, source::Files, status::problems};

mod limit;

/// Say which policy won on a route, which lost and why
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder with the manifests
    directory: PathBuf,
    /// The route: `namespace/name`, or a name in `default`
    route: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such route.
    #[error("there is no {route} in {directory}; there are: {known}")]
    NoRoute {
        /// What was asked for.
        route: ObjectRef,
        /// Where it was looked for.
        directory: PathBuf,
        /// Names of the routes that are there.
        known: String,
    },
    /// Standard output is closed.
    #[error("printing")]
    Print(#[from] serde_json::Error),
}

/// Everything about one route.
#[derive(Debug, Serialize)]
struct Explanation {
    route: String,
    /// One for each match on each hostname of each listener.
    matches: Vec<Entry>,
    /// What is wrong with the route and its policies, and with the files.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
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

/// Prints the explanation.
pub fn run(options: &Options) -> Result<(), Error> {
    let (namespace, name) = options.route.split_once('/').unwrap_or(("default", &options.route));
    let route = ObjectRef { kind: "HTTPRoute", namespace: namespace.to_owned(), name: name.to_owned() };
    let mut manifests = Files::new(&options.directory).load().unwrap_or_default();
    pods::stand_in(&mut manifests.snapshot, echo::DEFAULT);
    let routes = &manifests.snapshot.http_routes;
    if !routes.contains_key(&(route.namespace.clone(), route.name.clone())) {
        let known: Vec<String> = routes.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        return Err(Error::NoRoute { route, directory: options.directory.clone(), known: known.join(", ") });
    }
    let settings = Settings { running_on_host: true, ..Settings::default() };
    let mut explanation = Explanation::new(&route, &translate(&manifests.snapshot, &settings));
    explanation.problems.extend(manifests.problems.iter().map(ToString::to_string));
    if options.json {
        println!("{}", serde_json::to_string_pretty(&explanation)?);
    } else {
        print!("{explanation}");
    }
    Ok(())
}

impl Explanation {
    fn new(route: &ObjectRef, translation: &Translation) -> Self {
        let listeners = translation.proxies.values().flat_map(|proxy| &proxy.ir.http);
        let matches: Vec<Entry> = listeners
            .flat_map(|listener| listener.routes.iter().map(|one| (listener.name.as_str(), one)))
            .filter(|(_, one)| one.route == *route)
            .map(|(listener, one)| Entry::new(listener, one, translation))
            .collect();
        let is_concerned = |object: &str| {
            let policies = matches.iter().flat_map(|entry| &entry.policies);
            object == route.to_string()
                || policies
                    .clone()
                    .any(|policy| policy.winner == object || policy.losers.iter().any(|loser| loser.policy == object))
        };
        let concerned = translation
            .statuses
            .iter()
            .filter(|status| is_concerned(&format!("{} {}/{}", status.kind, status.namespace, status.name)));
        let problems = concerned.flat_map(|status| problems(status)).collect();
        Self { route: route.to_string(), matches, problems }
    }
}

impl Entry {
    fn new(listener: &str, route: &HttpRoute, translation: &Translation) -> Self {
        let decisions = translation
            .decisions
            .iter()
            .filter(|decision| *decision.listener == *listener && decision.route.name == route.name);
        let loser = |(policy, reason): &(Arc<ObjectRef>, Cow<'static, str>)| Loser {
            policy: policy.to_string(),
            reason: reason.to_string(),
        };
        let policies = decisions.map(|decision| Decision {
            winner: decision.winner.to_string(),
            reason: decision.reason.to_string(),
            losers: decision.losers.iter().map(loser).collect(),
        });
        let limits = route.traffic.as_ref().and_then(|traffic| traffic.spec.rate_limit.as_ref());
        Self {
            listener: listener.to_owned(),
            hostname: route.hostname.clone(),
            rule: route.rule,
            request: request(&route.matches),
            action: action(&route.action),
            policies: policies.collect(),
            rate_limits: limits.map(limit::lines).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.route)?;
        if self.matches.is_empty() {
            writeln!(f, "\n  attached to no listener")?;
        }
        for entry in &self.matches {
            let Entry { listener, hostname, rule, request, action, .. } = entry;
            writeln!(f, "\n  rule {rule}: {request} on {hostname}, listener {listener}")?;
            writeln!(f, "    {action}")?;
            if entry.policies.is_empty() {
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

fn request(matches: &Match) -> String {
    let mut text = matches.method.clone().unwrap_or_else(|| "any method".to_owned());
    let path = match &matches.path {
        None => "/*".to_owned(),
        Some(PathMatch::Exact(path)) => path.clone(),
        Some(PathMatch::Prefix(prefix)) => format!("{}/*", prefix.trim_end_matches('/')),
        Some(PathMatch::Suffix(suffix)) => format!("*{suffix}"),
        Some(PathMatch::RegularExpression(pattern)) => format!("path like {pattern}"),
    };
    text = format!("{text} {path}");
    let values = [("header", &matches.headers), ("query parameter", &matches.query_params)];
    for (what, ValueMatch { name, value, regex }) in
        values.into_iter().flat_map(|(what, matches)| matches.iter().map(move |one| (what, one)))
    {
        let relation = if *regex { "like" } else { "=" };
        // Writing to a String cannot fail.
        let _ = write!(text, ", {what} {name} {relation} {value}");
    }
    text
}

fn action(action: &Action) -> String {
    match action {
        Action::Redirect(redirect) => format!("redirects with {}", redirect.status),
        Action::Respond { status, body, .. } => {
            format!("answers {status} by itself: {body}").trim_end_matches([':', ' ']).to_owned()
        }
        Action::Forward(destination) => {
            let backends = destination.backends.iter().map(|backend| match &backend.endpoints {
                None => "a broken backendRef (500)".to_owned(),
                Some(Endpoints::Static(endpoints)) => match endpoints.len() {
                    0 => "no endpoint (503)".to_owned(),
                    1 => "1 endpoint".to_owned(),
                    many => format!("{many} endpoints"),
                },
                Some(Endpoints::Dns(names)) => {
                    names.iter().map(|(name, port)| format!("{name}:{port}")).collect::<Vec<_>>().join(", ")
                }
            });
            format!("forwards to {}", backends.collect::<Vec<_>>().join(" and "))
        }
    }
}
