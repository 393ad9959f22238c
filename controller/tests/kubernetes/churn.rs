//! Many changes, as fast as the API server takes them.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use serde_json::Value;

use crate::{
    api_server::ApiServer,
    controller::{Controller, manifests, route},
    tool::eventually,
    xds::Envoy,
};

const CHANGES: usize = 240;
/// Changes that are under way at the same time.
const AT_ONCE: usize = 8;

/// Names of the proxy's resources, by type.
async fn names(controller: &Controller) -> BTreeMap<String, Vec<String>> {
    let resources = controller.debug("/debug/resources").await;
    let types = resources["churned/churned"]["resources"].as_object().cloned().unwrap_or_default();
    let names = |versions: Value| versions.as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    types.into_iter().map(|(kind, versions)| (kind, names(versions))).collect()
}

async fn hash(controller: &Controller) -> Option<String> {
    let resources = controller.debug("/debug/resources").await;
    resources["churned/churned"]["hash"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn c08_after_many_changes_everybody_has_the_final_state_and_nothing_is_left_of_the_others() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("churned")).await;
    let controller = Controller::start(&server, "churned", &["--status-rate", "1000"]).await;
    let mut envoys = Vec::new();
    for _ in 0..3 {
        envoys.push(Envoy::connect(controller.xds, "churned/churned").await);
    }
    // With the Service of the fleet there is a cluster more.
    let before = eventually("the fleet is known", async || {
        let names = names(&controller).await;
        (names.get("Cluster")?.iter().any(|name| name.contains("app")) && names["Cluster"].len() > 1).then_some(names)
    })
    .await;
    for envoy in &mut envoys {
        envoy.until("httproute/churned/app/rule/0", true).await;
    }

    // Each of them is made, changed and deleted again and again, in an order that differs from one to the next.
    let writers = stream::iter(0..AT_ONCE).map(|writer| {
        let server = &server;
        async move {
            for number in 0..CHANGES / AT_ONCE {
                let name = format!("route-{writer}-{}", number % 3);
                let target = if number % 5 == 0 { "elsewhere" } else { "churned" };
                let wanted = route("churned", &name, target).replace(".example.com", &format!("-{number}.example.com"));
                server.apply(&wanted).await;
                if (number + writer) % 4 == 3 {
                    server.delete(&wanted).await;
                }
            }
            for number in 0..3 {
                let last = route("churned", &format!("route-{writer}-{number}"), "churned");
                server.apply(&last).await;
                server.delete(&last).await;
            }
        }
    });
    // While they change, the Envoys take in what they are sent.
    let read = |mut envoy: Envoy| async move {
        envoy.until("httproute/churned/last/rule/0", true).await;
        envoy
    };
    let (envoys, ()) = futures::join!(stream::iter(envoys).map(read).buffer_unordered(3).collect::<Vec<_>>(), async {
        writers.buffer_unordered(AT_ONCE).collect::<()>().await;
        server.apply(&route("churned", "last", "churned")).await;
    });

    let mut late = Envoy::connect(controller.xds, "churned/churned").await;
    late.until("httproute/churned/last/rule/0", true).await;
    server.delete(&route("churned", "last", "churned")).await;
    late.until("httproute/churned/last/rule/0", false).await;
    for mut envoy in envoys {
        envoy.until("httproute/churned/last/rule/0", false).await;
        assert_eq!(envoy.clusters, late.clusters);
    }
    assert_eq!(names(&controller).await, before);
    // And it is what one comes to who has seen nothing of it.
    let fresh = Controller::start(&server, "churned", &["--identity", "fresh"]).await;
    eventually("a new replica serves the same", async || {
        let (ours, theirs) = (hash(&controller).await?, hash(&fresh).await?);
        (ours == theirs).then_some(())
    })
    .await;
    eventually("the streams that have ended are forgotten", async || {
        (controller.debug("/debug/envoys").await.as_array()?.len() == 1).then_some(())
    })
    .await;
    for number in 0..3 {
        assert!(server.find("HTTPRoute", "churned", &format!("route-0-{number}")).await.is_none());
    }
}
