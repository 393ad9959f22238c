//! HTTPS listeners, with certificates from Secrets in the manifests.

use std::net::SocketAddr;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;

use crate::{
    standalone::{Manifests, Standalone},
    tls::{self, Authority, Pair, Seen},
    tool::eventually,
};

/// Where the Gateway's port 443 is bound.
const PORT: u16 = 10443;

const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: www}
spec:
  parentRefs: [{name: eg, sectionName: www}]
  rules: [{backendRefs: [{name: backend, port: 3000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wildcard}
spec:
  parentRefs: [{name: eg, sectionName: wildcard}]
  hostnames: [a.example.com]
  rules: [{backendRefs: [{name: backend, port: 3000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: any}
spec:
  parentRefs: [{name: eg, sectionName: any}]
  hostnames: [elsewhere.example]
  rules: [{backendRefs: [{name: backend, port: 3000}]}]
";

fn gateway(listeners: &str, tls: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: eg}}\nspec: {{controllerName: \
         gateway.envoyproxy.io/gatewayclass-controller}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: \
         Gateway\nmetadata: {{name: eg}}\nspec:\n  gatewayClassName: eg\n  listeners:\n  - {{name: http, protocol: HTTP, \
         port: 80}}\n{listeners}{tls}"
    )
}

fn listener(name: &str, hostname: &str, secret: &str) -> String {
    let hostname = if hostname.is_empty() { String::new() } else { format!("hostname: \"{hostname}\", ") };
    format!(
        "  - {{name: {name}, protocol: HTTPS, port: 443, {hostname}tls: {{certificateRefs: [{{name: {secret}}}]}}}}\n"
    )
}

/// The quickstart's backend behind another Gateway.
fn manifests(gateway: &str, routes: &str) -> Manifests {
    let manifests = Manifests::of("quickstart");
    for file in ["api-key", "fault", "global-rate-limit", "jwt", "local-rate-limit", "route"] {
        manifests.remove(&format!("{file}.yaml"));
    }
    manifests.write("gateway.yaml", gateway);
    manifests.write("routes.yaml", routes);
    manifests
}

struct Client<'a> {
    address: SocketAddr,
    authority: &'a Authority,
}

impl Client<'_> {
    async fn get(&self, client: Option<&Pair>, server_name: &str, host: &str) -> Option<Seen> {
        tls::get(self.address, self.authority, client, server_name, host).await.ok()
    }

    async fn status(&self, server_name: &str, host: &str) -> Option<u16> {
        self.get(None, server_name, host).await.map(|seen| seen.status)
    }
}

fn shows(seen: &Seen, pair: &Pair) -> bool {
    seen.certificate == CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap().as_ref()
}

#[tokio::test]
async fn each_listener_has_its_certificate_and_its_hosts() {
    let authority = Authority::new();
    let any = authority.issue(&["elsewhere.example", "unknown.example", "www.example.com"]);
    let (www, wildcard) = (authority.issue(&["www.example.com"]), authority.issue(&["*.example.com"]));
    let listeners = [
        listener("any", "", "any"),
        listener("www", "www.example.com", "www"),
        listener("wildcard", "*.example.com", "wildcard"),
    ];
    let manifests = manifests(&gateway(&listeners.concat(), ""), ROUTES);
    for (name, pair) in [("any", &any), ("www", &www), ("wildcard", &wildcard)] {
        manifests.write(&format!("{name}.yaml"), &pair.secret(name));
    }
    let running = Standalone::start(manifests).await;
    let client = Client { address: (running.manifests().address(), PORT).into(), authority: &authority };

    let seen = client.get(None, "www.example.com", "www.example.com").await.unwrap();
    assert!(seen.status == 200 && shows(&seen, &www));
    let seen = client.get(None, "a.example.com", "a.example.com").await.unwrap();
    assert!(seen.status == 200 && shows(&seen, &wildcard));
    let seen = client.get(None, "unknown.example", "elsewhere.example").await.unwrap();
    assert!(seen.status == 200 && shows(&seen, &any));

    for (server_name, host, status) in [
        ("www.example.com", "a.example.com", 421),
        ("www.example.com", "elsewhere.example", 421),
        ("a.example.com", "www.example.com", 421),
        ("a.example.com", "b.example.com", 404),
        ("a.example.com", "unknown.example", 421),
        ("elsewhere.example", "www.example.com", 421),
        ("elsewhere.example", "a.example.com", 421),
        ("elsewhere.example", "unknown.example", 404),
    ] {
        assert_eq!(client.status(server_name, host).await, Some(status), "{server_name} {host}");
    }

    let dump = running.admin("/config_dump").await.body;
    assert!(dump.contains("default/www"), "{dump}");
    for secret in [&any.key, &www.key, &wildcard.key] {
        let part = secret.lines().nth(1).unwrap();
        assert!(!dump.contains(part) && !running.log().contains(part));
    }

    let renewed = authority.issue(&["www.example.com"]);
    running.manifests().write("www.yaml", &renewed.secret("www"));
    eventually("the new certificate is shown", async || {
        client.get(None, "www.example.com", "www.example.com").await.filter(|seen| shows(seen, &renewed))
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn clients_show_their_certificates() {
    let (authority, others) = (Authority::new(), Authority::new());
    let (server, client, stranger) =
        (authority.issue(&["www.example.com"]), authority.issue(&["client"]), others.issue(&["client"]));
    let data = json!({"ca.crt": authority.certificate()});
    let clients = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: clients}}\ndata: {data}\n");
    let asks = |mode| {
        format!(
            "  tls: {{frontend: {{default: {{validation: {{mode: {mode}, caCertificateRefs: [{{group: \"\", kind: \
             ConfigMap, name: clients}}]}}}}}}}}\n"
        )
    };
    let listeners = listener("www", "", "www");
    let routes = ROUTES.split("---").nth(1).unwrap();
    let manifests = manifests(&gateway(&listeners, &asks("AllowValidOnly")), routes);
    manifests.write("www.yaml", &server.secret("www"));
    manifests.write("clients.yaml", &clients);
    let running = Standalone::start(manifests).await;
    let https = Client { address: (running.manifests().address(), PORT).into(), authority: &authority };
    let get = async |pair| https.get(pair, "www.example.com", "www.example.com").await.map(|seen| seen.status);

    assert_eq!(get(Some(&client)).await, Some(200));
    assert_eq!(get(Some(&stranger)).await, None);
    assert_eq!(get(None).await, None);

    running.manifests().write("gateway.yaml", &gateway(&listeners, &asks("AllowInsecureFallback")));
    eventually("everybody is let in", async || get(None).await.filter(|status| *status == 200)).await;
    assert_eq!(get(Some(&stranger)).await, Some(200));

    // Authorities that are gone let nobody in, rather than everybody.
    running.manifests().remove("clients.yaml");
    eventually("nobody is let in", async || get(None).await.is_none().then_some(())).await;
    assert_eq!(get(Some(&client)).await, None);
    running.stop().await;
}
