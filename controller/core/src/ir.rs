//! What a proxy must do, with every reference resolved and every policy decided.
//!
//! [`crate::translate`] builds it from a [`crate::Snapshot`]; [`crate::xds`] turns it into Envoy's messages and looks at
//! nothing else. A policy's own spec stays as the API's struct; only what its references point at is put beside it.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use controller_api::{
    backend_traffic_policy::BackendTrafficPolicySpec, cluster_settings::Retry, security_policy::SecurityPolicySpec,
};

mod backend_tls;
mod filters;

pub use backend_tls::{Authorities, BackendTls, ServerName, SubjectAltName};
pub use filters::{Credential, ExternalAuth, HttpFilters, Session};

mod tls;
mod transport;

pub use tls::{Certificate, ClientValidation, Termination, Tls};
pub use transport::{TcpListener, TcpRoute, UdpListener, UdpRoute};

/// Names one object of the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// As written in the manifest, such as `HTTPRoute`.
    pub kind: &'static str,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// One Envoy fleet: everything that a Gateway, or all Gateways of a class together, ask of their proxies.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// `<namespace>/<gateway>`, or the class's name with merged Gateways; also Envoy's `--service-cluster` and the key of
    /// its xDS snapshot.
    pub key: String,
    /// The Gateways that it serves, in order of precedence.
    pub gateways: Vec<ObjectRef>,
    /// HTTP and HTTPS listeners: those of the Gateway in the order of its spec, then those of its ListenerSets. Invalid
    /// ones are left out.
    pub http: Vec<HttpListener>,
    /// TCP and TLS listeners, likewise.
    pub tcp: Vec<TcpListener>,
    /// UDP listeners, likewise.
    pub udp: Vec<UdpListener>,
    /// By Gateway, shown to backends that are spoken to over TLS and ask for a certificate.
    pub client_certificates: BTreeMap<ObjectRef, Certificate>,
    /// The Service before this fleet, once it exists; Envoy's local cluster for zone-aware routing.
    pub local: Option<Local>,
}

impl Proxy {
    /// What the listeners of `gateway` show to backends.
    pub fn client_certificate(&self, gateway: &ObjectRef) -> Option<&Certificate> {
        self.client_certificates.get(gateway)
    }

    /// Takes what another Gateway asks of the same fleet.
    pub(crate) fn join(&mut self, other: Self) {
        self.gateways.extend(other.gateways);
        self.http.extend(other.http);
        self.tcp.extend(other.tcp);
        self.udp.extend(other.udp);
        self.client_certificates.extend(other.client_certificates);
    }
}

/// The replicas of a fleet as they find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// The Service, with its first port as section.
    pub origin: Origin,
    /// By zone, which is empty when a slice names none.
    pub zones: BTreeMap<String, Vec<Endpoint>>,
}

/// The object that a piece of configuration comes from, as Envoy's metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The object.
    pub object: ObjectRef,
    /// Part of it: a Service's port.
    pub section: Option<String>,
}

/// One HTTP or HTTPS listener with the routes attached to it.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpListener {
    /// `<namespace>/<gateway>/<listener>`; `<namespace>/<gateway>/<namespace>/<set>/<listener>` for one of a ListenerSet.
    pub name: String,
    /// The Gateway that it belongs to.
    pub gateway: ObjectRef,
    /// The Gateway or ListenerSet that has it in its spec.
    pub parent: ObjectRef,
    /// The listener's name there, which is a policy's `sectionName`.
    pub section: String,
    /// Address that Envoy binds.
    pub address: IpAddr,
    /// Port that Envoy binds (see [`crate::Settings::bind_port`]).
    pub port: u16,
    /// Port as written in the Gateway's spec.
    pub gateway_port: u16,
    /// `*` when the listener takes every host.
    pub hostname: String,
    /// For HTTPS.
    pub tls: Option<Termination>,
    /// One for each rule, match and hostname, most specific first within a hostname.
    pub routes: Vec<HttpRoute>,
}

/// One match of one rule of one route on one hostname, with the policies that are in force on it.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRoute {
    /// What the route says itself. What changes it through this route changes a copy.
    pub bare: Arc<BareRoute>,
    /// The effective BackendTrafficPolicy, shared by all routes that have it.
    pub traffic: Option<Arc<Traffic>>,
    /// The effective SecurityPolicy.
    pub security: Option<Arc<Security>>,
}

impl HttpRoute {
    /// Whether these are the very same route and policies, which takes no look into them.
    pub(crate) fn is(&self, other: &Self) -> bool {
        fn address<T>(one: Option<&Arc<T>>) -> Option<*const T> {
            one.map(Arc::as_ptr)
        }
        Arc::ptr_eq(&self.bare, &other.bare)
            && address(self.traffic.as_ref()) == address(other.traffic.as_ref())
            && address(self.security.as_ref()) == address(other.security.as_ref())
    }
}

impl From<Arc<BareRoute>> for HttpRoute {
    fn from(bare: Arc<BareRoute>) -> Self {
        Self { bare, traffic: None, security: None }
    }
}

impl Deref for HttpRoute {
    type Target = BareRoute;

    fn deref(&self) -> &BareRoute {
        &self.bare
    }
}

impl DerefMut for HttpRoute {
    fn deref_mut(&mut self) -> &mut BareRoute {
        Arc::make_mut(&mut self.bare)
    }
}

/// A route without policies.
#[derive(Clone, Debug, PartialEq)]
pub struct BareRoute {
    /// `httproute/<ns>/<name>/rule/<i>/match/<j>/<hostname with . as _>`, or `grpcroute/…`, with `match/-1` for a rule without matches;
    /// the level-one rate limit descriptor too.
    pub name: String,
    /// The route object it comes from.
    pub route: ObjectRef,
    /// Index of the rule in the route.
    pub rule: usize,
    /// The rule's own name, which is a policy's `sectionName`.
    pub rule_name: Option<String>,
    /// The virtual host it belongs to: the intersection of the route's and the listener's hostname.
    pub hostname: String,
    /// What a request must look like.
    pub matches: Match,
    /// What happens to it.
    pub action: Action,
    /// Header changes on the request, in the order of the filters.
    pub request_headers: HeaderMutations,
    /// Header changes on the response.
    pub response_headers: HeaderMutations,
    /// Rewrites of path and host, for [`Action::Forward`] only.
    pub rewrite: Option<Rewrite>,
    /// Copies of the request sent elsewhere.
    pub mirrors: Vec<Mirror>,
    /// Of the rule, for Envoy's HTTP filters.
    pub filters: HttpFilters,
    /// `timeouts.request` and `timeouts.backendRequest` of the rule.
    pub timeouts: RouteTimeouts,
    /// The rule's `retry`; wins over the policy's.
    pub retry: Option<Retry>,
    /// The route object's annotations below `gateway.envoyproxy.io/`, without that prefix, for `filter_metadata`.
    pub metadata: BTreeMap<String, String>,
}

/// All conditions hold together. An empty one matches every request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// `None` is the prefix `/`.
    pub path: Option<PathMatch>,
    /// Upper-case method.
    pub method: Option<String>,
    /// Names as written; their case does not matter.
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    pub query_params: Vec<ValueMatch>,
    /// Cookies.
    pub cookies: Vec<ValueMatch>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole path segments from the left.
    Prefix(String),
    /// The end of the path; a gRPC method of any service.
    Suffix(String),
    /// RE2 over the whole path.
    RegularExpression(String),
}

/// A named value and how it is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueMatch {
    /// Name of the header, parameter or cookie.
    pub name: String,
    /// Text or pattern.
    pub value: String,
    /// RE2 over the whole value rather than equality.
    pub regex: bool,
}

/// What a route does with a request that matches.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send it to a backend.
    Forward(Destination),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer at once; 500 where the route or its policy is broken.
    Respond {
        /// HTTP status.
        status: u16,
        /// Body text, empty for none.
        body: String,
        /// The body has Envoy's `%COMMANDS%` in it.
        format: bool,
    },
}

/// The cluster of one rule, or of what else is sent somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Cluster name, `httproute/<ns>/<name>/rule/<i>`; `…-mirror-<index of the filter>` for a mirror.
    pub name: String,
    /// One for each backendRef with a weight above zero, invalid ones included.
    pub backends: Vec<Backend>,
}

/// One backendRef, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// `<destination>/backend/<index of the backendRef>`.
    pub name: String,
    /// Share of the traffic relative to its siblings.
    pub weight: u32,
    /// The object that the reference names; `None` when the reference is broken.
    pub origin: Option<Origin>,
    /// Where it is; `None` when the reference is broken, so that its share of requests answers 500.
    pub endpoints: Option<Endpoints>,
    /// Speaks HTTP/2 (`appProtocol: kubernetes.io/h2c`, or a backend of gRPC calls).
    pub http2: bool,
    /// Takes traffic only while its siblings are down.
    pub fallback: bool,
    /// How Envoy speaks TLS with it; `None` for clear text.
    pub tls: Option<Arc<BackendTls>>,
    /// Request header changes of the backendRef's own filters.
    pub request_headers: HeaderMutations,
    /// Response header changes of the backendRef's own filters.
    pub response_headers: HeaderMutations,
}

/// Where a backend's replicas are found.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoints {
    /// Fixed addresses, sorted; empty when the Service has none ready, which answers 503.
    Static(Vec<Endpoint>),
    /// Host names that Envoy resolves.
    Dns(Vec<(String, u16)>),
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A TCP address.
    Ip(IpAddr, u16),
    /// A unix socket's path.
    Unix(String),
}

/// Set, add and remove, as Gateway API's header modifier filters mean them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderMutations {
    /// Name and value that replace what is there.
    pub set: Vec<(String, String)>,
    /// Name and value appended to what is there.
    pub add: Vec<(String, String)>,
    /// Names taken away.
    pub remove: Vec<String>,
}

/// An URLRewrite filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    /// Replaces the Host header.
    pub hostname: Option<HostRewrite>,
    /// Tells the backend the old one as `X-Forwarded-Host`.
    pub append_x_forwarded_host: bool,
    /// Replaces the path.
    pub path: Option<PathRewrite>,
}

/// Where a request's new host comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum HostRewrite {
    /// Fixed.
    Literal(String),
    /// From a header of the request.
    Header(String),
    /// The DNS name of the endpoint that is chosen.
    Backend,
    /// The path, with what `pattern` matches replaced.
    PathRegex {
        /// RE2.
        pattern: String,
        /// `\1` is the pattern's first group.
        substitution: String,
    },
}

/// How a path is replaced, in rewrites and redirects.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// The whole path.
    Full(String),
    /// Only what the rule's prefix matched.
    Prefix(String),
    /// What a pattern matches.
    Regex {
        /// RE2.
        pattern: String,
        /// `\1` is the pattern's first group.
        substitution: String,
    },
}

/// A RequestRedirect filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host of the `Location`.
    pub hostname: Option<String>,
    /// Path of the `Location`.
    pub path: Option<PathRewrite>,
    /// Port of the `Location`, already decided by Gateway API's rules for unset ports.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A RequestMirror filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Cluster that gets the copies.
    pub destination: Destination,
    /// Numerator and denominator of the share of requests that is copied.
    pub fraction: (u32, u32),
}

/// The rule's `timeouts`; `Some(0)` means none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RouteTimeouts {
    /// Whole exchange, in milliseconds.
    pub request_ms: Option<u64>,
    /// One attempt, in milliseconds.
    pub backend_request_ms: Option<u64>,
}

/// A BackendTrafficPolicy that is in force on a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// The policy it comes from (with a merge: the more specific one).
    pub policy: ObjectRef,
    /// The effective spec.
    pub spec: BackendTrafficPolicySpec,
    /// Owner of each rule of `spec.rateLimit.global.rules`, in step with them: `<ns>/<policy>/rule/<i>`.
    pub global_rule_names: Vec<String>,
}

/// A SecurityPolicy that is in force on a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Security {
    /// The policy it comes from.
    pub policy: ObjectRef,
    /// The effective spec; what its references point at stands in the fields below.
    pub spec: SecurityPolicySpec,
    /// Where the keys of each provider of `spec.jwt` are, in step with them; `None` where that is in error.
    pub jwks: Vec<Option<Jwks>>,
    /// The backend of `spec.extAuth`, with cluster name `securitypolicy/<ns>/<name>/extauth/0`.
    pub ext_auth: Option<ExtAuth>,
    /// Names of the policies that `extauth` serves for this route; a request has to satisfy all of them.
    pub auth_policies: Vec<String>,
    /// Path to which an OpenID provider posts that a session has ended; `extauth` needs the bodies of these requests.
    pub back_channel_logout: Option<String>,
}

/// The keys of a provider of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Jwks {
    /// Their text.
    Local(String),
    /// Envoy fetches them.
    Remote(RemoteJwks),
}

/// Where Envoy fetches keys.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteJwks {
    /// `securitypolicy/<ns>/<name>/jwt/<index>` for backends of the policy, `<host with . as _>_<port>` for the URL's own host.
    pub destination: Destination,
    /// The host to expect, over TLS and with a certificate of the system's authorities; plain text without it.
    pub server_name: Option<String>,
}

/// The resolved backend of `extAuth`.
#[derive(Clone, PartialEq)]
pub struct ExtAuth {
    /// Its cluster.
    pub destination: Destination,
    /// HTTP/2 `:authority`, the first backend's `<service>.<namespace>:<port>`.
    pub authority: String,
    /// `contextExtensions` with their references read.
    pub context_extensions: BTreeMap<String, String>,
}

/// Names the context extensions only: their values may come from Secrets.
impl fmt::Debug for ExtAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtAuth")
            .field("destination", &self.destination)
            .field("authority", &self.authority)
            .field("context_extensions", &self.context_extensions.keys())
            .finish()
    }
}
