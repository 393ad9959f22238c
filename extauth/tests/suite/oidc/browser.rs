//! A browser as far as logins need one: it keeps cookies by the rules, follows redirects, and fills in the provider's form.

use std::collections::BTreeMap;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use extauth::resources::Resources;
use http::Request;
use tonic::transport::Channel;
use url::Url;

use super::Gate;
use crate::support::{Answer, request_to, resources};

/// More redirects than these are a loop.
const MOST_REDIRECTS: usize = 15;

pub(crate) struct Browser {
    gate: AuthorizationClient<Channel>,
    host: Option<String>,
    outside: Resources,
    pub(crate) user: String,
    pub(crate) cookies: Vec<Cookie>,
    /// Where it was sent, in order.
    pub(crate) visited: Vec<Url>,
    /// Headers that go with every request to us, over the usual ones.
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) host: String,
    pub(crate) subdomains: bool,
    pub(crate) attributes: String,
}

/// What is shown in the end.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// What the upstream gets, when the request was let through.
    pub(crate) upstream: Option<Answer>,
}

impl Page {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn location(&self) -> Url {
        self.url.join(self.header("location").unwrap_or_else(|| panic!("no redirect: {self:?}"))).unwrap()
    }
}

impl Browser {
    pub(crate) async fn new(gate: &Gate, user: &str) -> Self {
        Self::at(AuthorizationClient::connect(gate.address.clone()).await.unwrap(), user)
    }

    /// In front of a server that a test has started.
    pub(crate) fn at(gate: AuthorizationClient<Channel>, user: &str) -> Self {
        Self {
            gate,
            host: None,
            outside: resources(),
            user: user.to_owned(),
            cookies: Vec::new(),
            visited: Vec::new(),
            headers: BTreeMap::new(),
        }
    }

    /// Goes to a URL and wherever that leads.
    pub(crate) async fn open(&mut self, url: &str) -> Page {
        self.visited.clear();
        let page = self.go(url).await;
        self.follow(page).await
    }

    /// Goes on until there is something to see.
    pub(crate) async fn follow(&mut self, mut page: Page) -> Page {
        while (300..400).contains(&page.status) {
            assert!(self.visited.len() < MOST_REDIRECTS, "a redirect loop: {:#?}", self.visited);
            let next = page.location();
            page = if next.path().starts_with("/interaction/") {
                self.visited.push(next.clone());
                self.outside("POST", &next, format!("prompt=login&login={}&password=x", self.user)).await
            } else {
                self.go(next.as_str()).await
            };
        }
        page
    }

    /// One request, as somebody makes who follows a link.
    pub(crate) async fn go(&mut self, text: &str) -> Page {
        let url = Url::parse(text).unwrap();
        self.visited.push(url.clone());
        if url.host_str() == Some("127.0.0.1") {
            return self.outside("GET", &url, String::new()).await;
        }
        self.ask("GET", text, b"").await
    }

    /// One request to us with this `Host`.
    pub(crate) async fn ask_host(&mut self, host: &str) -> Page {
        self.host = Some(host.to_owned());
        let page = self.ask("GET", super::SHOP, b"").await;
        self.host = None;
        page
    }

    /// One request to us. The target goes out as it stands; an empty header is left away.
    pub(crate) async fn ask(&mut self, method: &str, text: &str, body: &[u8]) -> Page {
        let url = Url::parse(text).unwrap();
        let mut headers = BTreeMap::from([
            ("accept".to_owned(), "text/html,*/*".to_owned()),
            ("sec-fetch-mode".to_owned(), "navigate".to_owned()),
            ("sec-fetch-dest".to_owned(), "document".to_owned()),
        ]);
        headers.extend(self.headers.clone());
        let cookie = self.cookie(&url);
        if !cookie.is_empty() {
            headers.entry("cookie".to_owned()).or_insert(cookie);
        }
        let headers = headers.iter().filter(|(_, value)| !value.is_empty());
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>();
        let target =
            text.get(url.origin().ascii_serialization().len()..).filter(|target| !target.is_empty()).unwrap_or("/");
        let mut request = request_to(target, &headers);
        let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
        http.method = method.into();
        http.scheme = url.scheme().into();
        http.host = self.host.clone().unwrap_or_else(|| url.authority().into());
        http.raw_body = body.to_vec();
        if !body.is_empty() {
            http.size = i64::try_from(body.len()).unwrap();
            http.headers.insert("x-envoy-auth-partial-body".into(), "false".into());
        }
        let response = self.gate.check(request).await.unwrap().into_inner();
        let (status, headers, body) = match response.http_response.clone().unwrap() {
            HttpResponse::OkResponse(ok) => (200, ok.response_headers_to_add, String::new()),
            HttpResponse::DeniedResponse(denied) => (denied.status.unwrap().code, denied.headers, denied.body),
            HttpResponse::ErrorResponse(_) => panic!("an error may be let through"),
        };
        let headers = headers.into_iter().map(|option| option.header.unwrap());
        let headers: Vec<_> = headers.map(|header| (header.key, header.value)).collect();
        self.keep(&url, &headers);
        let allowed = matches!(response.http_response, Some(HttpResponse::OkResponse(_)));
        let upstream = allowed.then(|| Answer::of(response));
        Page { url, status: u16::try_from(status).unwrap(), headers, body, upstream }
    }

    /// Sends a form to somebody else.
    pub(crate) async fn post_outside(&mut self, url: &str, form: String) -> Page {
        self.outside("POST", &Url::parse(url).unwrap(), form).await
    }

    /// One request to somebody else.
    async fn outside(&mut self, method: &str, url: &Url, form: String) -> Page {
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header("accept", "text/html")
            .header("cookie", self.cookie(url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .unwrap();
        let answer = self.outside.fetch.send(request).await.unwrap();
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let headers: Vec<_> = headers.collect();
        self.keep(url, &headers);
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        Page { url: url.clone(), status: answer.status().as_u16(), headers, body, upstream: None }
    }

    /// The cookies that go to a URL.
    pub(crate) fn cookie(&self, url: &Url) -> String {
        let host = url.host_str().unwrap();
        let sent = self.cookies.iter().filter(|cookie| {
            cookie.host == host || (cookie.subdomains && host.ends_with(&format!(".{}", cookie.host)))
        });
        sent.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; ")
    }

    /// The one cookie that ends so and is no other's.
    pub(crate) fn session(&self) -> Option<&Cookie> {
        self.cookies.iter().find(|cookie| cookie.name.contains("session-") && !cookie.name.ends_with("-login"))
    }

    fn keep(&mut self, url: &Url, headers: &[(String, String)]) {
        for (_, value) in headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = value.split_once("; ").unwrap_or((value, ""));
            let (name, text) = pair.split_once('=').unwrap();
            let attribute = |wanted: &str| {
                attributes.split(';').map(str::trim).find_map(|attribute| {
                    let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
                    key.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
                })
            };
            let domain = attribute("domain");
            if name.starts_with("__") {
                assert!(url.scheme() == "https" && attribute("secure").is_some(), "a browser refuses {value}");
                assert!(attribute("path").as_deref() == Some("/"), "a browser refuses {value}");
                assert!(!(name.starts_with("__Host-") && domain.is_some()), "a browser refuses {value}");
            }
            let host = domain.clone().unwrap_or_else(|| url.host_str().unwrap().to_owned());
            let own = url.host_str().unwrap();
            assert!(own == host || own.ends_with(&format!(".{host}")), "a browser refuses {value}");
            self.cookies.retain(|cookie| !(cookie.name == name && cookie.host == host));
            if attribute("max-age").as_deref() != Some("0") && attribute("expires").is_none_or(|e| !e.contains("1970"))
            {
                self.cookies.push(Cookie {
                    name: name.to_owned(),
                    value: text.to_owned(),
                    host,
                    subdomains: domain.is_some(),
                    attributes: attributes.to_owned(),
                });
            }
        }
    }
}
