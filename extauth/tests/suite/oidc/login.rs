//! From the first request to the last.

use serde_json::json;

use super::{Browser, Gate, SHARED, SHOP, oidc, policy};

#[tokio::test]
async fn a_browser_logs_in_comes_back_and_logs_out() {
    let gate = Gate::open(policy(oidc(&SHARED.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.open(&format!("{SHOP}/orders?page=2&sort=a%2Fb")).await;
    assert_eq!((page.status, page.url.as_str()), (200, "https://shop.example.com/orders?page=2&sort=a%2Fb"));
    let upstream = page.upstream.unwrap();
    assert_eq!(upstream.set["x-user"], "ada");
    assert_eq!(upstream.metadata["method"], "oidc");
    assert_eq!(upstream.metadata["main"]["groups"], json!(["engineers", "admins"]));

    let session = browser.session().unwrap().clone();
    assert!(session.name.starts_with("__Host-session-") && session.value.len() == 43, "{session:?}");
    for attribute in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="] {
        assert!(session.attributes.contains(attribute), "{attribute} is not in {session:?}");
    }
    assert!(!upstream.set.get("cookie").is_some_and(|cookie| cookie.contains("session-")), "{upstream:?}");
    let again = browser.open(SHOP).await;
    assert_eq!((again.status, browser.visited.len()), (200, 1), "no second login");

    let bye = browser.open(&format!("{SHOP}/logout")).await;
    assert!(browser.session().is_none(), "{bye:?}");
    let at_provider = browser.visited.iter().find(|url| url.path() == "/session/end").unwrap();
    let hint = at_provider.query_pairs().find(|(name, _)| name == "id_token_hint").unwrap().1.into_owned();
    assert_eq!(hint.split('.').count(), 3, "the provider is told who leaves");
    browser.cookies.push(session);
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    let stolen = browser.ask("GET", SHOP, b"").await;
    assert_eq!(stolen.status, 401, "the session is over, and not only its cookie");
}
