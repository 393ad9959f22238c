//! What goes out with a request that may pass.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::Value;
use http::HeaderName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proto::extauth::NamedValue;

use crate::check::Check;
use crate::header;
use crate::method::{Invalid, jwt};
use crate::template::Template;
use crate::verdict::{Grant, text};

/// What the query's parser of any upstream takes as it stands.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The results of one policy.
#[derive(Debug)]
pub struct Results {
    headers: Vec<(HeaderName, Template)>,
    remove_headers: Vec<HeaderName>,
    query: Vec<(String, Template)>,
    remove_query: Vec<String>,
    response_headers: Vec<(HeaderName, Template)>,
    metadata: Vec<(String, Template)>,
}

/// A value that no header can carry; the request is denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of the header `{name}` {problem}")]
pub struct Error {
    name: HeaderName,
    problem: header::Error,
}

impl Results {
    /// Checks a policy's results.
    pub fn compile(config: &proto::extauth::Results) -> Result<Self, Invalid> {
        let template = |field: &str, index: usize, value: &str| {
            Template::parse(value).map_err(|e| Invalid::new(format!("results.{field}[{index}].value"), &e))
        };
        let headers = |field: &str, values: &[NamedValue]| {
            let header = |(index, named): (usize, &NamedValue)| {
                let place = |part| format!("results.{field}[{index}].{part}");
                let name = header::name(&named.name).map_err(|e| Invalid::new(place("name"), &e))?;
                let value = template(field, index, &named.value)?;
                if value.is_constant() {
                    header::value(&named.value).map_err(|e| Invalid::new(place("value"), &e))?;
                }
                Ok((name, value))
            };
            values.iter().enumerate().map(header).collect::<Result<Vec<_>, Invalid>>()
        };
        let removed = |(index, name): (usize, &String)| {
            header::name(name).map_err(|e| Invalid::new(format!("results.removeHeaders[{index}]"), &e))
        };
        let query = |(index, named): (usize, &NamedValue)| {
            Ok((parameter("query", index, &named.name)?, template("query", index, &named.value)?))
        };
        let metadata = |(name, value): (&String, &String)| {
            let field = || format!("results.metadata.{name}");
            if name.is_empty() || jwt::RESERVED.contains(&name.as_str()) {
                return Err(Invalid::new(field(), &format!("is none of ours: {}", jwt::RESERVED.join(", "))));
            }
            Ok((name.clone(), Template::parse(value).map_err(|e| Invalid::new(field(), &e))?))
        };
        let names = config.remove_query.iter().enumerate();
        Ok(Self {
            headers: headers("headers", &config.headers)?,
            remove_headers: config.remove_headers.iter().enumerate().map(removed).collect::<Result<_, _>>()?,
            query: config.query.iter().enumerate().map(query).collect::<Result<_, _>>()?,
            remove_query: names.map(|(index, name)| parameter("removeQuery", index, name)).collect::<Result<_, _>>()?,
            response_headers: headers("responseHeaders", &config.response_headers)?,
            metadata: config.metadata.iter().map(metadata).collect::<Result<_, _>>()?,
        })
    }

    /// Every header that may be set for the upstream.
    pub fn identity(&self) -> impl Iterator<Item = HeaderName> {
        self.headers.iter().map(|(name, _)| name.clone())
    }

    /// Adds the results to what a method has granted.
    pub fn apply(&self, check: &Check<'_>, method: &str, grant: &mut Grant) -> Result<(), Error> {
        grant.metadata.insert("method".to_owned(), text(method));
        let ours = |name: &HeaderName| self.headers.iter().any(|(our, _)| our == name);
        grant.headers.retain(|(name, _)| !ours(name));
        for (name, value) in filled(&self.headers, &grant.metadata)? {
            match grant.headers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => *values = format!("{values},{value}"),
                None => grant.headers.push((name, value)),
            }
        }
        grant.response_headers.extend(filled(&self.response_headers, &grant.metadata)?);
        for name in &self.remove_headers {
            grant.removal.header(name.as_str());
            // Whatever an upstream may take for it goes as well.
            for (sent, _) in check.headers().iter().filter(|(sent, _)| header::alike(name.as_str(), sent)) {
                grant.removal.header(sent);
            }
        }
        for (name, value) in &self.query {
            strip(check, name, grant);
            if let Some(value) = value.text(&grant.metadata) {
                grant.query.push((name.clone(), utf8_percent_encode(&value, ENCODED).to_string()));
            }
        }
        for name in &self.remove_query {
            strip(check, name, grant);
        }
        let metadata =
            self.metadata.iter().filter_map(|(name, value)| Some((name.clone(), value.value(&grant.metadata)?)));
        let metadata = metadata.collect::<Vec<_>>();
        grant.metadata.extend(metadata);
        Ok(())
    }
}

fn filled(
    templates: &[(HeaderName, Template)],
    metadata: &HashMap<String, Value>,
) -> Result<Vec<(HeaderName, String)>, Error> {
    let mut headers = Vec::new();
    for (name, value) in templates {
        if let Some(value) = value.text(metadata) {
            header::value(&value).map_err(|problem| Error { name: name.clone(), problem })?;
            headers.push((name.clone(), value));
        }
    }
    Ok(headers)
}

/// Takes out a parameter however its name is encoded.
fn strip(check: &Check<'_>, name: &str, grant: &mut Grant) {
    let decoded = |key: &str| percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy() == name;
    for (key, _) in check.query().filter(|(key, _)| decoded(key)) {
        grant.removal.query(key);
    }
}

fn parameter(field: &str, index: usize, name: &str) -> Result<String, Invalid> {
    let legal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
    let problem = "is no name of letters, digits, `-`, `_`, `.` and `~`";
    if legal { Ok(name.to_owned()) } else { Err(Invalid::new(format!("results.{field}[{index}]"), problem)) }
}
