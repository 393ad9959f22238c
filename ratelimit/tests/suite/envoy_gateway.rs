//! The program in the place of the image that Envoy Gateway deploys: its environment, and nothing else.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    rate_limit_response::Code, rate_limit_service_client::RateLimitServiceClient,
};
use tokio::net::{TcpListener, UnixStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

use crate::{
    certificates::{Authority, Pair},
    program::{ask, fetch, free_ports, until},
    redis_server::RedisServer,
    xds_server::XdsServer,
};

/// A pod's container, killed when dropped.
struct Container {
    process: Child,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    grpc: u16,
    http: u16,
    debug: u16,
    metrics: u16,
}

impl Container {
    fn start(certs: &Path, xds: &str, redis: &str, log: &Path) -> Self {
        // A free port may be taken by another test before the program binds it.
        for _ in 0..5 {
            let mut container = Self::spawn(certs, xds, redis, log);
            let mut ended = false;
            until("health or the end", || {
                ended = container.process.try_wait().unwrap().is_some();
                ended || fetch(container.ports.http, "GET", "/healthcheck", "").0 == 200
            });
            if !ended {
                return container;
            }
        }
        panic!("{}", fs::read_to_string(log).unwrap());
    }

    /// With what Envoy Gateway sets; addresses and paths are this test's.
    fn spawn(certs: &Path, xds: &str, redis: &str, log: &Path) -> Self {
        let [grpc, http, debug, metrics] = free_ports();
        let file = |name: &str| certs.join(name).display().to_string();
        let metrics_addr = format!(":{metrics}");
        let environment = [
            ("RUNTIME_ROOT", "/data"),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_IGNOREDOTFILES", "true"),
            ("RUNTIME_WATCH_ROOT", "false"),
            ("LOG_LEVEL", "info"),
            ("USE_STATSD", "false"),
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_URL", xds),
            ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &file("tls.crt")),
            ("GRPC_SERVER_TLS_KEY", &file("tls.key")),
            ("GRPC_SERVER_TLS_CA_CERT", &file("ca.crt")),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &file("tls.crt")),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &file("tls.key")),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &file("ca.crt")),
            ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_URL", redis),
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_ADDR", &metrics_addr),
            ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
            // The rest is `container.env`: a busy machine's patience, and ports that other tests do not have.
            ("REDIS_TIMEOUT", "10s"),
            ("GRPC_PORT", &grpc.to_string()),
            ("PORT", &http.to_string()),
            ("DEBUG_PORT", &debug.to_string()),
        ];
        let process = Command::new(env!("CARGO_BIN_EXE_ratelimit"))
            .env_clear()
            .envs(environment)
            .stderr(fs::File::create(log).unwrap())
            .spawn()
            .unwrap();
        Self { process, ports: Ports { grpc, http, debug, metrics } }
    }

    /// As Envoy does, with the certificate that Envoy Gateway gives it, or without.
    async fn client(&self, authority: &Authority, pair: Option<&Pair>) -> RateLimitServiceClient<Channel> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
        if let Some(Pair { cert, key }) = pair {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", self.ports.grpc)).unwrap();
        RateLimitServiceClient::new(endpoint.tls_config(tls).unwrap().connect().await.unwrap())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port of this test for a Redis on a socket.
async fn tcp(redis: &RedisServer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let socket = redis.socket();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut server = UnixStream::connect(socket).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_gateways_environment_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.issue("localhost");
    pair.write(dir.path(), &authority);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&pair.cert, &pair.key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let mut xds = XdsServer::start("127.0.0.1:0".parse().unwrap(), Some(tls)).await;
    let redis = RedisServer::start();
    let url = tcp(&redis).await;
    let xds_url = format!("localhost:{}", xds.address.port());
    let containers = ["a", "b"].map(|log| Container::start(dir.path(), &xds_url, &url, &dir.path().join(log)));
    let ports = containers[0].ports;
    let mut client = containers[0].client(&authority, None).await;
    let error = ask(&mut client, "joe").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (tonic::Code::Unknown, "no rate limit configuration loaded"));

    assert_eq!(xds.request().await.0.node.unwrap().id, "envoy-ratelimit");
    xds.send("1", &["d"], 2);
    until("the rules", || {
        containers.iter().all(|container| fetch(container.ports.debug, "GET", "/rlconfig", "").1.contains("d.user"))
    });
    // Two replicas share their counters, so they are in Redis.
    let mut other = containers[1].client(&authority, Some(&authority.issue("envoy"))).await;
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::Ok);
    assert_eq!(ask(&mut other, "joe").await.unwrap().overall_code(), Code::Ok);
    let response = ask(&mut client, "joe").await.unwrap();
    assert_eq!(response.overall_code(), Code::OverLimit);
    assert_eq!(response.statuses.len(), 1);

    let (_, metrics) = fetch(ports.metrics, "GET", "/metrics", "");
    assert!(metrics.contains(r#"ratelimit_service_rate_limit_over_limit{domain="d",key1="user"} 1"#), "{metrics}");
    let log = fs::read_to_string(dir.path().join("a")).unwrap();
    assert!(log.contains("GRPC_CLIENT_TLS_CACERT"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}
