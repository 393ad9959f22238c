//! The reference page of all settings, made from what the command line knows of them.

use std::{
    any::TypeId,
    fmt::{self, Display, Formatter},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Arg, Command};
use envoy_types::pb::google::protobuf::Struct;
use secrecy::SecretString;
use tonic::metadata::MetadataMap;

use super::{go, upstream};

/// All settings as Markdown, one table for each group. `Display` writes it.
#[derive(Debug)]
pub struct Page {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    name: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    variable: String,
    default: String,
    kind: String,
    /// Upstream's default if the setting is upstream's.
    upstream: Option<&'static str>,
    meaning: String,
}

impl Page {
    /// Of the settings that `command` reads from the environment, in its order.
    pub fn of(command: &Command) -> Self {
        let mut groups: Vec<Group> = vec![];
        for argument in command.get_arguments() {
            let Some(row) = Row::of(argument) else { continue };
            let name = argument.get_help_heading().unwrap_or("Other");
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.rows.push(row),
                None => groups.push(Group { name: name.to_owned(), rows: vec![row] }),
            }
        }
        Self { groups }
    }

    /// The variables on it.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| &group.rows).map(|row| row.variable.as_str())
    }
}

impl Row {
    fn of(argument: &Arg) -> Option<Self> {
        let variable = argument.get_env()?.to_str()?.to_owned();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        // A default that depends on others is told in the text.
        let (meaning, told) = match help.split_once(" [default: ") {
            Some((meaning, told)) => (meaning.to_owned(), told.trim_end_matches(']').to_owned()),
            None => (help, String::new()),
        };
        let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
        let default = defaults.collect::<Vec<_>>().join(",");
        let default = if default.is_empty() { told } else { default };
        let upstream = upstream::default(&variable);
        Some(Self { upstream, kind: kind(argument), meaning, default, variable })
    }
}

/// What a value looks like, in a word.
fn kind(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    if !values.is_empty() {
        return values.iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ");
    }
    let id = argument.get_value_parser().type_id();
    let kinds = [
        (TypeId::of::<bool>(), "bool"),
        (TypeId::of::<Duration>(), "duration"),
        (TypeId::of::<u16>(), "port"),
        (TypeId::of::<usize>(), "number"),
        (TypeId::of::<f32>(), "share"),
        (TypeId::of::<f64>(), "share"),
        (TypeId::of::<IpAddr>(), "address"),
        (TypeId::of::<SocketAddr>(), "address and port"),
        (TypeId::of::<PathBuf>(), "path"),
        (TypeId::of::<SecretString>(), "secret"),
        (TypeId::of::<MetadataMap>(), "secret"),
        (TypeId::of::<Struct>(), "pairs"),
        (TypeId::of::<go::List>(), "list"),
        (TypeId::of::<go::Map>(), "pairs"),
    ];
    kinds.iter().find(|(known, _)| id == *known).map_or("text", |(_, name)| name).to_owned()
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, group) in self.groups.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            writeln!(f, "{gap}### {}\n\n| Variable | Default | Upstream's | Type | Meaning |", group.name)?;
            writeln!(f, "|---|---|---|---|---|")?;
            group.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        }
        Ok(())
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.replace('|', "\\|") };
        let upstream = match self.upstream {
            None => "—".to_owned(),
            Some(default) if default == self.default => "same".to_owned(),
            Some(default) => or_none(default),
        };
        let (default, meaning) = (or_none(&self.default), self.meaning.replace('|', "\\|"));
        write!(f, "| `{}` | {default} | {upstream} | {} | {meaning} |", self.variable, self.kind)
    }
}
