//! Names and passwords: read here, checked by `extauth`.

use std::collections::BTreeSet;

use controller_api::security_policy::basic_auth::BasicAuth;
use proto::extauth::{Basic, Method, Policy, Secret};

use super::{Layers, header, secret};
use crate::translate::inputs::Inputs;

/// Key of the Secret that lists the users.
const USERS: &str = ".htpasswd";
/// How the hashes begin that `extauth` knows.
const HASHES: [&str; 7] = ["{SHA}", "$2y$", "$2b$", "$2a$", "$argon2id$", "$5$", "$6$"];

/// The policy that `extauth` serves. The error is a sentence without its full stop.
pub(super) fn resolve(auth: &BasicAuth, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<Policy, String> {
    build(auth, inputs, layers).map_err(|error| format!("BasicAuth: {error}"))
}

fn build(auth: &BasicAuth, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<Policy, String> {
    if inputs.settings.extauth.is_none() {
        return Err("passwords need the extauth service, which is turned off".into());
    }
    let username_header = auth.forward_username_header.clone().filter(|name| !name.is_empty());
    if let Some(name) = username_header.as_ref().filter(|name| !header::can_be_set(name)) {
        return Err(format!("spec.basicAuth.forwardUsernameHeader {name:?} is no header that can be set"));
    }
    let owner = layers.owner(|spec| spec.basic_auth.is_some());
    let users = secret::text(&auth.users, USERS, "users list", owner, inputs)?;
    check(&users)?;
    let method = Basic {
        htpasswd: Some(Secret::new(users)),
        username_header,
        // Upstream passes the header on, and backends may rely on it.
        forward: true,
        ..Basic::default()
    };
    let name = format!("{}/basic", layers.name(|spec| spec.basic_auth.is_some()));
    Ok(Policy { name, methods: vec![Method::Basic(method)], ..Policy::default() })
}

/// A mistake in one line makes the whole list invalid. No line is repeated: it may hold a password by mistake.
fn check(users: &str) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for (number, line) in users.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line.split_once(':').ok_or_else(|| format!("line {number} of {USERS} is no user:hash"))?;
        if name.is_empty() || !names.insert(name) {
            return Err(format!("line {number} of {USERS} has no user name, or one that another line has"));
        }
        if !HASHES.iter().any(|form| hash.starts_with(form)) {
            return Err(format!("line {number} of {USERS} has no hash of a known form: {}", HASHES.join(", ")));
        }
    }
    if names.is_empty() { Err(format!("{USERS} lists no user")) } else { Ok(()) }
}
