//! What an operator decides about the translation, as opposed to what the users' objects say.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

/// Input of [`crate::translate`] beside the snapshot. [`Settings::default`] is Envoy Gateway's default installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// GatewayClasses with this `controllerName` are ours.
    pub controller_name: String,
    /// Namespace of the controller and, by default, of the proxies.
    pub namespace: String,
    /// The cluster's DNS suffix.
    pub dns_domain: String,
    /// The `Backend` API is on (upstream's `extensionApis.enableBackend`).
    pub backend: bool,
    /// Proxies run on this host: loopback backends are allowed.
    pub running_on_host: bool,
    /// Where Envoy finds `ratelimit`; `None` refuses global rate limits.
    pub rate_limit: Option<RateLimitService>,
    /// Where Envoy finds `extauth`; `None` refuses policies that need it.
    pub extauth: Option<ServiceAddress>,
    /// Address that the listeners of a proxy bind, by proxy key; the default is all addresses.
    pub addresses: BTreeMap<String, IpAddr>,
    /// Where Envoy writes its access log, `None` for nowhere.
    pub access_log: Option<String>,
    /// Fleets run in the namespaces of their Gateways instead of the controller's.
    pub gateway_namespace_mode: bool,
    /// How fleets in the controller's namespace show who they are; those elsewhere have tokens.
    pub credentials: Credentials,
    /// Envoy's image, with its tag.
    pub envoy_image: String,
    /// The image of this program, which runs beside each Envoy to end it gracefully.
    pub controller_image: String,
}

impl Default for Settings {
    fn default() -> Self {
        let namespace = "envoy-gateway-system";
        Self {
            controller_name: "gateway.envoyproxy.io/gatewayclass-controller".into(),
            namespace: namespace.into(),
            dns_domain: "cluster.local".into(),
            backend: true,
            running_on_host: false,
            rate_limit: Some(RateLimitService {
                address: ServiceAddress::Dns {
                    host: format!("envoy-ratelimit.{namespace}.svc.cluster.local"),
                    port: 8081,
                },
                timeout: None,
                fail_closed: false,
            }),
            extauth: Some(ServiceAddress::Dns {
                host: format!("envoy-extauth.{namespace}.svc.cluster.local"),
                port: 10003,
            }),
            addresses: BTreeMap::new(),
            access_log: Some("/dev/stdout".into()),
            gateway_namespace_mode: false,
            credentials: Credentials::default(),
            envoy_image: "docker.io/envoyproxy/envoy:distroless-v1.39.0".into(),
            controller_image: concat!("docker.io/tollgate/controller:", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

impl Settings {
    /// The port that Envoy binds for a Gateway's port: unprivileged, so ports below 1024 move up by 10,000.
    pub fn bind_port(&self, gateway_port: u16) -> u16 {
        if gateway_port < 1024 { gateway_port + 10_000 } else { gateway_port }
    }

    /// Host name of the control plane's Service, as Envoy and its certificate know it.
    pub fn controller_host(&self) -> String {
        format!("envoy-gateway.{}.svc.{}", self.namespace, self.dns_domain)
    }

    /// How the Envoys of fleets show who they are, wherever they run.
    pub fn credentials(&self) -> Credentials {
        // No certificate of ours lies in the namespaces of Gateways.
        if self.gateway_namespace_mode { Credentials::Token } else { self.credentials }
    }

    /// The address that the listeners of the proxy `key` bind.
    pub fn bind_address(&self, key: &str) -> IpAddr {
        self.addresses.get(key).copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// How the Envoys of a fleet show the control plane who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// A certificate, the same for all fleets, as in Envoy Gateway.
    #[default]
    Certificate,
    /// The token of their pods' ServiceAccount, which is their fleet's own.
    Token,
    /// Both.
    CertificateAndToken,
}

impl Credentials {
    /// A certificate is among them.
    pub fn has_certificate(self) -> bool {
        self != Self::Token
    }

    /// A token is among them.
    pub fn has_token(self) -> bool {
        self != Self::Certificate
    }
}

/// How Envoy reaches the rate limit service and what it does without it.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitService {
    /// Where it listens.
    pub address: ServiceAddress,
    /// Deadline of one call; `None` is Envoy's own 20 ms.
    pub timeout: Option<Duration>,
    /// Answer 500 instead of letting the request pass when the service cannot be asked.
    pub fail_closed: bool,
}

/// Where one of Tollgate's own gRPC services listens.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceAddress {
    /// A Kubernetes Service, over mTLS.
    Dns {
        /// Host name that Envoy resolves.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// An address on this machine, in clear text.
    Ip(IpAddr, u16),
    /// A unix socket, in clear text.
    Unix(String),
}
