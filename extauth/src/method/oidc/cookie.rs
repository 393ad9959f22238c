//! The cookies that a browser gets: the session's, and one that binds its logins to it.

use proto::extauth::{OidcProvider, SameSite, SessionCookie, Source};

use crate::check::Check;
use crate::credential::{Error, Places};
use crate::method::Invalid;
use crate::random;

const HOST: &str = "__Host-";
const SECURE: &str = "__Secure-";
/// What the name of the cookie that binds logins ends with.
const FLOW: &str = "-login";

/// Names and attributes of both cookies.
#[derive(Debug)]
pub(super) struct Cookies {
    pub(super) session: String,
    pub(super) flow: String,
    places: Places,
    pub(super) domain: Option<String>,
    pub(super) same_site: SameSite,
}

/// What the login cookie says: a secret of the browser, and when it last logged in.
pub(super) struct Binding {
    pub(super) secret: String,
    pub(super) logged_in: Option<u64>,
}

impl Cookies {
    /// Checks the configuration, and finds a name where none is given: the providers' own, so that two policies with other
    /// providers do not take each other's cookies away.
    pub(super) fn compile(config: &SessionCookie, providers: &[OidcProvider]) -> Result<Self, Invalid> {
        let session = config.name.clone().unwrap_or_else(|| {
            let clients = providers.iter().flat_map(|provider| [provider.issuer.as_str(), &provider.client_id]);
            let hash = random::hash(&clients.collect::<Vec<_>>());
            let short: String = hash.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
            let prefix = if config.domain.is_some() { SECURE } else { HOST };
            format!("{prefix}session-{short}")
        });
        if session.to_ascii_lowercase().starts_with(&HOST.to_ascii_lowercase()) && config.domain.is_some() {
            return Err(Invalid::new(
                "cookie.name",
                "a browser takes no `__Host-` cookie for a domain; use `__Secure-`",
            ));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if session.is_empty() || session.len() > 100 || !session.bytes().all(legal) {
            return Err(Invalid::new("cookie.name", "is not 1 to 100 letters, digits, `-`, `_` and `.`"));
        }
        let domain = config.domain.as_ref().map(|domain| domain.trim_start_matches('.').to_ascii_lowercase());
        if domain.as_ref().is_some_and(|domain| !is_domain(domain)) {
            return Err(Invalid::new("cookie.domain", "is no domain that a browser takes, such as `example.com`"));
        }
        let source = Source::Cookie { name: session.clone() };
        let places = Places::compile(&[source]).map_err(|(_, e)| Invalid::new("cookie.name", &e))?;
        Ok(Self { flow: format!("{session}{FLOW}"), session, places, domain, same_site: config.same_site })
    }

    /// What the session cookie says; an error when there are two, or when it is none of ours.
    pub(super) fn session<'a>(&self, check: &Check<'a>) -> Result<Option<std::borrow::Cow<'a, str>>, Error> {
        self.places.find(check)
    }

    /// What binds this browser's logins, if it is there once and one of ours.
    pub(super) fn binding(&self, check: &Check<'_>) -> Option<Binding> {
        let mut values = check.cookies().filter(|(name, _)| *name == self.flow).map(|(_, value)| value);
        let value = values.next().filter(|_| values.next().is_none())?;
        let (secret, logged_in) = value.split_once('.').map_or((value, None), |(secret, when)| (secret, Some(when)));
        random::plausible(secret)
            .then(|| Binding { secret: secret.to_owned(), logged_in: logged_in.and_then(|when| when.parse().ok()) })
    }

    /// `Set-Cookie` with the session.
    pub(super) fn set_session(&self, id: &str, seconds: u64) -> String {
        self.set(&self.session, id, seconds, self.same_site)
    }

    /// `Set-Cookie` without the session. It is as secure as the cookie itself: a browser would ignore it otherwise.
    pub(super) fn clear_session(&self) -> String {
        self.set(&self.session, "", 0, self.same_site)
    }

    /// What a further cookie of a session is called that takes more than one.
    pub(super) fn part(&self, number: usize) -> String {
        format!("{}-{number}", self.session)
    }

    /// `Set-Cookie` with a further part of the session.
    pub(super) fn set_part(&self, number: usize, part: &str, seconds: u64) -> String {
        self.set(&self.part(number), part, seconds, self.same_site)
    }

    /// What the cookie is called with the login of this place.
    pub(super) fn flow_of(&self, place: &str) -> String {
        format!("{}-{place}", self.flow)
    }

    /// `Set-Cookie` with a login. Like the one that binds it, it must not be strict.
    pub(super) fn set_flow(&self, place: &str, sealed: &str, seconds: u64) -> String {
        self.set(&self.flow_of(place), sealed, seconds, self.lax())
    }

    /// `Set-Cookie` that binds logins. The provider sends the browser back to us from another site: it must not be strict.
    pub(super) fn set_binding(&self, binding: &Binding, seconds: u64) -> String {
        let value = match binding.logged_in {
            Some(when) => format!("{}.{when}", binding.secret),
            None => binding.secret.clone(),
        };
        self.set(&self.flow, &value, seconds, self.lax())
    }

    fn lax(&self) -> SameSite {
        if self.same_site == SameSite::Strict { SameSite::Lax } else { self.same_site }
    }

    /// Whether a host shares its cookies with the others of the domain.
    pub(super) fn shared_with(&self, host: &str) -> bool {
        self.domain.as_ref().is_some_and(|domain| {
            host == domain || host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
        })
    }

    fn set(&self, name: &str, value: &str, seconds: u64, same_site: SameSite) -> String {
        let domain = self.domain.as_ref().map_or(String::new(), |domain| format!("; Domain={domain}"));
        let same_site = match same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        format!("{name}={value}; Path=/{domain}; Max-Age={seconds}; Secure; HttpOnly; SameSite={same_site}")
    }
}

fn is_domain(domain: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    domain.contains('.')
        && domain.len() <= 253
        && domain.split('.').all(|label| !label.is_empty() && label.bytes().all(legal))
        && domain.parse::<std::net::IpAddr>().is_err()
}
