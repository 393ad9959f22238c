//! Logins at an OpenID provider (OpenID Connect Core 1.0, code flow with PKCE), and the sessions that come of them. A browser
//! has nothing but a random id; the tokens never leave this side.

mod allow;
mod back_channel;
mod cookie;
mod due;
mod flow;
mod issuer;
mod logout;
mod navigation;
mod page;
mod provider;
mod sealed;
mod started;
mod target;
mod user_info;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderName, StatusCode};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

use self::allow::Users;
use self::cookie::Cookies;
use self::due::{AHEAD, Due};
pub use self::issuer::Issuers;
use self::navigation::Navigation;
use self::provider::Provider;
use self::sealed::Sealed;
pub use self::sealed::Shared;
pub use self::started::Started;
use self::target::Redirect;
use crate::check::Check;
use crate::claims::ToHeaders;
use crate::fetch::{self, Fetch};
use crate::host::Pattern;
use crate::method::jwt;
use crate::method::{Invalid, unauthorized};
use crate::resources::Resources;
use crate::session::{Client, Id, Keep, Renewal, Session, Sessions, Tokens};
use crate::verdict::{Denial, Grant, LocalResponse, Removal};
use crate::{credential, header, session};

/// How long a request waits for tokens without which it cannot pass.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest parameter of a request to ourselves that is looked at, in bytes.
const LONGEST_PARAMETER: usize = 4096;

/// Why a session lets nobody in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// More than one cookie, or none of ours.
    #[error("the session cookie: {0}")]
    Credential(#[from] credential::Error),
    /// It ended, was revoked, is another policy's, or never was.
    #[error("the session is over")]
    Over,
    /// The store cannot say.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// Its tokens have expired, and the provider cannot say whether there are more.
    #[error("the provider does not renew the session at the moment")]
    Provider,
    /// Not one of the users who may come in.
    #[error("{0}")]
    User(&'static str),
    /// A claim or a token that goes out as a header would break out of it.
    #[error("the session has a claim that cannot be sent as a header")]
    Header,
    /// The session goes on, with new cookies, although it lets nobody in here.
    #[error("{error}")]
    Kept {
        /// Why it does not.
        error: Box<Error>,
        /// `Set-Cookie` for each.
        cookies: Vec<String>,
    },
}

/// What takes its time; boxed, so that the methods that answer at once stay small.
type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Browsers' sessions of one policy.
#[derive(Debug)]
pub struct Oidc {
    providers: Vec<Arc<Provider>>,
    redirect: Redirect,
    hosts: Vec<Pattern>,
    login_path: String,
    logout_path: String,
    back_channel_path: String,
    after_logout: Option<String>,
    navigation: Navigation,
    cookies: Cookies,
    flow_seconds: u64,
    started: Started,
    started_bounds: proto::extauth::StartedLogins,
    max_session: Option<u64>,
    forward_access_token: bool,
    id_token_header: Option<HeaderName>,
    access_token_cookie: Option<String>,
    id_token_cookie: Option<String>,
    keep: Keep,
    to_headers: ToHeaders,
    users: Users,
    sessions: Sessions,
    /// Where the browser keeps its session itself.
    sealed: Option<Sealed>,
}

impl Oidc {
    /// Checks the configuration. Providers are asked in the background: one that is away denies its own logins only.
    pub fn compile(config: &proto::extauth::Oidc, resources: &Resources) -> Result<Self, Invalid> {
        let redirect = Redirect::compile(config.redirect_url.as_deref())?;
        let hosts = config.hosts.iter().enumerate();
        let hosts =
            hosts.map(|(index, text)| target::host(format!("hosts[{index}]"), text)).collect::<Result<Vec<_>, _>>()?;
        if !hosts.is_empty() && redirect.host().is_none() {
            return Err(Invalid::new("hosts", "has no effect without a fixed host in `redirectURL`"));
        }
        paths(config, &redirect)?;
        if config.csrf_token_ttl_seconds == 0 {
            return Err(Invalid::new("csrfTokenTTLSeconds", "must not be 0: nobody is that fast"));
        }
        if config.max_session_seconds == Some(0) {
            return Err(Invalid::new("maxSessionSeconds", "must not be 0"));
        }
        let id_token_header = config
            .forward_id_token
            .as_ref()
            .map(|forward| header::name(&forward.header).map_err(|e| Invalid::new("forwardIDToken.header", &e)));
        let id_token_header = id_token_header.transpose()?;
        if config.forward_access_token && id_token_header.as_ref() == Some(&AUTHORIZATION) {
            return Err(Invalid::new("forwardIDToken.header", "`forwardAccessToken` sets `Authorization` already"));
        }
        let to_headers = ToHeaders::compile(&config.claims_to_headers)?;
        if to_headers.names().iter().any(|name| Some(name) == id_token_header.as_ref() || name == AUTHORIZATION) {
            return Err(Invalid::new("claimsToHeaders", "sets a header that is for tokens"));
        }
        let cookies = Cookies::compile(&config.cookie, &config.providers)?;
        let access_token_cookie = cookie_name("accessToken", config.cookie_names.access_token.as_ref())?;
        let id_token_cookie = cookie_name("idToken", config.cookie_names.id_token.as_ref())?;
        let in_headers = config.forward_access_token || id_token_header.is_some();
        let in_cookies = access_token_cookie.is_some() || id_token_cookie.is_some();
        Ok(Self {
            keep: if in_headers || in_cookies { Keep::Tokens } else { Keep::Nothing },
            sealed: Sealed::compile(config, &cookies, resources)?,
            cookies,
            providers: providers(&config.providers, resources)?,
            redirect,
            hosts,
            login_path: config.login_path.clone(),
            logout_path: config.logout_path.clone(),
            back_channel_path: config.back_channel_logout_path.clone(),
            after_logout: config.post_logout_redirect_url.clone(),
            navigation: Navigation::compile(&config.deny_redirect)?,
            flow_seconds: config.csrf_token_ttl_seconds,
            started: resources.started_logins.clone(),
            started_bounds: config.started_logins,
            max_session: config.max_session_seconds,
            forward_access_token: config.forward_access_token,
            id_token_header,
            access_token_cookie,
            id_token_cookie,
            to_headers,
            users: Users::compile(&config.allow)?,
            sessions: resources.sessions.clone(),
        })
    }

    /// Whose session the request carries.
    pub fn check<'a>(&'a self, check: &'a Check<'_>) -> Waiting<'a, Result<Option<Grant>, Error>> {
        Box::pin(async move {
            if let Some(sealed) = &self.sealed {
                return self.unseal(sealed, check).await;
            }
            let Some(cookie) = self.cookies.session(check)? else { return Ok(None) };
            let id = Id::parse(&cookie).ok_or(Error::Over)?;
            let session = self.sessions.load(&id, self.keep).await?.ok_or(Error::Over)?;
            let provider = self.owner(session.client).ok_or(Error::Over)?;
            let session = self.keep_alive(&id, session, provider, check.now()).await?;
            self.users.admit(&session.user).map_err(Error::User)?;
            let mut grant = self.grant(&session)?;
            // The browser is to keep the id for as long as the session now lives.
            if session.renewed > session.created && check.now().saturating_sub(session.renewed) < AHEAD {
                let cookie = self.cookies.set_session(id.expose(), session.expires.saturating_sub(check.now()));
                grant.response_headers.push((SET_COOKIE, cookie));
            }
            Ok(Some(grant))
        })
    }

    /// Whether the request is for us and not for the upstream.
    pub fn answers(&self, check: &Check<'_>) -> bool {
        let path = path(check);
        let back_channel = self.sealed.is_none() && path == self.back_channel_path;
        back_channel || [&self.redirect.path, &self.login_path, &self.logout_path].iter().any(|own| *own == path)
    }

    /// Answers a request that is for us.
    pub fn respond<'a>(&'a self, check: &'a Check<'_>) -> Waiting<'a, LocalResponse> {
        Box::pin(async move {
            if check.is_rehearsal() {
                let reason = "the request is for the login itself";
                return page::message(StatusCode::OK, "Login", "Nothing was done.", None, Vec::new(), reason);
            }
            match path(check) {
                path if path == self.redirect.path => self.callback(check).await,
                path if path == self.login_path => self.choose(check).await,
                path if path == self.logout_path => self.logout(check).await,
                _ => self.back_channel(check).await,
            }
        })
    }

    /// Sends a person's browser to log in, and nobody else.
    pub fn login<'a>(&'a self, check: &'a Check<'_>) -> Waiting<'a, Option<LocalResponse>> {
        Box::pin(async move {
            if !self.navigation.is(check) {
                return None;
            }
            if check.is_rehearsal() {
                return Some(page::redirect(&self.login_path, Vec::new(), "the browser would be sent to log in"));
            }
            if self.loses_sessions(check) {
                let reason = "the session was lost right after the login: no redirect loop is started";
                return Some(page::unavailable(reason));
            }
            let origin = target::origin(check)?;
            let target = target::of_request(&origin, check.target());
            let hint = query(check).and_then(|mut parameters| parameters.remove("idp_hint"));
            Some(self.offer(check, &origin, target, hint.as_deref()).await)
        })
    }

    /// The keys of the metadata under which a user's claims stand.
    pub fn providers(&self) -> Vec<&str> {
        self.providers.iter().map(|provider| provider.config.name.as_str()).collect()
    }

    /// Headers that tell the upstream who the user is.
    pub fn identity(&self) -> Vec<HeaderName> {
        let access_token = self.forward_access_token.then_some(AUTHORIZATION);
        self.to_headers.names().into_iter().chain(self.id_token_header.clone()).chain(access_token).collect()
    }

    /// Takes away our own cookies, and what a client puts in the place of those that are for the upstream.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if self.sealed.is_some() {
            sealed::strip(&self.cookies, check, removal);
        }
        removal.cookie(&self.cookies.session);
        removal.cookie(&self.cookies.flow);
        for name in self.access_token_cookie.iter().chain(&self.id_token_cookie) {
            removal.cookie(name);
        }
    }

    /// What a client is told that has no session and cannot be sent to get one.
    pub fn missing(&self) -> Denial {
        let challenge = format!("Session login=\"{}\"", self.login_path);
        unauthorized(challenge, "Log in first.", "no session, and no browser to send to a login".to_owned())
    }

    /// A login path's own page: the provider that was chosen, or the choice.
    async fn choose(&self, check: &Check<'_>) -> LocalResponse {
        let Some(origin) = target::origin(check) else { return page::unavailable("the request's host is none") };
        let mut parameters = query(check).unwrap_or_default();
        let target = target::of_parameter(&origin, parameters.get("rd").map_or("/", String::as_str));
        if !self.navigation.is(check) {
            let text = "Open this page in a browser.";
            return page::message(StatusCode::UNAUTHORIZED, "Log in", text, None, Vec::new(), "no browser");
        }
        self.offer(check, &origin, target, parameters.remove("provider").as_deref()).await
    }

    async fn offer(&self, check: &Check<'_>, origin: &url::Url, target: String, hint: Option<&str>) -> LocalResponse {
        let chosen = match self.providers.as_slice() {
            [only] => Some(only),
            many => many.iter().find(|provider| Some(provider.config.name.as_str()) == hint),
        };
        if let Some(provider) = chosen {
            return self.start(check, provider, origin, target).await;
        }
        let choices = self.providers.iter().map(|provider| {
            let config = &provider.config;
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("provider", &config.name)
                .append_pair("rd", &target)
                .finish();
            let name = config.display_name.as_ref().unwrap_or(&config.name);
            (format!("{}?{query}", self.login_path), name.clone())
        });
        page::chooser(&choices.collect::<Vec<_>>())
    }

    /// The provider whose client this is.
    fn owner(&self, client: Client) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.client == client)
    }

    /// The session with tokens that are good now. Shortly before they are not, new ones are fetched while it is used.
    async fn keep_alive(
        &self,
        id: &Id,
        session: Arc<Session>,
        provider: &Arc<Provider>,
        now: u64,
    ) -> Result<Arc<Session>, Error> {
        let due = Due::of(&session, provider, now)?;
        if due == Due::Later {
            return Ok(session);
        }
        let asked = Arc::clone(provider);
        let mut told = self.sessions.renew(id, &session, move |old| async move { asked.refresh(old).await });
        if due == Due::Soon {
            return Ok(session);
        }
        let outcome = tokio::time::timeout(PATIENCE, told.wait_for(Option::is_some)).await;
        let outcome = outcome.map_err(|_| Error::Provider)?.map_err(|_| Error::Provider)?.clone();
        match outcome {
            Some(Renewal::Renewed(session)) => Ok(session),
            Some(Renewal::Ended) => Err(Error::Over),
            Some(Renewal::Unchanged) | None => Err(Error::Provider),
        }
    }

    fn grant(&self, session: &Session) -> Result<Grant, Error> {
        let headers = self.to_headers.of(&session.user).map_err(|_| Error::Header)?;
        let mut grant = Grant { headers, shared: Some(session.user.metadata()), ..Grant::default() };
        if let Some(tokens) = &session.tokens {
            self.forward(tokens, &mut grant)?;
        }
        Ok(grant)
    }

    fn forward(&self, tokens: &Tokens, grant: &mut Grant) -> Result<(), Error> {
        if self.forward_access_token {
            grant.headers.push((AUTHORIZATION, format!("Bearer {}", token(&tokens.access)?)));
        }
        if let Some(name) = &self.id_token_header {
            let bearer = if name == AUTHORIZATION { "Bearer " } else { "" };
            grant.headers.push((name.clone(), format!("{bearer}{}", token(&tokens.id)?)));
        }
        for (name, value) in [(&self.access_token_cookie, &tokens.access), (&self.id_token_cookie, &tokens.id)] {
            if let Some(name) = name {
                grant.cookies.push((name.clone(), token(value)?.to_owned()));
            }
        }
        Ok(())
    }
}

impl Error {
    /// Whether there is no session any more, so that another login would help.
    pub fn over(&self) -> bool {
        matches!(self, Self::Credential(_) | Self::Over)
    }
}

/// What a client is told whose session does not let it in.
pub fn denial(error: &Error) -> Denial {
    let reason = error.to_string();
    let (status, body) = match error {
        Error::Credential(_) | Error::Over => return unauthorized("Session".to_owned(), "Log in again.", reason),
        Error::Session(_) | Error::Provider => (StatusCode::SERVICE_UNAVAILABLE, "Try again in a few seconds."),
        Error::User(_) | Error::Header => (StatusCode::FORBIDDEN, "Forbidden"),
        Error::Kept { error, cookies } => {
            let mut denial = denial(error);
            denial.headers.extend(cookies.iter().map(|cookie| (SET_COOKIE, cookie.clone())));
            return denial;
        }
    };
    let later = (status == StatusCode::SERVICE_UNAVAILABLE).then(|| (RETRY_AFTER, page::RETRY.to_owned()));
    Denial { status, challenges: Vec::new(), headers: later.into_iter().collect(), body: body.to_owned(), reason }
}

/// The path of a request, as it stands.
fn path<'a>(check: &Check<'a>) -> &'a str {
    check.target().split(['?', '#']).next().unwrap_or_default()
}

/// The decoded parameters of a request to ourselves; `None` when one stands twice or is too long.
fn query(check: &Check<'_>) -> Option<HashMap<String, String>> {
    let query = check.target().split('#').next().unwrap_or_default().split_once('?').map_or("", |(_, query)| query);
    form(query.as_bytes())
}

fn form(text: &[u8]) -> Option<HashMap<String, String>> {
    let mut parameters = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(text) {
        if value.len() > LONGEST_PARAMETER || parameters.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    Some(parameters)
}

/// A token that arrives at the upstream as it stands.
fn token(text: &str) -> Result<&str, Error> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b",;\"\\".contains(&byte);
    if !text.is_empty() && text.bytes().all(legal) { Ok(text) } else { Err(Error::Header) }
}

/// What openidconnect makes its requests with.
struct Http(Fetch);

impl AsyncHttpClient<'_> for Http {
    type Error = fetch::Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, fetch::Error>> + Send>>;

    fn call(&self, request: HttpRequest) -> Self::Future {
        let fetch = self.0.clone();
        Box::pin(async move { Ok(fetch.send(request.map(Bytes::from)).await?.map(|body| body.to_vec())) })
    }
}

fn providers(
    configured: &[proto::extauth::OidcProvider],
    resources: &Resources,
) -> Result<Vec<Arc<Provider>>, Invalid> {
    if configured.is_empty() {
        return Err(Invalid::new("providers", "is empty"));
    }
    let mut providers: Vec<Arc<Provider>> = Vec::new();
    for (index, config) in configured.iter().enumerate() {
        let below = |Invalid { field, problem }| Invalid { field: format!("providers[{index}].{field}"), problem };
        jwt::provider_name(&config.name).map_err(below)?;
        if providers.iter().any(|other| other.config.name == config.name) {
            return Err(below(Invalid::new("name", "another provider has the same name")));
        }
        providers.push(Arc::new(Provider::compile(config, resources).map_err(below)?));
    }
    Ok(providers)
}

/// Our own paths must be told apart, and be spelled as requests are.
fn paths(config: &proto::extauth::Oidc, redirect: &Redirect) -> Result<(), Invalid> {
    let mut all = vec![redirect.path.as_str()];
    for (field, path) in [
        ("loginPath", &config.login_path),
        ("logoutPath", &config.logout_path),
        ("backChannelLogoutPath", &config.back_channel_logout_path),
    ] {
        let legal = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"%".contains(&byte);
        if !path.starts_with('/') || path == "/" || path.starts_with("//") || !path.bytes().all(legal) {
            return Err(Invalid::new(field, "is no path below `/`"));
        }
        if all.contains(&path.as_str()) {
            return Err(Invalid::new(field, "is the same as another of the paths"));
        }
        all.push(path);
    }
    if let Some(url) = &config.post_logout_redirect_url {
        let path = url.starts_with('/') && !url.starts_with("//") && url.bytes().all(|byte| byte.is_ascii_graphic());
        let absolute = url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !path && !absolute {
            return Err(Invalid::new("postLogoutRedirectURL", "is neither a path nor an http or https URL"));
        }
    }
    Ok(())
}

fn cookie_name(field: &str, name: Option<&String>) -> Result<Option<String>, Invalid> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match name {
        Some(name) if name.is_empty() || !name.bytes().all(legal) => {
            Err(Invalid::new(format!("cookieNames.{field}"), "is not letters, digits, `-`, `_` and `.`"))
        }
        other => Ok(other.cloned()),
    }
}
