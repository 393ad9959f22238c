//! The filters `RequestHeaderModifier` and `ResponseHeaderModifier`.

use controller_api::http_route_filter::DirectResponse;
use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesFiltersRequestHeaderModifier as RequestSpec,
    HttpRouteRulesFiltersResponseHeaderModifier as ResponseSpec,
};

use super::{fault::Fault, route_match::is_token};
use crate::ir::HeaderMutations;

/// Which way the headers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the backend.
    Request,
    /// From the backend.
    Response,
}

/// A filter of either direction.
pub(super) trait Modifier {
    /// Headers to set.
    fn set(&self) -> impl Iterator<Item = (&str, &str)>;
    /// Headers to add.
    fn add(&self) -> impl Iterator<Item = (&str, &str)>;
    /// Headers to remove.
    fn remove(&self) -> impl Iterator<Item = &str>;
}

macro_rules! modifier {
    ($($spec:ty),*) => {$(
        impl Modifier for $spec {
            fn set(&self) -> impl Iterator<Item = (&str, &str)> {
                self.set.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str()))
            }

            fn add(&self) -> impl Iterator<Item = (&str, &str)> {
                self.add.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str()))
            }

            fn remove(&self) -> impl Iterator<Item = &str> {
                self.remove.iter().flatten().map(String::as_str)
            }
        }
    )*};
}

modifier!(RequestSpec, ResponseSpec);

impl Modifier for DirectResponse {
    fn set(&self) -> impl Iterator<Item = (&str, &str)> {
        let content_type = self.content_type.as_deref().map(|value| ("Content-Type", value));
        let set = self.header.iter().flat_map(|header| &header.set);
        content_type.into_iter().chain(set.map(|header| (header.name.as_str(), header.value.as_str())))
    }

    fn add(&self) -> impl Iterator<Item = (&str, &str)> {
        let add = self.header.iter().flat_map(|header| &header.add);
        add.map(|header| (header.name.as_str(), header.value.as_str()))
    }

    fn remove(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}

/// Adds what a filter does to what the filters before it do; of two that name the same header the first wins.
pub(super) fn add(mutations: &mut HeaderMutations, direction: Direction, spec: &impl Modifier) -> Result<(), Fault> {
    let mut errors = Vec::new();
    let mut note = |checked: Result<(), String>| checked.map_err(|error| errors.push(error)).is_ok();
    for (name, value) in spec.add() {
        if note(check_name(direction, "add", name).and_then(|()| check_value(direction, "add", name, value)))
            && !mutates(mutations, name)
        {
            mutations.add.push((name.to_owned(), value.to_owned()));
        }
    }
    for (name, value) in spec.set() {
        if note(check_name(direction, "set", name).and_then(|()| check_value(direction, "set", name, value)))
            && !mutates(mutations, name)
        {
            mutations.set.push((name.to_owned(), value.to_owned()));
        }
    }
    for name in spec.remove() {
        if note(check_name(direction, "remove", name))
            && !mutations.remove.iter().any(|known| known.eq_ignore_ascii_case(name))
        {
            mutations.remove.push(name.to_owned());
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Fault::accepted("UnsupportedValue", errors.join("\n"))) }
}

fn mutates(mutations: &HeaderMutations, name: &str) -> bool {
    mutations.add.iter().chain(&mutations.set).any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// Envoy does not change the Host header this way, and a header's name must be a token.
fn check_name(direction: Direction, verb: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{direction:?}HeaderModifier Filter cannot {verb} a header with an empty name"));
    }
    if !is_token(name) || name.eq_ignore_ascii_case("host") {
        return Err(format!(
            "Header: {name:?}. The {direction:?}HeaderModifier filter cannot {verb} the Host header or headers whose \
             name is no token; the URLRewrite filter changes the Host header."
        ));
    }
    Ok(())
}

/// Visible characters with single spaces or tabs between them (RFC 9110, section 5.5, without obsolete text).
fn check_value(direction: Direction, verb: &str, name: &str, value: &str) -> Result<(), String> {
    let visible = |byte: u8| (b'!'..=b'~').contains(&byte);
    let inner = value.bytes().all(|byte| visible(byte) || byte == b' ' || byte == b'\t');
    let edges = value.bytes().next().is_some_and(visible) && value.bytes().next_back().is_some_and(visible);
    if !inner || !edges || !is_format(value) {
        return Err(format!(
            "Header: {name:?}. {direction:?}HeaderModifier Filter cannot {verb} a header with an invalid value."
        ));
    }
    Ok(())
}

/// Whether Envoy can read the `%COMMAND(argument):length%` parts of a value.
pub(super) fn is_format(value: &str) -> bool {
    let mut rest = value;
    while let Some((_, command)) = rest.split_once('%') {
        if let Some(after) = command.strip_prefix('%') {
            rest = after;
            continue;
        }
        let Some((command, after)) = end_of_command(command) else { return false };
        let name = command.split(['(', ':']).next().unwrap_or_default();
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        {
            return false;
        }
        rest = after;
    }
    true
}

/// Splits at the percent sign that ends a command; one between parentheses does not.
fn end_of_command(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return Some((text.get(..index)?, text.get(index + 1..)?)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn apply(specs: &[serde_json::Value]) -> (HeaderMutations, Vec<Fault>) {
        let mut mutations = HeaderMutations::default();
        let faults = specs.iter().filter_map(|spec| {
            let spec: RequestSpec = serde_json::from_value(spec.clone()).unwrap();
            add(&mut mutations, Direction::Request, &spec).err()
        });
        let faults = faults.collect();
        (mutations, faults)
    }

    #[test]
    fn the_first_filter_that_names_a_header_wins() {
        let (mutations, faults) = apply(&[
            json!({"add": [{"name": "X-A", "value": "1"}], "remove": ["x-r"]}),
            json!({"set": [{"name": "x-a", "value": "2"}, {"name": "x-b", "value": "3"}], "remove": ["X-R"]}),
        ]);
        assert_eq!(faults, []);
        assert_eq!(mutations.add, [("X-A".to_owned(), "1".to_owned())]);
        assert_eq!(mutations.set, [("x-b".to_owned(), "3".to_owned())]);
        assert_eq!(mutations.remove, ["x-r"]);
    }

    #[test]
    fn what_cannot_be_a_header_is_refused() {
        for (name, value) in
            [("", "v"), ("host", "v"), ("a:b", "v"), ("x y", "v"), ("x", ""), ("x", " v"), ("x", "a\nb"), ("x", "%")]
        {
            let (mutations, faults) = apply(&[json!({"set": [{"name": name, "value": value}]})]);
            assert_eq!((mutations, faults.len()), (HeaderMutations::default(), 1), "{name:?} {value:?}");
        }
    }

    #[test]
    fn formats_are_read_as_envoy_reads_them() {
        for good in ["100%%", "%REQ(:authority)%", "a %START_TIME(%s.%3f)% b", "%DOWNSTREAM_REMOTE_ADDRESS%"] {
            assert!(is_format(good), "{good}");
        }
        for bad in ["100%", "%req%", "%REQ(a", "% %"] {
            assert!(!is_format(bad), "{bad}");
        }
    }
}
