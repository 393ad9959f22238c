//! `controller status`: what stands in the statuses of a cluster, or would for the manifests of a folder.

use std::{fmt::Write as _, path::PathBuf, sync::Arc};

use clap::Args;
use controller_core::{Settings, translate, translate::ObjectStatus};

use crate::{
    cluster, echo,
    installation::{self, ApiServer},
    pods,
    source::Files,
    status::{Part, is_wrong, parts},
};

/// Show GatewayClasses, Gateways, routes and policies with their conditions
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder with manifests, whose statuses are worked out; without it, the cluster of --kubeconfig is asked
    #[arg(conflicts_with = "kubeconfig")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    api_server: ApiServer,
    /// Only objects of this namespace
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// Only what has a condition that is not as it should be
    #[arg(long)]
    problems: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses something that every program needs.
    #[error("starting the runtime")]
    Runtime(#[from] std::io::Error),
    /// There is no way to the API server.
    #[error(transparent)]
    ApiServer(#[from] installation::Error),
    /// The API server does not answer as it should.
    #[error("asking the API server")]
    Ask(#[from] kube::Error),
    /// Standard output is closed.
    #[error("printing")]
    Print(#[from] serde_json::Error),
}

/// Prints a table of them.
pub fn run(options: &Options) -> Result<(), Error> {
    let mut statuses = match &options.directory {
        Some(directory) => {
            let mut manifests = Files::new(directory).load().unwrap_or_default();
            for problem in &manifests.problems {
                eprintln!("{problem}");
            }
            pods::stand_in(&mut manifests.snapshot, echo::DEFAULT);
            let settings = Settings { running_on_host: true, ..Settings::default() };
            translate(&manifests.snapshot, &settings).statuses.into_iter().map(Arc::unwrap_or_clone).collect()
        }
        None => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(ask(options))?,
    };
    if let Some(namespace) = &options.namespace {
        statuses.retain(|status| status.namespace == *namespace);
    }
    statuses.sort_by(|a, b| (a.kind, &a.namespace, &a.name).cmp(&(b.kind, &b.namespace, &b.name)));
    if options.json {
        println!("{}", serde_json::to_string_pretty(&statuses)?);
    } else {
        print!("{}", table(&statuses, options.problems));
    }
    Ok(())
}

async fn ask(options: &Options) -> Result<Vec<ObjectStatus>, Error> {
    Ok(cluster::statuses(&options.api_server.client().await?).await?)
}

/// One line for each part of a status that has conditions, and below it the message of each that is wrong.
fn table(statuses: &[ObjectStatus], problems: bool) -> String {
    let mut rows = vec![["KIND", "NAME", "FOR", "CONDITIONS"].map(str::to_owned).to_vec()];
    let mut notes: Vec<Vec<String>> = vec![Vec::new()];
    for status in statuses {
        let name = match status.namespace.as_str() {
            "" => status.name.clone(),
            namespace => format!("{namespace}/{}", status.name),
        };
        for Part { about, conditions } in parts(&status.status.value()) {
            let wrong: Vec<_> = conditions.iter().filter(|condition| is_wrong(condition)).collect();
            if problems && wrong.is_empty() {
                continue;
            }
            let text =
                |condition: &serde_json::Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let words = conditions.iter().map(|condition| {
                let (name, value, reason) =
                    (text(condition, "type"), text(condition, "status"), text(condition, "reason"));
                if is_wrong(condition) { format!("{name}={value} ({reason})") } else { format!("{name}={value}") }
            });
            let words = words.collect::<Vec<_>>().join(" ");
            rows.push(vec![status.kind.to_owned(), name.clone(), about.unwrap_or_default(), words]);
            notes.push(wrong.iter().map(|condition| text(condition, "message")).collect());
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut table = String::new();
    for (row, notes) in rows.iter().zip(notes) {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths.get(column).copied().unwrap_or_default();
            format!("{cell:width$}")
        });
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        for note in notes {
            let _ = writeln!(table, "    {note}");
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_every_part_and_says_what_is_wrong() {
        let condition =
            |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "Why."});
        let status = json!({"conditions": [condition("Accepted", "True"), condition("Programmed", "False")],
            "listeners": [{"name": "http", "conditions": [condition("Conflicted", "False")]}]});
        let gateway =
            ObjectStatus { kind: "Gateway", namespace: "web".into(), name: "eg".into(), status: status.into() };
        let all = "KIND     NAME    FOR            CONDITIONS\n\
                   Gateway  web/eg                 Accepted=True Programmed=False (R)\n    Why.\n\
                   Gateway  web/eg  listener http  Conflicted=False\n";
        assert_eq!(table(std::slice::from_ref(&gateway), false), all);
        let wrong =
            "KIND     NAME    FOR  CONDITIONS\nGateway  web/eg       Accepted=True Programmed=False (R)\n    Why.\n";
        assert_eq!(table(&[gateway], true), wrong);
    }
}
