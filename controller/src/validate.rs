//! `controller validate`: whether manifests do what they say.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use controller_core::{Settings, translate};
use serde_json::Value;

use crate::{
    echo, pods,
    source::{Files, Problem},
    status::problems,
};

/// Say what is wrong with manifests, with file and line; fails when something is
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder with the manifests, or one file of them
    path: PathBuf,
    /// GatewayClasses with this controllerName are ours
    #[arg(long, value_name = "NAME", default_value_t = Settings::default().controller_name)]
    controller_name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why it ends with a failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They have been told.
    #[error("{0}")]
    Problems(String),
    /// Standard output is closed.
    #[error("printing")]
    Print(#[from] serde_json::Error),
}

/// Prints one line for each problem: where it stands, the object, the part of it, what is wrong.
pub fn run(options: &Options) -> Result<(), Error> {
    let problems = find(options);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&problems)?);
    } else {
        for problem in &problems {
            println!("{problem}");
        }
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Error::Problems("there is a problem".into())),
        many => Err(Error::Problems(format!("there are {many} problems"))),
    }
}

/// What could not be read, and every condition that says that something is not in force.
fn find(options: &Options) -> Vec<Problem> {
    let mut manifests = Files::new(&options.path).load().unwrap_or_default();
    pods::stand_in(&mut manifests.snapshot, echo::DEFAULT);
    let settings =
        Settings { controller_name: options.controller_name.clone(), running_on_host: true, ..Settings::default() };
    let translation = translate(&manifests.snapshot, &settings);
    let mut found = manifests.problems;
    for status in translation.statuses {
        let mut status = Arc::unwrap_or_clone(status);
        status.status.edit(|status| {
            if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
                conditions.retain(|condition| !waits_for_a_cluster(condition));
            }
        });
        let object = (status.kind, status.namespace.as_str(), status.name.as_str());
        let place = manifests
            .places
            .iter()
            .find(|(known, _)| (known.kind, known.namespace.as_str(), known.name.as_str()) == object);
        let (file, line, column) = match place {
            Some((_, place)) => (place.file.clone(), place.line, place.column),
            None => (options.path.clone(), 0, 0),
        };
        found.extend(problems(&status).into_iter().map(|message| Problem {
            file: file.clone(),
            line,
            column,
            message,
        }));
    }
    found.sort();
    found
}

/// A Gateway of a file has no Envoys and no address, however right it is.
fn waits_for_a_cluster(condition: &Value) -> bool {
    condition["type"] == "Programmed"
        && ["AddressNotAssigned", "NoResources"].iter().any(|one| condition["reason"] == *one)
}
