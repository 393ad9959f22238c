//! A borrowed view of one question of Envoy's: the request as the upstream will see it, and which policy guards it.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};

use self::wire::Question;

mod wire;

/// The context extension in which Envoy names the policy of a route.
pub const POLICY: &str = "policy";

/// Why a question cannot be understood; it is then answered with a denial.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The attributes lack the HTTP request.
    #[error("the check carries no HTTP request")]
    NoRequest,
    /// A raw header value is no text.
    #[error("a header of the request is not UTF-8")]
    HeaderEncoding,
    /// No protobuf, or not of this message.
    #[error("the check is no CheckRequest")]
    Malformed,
}

/// One question: may this request pass?
#[derive(Debug)]
pub struct Check<'a> {
    policy: Option<&'a str>,
    now: u64,
    source: Source<'a>,
    http: Http<'a>,
    rehearsal: bool,
    headers: Vec<(&'a str, &'a str)>,
}

/// Who is connected to Envoy; what is not known is empty.
#[derive(Debug, Default)]
struct Source<'a> {
    address: Option<&'a str>,
    principal: &'a str,
    certificate: &'a str,
}

/// The request without its headers.
#[derive(Debug, Default)]
struct Http<'a> {
    id: &'a str,
    method: &'a str,
    path: &'a str,
    host: &'a str,
    scheme: &'a str,
    size: i64,
    body: &'a str,
    raw_body: &'a [u8],
}

impl<'a> Check<'a> {
    /// Reads what Envoy sent; `now` is when it is judged.
    pub fn new(request: &'a CheckRequest, now: SystemTime) -> Result<Self, Error> {
        let attributes = request.attributes.as_ref().ok_or(Error::NoRequest)?;
        let http = attributes.request.as_ref().and_then(|request| request.http.as_ref()).ok_or(Error::NoRequest)?;
        Ok(Self {
            policy: attributes.context_extensions.get(POLICY).map(String::as_str),
            now: seconds(now),
            source: attributes.source.as_ref().map(Source::of).unwrap_or_default(),
            headers: headers(http)?,
            http: Http::of(http),
            rehearsal: false,
        })
    }

    /// Reads what Envoy sent, in its encoded form.
    pub fn decode(message: &'a [u8], now: SystemTime) -> Result<Self, Error> {
        let Question { policy, source, asked, http, headers, raw_headers } = Question::read(message)?;
        if !asked {
            return Err(Error::NoRequest);
        }
        let headers = if raw_headers.is_empty() { headers } else { raw_headers };
        Ok(Self { policy, now: seconds(now), source, http, headers, rehearsal: false })
    }

    /// The same question, asked only to see what would become of it: nothing that outlives it may come of it, such as a login
    /// that starts or a failure that counts.
    #[must_use]
    pub fn rehearse(self) -> Self {
        Self { rehearsal: true, ..self }
    }

    /// Whether nothing that outlives the question may come of it.
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsal
    }

    /// The policy's name, if Envoy's configuration gave one.
    pub fn policy(&self) -> Option<&'a str> {
        self.policy
    }

    /// Seconds since 1970 at which the request is judged.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The request's method.
    pub fn method(&self) -> &'a str {
        self.http.method
    }

    /// The request's host as it was sent.
    pub fn host(&self) -> &'a str {
        self.http.host
    }

    /// Envoy's id of the request, which is a client's own where Envoy keeps it.
    pub fn request_id(&self) -> &'a str {
        self.header("x-request-id").next().unwrap_or(self.http.id)
    }

    /// `http` or `https`, as the client sees it.
    pub fn scheme(&self) -> &'a str {
        self.http.scheme
    }

    /// The request's target as the upstream will see it: path and query.
    pub fn target(&self) -> &'a str {
        self.http.path
    }

    /// The request's body, if Envoy sent all of it and it is text.
    pub fn whole_body(&self) -> Option<&'a str> {
        // Envoy says in each question that has a body whether it is cut off, over whatever the client said.
        let mut partial = self.header("x-envoy-auth-partial-body").peekable();
        let none = self.http.size == 0;
        let complete = (none || partial.peek().is_some()) && partial.all(|partial| partial == "false");
        let body =
            if self.http.body.is_empty() { std::str::from_utf8(self.http.raw_body).ok()? } else { self.http.body };
        let mut lengths = self.header("content-length");
        (complete && lengths.all(|length| length.parse() == Ok(body.len()))).then_some(body)
    }

    /// Who is connected to Envoy, or whom Envoy takes for the client; never what a header says.
    pub fn source(&self) -> Option<IpAddr> {
        self.source.address?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
    }

    /// The client's address behind so many trusted proxies before Envoy, as far as nobody can make it up; without any proxy it
    /// is [`Self::source`].
    pub fn client(&self, trusted_hops: u8) -> Option<IpAddr> {
        match self.source()? {
            source if trusted_hops == 0 => Some(source),
            // For a proxy on its own machine, Envoy may add an address of that machine, which nobody can tell from a client's.
            source if source.is_loopback() => None,
            _ => self.forwarded(trusted_hops),
        }
    }

    /// What the first of so many proxies before Envoy saw. Each of them adds at the end of `X-Forwarded-For` whom it was
    /// connected to; Envoy may add the last proxy.
    pub fn forwarded(&self, hops: u8) -> Option<IpAddr> {
        let source = self.source()?;
        let parsed = |text: &str| text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let values = self.header("x-forwarded-for").flat_map(|value| value.split(','));
        let mut addresses: Vec<_> = values.map(|text| parsed(text.trim())).collect();
        addresses.pop_if(|last| *last == Some(source));
        let place = addresses.len().checked_sub(usize::from(hops))?;
        *addresses.get(place)?
    }

    /// The certificate that the peer showed to Envoy, in PEM that is encoded as in a URI.
    pub fn peer_certificate(&self) -> Option<&'a str> {
        Some(self.source.certificate).filter(|certificate| !certificate.is_empty())
    }

    /// Who the peer is by its certificate: the first URI, else the first DNS name, else the subject.
    pub fn peer_principal(&self) -> Option<&'a str> {
        Some(self.source.principal).filter(|principal| !principal.is_empty())
    }

    /// Every header of the request as `(name, value)`. Without Envoy's `encode_raw_headers` a repeated header comes once,
    /// its values joined by commas.
    pub fn headers(&self) -> &[(&'a str, &'a str)] {
        &self.headers
    }

    /// All values of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Query parameters as they stand, still percent-encoded. The fragment is no part of them.
    pub fn query(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let before_fragment = self.http.path.split('#').next().unwrap_or_default();
        let query = before_fragment.split_once('?').map_or("", |(_, query)| query);
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Cookies as `(name, value)`, in the order in which they came.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.header("cookie").flat_map(|value| value.split(';')).map(str::trim).filter(|pair| !pair.is_empty()).map(
            |pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (name.trim_end(), value.trim_start())
            },
        )
    }

    /// The request's URI without its query, for the realm of a challenge; `None` when it would not fit in a quoted string.
    pub fn uri(&self) -> Option<String> {
        const LONGEST: usize = 256;
        let path = self.http.path.split(['?', '#']).next().unwrap_or_default();
        let uri = format!("{}://{}{path}", self.http.scheme, self.http.host);
        let quotable = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        (uri.len() <= LONGEST && uri.bytes().all(quotable)).then_some(uri)
    }
}

impl<'a> Source<'a> {
    fn of(peer: &'a Peer) -> Self {
        let address = match peer.address.as_ref().and_then(|address| address.address.as_ref()) {
            Some(Address::SocketAddress(socket)) => Some(socket.address.as_str()),
            _ => None,
        };
        Self { address, principal: &peer.principal, certificate: &peer.certificate }
    }
}

impl<'a> Http<'a> {
    fn of(http: &'a HttpRequest) -> Self {
        Self {
            id: &http.id,
            method: &http.method,
            path: &http.path,
            host: &http.host,
            scheme: &http.scheme,
            size: http.size,
            body: &http.body,
            raw_body: &http.raw_body,
        }
    }
}

/// Seconds since 1970. A clock before that expires nothing and validates nothing: `nbf` lies ahead of it.
fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn headers(http: &HttpRequest) -> Result<Vec<(&str, &str)>, Error> {
    match &http.header_map {
        Some(raw) if !raw.headers.is_empty() => raw
            .headers
            .iter()
            .map(|header| Ok((header.key.as_str(), header_value(&header.value, &header.raw_value)?)))
            .collect(),
        _ => Ok(http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()),
    }
}

/// Of the two forms of a header's value, the raw one counts unless it is empty.
fn header_value<'a>(text: &'a str, raw: &'a [u8]) -> Result<&'a str, Error> {
    if raw.is_empty() { Ok(text) } else { std::str::from_utf8(raw).map_err(|_| Error::HeaderEncoding) }
}
