//! SPIFFE IDs (SPIFFE-ID, section 2) and the certificates that carry them (X509-SVID, section 2).

use proto::extauth::Spiffe;

use crate::method::Invalid;
use crate::pattern::starred;

/// The longest ID, in bytes.
const LONGEST: usize = 2048;

/// Who a workload is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Id<'a> {
    trust_domain: &'a str,
    path: &'a str,
}

impl<'a> Id<'a> {
    /// The ID of a certificate with these URIs: there must be exactly one.
    pub(super) fn of(uris: &'a [String]) -> Option<Self> {
        let [uri] = uris else { return None };
        let rest = uri.strip_prefix("spiffe://").filter(|_| uri.len() <= LONGEST)?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let domain = !trust_domain.is_empty() && trust_domain.bytes().all(is_domain);
        (domain && is_path(path)).then_some(Self { trust_domain, path })
    }

    pub(super) fn fits(&self, spiffe: &Spiffe) -> bool {
        let path = || spiffe.paths.iter().any(|pattern| starred(pattern, self.path));
        spiffe.trust_domains.iter().any(|domain| domain == self.trust_domain) && (spiffe.paths.is_empty() || path())
    }
}

/// Checks what is configured.
pub(super) fn check(spiffe: &Spiffe) -> Result<(), Invalid> {
    if spiffe.trust_domains.is_empty() {
        return Err(Invalid::new("spiffe.trustDomains", "must name at least one trust domain"));
    }
    let wrong = |domain: &String| domain.is_empty() || !domain.bytes().all(is_domain);
    if let Some(index) = spiffe.trust_domains.iter().position(wrong) {
        return Err(Invalid::new(format!("spiffe.trustDomains[{index}]"), "is no trust domain, such as `example.org`"));
    }
    let wrong = |path: &String| !path.starts_with('/');
    let wrong = spiffe.paths.iter().position(wrong);
    wrong.map_or(Ok(()), |index| Err(Invalid::new(format!("spiffe.paths[{index}]"), "does not start with `/`")))
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
}

fn is_path(path: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(legal);
    path.is_empty() || path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment))
}
