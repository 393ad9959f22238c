//! `controller translate`: what the manifests of a directory come to, without running anything.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use controller_core::{
    Settings, Snapshot, Translation, translate,
    translate::{ObjectStatus, Proxy},
    xds::Type,
};
use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;
use miette::{IntoDiagnostic as _, WrapErr as _, miette};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::source::Files;

/// Print xDS, infrastructure, rate limits and statuses as YAML.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of manifests
    #[arg(required_unless_present = "input")]
    directory: Option<PathBuf>,
    /// One file of manifests; writes files below --output instead of printing
    #[arg(long, value_name = "FILE", requires = "output", conflicts_with = "directory")]
    input: Option<PathBuf>,
    /// JSON file of feature switches, such as {"backend": true}
    #[arg(long, value_name = "FILE", requires = "input")]
    options: Option<PathBuf>,
    /// Directory for status.yaml, xds/KEY/TYPE.yaml and rls/KEY.yaml
    #[arg(long, value_name = "DIR", requires = "input")]
    output: Option<PathBuf>,
}

/// Feature switches of one translation; others are left at their defaults.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    #[serde(default)]
    backend: bool,
    #[serde(default)]
    running_on_host: bool,
}

/// Runs the command. Objects that cannot be read are told on standard error and make it fail in the end.
pub fn run(args: &Args) -> miette::Result<()> {
    match args {
        Args { input: Some(input), options, output: Some(output), .. } => {
            write_files(input, options.as_deref(), output)
        }
        Args { directory: Some(directory), .. } => print(directory),
        _ => Err(miette!("name a directory of manifests")),
    }
}

fn print(directory: &Path) -> miette::Result<()> {
    let (snapshot, problems) = read(directory);
    // As `standalone` would run them.
    let settings = Settings { running_on_host: true, ..Settings::default() };
    let yaml = to_yaml(&document(&translate(&snapshot, &settings))?)?;
    std::io::stdout().write_all(yaml.as_bytes()).into_diagnostic()?;
    match problems {
        0 => Ok(()),
        1 => Err(miette!("one object could not be read")),
        many => Err(miette!("{many} objects could not be read")),
    }
}

/// Reads a directory or file and tells what is wrong in it; the number of problems.
fn read(path: &Path) -> (Snapshot, usize) {
    let manifests = Files::new(path).load().unwrap_or_default();
    for problem in &manifests.problems {
        eprintln!("{problem}");
    }
    (manifests.snapshot, manifests.problems.len())
}

fn to_yaml(value: &impl Serialize) -> miette::Result<String> {
    serde_saphyr::to_string(value).into_diagnostic().wrap_err("writing YAML")
}

fn document(translation: &Translation) -> miette::Result<Value> {
    let mut proxies = Map::new();
    for (key, proxy) in &translation.proxies {
        let mut xds = Map::new();
        for kind in Type::ALL {
            // Whoever sees the output need not see keys.
            let resources = match kind {
                Type::Secret => names(proxy, kind),
                _ => resources(proxy, kind)?,
            };
            if !resources.is_empty() {
                xds.insert(format!("{kind:?}"), resources.into());
            }
        }
        let infra = serde_json::to_value(&proxy.infra).into_diagnostic()?;
        proxies.insert(key.clone(), json!({"infra": infra, "xds": xds}));
    }
    let statuses: Vec<&ObjectStatus> = translation.statuses.iter().map(AsRef::as_ref).collect();
    Ok(json!({
        "proxies": proxies,
        "rateLimits": rate_limits(translation.rate_limits.iter())?,
        "authPolicies": serde_json::to_value(&translation.auth_policies).into_diagnostic()?,
        "statuses": serde_json::to_value(statuses).into_diagnostic()?,
    }))
}

fn names(proxy: &Proxy, kind: Type) -> Vec<Value> {
    proxy.resources.of(kind).map(|(name, _)| json!({"name": name})).collect()
}

/// The resources of one kind as protobuf JSON, without the types that their place says already.
fn resources(proxy: &Proxy, kind: Type) -> miette::Result<Vec<Value>> {
    let name = kind.url().rsplit('/').next().unwrap_or_default();
    let all = proxy.resources.of(kind).map(|(_, resource)| proto::json::encode(name, &resource.any.value));
    all.collect::<Result<_, _>>().into_diagnostic()
}

fn rate_limits<'c>(configs: impl Iterator<Item = &'c RateLimitConfig>) -> miette::Result<Vec<Value>> {
    configs.map(proto::json::to_json).collect::<Result<_, _>>().into_diagnostic()
}

fn write_files(input: &Path, options: Option<&Path>, output: &Path) -> miette::Result<()> {
    let options: Options = match options {
        Some(path) => {
            let text = fs::read_to_string(path).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
            serde_json::from_str(&text).into_diagnostic().wrap_err_with(|| path.display().to_string())?
        }
        None => Options::default(),
    };
    let settings =
        Settings { backend: options.backend, running_on_host: options.running_on_host, ..Settings::default() };
    let (mut snapshot, _) = read(input);
    let class_given = add_class(&mut snapshot, &settings)?;
    let translation = translate(&snapshot, &settings);

    let statuses: Vec<_> = translation.statuses.iter().filter(|status| class_given || !is_of_class(status)).collect();
    let statuses: Vec<_> = statuses.into_iter().map(|status| without_infra((**status).clone())).collect();
    write(&output.join("status.yaml"), &statuses)?;
    for (key, proxy) in &translation.proxies {
        let folder = key.replace('/', "_");
        for kind in Type::ALL {
            let resources = resources(proxy, kind)?;
            if !resources.is_empty() {
                write(&output.join("xds").join(&folder).join(format!("{kind:?}.yaml")), &resources)?;
            }
        }
        let limits = rate_limits(translation.rate_limits.iter().filter(|config| concerns(config, proxy)))?;
        if !limits.is_empty() {
            write(&output.join("rls").join(format!("{folder}.yaml")), &limits)?;
        }
    }
    Ok(())
}

/// Adds the class that the manifests' Gateways name, if it is not among them; whether it was. An EnvoyProxy that is alone
/// in the controller's namespace is then that of the class.
fn add_class(snapshot: &mut Snapshot, settings: &Settings) -> miette::Result<bool> {
    if !snapshot.gateway_classes.is_empty() {
        return Ok(true);
    }
    let at_home: Vec<&String> =
        snapshot.envoy_proxies.keys().filter(|(home, _)| *home == settings.namespace).map(|(_, name)| name).collect();
    let parameters = match at_home.as_slice() {
        [name] => json!({"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": name,
            "namespace": settings.namespace}),
        _ => Value::Null,
    };
    let names: Vec<String> =
        snapshot.gateways.values().map(|gateway| gateway.spec.gateway_class_name.clone()).collect();
    for name in names {
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": name},
            "spec": {"controllerName": settings.controller_name, "parametersRef": parameters},
        });
        snapshot.insert(class).into_diagnostic()?;
    }
    Ok(false)
}

/// What a class that nobody wrote brings about: its own status, and that of its EnvoyProxy.
fn is_of_class(status: &ObjectStatus) -> bool {
    let value = status.status.value();
    let mut ancestors = value["ancestors"].as_array().into_iter().flatten();
    let mut only_class = || ancestors.all(|ancestor| ancestor["ancestorRef"]["kind"] == "GatewayClass");
    status.kind == "GatewayClass" || status.kind == "EnvoyProxy" && only_class()
}

/// Two of a Gateway's conditions, and its addresses, depend on the infrastructure that is running, and there is none here.
fn without_infra(mut status: ObjectStatus) -> ObjectStatus {
    let kind = status.kind;
    status.status.edit(|status| {
        let Some(fields) = status.as_object_mut() else { return };
        match kind {
            "Gateway" => {
                if let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut) {
                    let known = |condition: &Value| {
                        let of_infra = matches!(condition["type"].as_str(), Some("Accepted" | "Programmed"));
                        of_infra && condition["reason"] != "InvalidParameters"
                    };
                    conditions.retain(|condition| !known(condition));
                }
                fields.remove("addresses");
            }
            // They follow from this program, not from the input.
            "GatewayClass" => drop(fields.remove("supportedFeatures")),
            _ => {}
        }
    });
    status
}

/// Whether a proxy asks for this rate limit configuration: of one of its listeners, or of a rule that is shared.
fn concerns(config: &RateLimitConfig, proxy: &Proxy) -> bool {
    let rule = format!("{}/rule/", config.domain);
    proxy.ir.http.iter().any(|listener| {
        let mut policies = listener.routes.iter().filter_map(|route| route.traffic.as_ref());
        listener.name == config.domain
            || policies.any(|traffic| traffic.global_rule_names.iter().any(|name| name.starts_with(&rule)))
    })
}

fn write(path: &Path, value: &impl Serialize) -> miette::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).into_diagnostic().wrap_err_with(|| folder.display().to_string())?;
    }
    let mut options = fs::OpenOptions::new();
    // Among them are the keys that the input has.
    options.write(true).create(true).truncate(true).mode(0o600);
    let yaml = to_yaml(value)?;
    let written = options.open(path).and_then(|mut file| file.write_all(yaml.as_bytes()));
    written.into_diagnostic().wrap_err_with(|| path.display().to_string())
}
