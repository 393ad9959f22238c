//! Host names as they are compared.

/// A request's host in lower case, without port and without the dot at its end; `None` when it is no name or address.
pub fn normal(authority: &str) -> Option<String> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address)?,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    (!host.is_empty() && host.bytes().all(legal)).then(|| host.to_ascii_lowercase())
}

/// A configured host name, or `*.` and one, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Every host.
    Any,
    /// All names below this one, which is written with a dot in front.
    Below(String),
    /// This host.
    Exact(String),
}

impl Pattern {
    /// Reads a configured name; `None` when no request can have such a host.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let normal = normal(name).filter(|normal| normal.len() == name.len())?;
        Some(if below { Self::Below(format!(".{normal}")) } else { Self::Exact(normal) })
    }

    /// How much of a name it says, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Below(name) | Self::Exact(name) => name.len(),
        }
    }

    /// Whether it says nothing of a name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a host that is [`normal`] fits.
    pub fn fits(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Exact(name) => host == name,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for host in ["shop.example.com", "SHOP.example.com:443", "shop.example.com.", "shop.example.com.:80"] {
            assert_eq!(normal(host).as_deref(), Some("shop.example.com"), "{host}");
        }
        assert_eq!(normal("[::1]:443").as_deref(), Some("::1"));
        for host in ["", ".", ":443", "[", "user@shop.example.com", "a b", "a/b", "shop.example.com%00", "ſhop"] {
            assert_eq!(normal(host), None, "{host}");
        }
    }

    #[test]
    fn patterns_fit_whole_labels() {
        let fits = |pattern: &str, host: &str| Pattern::parse(pattern).unwrap().fits(host);
        assert!(fits("Shop.example.com", "shop.example.com") && fits("*", "anything"));
        assert!(fits("*.example.com", "a.example.com") && fits("*.example.com", "a.b.example.com"));
        for host in ["example.com", ".example.com", "evilexample.com", "example.com.evil"] {
            assert!(!fits("*.example.com", host), "{host}");
        }
        for bad in ["", "*.", "**", "a*.example.com", "shop.example.com:443", "https://shop"] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }
}
