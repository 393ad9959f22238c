//! Requests and what happens to them, as a person says them.

use std::fmt::Write as _;

use controller_core::ir::{Action, Destination, Endpoints, Match, PathMatch, ValueMatch};

/// What a request must look like.
pub(super) fn request(matches: &Match) -> String {
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

/// What happens to it.
pub(super) fn action(action: &Action) -> String {
    match action {
        Action::Redirect(redirect) => format!("redirects with {}", redirect.status),
        Action::Respond { status, body, .. } => {
            format!("answers {status} by itself: {body}").trim_end_matches([':', ' ']).to_owned()
        }
        Action::Forward(destination) => forwarding(destination),
    }
}

/// Where it goes.
pub(super) fn forwarding(destination: &Destination) -> String {
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
