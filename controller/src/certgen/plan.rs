//! The next step of a rotation. Time is a parameter, and nothing is lost by asking too often.
//!
//! An authority is announced before it signs: everybody trusts it by the time that the first certificate of it is shown. The
//! one before it stays trusted until it ends. So at no moment does anybody meet a certificate that they do not trust yet.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::authority::{self, AUTHORITY_LIFETIME, Error, LIFETIME, Pair};

/// How long a new authority is announced before it signs: longer than it takes until every pod sees a changed Secret.
pub(super) const ANNOUNCEMENT: Duration = Duration::from_mins(15);

/// The authorities.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Authorities {
    /// The one that signs.
    pub(super) signing: Option<Pair>,
    /// The one that will, and since when everybody is told of it.
    pub(super) next: Option<(Pair, SystemTime)>,
    /// Certificates of those that signed before, as PEM.
    pub(super) former: Vec<String>,
}

/// All that is stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The authorities.
    pub(super) authorities: Authorities,
    /// Certificates by the name of their Secret.
    pub(super) leaves: BTreeMap<String, Leaf>,
}

/// A certificate and the authorities that its holder trusts.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The certificate.
    pub(super) pair: Pair,
    /// PEM of the authorities.
    pub(super) trusted: String,
}

impl Authorities {
    /// All that are trusted, as PEM.
    fn trusted(&self) -> String {
        let current = self.signing.iter().chain(self.next.iter().map(|(next, _)| next));
        let mut trusted: Vec<&str> = Vec::new();
        for certificate in current.map(|pair| &pair.certificate).chain(&self.former) {
            if !trusted.contains(&certificate.as_str()) {
                trusted.push(certificate);
            }
        }
        trusted.concat()
    }
}

/// What should be stored instead of `state`, where the Secrets are called and their certificates named as in `names`.
pub(super) fn next(state: &State, names: &BTreeMap<String, Vec<String>>, now: SystemTime) -> Result<State, Error> {
    let mut authorities = state.authorities.clone();
    if authorities.signing.is_none() {
        adopt(&mut authorities, state);
    }
    advance(&mut authorities, now)?;
    let trusted = authorities.trusted();
    let mut leaves = BTreeMap::new();
    for (secret, names) in names {
        let known = state.leaves.get(secret).filter(|leaf| !is_due(&leaf.pair.certificate, LIFETIME, now));
        let resigns = authorities.signing != state.authorities.signing;
        let pair = match (&authorities.signing, known) {
            (Some(signing), None) => authority::signed(signing, secret, names, now)?,
            // Or another version of this program has made it, for fewer names.
            (Some(signing), Some(leaf)) if resigns || !authority::is_for(&leaf.pair.certificate, names) => {
                authority::signed(signing, secret, names, now)?
            }
            (_, Some(leaf)) => leaf.pair.clone(),
            // The authority is announced only, but there is nothing to go on with: better to be distrusted for a while.
            (None, None) => match &authorities.next {
                Some((next, _)) => authority::signed(next, secret, names, now)?,
                None => continue,
            },
        };
        leaves.insert(secret.clone(), Leaf { pair, trusted: trusted.clone() });
    }
    Ok(State { authorities, leaves })
}

/// Certificates that another program made, whose authority's key nobody has: they stay trusted until they end.
fn adopt(authorities: &mut Authorities, state: &State) {
    for leaf in state.leaves.values() {
        for certificate in authority::split(&leaf.trusted) {
            if !authorities.former.contains(&certificate) {
                authorities.former.push(certificate);
            }
        }
    }
}

fn advance(authorities: &mut Authorities, now: SystemTime) -> Result<(), Error> {
    authorities.former.retain(|certificate| authority::expiry(certificate).is_some_and(|end| end > now));
    let first = authorities.signing.is_none() && authorities.former.is_empty() && authorities.next.is_none();
    if first {
        // Nobody trusts anything yet, so nobody has to be told first.
        authorities.signing = Some(authority::authority(now)?);
        return Ok(());
    }
    match authorities.next.take() {
        Some((next, since)) if now.duration_since(since).is_ok_and(|told| told >= ANNOUNCEMENT) => {
            authorities.former.extend(authorities.signing.take().map(|signing| signing.certificate));
            authorities.signing = Some(next);
        }
        Some(announced) => authorities.next = Some(announced),
        None => {
            let signing = authorities.signing.as_ref();
            if signing.is_none_or(|signing| is_due(&signing.certificate, AUTHORITY_LIFETIME, now)) {
                authorities.next = Some((authority::authority(now)?, now));
            }
        }
    }
    Ok(())
}

/// Less than a third of its life is left, or it cannot be read.
fn is_due(certificate: &str, lifetime: Duration, now: SystemTime) -> bool {
    authority::expiry(certificate).is_none_or(|end| end < now + lifetime / 3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn names() -> BTreeMap<String, Vec<String>> {
        [("server".to_owned(), vec!["server.ns".to_owned()]), ("client".to_owned(), vec!["*.ns".to_owned()])].into()
    }

    /// Whether the holder of `trusted` takes `leaf` at `now`.
    fn is_trusted(leaf: &Pair, trusted: &str, now: SystemTime) -> bool {
        let (_, block) = x509_parser::pem::parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
        let leaf = block.parse_x509().unwrap();
        let seconds = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let alive = |validity: &x509_parser::certificate::Validity| {
            validity.not_before.timestamp() <= seconds && seconds <= validity.not_after.timestamp()
        };
        let key_of_issuer = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.clone(),
            _ => None,
        });
        let issued = authority::split(trusted).into_iter().any(|pem| {
            let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let authority = block.parse_x509().unwrap();
            let key = authority.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.clone()),
                _ => None,
            });
            key == key_of_issuer && alive(authority.validity())
        });
        issued && alive(leaf.validity())
    }

    fn all_trust_each_other(states: [&State; 2], now: SystemTime) -> bool {
        let pairs = states.into_iter().flat_map(|one| states.into_iter().map(move |other| (one, other)));
        pairs.into_iter().all(|(one, other)| {
            one.leaves.values().all(|leaf| other.leaves.values().all(|peer| is_trusted(&leaf.pair, &peer.trusted, now)))
        })
    }

    #[test]
    fn the_first_time_everything_is_made_and_then_left_alone() {
        let now = SystemTime::now();
        let first = next(&State::default(), &names(), now).unwrap();
        assert_eq!(first.leaves.len(), 2);
        assert!(all_trust_each_other([&first, &first], now));
        assert!(next(&first, &names(), now + DAY).unwrap() == first, "nothing is due after a day");
    }

    #[test]
    fn a_certificate_that_lacks_a_name_is_made_anew_by_the_same_authority() {
        let now = SystemTime::now();
        let before = next(&State::default(), &names(), now).unwrap();
        let mut wanted = names();
        wanted.get_mut("client").unwrap().push("client.ns".to_owned());
        let after = next(&before, &wanted, now + DAY).unwrap();
        assert!(after.authorities == before.authorities);
        assert!(after.leaves["server"].pair == before.leaves["server"].pair);
        assert!(authority::is_for(&after.leaves["client"].pair.certificate, &wanted["client"]));
        assert!(all_trust_each_other([&before, &after], now + DAY));
        assert!(next(&after, &wanted, now + DAY).unwrap() == after);
    }

    #[test]
    fn over_twelve_years_old_and_new_holders_always_trust_each_other() {
        let begin = SystemTime::now();
        let mut state = next(&State::default(), &names(), begin).unwrap();
        let first = state.clone();
        let (mut now, mut rotations) = (begin, 0);
        while now < begin + 12 * 365 * DAY {
            now += DAY;
            let after = next(&state, &names(), now).unwrap();
            // A pod may still hold what was stored before: a change takes minutes to reach it.
            assert!(all_trust_each_other([&state, &after], now), "{:?} after the begin", now.duration_since(begin));
            rotations += usize::from(after.authorities.signing != state.authorities.signing);
            assert!(after.leaves["server"].trusted.matches("BEGIN").count() <= 3);
            state = after;
        }
        assert_eq!(rotations, 3, "an authority signs for two thirds of its five years");
        assert!(state.leaves["server"].pair != first.leaves["server"].pair);
    }

    #[test]
    fn a_new_authority_does_not_sign_before_everybody_was_told() {
        let begin = SystemTime::now();
        let first = next(&State::default(), &names(), begin).unwrap();
        let due = begin + AUTHORITY_LIFETIME / 3 * 2 + DAY;
        let renewed = next(&first, &names(), due).unwrap();
        assert!(renewed.authorities.signing == first.authorities.signing && renewed.authorities.next.is_some());
        let early = next(&renewed, &names(), due + ANNOUNCEMENT / 2).unwrap();
        assert!(early == renewed);
        let signs = next(&renewed, &names(), due + ANNOUNCEMENT).unwrap();
        assert!(signs.authorities.signing == renewed.authorities.next.map(|(next, _)| next));
    }

    #[test]
    fn certificates_of_another_program_are_taken_over_without_a_gap() {
        let now = SystemTime::now();
        let theirs = State { authorities: Authorities::default(), ..next(&State::default(), &names(), now).unwrap() };
        let told = next(&theirs, &names(), now + DAY).unwrap();
        assert!(told.leaves["server"].pair == theirs.leaves["server"].pair, "their certificates are still shown");
        assert!(all_trust_each_other([&theirs, &told], now + DAY));
        let ours = next(&told, &names(), now + DAY + ANNOUNCEMENT).unwrap();
        assert!(ours.leaves["server"].pair != theirs.leaves["server"].pair);
        assert!(all_trust_each_other([&told, &ours], now + DAY + ANNOUNCEMENT));
    }
}
