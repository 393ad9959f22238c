//! Reads one YAML file of envoyproxy/ratelimit's grammar.

use miette::{NamedSource, SourceSpan};
use serde_saphyr::{Location, MessageFormatter, UserMessageFormatter};

use super::{
    Error, FileError,
    document::Document,
    tree::{Domain, Problem},
};

pub(super) fn parse(file: &str, text: &str) -> Result<Domain, Error> {
    let document: Document = serde_saphyr::from_str(text).map_err(|error| {
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        locate(file, text, error.location().unwrap_or(Location::UNKNOWN), message)
    })?;
    Domain::build(document).map_err(|Problem { at, message }| locate(file, text, at, message))
}

fn locate(file: &str, text: &str, at: Location, message: String) -> Error {
    let offset = at.span().byte_offset().and_then(|offset| usize::try_from(offset).ok()).unwrap_or_default();
    Error::File(Box::new(FileError {
        file: file.to_owned(),
        line: at.line().max(1),
        column: at.column().max(1),
        message,
        text: NamedSource::new(file, text.to_owned()),
        span: SourceSpan::from(offset.min(text.len())),
    }))
}
