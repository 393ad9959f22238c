//! Many hosts and many providers.

use proto::extauth::{Allow, Oidc, SameSite, SessionCookie};

use super::forger::{Forger, Started, second};
use super::{Browser, CALLBACK, Gate, SHARED, SHOP, oidc, policy};

#[tokio::test]
async fn one_host_that_providers_know_serves_many_with_tickets() {
    let central = Oidc {
        redirect_url: Some(CALLBACK.into()),
        hosts: vec!["*.apps.example.com".into(), "news.example.net".into()],
        ..oidc(&SHARED.issuer)
    };
    let gate = Gate::open(policy(central));
    let mut browser = Browser::new(&gate, "ada").await;
    for host in ["https://one.apps.example.com", "https://news.example.net", SHOP] {
        let page = browser.open(&format!("{host}/deep?x=1")).await;
        assert_eq!((page.status, page.url.as_str()), (200, format!("{host}/deep?x=1").as_str()));
        let session = browser.session().unwrap();
        assert!(!session.subdomains, "{session:?}");
    }
    assert_eq!(browser.cookies.iter().filter(|cookie| cookie.name.contains("session-")).count(), 6, "two on each host");
    for host in ["https://evil.example.org", "https://apps.example.com", "https://one.apps.example.com.evil.com"] {
        let page = browser.open(host).await;
        assert_eq!((page.status, browser.visited.len()), (403, 1), "{host}: {page:?}");
    }
}

#[tokio::test]
async fn a_ticket_is_good_once_on_its_host_and_in_its_browser() {
    let forger = Forger::start().await;
    let central =
        || Oidc { redirect_url: Some(CALLBACK.into()), hosts: vec!["*.example.net".into()], ..oidc(&forger.issuer) };
    let gate = Gate::open(policy(central()));
    let ticket = async |browser: &mut Browser| {
        let started = Started::by(browser, "https://app.example.net/").await;
        forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
        let page = browser.go(&started.callback("code=x")).await;
        assert_eq!((page.status, page.url.host_str()), (302, Some("shop.example.com")));
        assert!(page.header("set-cookie").is_none() && page.location().host_str() == Some("app.example.net"));
        page.location().to_string()
    };
    let mut attacker = Browser::new(&gate, "eve").await;
    let planted = ticket(&mut attacker).await;
    let mut victim = Browser::new(&gate, "ada").await;
    Started::by(&mut victim, "https://app.example.net/").await;
    assert_eq!(victim.go(&planted).await.status, 403, "login CSRF by ticket");
    assert_eq!(attacker.go(&planted).await.status, 400, "and it is spent");

    let moved = ticket(&mut victim).await.replace("app.example.net", "other.example.net");
    assert_eq!(victim.go(&moved).await.status, 400, "another host");
    let own = ticket(&mut victim).await;
    assert_eq!(victim.go(&own).await.status, 302);
    assert_eq!(victim.go(&own).await.status, 400);
    assert_eq!(forger.asked("token"), 1);
}

#[tokio::test]
async fn hosts_of_a_domain_can_share_a_session() {
    let cookie = SessionCookie { domain: Some("example.com".into()), ..SessionCookie::default() };
    let shared = Oidc { redirect_url: Some(CALLBACK.into()), cookie, ..oidc(&SHARED.issuer) };
    let gate = Gate::open(policy(shared));
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.open("https://one.example.com/x").await;
    assert_eq!((page.status, page.url.as_str()), (200, "https://one.example.com/x"));
    let session = browser.session().unwrap();
    assert!(session.name.starts_with("__Secure-session-") && session.host == "example.com", "{session:?}");
    for host in ["https://two.example.com", "https://a.b.example.com", SHOP] {
        let page = browser.open(host).await;
        assert_eq!((page.status, browser.visited.len()), (200, 1), "{host}");
    }
    assert_eq!(browser.open("https://example.net").await.status, 403);
    assert_eq!(browser.open("https://evilexample.com").await.status, 403);
}

#[tokio::test]
async fn the_user_chooses_between_providers() {
    let forger = Forger::start().await;
    let mut both = oidc(&SHARED.issuer);
    both.providers[0].display_name = Some("Our <own>".into());
    both.providers.push(second(&forger.issuer));
    let gate = Gate::open(policy(both));
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.go(&format!("{SHOP}/a?b=c&d=\"")).await;
    assert_eq!((page.status, browser.cookies.len()), (200, 0));
    assert!(
        page.upstream.is_none() && page.body.contains("Our &lt;own&gt;") && page.body.contains(">second<"),
        "{}",
        page.body
    );
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let link = page.body.split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let page = browser.open(&format!("{SHOP}{link}")).await;
    assert_eq!((page.status, page.url.as_str()), (200, "https://shop.example.com/a?b=c&d=%22"));
    assert_eq!(page.upstream.unwrap().metadata["main"]["sub"], "ada");
    for hint in ["/?idp_hint=second", "/oauth2/login?provider=second"] {
        let mut browser = Browser::new(&gate, "ada").await;
        let page = browser.go(&format!("{SHOP}{hint}")).await;
        assert!(page.location().as_str().starts_with(&forger.issuer), "{hint}");
    }
    assert_eq!(
        Browser::new(&gate, "ada").await.go(&format!("{SHOP}/?idp_hint=third")).await.status,
        200,
        "the choice again"
    );
}

#[tokio::test]
async fn only_allowed_users_get_a_session() {
    let allow = Allow {
        email_domains: Some(vec!["example.com".into()]),
        groups: Some(vec!["admins".into()]),
        ..Allow::default()
    };
    let gate = Gate::open(policy(Oidc { allow, ..oidc(&SHARED.issuer) }));
    for (user, expected) in [("ada", 200), ("eve", 403), ("mallory", 403), ("bob", 403)] {
        let mut browser = Browser::new(&gate, user).await;
        let page = browser.open(SHOP).await;
        assert_eq!(page.status, expected, "{user}: {page:?}");
        assert_eq!(browser.session().is_some(), expected == 200);
        assert!(!page.body.contains("admins") && !page.body.contains("example.com\u{20}"));
    }
    // Whoever was allowed before a change is not after it.
    let all = Gate::open(policy(oidc(&SHARED.issuer)));
    let mut bob = Browser::new(&all, "bob").await;
    assert_eq!(bob.open(SHOP).await.status, 200);
    let allow = Allow { groups: Some(vec!["admins".into()]), ..Allow::default() };
    all.authorizer.replace(&[policy(Oidc { allow, ..oidc(&SHARED.issuer) })]).unwrap();
    let page = bob.open(SHOP).await;
    assert_eq!((page.status, bob.visited.len()), (403, 1), "{page:?}");
}

#[tokio::test]
async fn a_strict_cookie_is_set_by_a_page_of_ours() {
    let forger = Forger::start().await;
    let cookie = SessionCookie {
        same_site: SameSite::Strict,
        name: Some("__Host-session-s".into()),
        ..SessionCookie::default()
    };
    let gate = Gate::open(policy(Oidc { cookie, ..oidc(&forger.issuer) }));
    let mut browser = Browser::new(&gate, "ada").await;
    let page = forger.login(&mut browser, |nonce| Forger::tokens(&forger.sign(&forger.claims(nonce)))).await;
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("<meta http-equiv=\"refresh\" content=\"0;url=https://shop.example.com/\">"),
        "{}",
        page.body
    );
    assert!(browser.session().unwrap().attributes.contains("SameSite=Strict"));
    let login = browser.cookies.iter().find(|cookie| cookie.name.ends_with("-login")).unwrap();
    assert!(login.attributes.contains("SameSite=Lax"), "the provider's redirect has to carry it");
}

#[tokio::test]
async fn c2_41_cookies_that_were_tossed_are_no_session() {
    let gate = Gate::open(policy(oidc(&SHARED.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let session = browser.session().unwrap().clone();
    let (name, id) = (&session.name, &session.value);
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    for cookie in [
        format!("{name}={id}; {name}={id}"),
        format!("{name}=other; {name}={id}"),
        format!("{name}={id}, {name}={id}"),
        format!("{name}={id}x"),
        format!("{name}={}", &id[1..]),
        format!("{name}=\"{id}\""),
        format!("{}={id}", name.to_lowercase()),
    ] {
        browser.headers.insert("cookie".into(), cookie.clone());
        assert_eq!(browser.ask("GET", SHOP, b"").await.status, 401, "{cookie}");
    }
    browser.headers.insert("cookie".into(), format!("a=b; {name}={id}; c=d"));
    let upstream = browser.ask("GET", SHOP, b"").await.upstream.unwrap();
    assert_eq!(upstream.set["cookie"], "a=b; c=d", "the upstream does not see ours");
}
