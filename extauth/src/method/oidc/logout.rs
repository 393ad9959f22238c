//! The end of a session that its user asks for: here, and at the provider (RP-Initiated Logout 1.0).

use http::StatusCode;
use url::Url;

use super::{Oidc, page, sealed, target};
use crate::check::Check;
use crate::metrics;
use crate::session::{self, Id, Record};
use crate::verdict::LocalResponse;

impl Oidc {
    /// Ends the session of the browser, if it has one, and forgets its cookie.
    pub(super) async fn logout(&self, check: &Check<'_>) -> LocalResponse {
        let Some(origin) = target::origin(check) else { return page::unavailable("the request's host is none") };
        match check.method() {
            // Another site's link must not log anybody out; its pictures do not carry the cookie anyway.
            "GET" if from_elsewhere(check, &origin) => return page::confirm(&self.logout_path),
            "GET" => {}
            "POST" if !from_elsewhere(check, &origin) => {}
            _ => {
                let text = "This is not how to log out.";
                return page::message(StatusCode::FORBIDDEN, "Not logged out", text, None, Vec::new(), "no own logout");
            }
        }
        let (had, ended, cookies) = match self.end_session(check).await {
            Ok(ended) => ended,
            Err(error) => return page::unavailable(&error.to_string()),
        };
        let after = self
            .after_logout
            .as_ref()
            .map(|url| if url.starts_with('/') { target::of_request(&origin, url) } else { url.clone() });
        // Without a session nobody knows where the user logged in; of a single provider it is clear.
        let client = ended.as_ref().map(Record::client);
        let provider = match (client.and_then(|client| self.owner(client)), self.providers.as_slice()) {
            (Some(provider), _) => Some(provider),
            (None, [only]) if had => Some(only),
            (None, _) => None,
        };
        let hint = ended.as_ref().map(|record| record.id_token.as_str());
        if let Some(provider) = provider
            && let Some(to) = provider.end_session(hint, after.as_deref()).await
        {
            return page::redirect(to.as_str(), cookies, "the user logs out at the provider");
        }
        if let Some(after) = after {
            return page::redirect(&after, cookies, "the user has logged out");
        }
        let home = target::of_parameter(&origin, "/");
        let link = Some((home.as_str(), "Log in again"));
        page::message(StatusCode::OK, "Logged out", "Your session has ended.", link, cookies, "the user has logged out")
    }

    /// Whether the browser had what looked like a session, the session that it was, and the cookies that end it.
    async fn end_session(&self, check: &Check<'_>) -> Result<(bool, Option<Record>, Vec<String>), session::Error> {
        if let Some(sealed) = &self.sealed {
            let record = sealed.record(&self.cookies, check).ok().flatten().map(|(record, _)| record);
            if record.is_some() {
                metrics::session("logged_out");
            }
            return Ok((record.is_some(), record, sealed::clear(&self.cookies, check)));
        }
        let cookies = vec![self.cookies.clear_session()];
        let id = self.cookies.session(check).ok().flatten().and_then(|cookie| Id::parse(&cookie));
        let Some(id) = id else { return Ok((false, None, cookies)) };
        let record = self.sessions.record(&id).await?;
        self.sessions.end(&id).await?;
        if record.is_some() {
            metrics::session("logged_out");
        }
        Ok((true, record, cookies))
    }
}

/// Whether another site made the browser ask. Old browsers only say so when they send a form.
fn from_elsewhere(check: &Check<'_>, origin: &Url) -> bool {
    let mut sites = check.header("sec-fetch-site").peekable();
    if sites.peek().is_some() {
        return sites.any(|site| site != "same-origin" && site != "none");
    }
    check.header("origin").any(|from| from != origin.origin().ascii_serialization())
}
