//! CRDs that are older or newer than ours, and such that let everything pass.

use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, free_port, gateway_api_crds, our_crds},
    controller::{Controller, controller_name, manifests, route},
    refusals,
    tool::eventually,
    xds::Envoy,
};

const ACCEPTED: [&str; 3] = ["Accepted", "True", "Accepted"];

fn parsed(crds: &[String]) -> Vec<Value> {
    crds.iter().map(|crd| serde_saphyr::from_str(crd).unwrap()).collect()
}

/// Leaves the last of the versions, which is the oldest.
fn make_older(crd: &mut Value) {
    let versions = crd["spec"]["versions"].as_array_mut().unwrap();
    let mut oldest = versions.pop().unwrap();
    oldest["served"] = json!(true);
    oldest["storage"] = json!(true);
    *versions = vec![oldest];
}

/// Adds a field and a value that nobody knows yet.
fn make_newer(crd: &mut Value) {
    for version in crd["spec"]["versions"].as_array_mut().unwrap() {
        let spec = version.pointer_mut("/schema/openAPIV3Schema/properties/spec/properties").unwrap();
        spec["wormhole"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let filter = "/rules/items/properties/filters/items/properties/type/enum";
        spec.pointer_mut(filter).unwrap().as_array_mut().unwrap().push(json!("Teleport"));
    }
}

#[tokio::test]
async fn c13_kinds_may_be_older_or_newer() {
    let server = ApiServer::bare().await;
    for mut crd in parsed(&gateway_api_crds()) {
        match crd["spec"]["names"]["kind"].as_str().unwrap() {
            "HTTPRoute" => make_newer(&mut crd),
            _ => make_older(&mut crd),
        }
        server.define(crd.to_string()).await;
    }
    let controller = Controller::start(&server, "aged", &[]).await;
    let (older, newest) = manifests("aged").rsplit_once("---").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    server.apply(&older.replace("gateway.networking.k8s.io/v1\n", "gateway.networking.k8s.io/v1beta1\n")).await;
    let spec = "wormhole: {to: [elsewhere]}\n  parentRefs:";
    server.apply(&newest.replace("parentRefs:", spec)).await;
    let mut envoy = Envoy::connect(controller.xds, "aged/aged").await;
    envoy.until("httproute/aged/app/rule/0", true).await;
    let app = server.until_condition("HTTPRoute", "aged", "app", ACCEPTED).await;
    assert_eq!(app["spec"]["wormhole"]["to"][0], "elsewhere");

    // One that cannot be read is told of, and all others go on.
    let rules = "rules: [{filters: [{type: Teleport}], backendRefs";
    server.apply(&route("aged", "beyond", "aged").replace("rules: [{backendRefs", rules)).await;
    eventually("it is counted", async || (controller.metric("controller_malformed_objects").await == 1).then_some(()))
        .await;
    server.apply(&route("aged", "other", "aged")).await;
    envoy.until("httproute/aged/other/rule/0", true).await;
    server.until_condition("HTTPRoute", "aged", "other", ACCEPTED).await;
    // What it does not have yet, it has later.
    server.define_ours().await;
    let policy = json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "BackendTrafficPolicy",
        "metadata": {"name": "app", "namespace": "aged"},
        "spec": {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "app"}]}});
    server.put(&policy).await;
    server.until_condition("BackendTrafficPolicy", "aged", "app", ACCEPTED).await;
}

/// Takes away all that keeps nonsense out, but the types.
fn unbridle(schema: &mut Value) {
    const BRIDLES: [&str; 11] = [
        "x-kubernetes-validations",
        "pattern",
        "enum",
        "format",
        "maxItems",
        "minItems",
        "maxLength",
        "minLength",
        "maximum",
        "minimum",
        "maxProperties",
    ];
    match schema {
        Value::Object(fields) => {
            // A field may have such a name; then it has a schema.
            fields.retain(|name, value| value.is_object() || !BRIDLES.contains(&name.as_str()));
            fields.values_mut().for_each(unbridle);
        }
        Value::Array(items) => items.iter_mut().for_each(unbridle),
        _ => {}
    }
}

/// As large as etcd takes them: 1.1 MB, and 128 matches.
fn large(name: &str) -> Value {
    let header = |number: usize| json!({"name": format!("x-{number}"), "value": "v".repeat(1000)});
    let matches = |rule: usize| -> Value {
        let one = |number: usize| {
            let headers: Value = (0..8).map(header).collect();
            json!({"path": {"type": "PathPrefix", "value": format!("/large/{rule}/{number}")}, "headers": headers})
        };
        (0..8).map(one).collect()
    };
    let rules: Value = (0..16).map(|rule| json!({"matches": matches(rule), "filters": redirect()})).collect();
    object("HTTPRoute", name, &json!({"parentRefs": [{"name": "unbridled"}], "rules": rules}))
}

fn redirect() -> Value {
    json!([{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302}}])
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    let group =
        if kind.ends_with("Policy") { "gateway.envoyproxy.io/v1alpha1" } else { "gateway.networking.k8s.io/v1" };
    json!({"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": "unbridled"}, "spec": spec})
}

/// Objects that no schema of ours lets pass.
fn nonsense() -> Vec<Value> {
    let route = |name: &str, hostnames: Value, rule: Value| {
        let spec = json!({"parentRefs": [{"name": "unbridled"}], "hostnames": hostnames, "rules": [rule]});
        object("HTTPRoute", name, &spec)
    };
    let matching = |one: Value| json!({"matches": [one], "filters": redirect()});
    let path = |kind: &str, value: &str| matching(json!({"path": {"type": kind, "value": value}}));
    let header = |name: &str, value: &str| matching(json!({"headers": [{"name": name, "value": value}]}));
    let policy = |kind: &str, name: &str, target: &str, mut spec: Value| {
        spec["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": target}]);
        object(kind, name, &spec)
    };
    let limit = |limit: Value| json!({"rateLimit": {"global": {"rules": [{"limit": limit}]}}});
    let listener = |hostname: &str, port: u32| {
        json!({"gatewayClassName": "unbridled",
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP", "hostname": hostname}]})
    };
    vec![
        route("unicode", json!(["b\u{fc}cher.example", "*.\u{4f8b}\u{3048}.jp", "\u{202e}moc"]), path("Exact", "/")),
        route("blank", json!(["", " ", "a b", "*", "**.example"]), path("Exact", "/")),
        route("no-slash", json!(["no-slash.example"]), path("PathPrefix", "no slash")),
        route("control", json!(["control.example"]), path("Exact", "/\u{0}\r\n")),
        route("regex", json!(["regex.example"]), path("RegularExpression", "(((")),
        route("unknown", json!(["unknown.example"]), path("Telepathy", "/")),
        route("long", json!(["long.example"]), path("Exact", &format!("/{}", "l".repeat(70_000)))),
        route("header", json!(["header.example"]), header("x y\r\n", "a\r\nb: c")),
        route("method", json!(["method.example"]), matching(json!({"method": "BREW\r\n"}))),
        route(
            "weight",
            json!(["weight.example"]),
            json!({"backendRefs": [{"name": "x", "port": 99_999, "weight": -5}]}),
        ),
        route("time", json!(["time.example"]), json!({"timeouts": {"request": "soon"}, "filters": redirect()})),
        route(
            "filters",
            json!(["filters.example"]),
            json!({"filters": [{"type": "RequestRedirect"}, {"type": "URLRewrite"}]}),
        ),
        policy("BackendTrafficPolicy", "fortnight", "time", limit(json!({"requests": 4, "unit": "Fortnight"}))),
        policy("SecurityPolicy", "cors", "filters", json!({"cors": {"allowOrigins": ["\u{0}", "(((", ""]}})),
        object("Gateway", "unicode", &listener("b\u{fc}cher.example", 0)),
        object("Gateway", "far", &listener("far.example", 70_000)),
    ]
}

#[tokio::test]
async fn c14_what_no_schema_has_checked_stops_nothing() {
    let server = ApiServer::bare().await;
    for mut crd in parsed(&[gateway_api_crds(), our_crds()].concat()) {
        for version in crd["spec"]["versions"].as_array_mut().unwrap() {
            unbridle(&mut version["schema"]["openAPIV3Schema"]);
        }
        server.define(crd.to_string()).await;
    }
    let (port, controller_name) = (free_port(), controller_name("unbridled"));
    server.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "unbridled"}})).await;
    server
        .put(&json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "unbridled"}, "spec": {"controllerName": controller_name}}))
        .await;
    let listeners = json!([{"name": "http", "port": port, "protocol": "HTTP"}]);
    let gateway = json!({"gatewayClassName": "unbridled", "listeners": listeners});
    server.put(&object("Gateway", "unbridled", &gateway)).await;
    server.apply(&refusals::redirect("unbridled", "sibling", "one.example", "")).await;
    let controller = Controller::start(&server, "unbridled", &[]).await;
    let _envoy = refusals::Envoy::start(controller.xds, "unbridled/unbridled", ApiType::DeltaGrpc);
    refusals::until(port, "/sibling", "http://one.example/sibling").await;

    server.put(&large("large")).await;
    server.until_condition("HTTPRoute", "unbridled", "large", ACCEPTED).await;
    let nonsense = nonsense();
    for object in &nonsense {
        server.put(object).await;
    }
    server.apply(&refusals::redirect("unbridled", "sibling", "two.example", "")).await;
    refusals::until(port, "/sibling", "http://two.example/sibling").await;
    // Each is told what is wrong with it, but for those that match what nobody asks for, and those that cannot be read.
    let (harmless, unreadable) = (["control", "long"], ["unknown", "method"]);
    for object in &nonsense {
        let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        if harmless.contains(&name) {
            server.until_condition(kind, "unbridled", name, ACCEPTED).await;
        } else if !unreadable.contains(&name) {
            eventually(&format!("{kind} {name} is told what is wrong"), async || {
                let status = server.find(kind, "unbridled", name).await?["status"].to_string();
                status.contains("\"status\":\"False\"").then_some(())
            })
            .await;
        }
    }
    eventually("what cannot be read is counted", async || {
        (controller.metric("controller_malformed_objects").await == 2).then_some(())
    })
    .await;
    eventually("Envoy has accepted everything", async || {
        let envoys = controller.debug("/debug/envoys").await;
        (envoys[0]["current"] == true && envoys[0]["refused"] == json!([])).then_some(())
    })
    .await;
}
