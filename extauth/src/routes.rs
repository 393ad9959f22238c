//! Which policy guards a request when Envoy names none: by host, then by path.

use std::collections::HashMap;
use std::sync::Arc;

use proto::extauth::RouteMatch;

use crate::check::Check;
use crate::host::{self, Pattern};
use crate::method::Invalid;
use crate::path;

/// Policies by host and path.
#[derive(Debug, Default)]
pub struct Routes {
    by_host: HashMap<Pattern, Vec<(String, Arc<str>)>>,
    /// Names below which all hosts have a policy, the longest first.
    below: Vec<Pattern>,
    /// A policy's places could not be read; nobody knows any more what another policy must not take over.
    broken: bool,
}

impl Routes {
    /// Gives a policy its places; the error says which of them is wrong, or another policy's.
    pub fn add(&mut self, policy: &Arc<str>, matches: &[RouteMatch]) -> Result<(), Invalid> {
        let added = matches.iter().enumerate().try_for_each(|(index, place)| {
            let within = |Invalid { field, problem }| Invalid { field: format!("match[{index}].{field}"), problem };
            self.add_one(policy, place).map_err(within)
        });
        self.broken |= added.is_err();
        added
    }

    fn add_one(&mut self, policy: &Arc<str>, place: &RouteMatch) -> Result<(), Invalid> {
        let mut prefixes = Vec::new();
        for (index, prefix) in place.path_prefixes.iter().enumerate() {
            let clear = path::canonical(prefix).ok().filter(|clear| clear == prefix);
            let problem = "is no path that starts with a slash, decoded and without query";
            prefixes.push(clear.ok_or_else(|| Invalid::new(format!("pathPrefixes[{index}]"), problem))?);
        }
        if prefixes.is_empty() {
            prefixes.push("/".to_owned());
        }
        let mut hosts = Vec::new();
        for (index, name) in place.hosts.iter().enumerate() {
            let problem = "is no host name, no `*.` before one, and no `*`";
            hosts.push(Pattern::parse(name).ok_or_else(|| Invalid::new(format!("hosts[{index}]"), problem))?);
        }
        if hosts.is_empty() {
            hosts.push(Pattern::Any);
        }
        for host in hosts {
            for prefix in &prefixes {
                self.put(policy, host.clone(), prefix.trim_end_matches('/'))?;
            }
        }
        Ok(())
    }

    fn put(&mut self, policy: &Arc<str>, host: Pattern, prefix: &str) -> Result<(), Invalid> {
        if matches!(host, Pattern::Below(_)) && !self.below.contains(&host) {
            self.below.push(host.clone());
            self.below.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
        }
        let places = self.by_host.entry(host).or_default();
        if let Some((_, other)) = places.iter().find(|(known, _)| known == prefix) {
            let problem = format!("host and path are those of the policy `{other}` as well");
            return Err(Invalid::new("hosts", &problem));
        }
        places.push((prefix.to_owned(), Arc::clone(policy)));
        places.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(())
    }

    /// The policy with the longest host, and among those of that host with the longest path, that the request fits. A host
    /// that has places of its own does not fall back to those of a wider one.
    pub fn find(&self, check: &Check<'_>) -> Option<&Arc<str>> {
        if self.broken || self.by_host.is_empty() {
            return None;
        }
        let host = host::normal(check.host())?;
        let below =
            || self.below.iter().find(|pattern| pattern.fits(&host)).and_then(|pattern| self.by_host.get(pattern));
        let exact = self.by_host.get(&Pattern::Exact(host.clone()));
        let places = exact.or_else(below).or_else(|| self.by_host.get(&Pattern::Any))?;
        match places.as_slice() {
            // Without any path to choose by, none is looked at.
            [(prefix, policy)] if prefix.is_empty() => Some(policy),
            places => {
                let path = path::canonical(check.target()).ok()?;
                places.iter().find(|(prefix, _)| path::below(&path, prefix)).map(|(_, policy)| policy)
            }
        }
    }
}
