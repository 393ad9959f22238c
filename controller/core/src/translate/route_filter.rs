//! The filters of a rule.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesBackendRefsFilters as BackendFilter, HttpRouteRulesFilters as Filter,
    HttpRouteRulesFiltersRequestMirror as MirrorSpec, HttpRouteRulesFiltersRequestRedirect as RedirectSpec,
    HttpRouteRulesFiltersType as Type, HttpRouteRulesFiltersUrlRewrite as RewriteSpec,
};

use super::{
    backend, cors_filter, external_auth,
    fault::Fault,
    grant::Referrer,
    header_modifier::{self, Direction},
    hostname, http_route_filter,
    inputs::Inputs,
    name,
};
use crate::ir::{
    Destination, HeaderMutations, HostRewrite, HttpFilters, Mirror, ObjectRef, PathRewrite, Redirect, Rewrite,
    ValueMatch,
};

/// What the filters of one rule do together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filters {
    /// On the way to the backend.
    pub(super) request_headers: HeaderMutations,
    /// On the way back.
    pub(super) response_headers: HeaderMutations,
    /// Instead of forwarding.
    pub(super) redirect: Option<Redirect>,
    /// While forwarding.
    pub(super) rewrite: Option<Rewrite>,
    /// Beside forwarding.
    pub(super) mirrors: Vec<Mirror>,
    /// Instead of forwarding, too.
    pub(super) response: Option<Response>,
    /// Alternatives, each of them a list of cookies that a request must have; none for any request.
    pub(super) cookies: Vec<Vec<ValueMatch>>,
    /// In Envoy's chain of HTTP filters.
    pub(super) http: HttpFilters,
    has_url_rewrite: bool,
}

/// An answer without a backend.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Response {
    /// HTTP status.
    pub(super) status: u16,
    /// Empty for none.
    pub(super) body: String,
    /// Envoy can read the `%COMMANDS%` in the body, if there are any.
    pub(super) format: bool,
}

/// The rule that filters belong to.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    /// Its route.
    pub(super) route: &'a ObjectRef,
    /// The same as the one who refers.
    pub(super) from: Referrer<'a>,
    /// Name of the rule's cluster.
    pub(super) destination: &'a str,
}

/// Reads the filters of a rule. Whatever is wrong with one of them is a fault.
pub(super) fn read(inputs: &Inputs<'_>, of: Of<'_>, specs: &[Filter]) -> (Filters, Vec<Fault>) {
    let mut filters = Filters::default();
    let mut faults = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        if let Err(fault) = filters.add(inputs, of, index, spec) {
            faults.push(fault);
        }
    }
    let used = [
        ("RequestMirror", !filters.mirrors.is_empty()),
        ("URLRewrite", filters.rewrite.is_some()),
        ("RequestRedirect", filters.redirect.is_some()),
        ("DirectResponse", filters.response.is_some()),
    ];
    for (other, (name, _)) in [(2, used[0]), (2, used[1]), (3, used[0]), (3, used[1]), (3, used[2])] {
        let used_both = used[other].1 && used.iter().any(|(known, used)| *known == name && *used);
        if used_both {
            let other = used[other].0;
            let message = format!("{name} filter cannot be used when the rule also configures a {other} filter");
            faults.push(Fault::accepted("IncompatibleFilters", message));
        }
    }
    (filters, faults)
}

impl Filters {
    fn add(&mut self, inputs: &Inputs<'_>, of: Of<'_>, index: usize, spec: &Filter) -> Result<(), Fault> {
        let missing = |field| Fault::accepted("UnsupportedValue", format!("filter lacks the field {field}"));
        match spec.r#type {
            Type::RequestHeaderModifier => {
                let spec = spec.request_header_modifier.as_ref().ok_or_else(|| missing("requestHeaderModifier"))?;
                header_modifier::add(&mut self.request_headers, Direction::Request, spec)
            }
            Type::ResponseHeaderModifier => {
                let spec = spec.response_header_modifier.as_ref().ok_or_else(|| missing("responseHeaderModifier"))?;
                header_modifier::add(&mut self.response_headers, Direction::Response, spec)
            }
            Type::RequestRedirect => {
                let spec = spec.request_redirect.as_ref().ok_or_else(|| missing("requestRedirect"))?;
                if self.redirect.is_some() {
                    let message = "cannot configure multiple requestRedirect filters for a single HTTPRouteRule";
                    return Err(Fault::accepted("UnsupportedValue", message));
                }
                self.redirect = Some(redirect(spec)?);
                Ok(())
            }
            Type::UrlRewrite => {
                let spec = spec.url_rewrite.as_ref().ok_or_else(|| missing("urlRewrite"))?;
                if std::mem::replace(&mut self.has_url_rewrite, true) {
                    let message = "cannot configure multiple urlRewrite filters for a single HTTPRouteRule";
                    return Err(Fault::accepted("UnsupportedValue", message));
                }
                self.add_rewrite(rewrite(spec)?)
            }
            Type::RequestMirror => {
                let spec = spec.request_mirror.as_ref().ok_or_else(|| missing("requestMirror"))?;
                self.mirrors.push(mirror(inputs, of.from, &name::mirror(of.destination, index), spec)?);
                Ok(())
            }
            Type::ExtensionRef => {
                let reference = spec.extension_ref.as_ref().ok_or_else(|| missing("extensionRef"))?;
                http_route_filter::add(self, inputs, of.from.namespace, reference)
            }
            Type::Cors => {
                let spec = spec.cors.as_ref().ok_or_else(|| missing("cors"))?;
                self.http.cors = Some(Box::new(cors_filter::read(spec)?));
                Ok(())
            }
            Type::ExternalAuth => {
                let spec = spec.external_auth.as_ref().ok_or_else(|| missing("externalAuth"))?;
                if self.http.external_auth.is_some() {
                    let message = "cannot configure multiple externalAuth filters for a single HTTPRouteRule";
                    return Err(Fault::accepted("UnsupportedValue", message));
                }
                self.http.external_auth = Some(Box::new(external_auth::read(inputs, of, spec)?));
                Ok(())
            }
        }
    }

    /// Host and path may come from two filters, but each only from one.
    pub(super) fn add_rewrite(&mut self, rewrite: Rewrite) -> Result<(), Fault> {
        let all = self.rewrite.get_or_insert_default();
        if all.hostname.is_some() && rewrite.hostname.is_some() || all.path.is_some() && rewrite.path.is_some() {
            let message = "cannot configure multiple urlRewrite filters for a single HTTPRouteRule";
            return Err(Fault::accepted("UnsupportedValue", message));
        }
        if rewrite.hostname.is_some() {
            all.hostname = rewrite.hostname;
            all.append_x_forwarded_host = rewrite.append_x_forwarded_host;
        }
        if rewrite.path.is_some() {
            all.path = rewrite.path;
        }
        Ok(())
    }
}

/// Reads the filters of one backendRef: only header modifiers make sense on one backend of several.
pub(super) fn read_of_backend(specs: &[BackendFilter]) -> Result<Filters, Fault> {
    let mut filters = Filters::default();
    for spec in specs {
        // The two types differ only in name.
        let spec: Result<Filter, _> = serde_json::to_value(spec).and_then(serde_json::from_value);
        let spec = spec.map_err(|error| Fault::resolved_refs("InvalidBackendFilters", error.to_string()))?;
        let added = match (&spec.request_header_modifier, &spec.response_header_modifier, &spec.r#type) {
            (Some(modifier), _, Type::RequestHeaderModifier) => {
                header_modifier::add(&mut filters.request_headers, Direction::Request, modifier)
            }
            (_, Some(modifier), Type::ResponseHeaderModifier) => {
                header_modifier::add(&mut filters.response_headers, Direction::Response, modifier)
            }
            (.., other) => {
                let message = format!("filter {other:?} is not supported within a backendRef");
                Err(Fault::accepted("UnsupportedValue", message))
            }
        };
        added.map_err(|fault| Fault::resolved_refs("InvalidBackendFilters", fault.message))?;
    }
    Ok(filters)
}

fn redirect(spec: &RedirectSpec) -> Result<Redirect, Fault> {
    let unsupported = |message: String| Fault::accepted("UnsupportedValue", message);
    let status = spec.status_code.unwrap_or(302);
    let status = u16::try_from(status).ok().filter(|status| [301, 302, 303, 307, 308].contains(status));
    let status = status.ok_or_else(|| {
        let given = spec.status_code.unwrap_or_default();
        unsupported(format!("status code {given} is invalid, only 301, 302, 303, 307 and 308 are supported"))
    })?;
    let scheme = spec.scheme.as_ref().map(|scheme| format!("{scheme:?}").to_lowercase());
    let port = spec.port.map(|port| u16::try_from(port).ok().filter(|port| *port != 0));
    let path = spec.path.as_ref().map(|path| {
        path_rewrite(
            "redirect",
            path.replace_full_path.as_deref(),
            path.replace_prefix_match.as_deref(),
            &format!("{:?}", path.r#type),
        )
    });
    Ok(Redirect {
        scheme,
        hostname: checked_hostname(spec.hostname.as_deref())?,
        path: path.transpose()?,
        port: match port {
            Some(None) => return Err(unsupported(format!("port {} is invalid", spec.port.unwrap_or_default()))),
            Some(port) => port,
            None => None,
        },
        status,
    })
}

fn rewrite(spec: &RewriteSpec) -> Result<Rewrite, Fault> {
    let path = spec.path.as_ref().map(|path| {
        path_rewrite(
            "rewrite",
            path.replace_full_path.as_deref(),
            path.replace_prefix_match.as_deref(),
            &format!("{:?}", path.r#type),
        )
    });
    Ok(Rewrite {
        hostname: checked_hostname(spec.hostname.as_deref())?.map(HostRewrite::Literal),
        append_x_forwarded_host: true,
        path: path.transpose()?,
    })
}

fn checked_hostname(host: Option<&str>) -> Result<Option<String>, Fault> {
    match host {
        Some(host) if host.contains('*') || !hostname::is_valid(host) => {
            Err(Fault::accepted("UnsupportedValue", format!("hostname {host:?} is invalid")))
        }
        host => Ok(host.map(ToOwned::to_owned)),
    }
}

/// Reads a path modifier, whose type must agree with the field that is set.
fn path_rewrite(what: &str, full: Option<&str>, prefix: Option<&str>, kind: &str) -> Result<PathRewrite, Fault> {
    let (own, foreign) = match kind {
        "ReplaceFullPath" => (full, prefix),
        _ => (prefix, full),
    };
    let other = if kind == "ReplaceFullPath" { "ReplacePrefixMatch" } else { "ReplaceFullPath" };
    let unsupported = |message: String| Err(Fault::accepted("UnsupportedValue", message));
    match (own, foreign) {
        (_, Some(_)) => unsupported(format!("{other} cannot be set when {what} path type is {kind:?}")),
        (None, None) => unsupported(format!("{kind} must be set when {what} path type is {kind:?}")),
        (Some(path), None) if path.contains(['\r', '\n', '\0']) => {
            unsupported(format!("{what} path {path:?} is invalid"))
        }
        (Some(path), None) if kind == "ReplaceFullPath" => Ok(PathRewrite::Full(path.to_owned())),
        (Some(path), None) => Ok(PathRewrite::Prefix(path.to_owned())),
    }
}

fn mirror(inputs: &Inputs<'_>, from: Referrer<'_>, name: &str, spec: &MirrorSpec) -> Result<Mirror, Fault> {
    let share = |value: i32| u32::try_from(value).unwrap_or_default();
    let fraction = match (&spec.fraction, spec.percent) {
        (Some(fraction), _) => (share(fraction.numerator), fraction.denominator.map_or(100, share)),
        (None, Some(percent)) => (share(percent), 100),
        (None, None) => (100, 100),
    };
    if fraction.1 == 0 || fraction.0 > fraction.1 {
        let message = format!("the share {}/{} of a RequestMirror filter is invalid", fraction.0, fraction.1);
        return Err(Fault::accepted("UnsupportedValue", message));
    }
    let place = "failed to validate the RequestMirror filter";
    let reference = backend::Reference {
        group: spec.backend_ref.group.as_deref(),
        kind: spec.backend_ref.kind.as_deref(),
        namespace: spec.backend_ref.namespace.as_deref(),
        name: &spec.backend_ref.name,
        port: spec.backend_ref.port,
    };
    let (backend, _) =
        backend::single(inputs, from, reference, name::backend(name, None)).map_err(|fault| fault.at(place))?;
    Ok(Mirror { destination: Destination { name: name.to_owned(), backends: vec![backend] }, fraction })
}
