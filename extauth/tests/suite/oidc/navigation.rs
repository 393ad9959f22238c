//! Who is sent to a login, and who is told 401.

use proto::extauth::{DenyRedirect, HeaderMatch, Oidc, Policy, StringMatch};

use super::forger::Forger;
use super::{Browser, Gate, SHOP, oidc, policy};

type Headers = &'static [(&'static str, &'static str)];

/// A browser that does not know Fetch Metadata.
const OLD: Headers = &[("accept", "text/html,application/xhtml+xml"), ("sec-fetch-mode", ""), ("sec-fetch-dest", "")];

#[tokio::test]
async fn o15_what_is_no_navigation_gets_401_and_starts_nothing() {
    let forger = Forger::start().await;
    let deny = |name: &str, kind, value: &str| HeaderMatch { name: name.into(), kind, value: value.into() };
    let headers = vec![
        deny("x-client", StringMatch::Exact, "robot"),
        deny("user-agent", StringMatch::Prefix, "curl/"),
        deny("x-app", StringMatch::Suffix, ".mobile"),
        deny("x-version", StringMatch::RegularExpression, "v[0-9]+"),
    ];
    let oidc = Oidc { deny_redirect: DenyRedirect { headers }, ..oidc(&forger.issuer) };
    let gate = Gate::open(policy(oidc));
    let modern = [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let cases: [(&str, Headers, u16); 21] = [
        ("GET", &[], 302),
        ("GET", OLD, 302),
        ("GET", &[("x-client", "human"), ("x-version", "v12b"), ("user-agent", "my curl/8")], 302),
        ("GET", &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")], 401),
        ("GET", &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")], 401),
        ("GET", &[("sec-fetch-dest", "iframe")], 401),
        ("GET", &[("sec-fetch-mode", "websocket"), ("upgrade", "websocket")], 401),
        ("GET", &[("accept", "application/json"), ("sec-fetch-mode", ""), ("sec-fetch-dest", "")], 401),
        ("GET", &[("accept", "*/*"), ("sec-fetch-mode", ""), ("sec-fetch-dest", "")], 401),
        ("GET", &[("x-requested-with", "XMLHttpRequest"), ("sec-fetch-mode", ""), ("sec-fetch-dest", "")], 401),
        ("GET", &[("sec-purpose", "prefetch;prerender")], 401),
        ("GET", &[("authorization", "Bearer x")], 401),
        ("POST", &[], 401),
        ("PUT", &[], 401),
        ("OPTIONS", &[], 401),
        ("HEAD", &[], 401),
        ("get", &[], 401),
        ("GET", &[("x-client", "robot")], 401),
        ("GET", &[("user-agent", "curl/8.5")], 401),
        ("GET", &[("x-app", "shop.mobile")], 401),
        ("GET", &[("x-version", "v12")], 401),
    ];
    for (method, headers, expected) in cases {
        let mut browser = Browser::new(&gate, "ada").await;
        browser.headers.extend(modern.iter().chain(headers).map(|(name, value)| ((*name).into(), (*value).into())));
        let page = browser.ask(method, &format!("{SHOP}/api"), b"").await;
        assert_eq!(page.status, expected, "{method} {headers:?}: {page:?}");
        if expected == 401 {
            assert_eq!(page.header("www-authenticate"), Some("Session login=\"/oauth2/login\""));
            assert!(browser.cookies.is_empty() && page.header("location").is_none(), "{page:?}");
        }
    }
}

#[tokio::test]
async fn where_anonymous_requests_pass_a_login_is_a_choice() {
    let forger = Forger::start().await;
    let gate = Gate::open(Policy { optional: true, ..policy(oidc(&forger.issuer)) });
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.go(SHOP).await;
    assert_eq!(page.upstream.unwrap().metadata["method"], "anonymous");
    let page = browser.go(&format!("{SHOP}/oauth2/login?rd=/mine")).await;
    assert_eq!(page.status, 302);
    browser.headers.insert("cookie".into(), "__Host-other=1".into());
    assert_eq!(browser.go(SHOP).await.status, 200);
    let name = page.header("set-cookie").unwrap().split("-login=").next().unwrap().to_owned();
    for stale in
        [format!("{name}={}", "A".repeat(43)), format!("{name}=x"), format!("{name}="), format!("{name}=a; {name}=b")]
    {
        browser.headers.insert("cookie".into(), stale.clone());
        assert_eq!(browser.go(SHOP).await.status, 302, "a session that is none is not anonymous: {stale}");
        browser.headers.insert("sec-fetch-mode".into(), "cors".into());
        assert_eq!(browser.go(SHOP).await.status, 401, "{stale}");
        browser.headers.remove("sec-fetch-mode");
    }
}
