//! One login: from the redirect to a provider to the session. What has to be the same at both ends lies in the store, so
//! that many tabs can log in at once; a cookie binds it to the browser that started.

use std::time::Duration;

use http::StatusCode;
use http::header::SET_COOKIE;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::cookie::Binding;
use super::provider::{Proof, Provider, now};
use super::{Oidc, page, query, target};
use crate::attempts::TooMany;
use crate::check::Check;
use crate::session::{Client, Id, Record, Refused};
use crate::verdict::LocalResponse;
use crate::{metrics, random, sealed};

/// How long the host that a login comes back to has to hand it to the host that it is for.
const TICKET: Duration = Duration::from_mins(1);
/// A session that is lost so soon after a login, in seconds, would be lost again after the next.
const SOON: u64 = 10;
const PURPOSE: &str = "login";
/// The longest URL that a sealed cookie remembers for after a login, in bytes; a longer one is forgotten.
const LONGEST_SEALED: usize = 1024;

/// What is remembered of a login that has started.
#[derive(Serialize, Deserialize)]
struct Flow {
    provider: String,
    issuer: String,
    client_id: String,
    nonce: String,
    verifier: String,
    /// Hash of what binds the browser.
    binding: String,
    /// Where the browser was: scheme and authority, and where it wanted to go.
    origin: Url,
    target: String,
    /// Where the provider was told to send it.
    redirect: String,
}

/// What a provider sends a browser back with.
#[derive(Serialize, Deserialize)]
struct Answer {
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

impl Oidc {
    /// Sends a browser to log in, and back to `target` after that.
    pub(super) async fn start(
        &self,
        check: &Check<'_>,
        provider: &Provider,
        origin: &Url,
        target: String,
    ) -> LocalResponse {
        if let Err(reason) = self.comes_back(origin) {
            return refuse(StatusCode::FORBIDDEN, "This host cannot be logged in to.", None, reason);
        }
        // A sealed login is its browser's own burden.
        if self.sealed.is_none()
            && let Err(TooMany(seconds)) = self.started.note(&self.started_bounds, check, self.flow_seconds)
        {
            metrics::login("too_many");
            return page::too_many(seconds);
        }
        match self.begin(check, provider, origin, target).await {
            Ok(response) => {
                metrics::login("started");
                response
            }
            Err(reason) => {
                metrics::login("unavailable");
                page::unavailable(&reason)
            }
        }
    }

    /// Whether a browser has just logged in and is to log in again: a session that does not stay would be lost again.
    pub(super) fn loses_sessions(&self, check: &Check<'_>) -> bool {
        let has_one = !matches!(self.cookies.session(check), Ok(None));
        let logged_in = self.cookies.binding(check).and_then(|binding| binding.logged_in);
        has_one && logged_in.is_some_and(|when| check.now().saturating_sub(when) < SOON)
    }

    async fn begin(
        &self,
        check: &Check<'_>,
        provider: &Provider,
        origin: &Url,
        target: String,
    ) -> Result<LocalResponse, String> {
        let secret = || random::text().ok_or("no random numbers are to be had");
        let binding = match self.cookies.binding(check) {
            Some(binding) => binding,
            None => Binding { secret: secret()?, logged_in: None },
        };
        let (state, nonce, verifier) = (secret()?, secret()?, secret()?);
        let redirect = self.redirect.url(origin);
        let proof = Proof { nonce: &nonce, verifier: &verifier };
        let to = provider.authorize(&redirect, &state, &proof).await.map_err(|error| error.to_string())?;
        let flow = Flow {
            provider: provider.config.name.clone(),
            issuer: provider.config.issuer.clone(),
            client_id: provider.config.client_id.clone(),
            nonce,
            verifier,
            binding: random::hash(&["binding", &binding.secret]),
            origin: origin.clone(),
            target,
            redirect,
        };
        let mut cookies = self.keep_flow(check, &state, flow).await?;
        cookies.push(self.cookies.set_binding(&binding, self.flow_seconds));
        Ok(page::redirect(to.as_str(), cookies, "the browser is sent to log in"))
    }

    /// Ends a login: a browser comes back from a provider, or with a ticket from the host that providers know.
    pub(super) async fn callback(&self, check: &Check<'_>) -> LocalResponse {
        let Some(origin) = target::origin(check) else { return over("the request's host is none") };
        let home = target::of_parameter(&origin, "/");
        let mut response = match self.finish(check, &origin).await {
            Ok(response) => response,
            Err(failure) => {
                metrics::login(failure.name());
                match failure {
                    Failure::Over(reason) => refuse(StatusCode::BAD_REQUEST, OVER, Some(&home), reason),
                    Failure::Refused(reason) => refuse(StatusCode::FORBIDDEN, REFUSED, Some(&home), &reason),
                    Failure::Unavailable(reason) => page::unavailable(&reason),
                }
            }
        };
        // Whatever came of it, the login is over.
        if self.sealed.is_some()
            && let Some(state) = query(check).and_then(|mut parameters| parameters.remove("state"))
            && let Some(cookie) = super::sealed::flows::clear(&self.cookies, check, &state)
        {
            response.headers.push((SET_COOKIE, cookie));
        }
        response
    }

    async fn finish(&self, check: &Check<'_>, origin: &Url) -> Result<LocalResponse, Failure> {
        let parameters = query(check).ok_or(Failure::Over("a parameter stands twice, or is too long"))?;
        let ticket = parameters.get("ticket").cloned();
        let answer = match &ticket {
            Some(_) if self.sealed.is_some() => return Err(Failure::Over(UNKNOWN)),
            Some(ticket) => self.take::<Answer>("ticket", ticket).await?,
            None => Answer::of(parameters).ok_or(Failure::Over("there is no state"))?,
        };
        let flow = self.find_flow(check, &answer.state).await?;
        let provider = self.owner(Client::of(&flow.provider, &flow.issuer, &flow.client_id));
        let provider = provider.ok_or(Failure::Over("the login was started by another policy"))?;
        self.check_issuer(provider, &answer).await?;
        if flow.origin != *origin && !(self.shares(&flow.origin) && self.shares(origin)) {
            return match ticket {
                None => self.hand_over(&flow, &answer).await,
                Some(_) => Err(Failure::Over("the ticket is for another host")),
            };
        }
        let binding = self.cookies.binding(check).filter(|binding| {
            let hash = random::hash(&["binding", &binding.secret]);
            hash.as_bytes().ct_eq(flow.binding.as_bytes()).into()
        });
        let binding = binding.ok_or(Failure::Refused("the login was started in another browser".to_owned()))?;
        // From here on nobody else has it: of two who come with one code, one is too late.
        let flow = self.take_flow(check, &answer.state).await?;
        let code = match (answer.code, answer.error) {
            (Some(code), None) => code,
            (_, error) => {
                let error = error.unwrap_or_default();
                let shown: String = error.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
                return Err(Failure::Refused(format!("the provider answered with the error `{shown}`")));
            }
        };
        let proof = Proof { nonce: &flow.nonce, verifier: &flow.verifier };
        let mut record = provider.login(&flow.redirect, &code, &proof).await?;
        let claims = record.claims().ok_or_else(|| Failure::Refused("the claims are no JSON object".to_owned()))?;
        self.users.admit(&claims).map_err(|reason| Failure::Refused(reason.to_owned()))?;
        record.latest = self.max_session.map(|seconds| record.created.saturating_add(seconds));
        record.expires = record.latest.map_or(record.expires, |latest| latest.min(record.expires));
        let mut cookies = self.begin_session(check, record).await?;
        metrics::login("succeeded");
        metrics::session("started");
        let binding = Binding { logged_in: Some(check.now()), ..binding };
        cookies.push(self.cookies.set_binding(&binding, self.flow_seconds));
        let respond =
            if self.cookies.same_site == proto::extauth::SameSite::Strict { page::onward } else { page::redirect };
        Ok(respond(&flow.target, cookies, "the user has logged in"))
    }

    /// The cookies of a session that begins.
    async fn begin_session(&self, check: &Check<'_>, record: Record) -> Result<Vec<String>, Failure> {
        if let Some(sealed) = &self.sealed {
            let cookies = sealed.cookies(&self.cookies, check, &record, record.created);
            return cookies.map_err(|error| Failure::Refused(error.to_string()));
        }
        let lifetime = record.expires.saturating_sub(record.created);
        // A session that was there before is not the user's who has just logged in.
        if let Some(old) = self.cookies.session(check).ok().flatten().and_then(|id| Id::parse(&id)) {
            self.sessions.end(&old).await?;
        }
        let id = self.sessions.begin(record, now()).await?;
        Ok(vec![self.cookies.set_session(id.expose(), lifetime)])
    }

    /// Remembers a login; the cookies are what the browser has to remember of it.
    async fn keep_flow(&self, check: &Check<'_>, state: &str, mut flow: Flow) -> Result<Vec<String>, String> {
        let seconds = self.flow_seconds;
        let Some(sealed) = &self.sealed else {
            self.keep("flow", state, &flow, Duration::from_secs(seconds)).await?;
            return Ok(Vec::new());
        };
        if flow.target.len() > LONGEST_SEALED {
            flow.target = target::of_parameter(&flow.origin, "/");
        }
        let cookies = sealed.keep_flow(&self.cookies, check, state, &flow, seconds);
        cookies.ok_or_else(|| "no random numbers are to be had".to_owned())
    }

    async fn find_flow(&self, check: &Check<'_>, state: &str) -> Result<Flow, Failure> {
        match &self.sealed {
            Some(sealed) => sealed.find_flow(&self.cookies, check, state).ok_or(Failure::Over(UNKNOWN)),
            None => self.find("flow", state).await,
        }
    }

    async fn take_flow(&self, check: &Check<'_>, state: &str) -> Result<Flow, Failure> {
        match &self.sealed {
            Some(sealed) => sealed.take_flow(&self.cookies, check, state).ok_or(Failure::Over(UNKNOWN)),
            None => self.take("flow", state).await,
        }
    }

    /// Sends a browser to the host that its login is for, with something that is good there once.
    async fn hand_over(&self, flow: &Flow, answer: &Answer) -> Result<LocalResponse, Failure> {
        self.comes_back(&flow.origin).map_err(Failure::Over)?;
        let ticket =
            random::text().ok_or_else(|| Failure::Unavailable("no random numbers are to be had".to_owned()))?;
        self.keep("ticket", &ticket, answer, TICKET).await.map_err(Failure::Unavailable)?;
        let to = format!("{}{}?ticket={ticket}", flow.origin.origin().ascii_serialization(), self.redirect.path);
        Ok(page::redirect(&to, Vec::new(), "the login goes on at its own host"))
    }

    /// Whether a login that starts here may come back here, which the provider cannot say when it only knows another host.
    fn comes_back(&self, origin: &Url) -> Result<(), &'static str> {
        let host = origin.host_str().unwrap_or_default();
        if self.cookies.domain.is_some() && !self.cookies.shared_with(host) {
            return Err("the host is not in `cookie.domain`");
        }
        let Some(central) = self.redirect.host() else { return Ok(()) };
        let shared = self.cookies.shared_with(host) && self.cookies.shared_with(&central);
        let named = host == central || shared || self.hosts.iter().any(|pattern| pattern.fits(host));
        if named { Ok(()) } else { Err("the host is neither that of `redirectURL` nor one of `hosts`") }
    }

    fn shares(&self, origin: &Url) -> bool {
        origin.host_str().is_some_and(|host| self.cookies.shared_with(host))
    }

    /// Whether the answer is this provider's (RFC 9207): with two of them, one could pass the other's off as its own.
    async fn check_issuer(&self, provider: &Provider, answer: &Answer) -> Result<(), Failure> {
        match &answer.iss {
            Some(iss) if *iss == provider.config.issuer => Ok(()),
            Some(_) => Err(Failure::Refused("another issuer answered than was asked".to_owned())),
            None if provider.says_issuer().await? => Err(Failure::Refused("the answer lacks `iss`".to_owned())),
            None => Ok(()),
        }
    }

    async fn keep(&self, kind: &str, secret: &str, entry: &impl Serialize, ttl: Duration) -> Result<(), String> {
        let text = serde_json::to_vec(entry).map_err(|error| error.to_string())?;
        let sealed = sealed::seal(secret, PURPOSE, text).ok_or("no random numbers are to be had")?;
        self.sessions.store().put(&key(kind, secret), &sealed, ttl).await.map_err(|error| error.to_string())
    }

    async fn find<T: for<'de> Deserialize<'de>>(&self, kind: &str, secret: &str) -> Result<T, Failure> {
        let sealed = self.sessions.store().get(&key(kind, secret)).await?;
        open(secret, sealed)
    }

    async fn take<T: for<'de> Deserialize<'de>>(&self, kind: &str, secret: &str) -> Result<T, Failure> {
        let sealed = self.sessions.store().take(&key(kind, secret)).await?;
        open(secret, sealed)
    }
}

impl Answer {
    fn of(mut parameters: std::collections::HashMap<String, String>) -> Option<Self> {
        Some(Self {
            state: parameters.remove("state").filter(|state| random::plausible(state))?,
            code: parameters.remove("code"),
            error: parameters.remove("error"),
            iss: parameters.remove("iss"),
        })
    }
}

/// What every user reads; the log says more.
const OVER: &str = "This login is over, or was never started. Please start again.";
const REFUSED: &str = "You could not be logged in.";
/// For the log.
const UNKNOWN: &str = "nobody knows of this login: it is over, or was never started";

enum Failure {
    /// It makes no sense (any more).
    Over(&'static str),
    /// Somebody says no.
    Refused(String),
    /// Nobody can say.
    Unavailable(String),
}

impl Failure {
    /// For the metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Over(_) => "over",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unavailable(reason) => Self::Unavailable(reason),
            Refused::Final(reason) => Self::Refused(reason),
        }
    }
}

impl From<crate::store::Error> for Failure {
    fn from(error: crate::store::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<crate::session::Error> for Failure {
    fn from(error: crate::session::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn key(kind: &str, secret: &str) -> String {
    format!("{kind}:{}", random::hash(&[kind, secret]))
}

fn open<T: for<'de> Deserialize<'de>>(secret: &str, sealed: Option<bytes::Bytes>) -> Result<T, Failure> {
    let text = sealed.and_then(|sealed| sealed::open(secret, PURPOSE, &sealed));
    let entry = text.and_then(|text| serde_json::from_slice(&text).ok());
    entry.ok_or(Failure::Over(UNKNOWN))
}

fn over(reason: &str) -> LocalResponse {
    refuse(StatusCode::BAD_REQUEST, OVER, None, reason)
}

fn refuse(status: StatusCode, text: &str, home: Option<&str>, reason: &str) -> LocalResponse {
    page::message(status, "Not logged in", text, home.map(|home| (home, "Start again")), Vec::new(), reason)
}
