//! Cross-origin requests.

use controller_api::security_policy::cors::Cors;

/// Adds what is wrong to `errors`.
pub(super) fn check(cors: &Cors, errors: &mut Vec<String>) {
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        if !is_origin(origin) {
            errors.push(format!(
                "CORS: spec.cors.allowOrigins[{index}] {origin:?} is no origin, expected one such as \
                 https://*.example.com, or *"
            ));
        }
    }
}

/// `*`, or a scheme with a host, which may begin with `*.` or be `*`, and perhaps a port.
fn is_origin(origin: &str) -> bool {
    if origin == "*" {
        return true;
    }
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let host = if host == "*" { "any" } else { host.strip_prefix("*.").unwrap_or(host) };
    let host_char = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
        && !host.is_empty()
        && host.chars().all(host_char)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn origins_have_a_scheme_and_a_host() {
        for origin in ["*", "https://a.example", "http://*.a.example:8080", "https://*", "http://localhost:1"] {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in ["", "a.example", "https://", "https://a/b", "https://a:99999", "https://a.*.b", "://a"] {
            assert!(!is_origin(origin), "{origin}");
        }
    }
}
