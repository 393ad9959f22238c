//! The names that statsd knows: parts joined by dots, as envoyproxy/ratelimit sends them. They are made from the names and labels that
//! Prometheus is given.

use std::net::Ipv4Addr;

use metrics::{Key, Label};

/// A metric's name in dots, and the labels that upstream does not have, as tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dotted {
    pub(super) name: String,
    pub(super) tags: Vec<(String, String)>,
}

/// Names of upstream that have no labels, by how they begin.
const PREFIXES: [(&str, &str); 5] = [
    ("ratelimit_redis_per_second_pool_", "ratelimit.redis_per_second_pool."),
    ("ratelimit_redis_pool_", "ratelimit.redis_pool."),
    ("ratelimit_localcache_", "ratelimit.localcache."),
    ("ratelimit_service_rate_limit_", "ratelimit.service.rate_limit."),
    ("ratelimit_service_", "ratelimit.service."),
];

impl Dotted {
    pub(super) fn of(key: &Key) -> Self {
        let mut labels: Vec<&Label> = key.labels().collect();
        let name = named(key.name(), &mut labels);
        let tags = labels.iter().map(|label| (label.key().to_owned(), clean(label.value()))).collect();
        Self { name, tags }
    }
}

/// The name; takes out the labels that it holds.
fn named(name: &str, labels: &mut Vec<&Label>) -> String {
    let mut take = |wanted: &str| {
        let at = labels.iter().position(|label| label.key() == wanted)?;
        Some(clean(labels.remove(at).value()))
    };
    if let Some(stat) = name.strip_prefix("ratelimit_service_rate_limit_")
        && let Some(domain) = take("domain")
    {
        let levels = (1..).map_while(|level| take(&format!("key{level}")));
        let path = [domain].into_iter().chain(levels).collect::<Vec<_>>().join(".");
        return format!("ratelimit.service.rate_limit.{path}.{stat}");
    }
    let by_label = match name {
        "ratelimit_service_should_rate_limit_error" => {
            take("err_type").map(|kind| format!("ratelimit.service.call.should_rate_limit.{kind}"))
        }
        "ratelimit_service_total_requests" => {
            take("grpc_method").map(|method| format!("ratelimit_server.{method}.total_requests"))
        }
        "ratelimit_service_response_time_seconds" => {
            take("grpc_method").map(|method| format!("ratelimit_server.{method}.response_time"))
        }
        _ => None,
    };
    let by_prefix = || PREFIXES.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    by_label.or_else(by_prefix).unwrap_or_else(|| name.to_owned())
}

/// What would end a name early becomes an underscore, and so do the dots of an IPv4 address that ends the text.
fn clean(text: &str) -> String {
    let address = text.rsplit('_').next().unwrap_or(text);
    let dotted = if address.parse::<Ipv4Addr>().is_ok() {
        let (before, address) = text.split_at(text.len() - address.len());
        format!("{before}{}", address.replace('.', "_"))
    } else {
        text.to_owned()
    };
    dotted.replace([':', '|', '\n', '#', '@'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dotted(name: &'static str, labels: &[(&'static str, &'static str)]) -> String {
        let dotted = Dotted::of(&Key::from_parts(name, labels));
        dotted.tags.iter().fold(dotted.name, |name, (key, value)| format!("{name} {key}={value}"))
    }

    #[test]
    fn names_are_upstreams() {
        let rule = [("domain", "shop"), ("key1", "user_joe"), ("key2", "path"), ("key3", "x")];
        for (name, labels, expected) in [
            (
                "ratelimit_service_rate_limit_over_limit",
                &rule[..],
                "ratelimit.service.rate_limit.shop.user_joe.path.x.over_limit",
            ),
            ("ratelimit_service_rate_limit_total_hits", &rule[..1], "ratelimit.service.rate_limit.shop.total_hits"),
            ("ratelimit_service_rate_limit_domain_not_found", &[], "ratelimit.service.rate_limit.domain_not_found"),
            (
                "ratelimit_service_should_rate_limit_error",
                &[("err_type", "redis_error")],
                "ratelimit.service.call.should_rate_limit.redis_error",
            ),
            (
                "ratelimit_service_total_requests",
                &[("grpc_method", "ShouldRateLimit")],
                "ratelimit_server.ShouldRateLimit.total_requests",
            ),
            (
                "ratelimit_service_response_time_seconds",
                &[("grpc_method", "ShouldRateLimit")],
                "ratelimit_server.ShouldRateLimit.response_time",
            ),
            ("ratelimit_service_config_load_error", &[], "ratelimit.service.config_load_error"),
            ("ratelimit_redis_pool_cx_active", &[], "ratelimit.redis_pool.cx_active"),
            ("ratelimit_localcache_hitCount", &[], "ratelimit.localcache.hitCount"),
            ("ratelimit_own", &[("shard", "1")], "ratelimit_own shard=1"),
        ] {
            assert_eq!(dotted(name, labels), expected);
        }
    }

    #[test]
    fn text_of_clients_cannot_end_a_name() {
        let labels = [("domain", "d"), ("key1", "ip_10.0.0.1"), ("key2", "v_a:1|c\nx"), ("key3", "10.0.0.1.nip")];
        assert_eq!(
            dotted("ratelimit_service_rate_limit_total_hits", &labels),
            "ratelimit.service.rate_limit.d.ip_10_0_0_1.v_a_1_c_x.10.0.0.1.nip.total_hits"
        );
    }
}
