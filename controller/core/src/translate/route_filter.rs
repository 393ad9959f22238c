//! The filters of an HTTPRoute's rule.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesBackendRefsFilters as BackendFilter, HttpRouteRulesFilters as Filter,
    HttpRouteRulesFiltersRequestMirror as MirrorSpec, HttpRouteRulesFiltersRequestRedirect as RedirectSpec,
    HttpRouteRulesFiltersType as Type, HttpRouteRulesFiltersUrlRewrite as RewriteSpec,
};

use super::{
    backend,
    fault::Fault,
    grant::Referrer,
    header_modifier::{self, Direction},
    hostname,
    inputs::Inputs,
    name,
};
use crate::ir::{Backend, Destination, HeaderMutations, Mirror, PathRewrite, Redirect, Rewrite};

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
}

/// Reads the filters of the rule whose cluster is `destination`. Whatever is wrong with one of them is a fault.
pub(super) fn read(
    inputs: &Inputs<'_>,
    from: Referrer<'_>,
    destination: &str,
    specs: &[Filter],
) -> (Filters, Vec<Fault>) {
    let mut filters = Filters::default();
    let mut faults = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let name = name::mirror(destination, index);
        if let Err(fault) = filters.add(inputs, from, &name, spec) {
            faults.push(fault);
        }
    }
    if filters.redirect.is_some() && !filters.mirrors.is_empty() {
        let message = "RequestMirror filter cannot be used when the rule also configures a RequestRedirect filter";
        faults.push(Fault::accepted("IncompatibleFilters", message));
    }
    if filters.redirect.is_some() && filters.rewrite.is_some() {
        let message = "URLRewrite filter cannot be used when the rule also configures a RequestRedirect filter";
        faults.push(Fault::accepted("IncompatibleFilters", message));
    }
    (filters, faults)
}

impl Filters {
    fn add(&mut self, inputs: &Inputs<'_>, from: Referrer<'_>, mirror_name: &str, spec: &Filter) -> Result<(), Fault> {
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
                if self.rewrite.is_some() {
                    let message = "cannot configure multiple urlRewrite filters for a single HTTPRouteRule";
                    return Err(Fault::accepted("UnsupportedValue", message));
                }
                self.rewrite = Some(rewrite(spec)?);
                Ok(())
            }
            Type::RequestMirror => {
                let spec = spec.request_mirror.as_ref().ok_or_else(|| missing("requestMirror"))?;
                self.mirrors.push(mirror(inputs, from, mirror_name, spec)?);
                Ok(())
            }
            Type::ExtensionRef => Err(extension(spec)),
            Type::Cors => Err(Fault::accepted("UnsupportedValue", "CORS filter is not supported yet")),
            Type::ExternalAuth => Err(Fault::accepted("UnsupportedValue", "ExternalAuth filter is not supported yet")),
        }
    }
}

fn extension(spec: &Filter) -> Fault {
    let message = match &spec.extension_ref {
        Some(reference) if reference.kind == "HTTPRouteFilter" => "HTTPRouteFilter is not supported yet".to_owned(),
        Some(reference) => {
            format!("invalid filter ExtensionRef: unknown kind {}/{}", reference.group, reference.kind)
        }
        None => "filter lacks the field extensionRef".to_owned(),
    };
    Fault::accepted("UnsupportedValue", message)
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
    Ok(Rewrite { hostname: checked_hostname(spec.hostname.as_deref())?, path: path.transpose()? })
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
    let resolved = backend::resolve_for_route(inputs, from, reference).map_err(|fault| fault.at(place))?;
    if resolved.is_empty() {
        return Err(backend::no_endpoints(&resolved.origin).at(place));
    }
    let backend = Backend {
        name: name::backend(name, None),
        weight: 1,
        origin: Some(resolved.origin),
        endpoints: Some(resolved.endpoints),
        http2: resolved.http2,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    };
    Ok(Mirror { destination: Destination { name: name.to_owned(), backends: vec![backend] }, fraction })
}
