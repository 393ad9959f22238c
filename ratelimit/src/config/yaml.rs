//! Reads one YAML file of envoyproxy/ratelimit's grammar.

use miette::{NamedSource, SourceSpan};
use serde::de::DeserializeOwned;
use serde_saphyr::{Location, MessageFormatter, UserMessageFormatter};

use super::{
    Error, FileError,
    document::Document,
    tree::{Domain, Problem},
};

mod lines;
mod plain;

pub(super) fn parse(file: &str, text: &str) -> Result<Domain, Error> {
    let mut problems = vec![];
    let plain = plain::read(text).map(|document| Domain::build(document, &mut problems));
    if let (Some(domain), []) = (plain, problems.as_slice()) {
        return Ok(domain);
    }
    // Once more, with the places of what is wrong.
    problems.clear();
    let domain = read(text).map(|document: Document| Domain::build(document, &mut problems));
    match domain.map(|domain| (domain, problems.into_iter().next())) {
        Ok((domain, None)) => Ok(domain),
        Ok((_, Some(problem))) | Err(problem) => Err(locate(file, text, problem)),
    }
}

/// All that is wrong in a file, by line; nothing for a good one. What cannot be read is left out, to read what is behind it.
pub(super) fn errors(file: &str, text: &str) -> Vec<Error> {
    // Without the lines of what is wrong, and without the list items it is in.
    let (mut rest, mut sound) = (text.to_owned(), text.to_owned());
    let mut problems: Vec<Problem> = vec![];
    let document = loop {
        match read::<Document>(&rest) {
            Ok(_) => break read(&sound).ok(),
            // A file is read from top to bottom: what is wrong further up comes of what was left out.
            Err(problem) if problems.last().is_some_and(|last| problem.at.line() <= last.at.line()) => {
                break read(&sound).ok();
            }
            Err(problem) => {
                lines::blank_block(&mut rest, problem.at.line());
                lines::blank_item(&mut sound, problem.at.line());
                problems.push(problem);
            }
        }
    };
    if let Some(document) = document {
        Domain::build(document, &mut problems);
    }
    problems.sort_by_key(|problem| (problem.at.line(), problem.at.column()));
    problems.into_iter().map(|problem| locate(file, text, problem)).collect()
}

/// Any value, or the error with its place.
pub(crate) fn value<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Error> {
    read(text).map_err(|problem| locate(file, text, problem))
}

/// An error at a place in a file.
pub(crate) fn error(file: &str, text: &str, at: Location, message: String) -> Error {
    locate(file, text, Problem { at, message })
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    // Files are as long as there are rules: what bounds them is who may write them.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 10_000_000, max_events: 20_000_000, max_total_scalar_bytes: 256 << 20 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        Problem { at: error.location().unwrap_or(Location::UNKNOWN), message }
    })
}

fn locate(file: &str, text: &str, Problem { at, message }: Problem) -> Error {
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
