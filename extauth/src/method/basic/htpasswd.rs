//! Files of users: which hashes there are, and how long they may take.

use std::collections::HashMap;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha_crypt::ShaCrypt;
use subtle::ConstantTimeEq as _;

use crate::header;

/// The most costly hashes that are taken: each takes about a second at most.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// What bcrypt reads of a password.
const BCRYPT_BYTES: usize = 72;
const ARGON2_KIB: u32 = 128 * 1024;
const ARGON2_PASSES: u32 = 16;
const ARGON2_LANES: u32 = 16;
const SHA_ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// The users of one file.
pub(super) struct Users {
    hashes: Vec<Hash>,
    places: HashMap<String, usize, ahash::RandomState>,
}

/// What is left of a password.
#[derive(Clone)]
pub(super) struct Hash {
    scheme: Scheme,
    text: String,
}

#[derive(Clone, Copy)]
enum Scheme {
    Sha1([u8; 20]),
    Bcrypt,
    Argon2id,
    ShaCrypt,
}

impl Users {
    /// Reads lines `user:hash`. The error says which line is wrong, and never what stands there.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut users = Self { hashes: Vec::new(), places: HashMap::default() };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |problem: &str| Err(format!("line {number} {problem}"));
            let Some((user, hash)) = line.split_once(':') else { return fail("is not `user:hash`") };
            if user.is_empty() || header::value(user).is_err() {
                return fail("has a user name that is empty or no header can carry");
            }
            let hash = match Hash::parse(hash) {
                Ok(hash) => hash,
                Err(problem) => return fail(&problem),
            };
            if users.places.insert(user.to_owned(), users.hashes.len()).is_some() {
                return fail("names a user again");
            }
            users.hashes.push(hash);
        }
        if users.hashes.is_empty() { Err("has no user".to_owned()) } else { Ok(users) }
    }

    pub(super) fn find(&self, user: &str) -> Option<&Hash> {
        self.hashes.get(*self.places.get(user)?)
    }

    /// Some user's hash, to spend as much time on somebody unknown: the same one for the same number.
    pub(super) fn stand_in(&self, number: u64) -> Option<&Hash> {
        let users = u64::try_from(self.hashes.len()).ok()?;
        self.hashes.get(usize::try_from(number.checked_rem(users)?).ok()?)
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        let scheme = if let Some(digest) = text.strip_prefix("{SHA}") {
            let bytes = STANDARD.decode(digest).ok().and_then(|bytes| bytes.try_into().ok());
            Scheme::Sha1(bytes.ok_or("has a {SHA} hash that is not 20 bytes in base64")?)
        } else if text.starts_with("$2") {
            bcrypt(text)?
        } else if text.starts_with("$argon2id$") {
            argon2id(text)?
        } else if text.starts_with("$5$") || text.starts_with("$6$") {
            sha_crypt(text)?
        } else {
            let known = "bcrypt ($2y$, $2b$, $2a$), argon2id ($argon2id$), SHA-crypt ($5$, $6$) or {SHA}";
            return Err(format!("has no hash that is known: {known}"));
        };
        Ok(Self { scheme, text: text.to_owned() })
    }

    /// As it stands in the file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it takes long on purpose.
    pub(super) fn is_slow(&self) -> bool {
        !matches!(self.scheme, Scheme::Sha1(_))
    }

    /// Whether this is the password. Blocks for as long as it takes.
    pub(super) fn verify(&self, password: &str) -> bool {
        match &self.scheme {
            Scheme::Sha1(hash) => {
                digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()).as_ref().ct_eq(hash.as_slice()).into()
            }
            // A longer password is not told from others that begin alike, so it is no password here.
            Scheme::Bcrypt => password.len() <= BCRYPT_BYTES && bcrypt::verify(password, &self.text).unwrap_or(false),
            Scheme::Argon2id => PasswordHash::new(&self.text)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            Scheme::ShaCrypt => sha_crypt::PasswordVerifier::verify_password(
                &ShaCrypt::default(),
                password.as_bytes(),
                self.text.as_str(),
            )
            .is_ok(),
        }
    }
}

fn bcrypt(text: &str) -> Result<Scheme, String> {
    let version = ["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version));
    let cost = text.parse::<bcrypt::HashParts>().ok().filter(|_| version).map(|parts| parts.get_cost());
    match cost {
        Some(cost) if BCRYPT_COSTS.contains(&cost) => Ok(Scheme::Bcrypt),
        Some(_) => Err(format!("has a bcrypt hash whose cost is not {BCRYPT_COSTS:?}")),
        None => Err("has a bcrypt hash that is malformed".to_owned()),
    }
}

fn argon2id(text: &str) -> Result<Scheme, String> {
    let hash = PasswordHash::new(text).ok().filter(|hash| hash.hash.is_some() && hash.salt.is_some());
    let params = hash.and_then(|hash| argon2::Params::try_from(&hash).ok());
    let params = params.ok_or("has an argon2id hash that is malformed")?;
    let cheap = params.m_cost() <= ARGON2_KIB && params.t_cost() <= ARGON2_PASSES && params.p_cost() <= ARGON2_LANES;
    if cheap {
        Ok(Scheme::Argon2id)
    } else {
        Err(format!("has an argon2id hash with more than m={ARGON2_KIB},t={ARGON2_PASSES},p={ARGON2_LANES}"))
    }
}

fn sha_crypt(text: &str) -> Result<Scheme, String> {
    let fields: Vec<_> = text.split('$').collect();
    let (rounds, rest) = match fields.as_slice() {
        ["", _, rounds, rest @ ..] if rounds.starts_with("rounds=") => {
            (rounds.trim_start_matches("rounds=").parse().unwrap_or(0), rest)
        }
        ["", _, rest @ ..] => (5_000, rest),
        _ => (0, fields.as_slice()),
    };
    let length = if text.starts_with("$5$") { 43 } else { 86 };
    let well_formed = matches!(rest, [salt, hash] if !salt.is_empty() && salt.len() <= 16 && hash.len() == length);
    match (well_formed, SHA_ROUNDS.contains(&rounds)) {
        (true, true) => Ok(Scheme::ShaCrypt),
        (true, false) => Err(format!("has a SHA-crypt hash whose rounds are not {SHA_ROUNDS:?}")),
        (false, _) => Err("has a SHA-crypt hash that is malformed".to_owned()),
    }
}
