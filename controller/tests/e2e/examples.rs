//! Every example in `deploy/examples` does what its name says.

use std::time::{Duration, Instant};

use envoy_types::ext_authz::v3::pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse};
use envoy_types::ext_authz::v3::{CheckRequestExt, CheckResponseExt};
use proto::drain;
use proto::serve::{Address, Grpc, Listener};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::oidc;
use crate::redis::Redis;
use crate::standalone::{Manifests, Standalone};
use crate::tool;

const WWW: &str = "www.example.com";
const RATELIMIT: &str = "ratelimit.example";

async fn example(name: &str) -> Standalone {
    Standalone::start(Manifests::of(name)).await
}

#[tokio::test]
async fn quickstart() {
    let gateway = example("quickstart").await;
    let answer = gateway.get(WWW, "/a?b=c", &[("x-a", "1")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.echo()["path"], "/a?b=c");
    assert_eq!(answer.echo()["host"], WWW);
    assert_eq!(answer.echoed("x-a"), ["1"]);

    assert_eq!(gateway.get("nobody.example.org", "/", &[]).await.status, 404);
    let moved = gateway.get(WWW, "/old/page", &[]).await;
    assert_eq!(moved.status, 301);
    assert!(moved.header("location").ends_with("/new/page"), "{moved:?}");
    assert_eq!(gateway.get(WWW, "/fault", &[]).await.status, 501);
    assert_eq!(gateway.get(WWW, "/jwt", &[]).await.status, 401);
    assert_eq!(gateway.get(WWW, "/keys", &[]).await.status, 401);
    assert_eq!(gateway.get("www.localhost", "/", &[]).await.status, 404, "only where browsers get");
    gateway.stop().await;
}

#[tokio::test]
async fn global_rate_limit_in_memory() {
    counts_each_user(&example("global-rate-limit").await).await;
}

#[tokio::test]
async fn global_rate_limit_in_redis() {
    let redis = Redis::start().await;
    counts_each_user(&Standalone::start_with(Manifests::of("global-rate-limit"), &["--redis", &redis.url()]).await)
        .await;
}

async fn counts_each_user(gateway: &Standalone) {
    for remaining in ["2", "1", "0"] {
        let answer = gateway.get(RATELIMIT, "/", &[("x-user-id", "one")]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-ratelimit-remaining"), remaining, "{answer:?}");
        assert!(answer.header("x-ratelimit-limit").starts_with('3'), "{answer:?}");
        let reset: u32 = answer.header("x-ratelimit-reset").parse().unwrap();
        assert!((1..=3600).contains(&reset), "{answer:?}");
    }
    let over = gateway.get(RATELIMIT, "/", &[("x-user-id", "one")]).await;
    assert_eq!(over.status, 429, "{over:?}");
    assert_eq!(over.header("x-ratelimit-remaining"), "0");
    assert_eq!(gateway.get(RATELIMIT, "/", &[("x-user-id", "two")]).await.status, 200);
    let free = gateway.get(RATELIMIT, "/", &[]).await;
    assert_eq!((free.status, free.header("x-ratelimit-limit")), (200, ""), "without the header no rule applies");
}

#[tokio::test]
async fn local_rate_limit() {
    let gateway = example("local-rate-limit").await;
    for _ in 0..3 {
        assert_eq!(gateway.get(RATELIMIT, "/", &[]).await.status, 200);
    }
    let over = gateway.get(RATELIMIT, "/", &[]).await;
    assert_eq!((over.status, over.body.as_str()), (429, "local_rate_limited"));
}

#[tokio::test]
async fn local_then_global() {
    let gateway = example("local-then-global").await;
    let user = |name| [("x-user-id", name)];
    for _ in 0..3 {
        assert_eq!(gateway.get(RATELIMIT, "/", &user("one")).await.status, 200);
    }
    let global = gateway.get(RATELIMIT, "/", &user("one")).await;
    assert_eq!((global.status, global.body.as_str()), (429, ""), "the fourth of one user, of three");
    assert_eq!(gateway.get(RATELIMIT, "/", &user("two")).await.status, 200, "the fifth of all");
    let local = gateway.get(RATELIMIT, "/", &user("two")).await;
    assert_eq!((local.status, local.body.as_str()), (429, "local_rate_limited"), "the sixth of all, of five");
}

#[tokio::test]
async fn jwt() {
    let gateway = example("jwt").await;
    let bearer = |role: &str| {
        let file = tool::workspace().join(format!("deploy/examples/jwt/{role}.jwt"));
        format!("Bearer {}", std::fs::read_to_string(file).unwrap().trim())
    };
    let none = gateway.get(WWW, "/foo", &[]).await;
    assert_eq!((none.status, none.body.as_str()), (401, "Jwt is missing"));
    assert!(none.header("www-authenticate").starts_with("Bearer"), "{none:?}");

    let admin = bearer("admin");
    let good = gateway.get(WWW, "/foo", &[("authorization", &admin), ("x-jwt-sub", "mallory")]).await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_eq!(good.echoed("x-jwt-sub"), ["alice"]);
    assert_eq!(gateway.get(WWW, "/foo", &[("authorization", &bearer("guest"))]).await.status, 403);

    let (signed, _) = admin.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(342));
    assert_eq!(gateway.get(WWW, "/foo", &[("authorization", &forged)]).await.status, 401);
}

#[tokio::test]
async fn api_key() {
    let gateway = example("api-key").await;
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 401);
    assert_eq!(gateway.get(WWW, "/", &[("x-api-key", "wrong")]).await.status, 401);
    let spoofed = [("x-api-key", "supersecret"), ("x-client-id", "root"), ("x-client-tier", "platinum")];
    let good = gateway.get(WWW, "/", &spoofed).await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_eq!(good.echoed("x-client-id"), ["client1"]);
    assert_eq!(good.echoed("x-client-tier"), ["gold"]);
    assert_eq!(good.echoed("x-api-key"), [""; 0], "the key stays here");
    assert!(!gateway.log().contains("supersecret"));
}

#[tokio::test]
async fn api_key_tiers() {
    let gateway = example("api-key-tiers").await;
    let gold = [("x-api-key", "anns-key")];
    for remaining in ["3", "2", "1", "0"] {
        let answer = gateway.get(WWW, "/", &gold).await;
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining")), (200, remaining), "{answer:?}");
    }
    assert_eq!(gateway.get(WWW, "/", &gold).await.status, 429);
    for client in ["bobs-key", "bens-key"] {
        // Whoever claims another tier, or to be somebody else, has the same quota as before.
        let spoofed = [("x-api-key", client), ("x-client-tier", "gold"), ("x-client-id", "carol")];
        let honest = [("x-api-key", client)];
        assert_eq!(gateway.get(WWW, "/", &spoofed).await.status, 200);
        assert_eq!(gateway.get(WWW, "/", &honest).await.status, 200);
        assert_eq!(gateway.get(WWW, "/", &spoofed).await.status, 429);
        assert_eq!(gateway.get(WWW, "/", &honest).await.status, 429);
    }
    for _ in 0..5 {
        assert_eq!(
            gateway.get(WWW, "/", &[("x-client-tier", "gold")]).await.status,
            401,
            "nobody's requests cost nobody"
        );
    }
}

#[tokio::test]
async fn jwt_remote() {
    let manifests = Manifests::of("jwt-remote");
    let provider = oidc::provider(&manifests);
    let gateway = Standalone::start(manifests).await;
    assert_eq!(gateway.get(WWW, "/foo", &[]).await.status, 401);
    let token = provider.token("robot", "robots-secret", "https://api.example.com").await;
    let bearer = format!("Bearer {token}");
    // Envoy fetches the keys by itself, at its own time.
    tool::eventually("Envoy has the keys", async || {
        let answer = gateway.get(WWW, "/foo", &[("authorization", &bearer), ("x-client-id", "root")]).await;
        (answer.status == 200).then(|| assert_eq!(answer.echoed("x-client-id"), ["robot"]))
    })
    .await;
    let other = provider.token("robot", "robots-secret", "https://other.example.com").await;
    let refused = gateway.get(WWW, "/foo", &[("authorization", &format!("Bearer {other}"))]).await;
    assert_eq!(refused.status, 403, "a token for somebody else: {refused:?}");
}

#[tokio::test]
async fn basic_auth() {
    let gateway = example("basic-auth").await;
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 401);
    // foo:baz, nobody:bar and foo.
    for wrong in ["Zm9vOmJheg==", "bm9ib2R5OmJhcg==", "Zm9v"] {
        assert_eq!(gateway.get(WWW, "/", &[("authorization", &format!("Basic {wrong}"))]).await.status, 401, "{wrong}");
    }
    // foo:bar and jane:baz.
    for (user, credential) in [("foo", "Zm9vOmJhcg=="), ("jane", "amFuZTpiYXo=")] {
        let sent = [("authorization", format!("Basic {credential}")), ("x-user", "root".to_owned())];
        let good = gateway.get(WWW, "/", &sent.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
        assert_eq!(good.status, 200, "{good:?}");
        assert_eq!(good.echoed("x-user"), [user]);
    }
}

#[tokio::test]
async fn circuit_breaker() {
    let gateway = example("circuit-breaker").await;
    let burst = (0..40).map(|_| gateway.get(WWW, "/", &[("x-echo-delay-ms", "1000")]));
    let answers = futures::future::join_all(burst).await;
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    // Envoy's threads count together without a lock, so that it can be one more or less.
    assert!((8..=12).contains(&admitted), "{admitted} at a time, of 10");
    for broken in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(broken.status, 503);
        assert!(broken.body.contains("overflow"), "{broken:?}");
    }
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200, "closed again");
}

#[tokio::test]
async fn fault_abort() {
    let gateway = example("fault-abort").await;
    let mut aborted = 0_u32;
    for _ in 0..200 {
        match gateway.get(WWW, "/foo", &[]).await.status {
            501 => aborted += 1,
            status => assert_eq!(status, 200),
        }
    }
    // Five standard deviations around one half.
    assert!((65..=135).contains(&aborted), "{aborted} of 200");
}

#[tokio::test]
async fn fault_delay() {
    let gateway = example("fault-delay").await;
    let sent = Instant::now();
    assert_eq!(gateway.get(WWW, "/foo", &[]).await.status, 200);
    assert!(sent.elapsed() >= Duration::from_secs(2), "{:?}", sent.elapsed());
}

#[tokio::test]
async fn redirect_rewrite() {
    let gateway = example("redirect-rewrite").await;
    let moved = gateway.get("redirect.example", "/old/a?b=c", &[]).await;
    assert_eq!(moved.status, 301);
    assert!(moved.header("location").contains("redirect.example"), "{moved:?}");
    assert!(moved.header("location").ends_with("/new/a?b=c"), "{moved:?}");

    let rewritten = gateway.get("path.rewrite.example", "/get/origin", &[("x-removed", "1")]).await;
    assert_eq!(rewritten.status, 200);
    assert_eq!(rewritten.echo()["path"], "/replace/origin");
    assert_eq!(rewritten.echo()["host"], "envoygateway.io");
    assert_eq!(rewritten.echoed("x-added"), ["yes"]);
    assert_eq!(rewritten.echoed("x-removed"), [""; 0]);
    assert_eq!(rewritten.header("x-seen"), "tollgate");
}

#[tokio::test]
async fn ext_auth_grpc() {
    let manifests = Manifests::of("ext-auth-grpc");
    let service = Address::Tcp((manifests.address(), 9002).into());
    let (trigger, signal) = drain::new();
    let server = Grpc::new(Listener::bind(&service).unwrap());
    let serving = tokio::spawn(server.serve(Routes::new(AuthorizationServer::new(Friends)), signal));

    let gateway = Standalone::start(manifests).await;
    assert_eq!(gateway.get(WWW, "/myapp", &[("x-friend", "yes")]).await.status, 200);
    assert_eq!(gateway.get(WWW, "/myapp", &[]).await.status, 403);

    // Who cannot be asked denies.
    trigger.drain();
    serving.await.unwrap().unwrap();
    assert_eq!(gateway.get(WWW, "/myapp", &[("x-friend", "yes")]).await.status, 403);
}

/// Lets pass who says to be a friend.
struct Friends;

#[tonic::async_trait]
impl Authorization for Friends {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let friend = request.get_client_headers().is_some_and(|headers| headers.contains_key("x-friend"));
        let status = if friend { Status::ok("welcome") } else { Status::permission_denied("no friend") };
        Ok(Response::new(CheckResponse::with_status(status)))
    }
}
