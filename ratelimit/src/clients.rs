//! Which clients may ask for which domains.

use crate::config::Wildcard;

/// Pairs of a client's name and a domain that it may ask for, both with any number of `*`. Without pairs every client may ask for
/// all domains.
#[derive(Debug, Default)]
pub struct Clients(Vec<(Pattern, Pattern)>);

impl Clients {
    /// Of pairs such as `("spiffe://cluster.local/ns/shop/*", "shop-*")`.
    pub fn new<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        Self(pairs.into_iter().map(|(name, domain)| (Pattern::new(name), Pattern::new(domain))).collect())
    }

    /// Whether every client may ask for all domains.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a client with one of these verified names may ask for the domain.
    pub fn may_ask(&self, names: &[String], domain: &str) -> bool {
        let pair = |(client, allowed): &(Pattern, Pattern)| {
            allowed.matches(domain) && names.iter().any(|name| client.matches(name))
        };
        self.is_open() || self.0.iter().any(pair)
    }
}

#[derive(Debug)]
enum Pattern {
    Exact(Box<str>),
    Wildcard(Wildcard),
}

impl Pattern {
    fn new(text: &str) -> Self {
        Wildcard::new(text).map_or_else(|| Self::Exact(text.into()), Self::Wildcard)
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Wildcard(wildcard) => wildcard.matches(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_a_client_asks_for_its_domains_only() {
        let clients = Clients::new([("envoy-a", "shop-*"), ("envoy-a", "blog"), ("spiffe://x/*", "*"), ("", "all")]);
        for (names, domain, may) in [
            (&["envoy-a"][..], "shop-1", true),
            (&["envoy-a"], "blog", true),
            (&["envoy-a"], "blogs", false),
            (&["envoy-a"], "", false),
            (&["envoy-b"], "shop-1", false),
            (&["envoy-b", "envoy-a"], "shop-1", true),
            (&["spiffe://x/ns/y"], "anything", true),
            (&["spiffe://y/ns/y"], "anything", false),
            (&["Envoy-a"], "blog", false),
            (&[], "all", false),
            (&[], "blog", false),
        ] {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            assert_eq!(clients.may_ask(&names, domain), may, "{names:?} {domain}");
        }
        assert!(Clients::default().may_ask(&[], "blog"));
    }
}
