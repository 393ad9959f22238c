//! Where a browser may be sent: hosts that are ours, and paths of the host that it already is on.

use url::Url;

use crate::check::Check;
use crate::host::Pattern;
use crate::method::Invalid;

/// The longest URL that is kept for after a login; a longer one is forgotten, and the login ends at `/`.
const LONGEST: usize = 4096;

/// Scheme and authority of a request, as a browser would write them; `None` when they are no such thing.
pub(super) fn origin(check: &Check<'_>) -> Option<Url> {
    let (scheme, host) = (check.scheme(), check.host());
    let url = Url::parse(&format!("{scheme}://{host}/")).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    // What the parser had to change is not what Envoy routed by.
    let same = url.host_str().is_some_and(|parsed| {
        let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        bare.map_or(host, |(bare, _)| bare).eq_ignore_ascii_case(parsed)
    });
    (plain && same).then_some(url)
}

/// The URL of a request on its own host, to come back to.
pub(super) fn of_request(origin: &Url, path: &str) -> String {
    // The path is appended, not resolved: whatever it is, it cannot change the host.
    if path.starts_with('/') { on(origin, path) } else { on(origin, "/") }
}

/// The URL that a parameter names, if it is on the origin: a path, or an absolute URL with the same scheme, host and port.
/// Everything else leads to `/`.
pub(super) fn of_parameter(origin: &Url, target: &str) -> String {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if !target.bytes().all(legal) || target.starts_with("//") {
        return on(origin, "/");
    }
    if target.starts_with('/') {
        return on(origin, target);
    }
    match Url::parse(target) {
        Ok(url) if url.origin() == origin.origin() && url.username().is_empty() && url.password().is_none() => {
            // The host as we know it, and not as it was written.
            on(origin, url.as_str().get(url.origin().ascii_serialization().len()..).unwrap_or("/"))
        }
        _ => on(origin, "/"),
    }
}

/// A path on an origin. Its prefix is the whole authority and a slash, so that it stays there however the rest is read.
fn on(origin: &Url, path: &str) -> String {
    let base = origin.origin().ascii_serialization();
    let text = format!("{base}{path}");
    match Url::parse(&text) {
        Ok(url) if url.origin() == origin.origin() && text.len() <= LONGEST && path.starts_with('/') => {
            // As the parser writes it: no raw characters beyond ASCII, no control characters.
            url.to_string()
        }
        _ => format!("{base}/"),
    }
}

/// Reads the name of a host that logs in over another one; a pattern for all hosts would hand sessions to anybody.
pub(super) fn host(field: String, text: &str) -> Result<Pattern, Invalid> {
    let wide = |pattern: &Pattern| match pattern {
        Pattern::Any => true,
        Pattern::Below(suffix) => !suffix.trim_start_matches('.').contains('.'),
        Pattern::Exact(_) => false,
    };
    let pattern = Pattern::parse(text).filter(|pattern| !wide(pattern));
    pattern.ok_or_else(|| Invalid::new(field, "is no host, and no `*.` before a domain"))
}

/// Where a provider sends browsers back to.
#[derive(Debug)]
pub(super) struct Redirect {
    scheme: Option<String>,
    authority: Option<String>,
    pub(super) path: String,
}

impl Redirect {
    /// Reads a URL whose scheme and authority may be those of the request.
    pub(super) fn compile(text: Option<&str>) -> Result<Self, Invalid> {
        const SCHEMES: [&str; 2] = ["%REQ(x-forwarded-proto)%", "%REQ(:scheme)%"];
        let invalid = |problem: &str| Invalid::new("redirectURL", problem);
        let Some(text) = text else {
            return Ok(Self { scheme: None, authority: None, path: "/oauth2/callback".to_owned() });
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("is no absolute URL"))?;
        let (authority, path) = rest.split_once('/').ok_or_else(|| invalid("has no path"))?;
        let fixed_scheme = (!SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))).then(|| scheme.to_owned());
        let fixed = (!authority.eq_ignore_ascii_case("%REQ(:authority)%")).then(|| authority.to_ascii_lowercase());
        let example = format!(
            "{}://{}/{path}",
            fixed_scheme.as_deref().unwrap_or("https"),
            fixed.as_deref().unwrap_or("host.invalid")
        );
        let url = Url::parse(&example).map_err(|e| invalid(&format!("is no URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("is not http or https, or has a query or a fragment"));
        }
        let path = format!("/{path}");
        if path == "/" || url.path() != path || !url.username().is_empty() {
            return Err(invalid("needs a path other than `/`, without dots and escapes, and no user name"));
        }
        Ok(Self { scheme: fixed_scheme, authority: fixed, path })
    }

    /// The URL for a login that starts at `origin`.
    pub(super) fn url(&self, origin: &Url) -> String {
        let base = match (&self.scheme, &self.authority) {
            (None, None) => origin.origin().ascii_serialization(),
            (scheme, authority) => {
                let of_origin = origin.origin().ascii_serialization();
                let own = of_origin.split_once("://").map_or("", |(_, authority)| authority).to_owned();
                let scheme = scheme.as_deref().unwrap_or(origin.scheme());
                format!("{scheme}://{}", authority.as_deref().unwrap_or(&own))
            }
        };
        format!("{base}{}", self.path)
    }

    /// The host that all logins come back to, if there is one.
    pub(super) fn host(&self) -> Option<String> {
        let authority = self.authority.as_ref()?;
        Url::parse(&format!("https://{authority}/")).ok()?.host_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn app() -> Url {
        Url::parse("https://app.example.com/").unwrap()
    }

    #[test]
    fn targets_on_the_same_origin_are_kept() {
        for (target, expected) in [
            ("/", "https://app.example.com/"),
            ("/a/b?c=d&e=%2F", "https://app.example.com/a/b?c=d&e=%2F"),
            ("https://app.example.com/x?y", "https://app.example.com/x?y"),
            ("https://APP.example.com:443/x", "https://app.example.com/x"),
        ] {
            assert_eq!(of_parameter(&app(), target), expected, "{target}");
        }
    }

    #[test]
    fn o6_ghsa_qqxw_ghsa_j7px_ghsa_5m6c_cve_2021_21291_other_targets_lead_home() {
        let evil = [
            "//evil.com",
            "/\\evil.com",
            "\\/\\/evil.com",
            "\\\\evil.com",
            "/\t/evil.com",
            "/\n/evil.com",
            "\t//evil.com",
            "https:evil.com",
            "https:/evil.com",
            "https://evil.com",
            "https://app.example.com.evil.com",
            "https://app.example.com@evil.com",
            "https://user@app.example.com/",
            "https://evilapp.example.com",
            "https://app.example.com:444/",
            "http://app.example.com/",
            "javascript:alert(1)",
            "data:text/html,x",
            "evil.com",
            "",
            " /x",
            "/x\r\nset-cookie: a=b",
            "/\u{2f}\u{a0}evil",
            "https://app.example.com\\@evil.com",
            "///evil.com",
        ];
        for target in evil {
            assert_eq!(of_parameter(&app(), target), "https://app.example.com/", "{target:?}");
        }
        assert_eq!(of_parameter(&app(), "/.//evil.com"), "https://app.example.com//evil.com", "stays on the host");
    }

    #[test]
    fn a_request_s_own_path_never_leaves_its_host() {
        for (path, expected) in [
            ("/a?b=c", "https://app.example.com/a?b=c"),
            ("//evil.com/x", "https://app.example.com//evil.com/x"),
            ("/\\evil.com", "https://app.example.com//evil.com"),
            ("@evil.com", "https://app.example.com/"),
            (".evil.com", "https://app.example.com/"),
            (":1@evil.com", "https://app.example.com/"),
            ("", "https://app.example.com/"),
            ("*", "https://app.example.com/"),
        ] {
            assert_eq!(of_request(&app(), path), expected, "{path}");
        }
        assert_eq!(of_request(&app(), &format!("/{}", "a".repeat(LONGEST))), "https://app.example.com/");
    }

    #[test]
    fn redirect_urls_are_those_of_envoy_gateway() {
        let origin = Url::parse("https://app.example.com:8443/").unwrap();
        let url = |text| Redirect::compile(text).unwrap().url(&origin);
        assert_eq!(url(None), "https://app.example.com:8443/oauth2/callback");
        let template = "%REQ(x-forwarded-proto)%://%REQ(:authority)%/cb";
        assert_eq!(url(Some(template)), "https://app.example.com:8443/cb");
        assert_eq!(url(Some("https://login.example.com/cb")), "https://login.example.com/cb");
        assert_eq!(url(Some("%REQ(:scheme)%://login.example.com/cb")), "https://login.example.com/cb");
        for bad in [
            "/cb",
            "https://a.example.com",
            "https://a.example.com/",
            "https://u@a.example.com/cb",
            "ftp://a/cb",
            "https://a.example.com/cb?x=1",
            "https://a.example.com/a/../cb",
            "https://%REQ(x-host)%/cb",
        ] {
            assert!(Redirect::compile(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_that_log_in_elsewhere_are_named() {
        for good in ["app.example.com", "*.example.com"] {
            assert!(host("hosts[0]".to_owned(), good).is_ok(), "{good}");
        }
        for bad in ["*", "*.com", "", "a/b", "app.example.com:80", "*.*.example.com"] {
            assert!(host("hosts[0]".to_owned(), bad).is_err(), "{bad}");
        }
    }
}
