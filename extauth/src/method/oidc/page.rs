//! The few pages that people see of us.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
};
use http::{HeaderName, StatusCode};

use crate::verdict::LocalResponse;

/// Seconds after which something that failed may be tried again.
pub(super) const RETRY: &str = "5";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#f5f5f4;margin:0}\
main{max-width:26rem;margin:15vh auto 0;padding:2rem;background:#fff;border:1px solid #ddd;border-radius:8px}\
h1{font-size:1.25rem;margin:0 0 .75rem}p{margin:.75rem 0}\
a.button,button{display:block;box-sizing:border-box;width:100%;margin:.6rem 0;padding:.6rem 1rem;font:inherit;text-align:center;\
text-decoration:none;color:#fff;background:#1d4ed8;border:0;border-radius:6px;cursor:pointer}";

/// Sends the browser somewhere else.
pub(super) fn redirect(to: &str, cookies: Vec<String>, reason: &str) -> LocalResponse {
    let mut headers = vec![(LOCATION, to.to_owned()), (REFERRER_POLICY, "no-referrer".to_owned())];
    headers.extend(common(cookies));
    LocalResponse { status: StatusCode::FOUND, headers, body: String::new(), reason: reason.to_owned() }
}

/// Sends the browser to a page of its own host after a redirect from another site, which strict cookies would not survive.
pub(super) fn onward(to: &str, cookies: Vec<String>, reason: &str) -> LocalResponse {
    let to = escape(to);
    let head = format!("<meta http-equiv=\"refresh\" content=\"0;url={to}\">");
    let body = format!("<p><a class=\"button\" href=\"{to}\">Continue</a></p>");
    page(StatusCode::OK, "Logged in", &head, &body, cookies, reason)
}

/// Says something, and offers a way on.
pub(super) fn message(
    status: StatusCode,
    title: &str,
    text: &str,
    link: Option<(&str, &str)>,
    cookies: Vec<String>,
    reason: &str,
) -> LocalResponse {
    let link = link.map_or(String::new(), |(to, label)| button(to, label));
    page(status, title, "", &format!("<p>{}</p>{link}", escape(text)), cookies, reason)
}

/// Lets the user choose one of `(URL, name)`.
pub(super) fn chooser(choices: &[(String, String)]) -> LocalResponse {
    let links = choices.iter().map(|(to, name)| button(to, name)).collect::<Vec<_>>().concat();
    page(StatusCode::OK, "Log in with", "", &links, Vec::new(), "the user chooses a provider")
}

/// Asks whether somebody else's link may log the user out.
pub(super) fn confirm(path: &str) -> LocalResponse {
    let body = format!("<form method=\"post\" action=\"{}\"><button>Log out</button></form>", escape(path));
    page(StatusCode::OK, "Log out?", "", &body, Vec::new(), "another site asks for a logout")
}

/// Something that we need does not work; a later attempt may.
pub(super) fn unavailable(reason: &str) -> LocalResponse {
    let text = "Logging in does not work at the moment. Please try again in a few seconds.";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = message(status, "Not available", text, None, Vec::new(), reason);
    response.headers.push((RETRY_AFTER, RETRY.to_owned()));
    response
}

/// Too many logins are under way; the next may start after so many seconds.
pub(super) fn too_many(seconds: u64) -> LocalResponse {
    let text = "Too many logins have been started. Please try again in a few minutes.";
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut response = message(status, "Try again later", text, None, Vec::new(), "too many logins are under way");
    response.headers.push((RETRY_AFTER, seconds.to_string()));
    response
}

fn page(status: StatusCode, title: &str, head: &str, body: &str, cookies: Vec<String>, reason: &str) -> LocalResponse {
    let title = escape(title);
    let body = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title>{head}<style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    // Logging out may redirect a form to the provider: its target cannot be restricted to us.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    let mut headers = vec![
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, policy.to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    headers.extend(common(cookies));
    LocalResponse { status, headers, body, reason: reason.to_owned() }
}

fn common(cookies: Vec<String>) -> impl Iterator<Item = (HeaderName, String)> {
    let cookies = cookies.into_iter().map(|cookie| (SET_COOKIE, cookie));
    std::iter::once((CACHE_CONTROL, "no-store".to_owned())).chain(cookies)
}

fn button(to: &str, label: &str) -> String {
    format!("<a class=\"button\" href=\"{}\">{}</a>", escape(to), escape(label))
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}
