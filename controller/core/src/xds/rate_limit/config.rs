//! What `ratelimit` must count.

use std::collections::BTreeMap;

use controller_api::rate_limit::{RateLimitRule, RateLimitUnit};
use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit as Unit,
};

use super::{Limit, global};
use crate::ir::HttpRoute;

/// All limits below one first entry.
#[derive(Debug, PartialEq)]
pub(crate) struct Root {
    /// The listener, or the policy of a shared rule.
    pub(crate) domain: String,
    descriptor: RateLimitDescriptor,
}

/// The limits of a route on the listener of this name.
pub(crate) fn roots(listener: &str, route: &HttpRoute) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    for limit in global(listener, route) {
        let is_same = |root: &Root| root.domain == limit.domain && root.descriptor.key == limit.root;
        let index = roots.iter().position(is_same).unwrap_or_else(|| {
            roots.push(Root { domain: limit.domain.clone(), descriptor: descriptor(&limit.root, &limit.root) });
            roots.len() - 1
        });
        insert(&mut roots[index].descriptor.descriptors, &limit);
    }
    for root in &mut roots {
        shrink(&mut root.descriptor.descriptors);
    }
    roots
}

/// One for each domain. A shared rule is there once, however many Gateways carry it.
pub(crate) fn configs<'r>(roots: impl Iterator<Item = &'r Root>) -> Vec<RateLimitConfig> {
    let mut domains: BTreeMap<&str, BTreeMap<&str, &RateLimitDescriptor>> = BTreeMap::new();
    for Root { domain, descriptor } in roots {
        domains.entry(domain).or_default().entry(&descriptor.key).or_insert(descriptor);
    }
    let config = |(domain, roots): (&str, BTreeMap<_, &RateLimitDescriptor>)| RateLimitConfig {
        name: domain.to_owned(),
        domain: domain.to_owned(),
        descriptors: roots.into_values().cloned().collect(),
    };
    domains.into_iter().map(config).collect()
}

fn insert(mut level: &mut Vec<RateLimitDescriptor>, limit: &Limit<'_>) {
    let Some((leaf, links)) = limit.links.split_last() else { return };
    let shadow_mode = limit.rule.shadow_mode == Some(true);
    for link in links {
        let inner = descend(level, (&link.key, link.value.as_deref().unwrap_or_default()));
        inner.shadow_mode = shadow_mode;
        level = &mut inner.descriptors;
    }
    let leaf = descend(level, (&leaf.key, leaf.value.as_deref().unwrap_or_default()));
    leaf.shadow_mode = shadow_mode;
    leaf.rate_limit = Some(policy(limit.rule));
}

/// There are many, and they stay as they are.
fn shrink(level: &mut Vec<RateLimitDescriptor>) {
    level.shrink_to_fit();
    for descriptor in level {
        shrink(&mut descriptor.descriptors);
    }
}

/// The descriptor with this key and value, which is added where there is none.
fn descend<'d>(level: &'d mut Vec<RateLimitDescriptor>, (key, value): (&str, &str)) -> &'d mut RateLimitDescriptor {
    let index = level.iter().position(|known| known.key == key && known.value == value).unwrap_or_else(|| {
        level.push(descriptor(key, value));
        level.len() - 1
    });
    &mut level[index]
}

fn descriptor(key: &str, value: &str) -> RateLimitDescriptor {
    RateLimitDescriptor { key: key.to_owned(), value: value.to_owned(), ..Default::default() }
}

fn policy(rule: &RateLimitRule) -> RateLimitPolicy {
    let unit = match rule.limit.unit {
        RateLimitUnit::Second => Unit::Second,
        RateLimitUnit::Minute => Unit::Minute,
        RateLimitUnit::Hour => Unit::Hour,
        RateLimitUnit::Day => Unit::Day,
        RateLimitUnit::Week => Unit::Week,
        RateLimitUnit::Month => Unit::Month,
        RateLimitUnit::Year => Unit::Year,
    };
    RateLimitPolicy { unit: unit.into(), requests_per_unit: rule.limit.requests, ..Default::default() }
}
