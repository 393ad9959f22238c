//! One file, read again when its text has changed.

use std::{collections::BTreeMap, fs, path::Path};

use controller_core::{
    Snapshot,
    ir::ObjectRef,
    snapshot::{Inserted, ObjectError},
};
use serde_json::Value;

use crate::source::manifest::{self, Document, Problem, Spot};

/// What a file says, and what of it is in force.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) text: String,
    /// What is in force.
    pub(super) objects: Snapshot,
    /// The same as it was read.
    good: BTreeMap<ObjectRef, Value>,
    /// Where the objects stand that are as the file says, in its order.
    pub(super) spots: Vec<(ObjectRef, Spot)>,
    /// What is wrong with single objects.
    pub(super) problems: Vec<Problem>,
    /// Objects of kinds that the controller has no use for.
    pub(super) ignored: Vec<Problem>,
    /// Why it could not be read the last time; all else is as it was before then.
    pub(super) problem: Option<Problem>,
}

impl File {
    /// Reads the file again and tells whether anything is new. One that cannot be read keeps its objects.
    pub(super) fn load(&mut self, path: &Path) -> bool {
        let read = fs::read(path).map_err(|error| (0, 0, format!("it cannot be read: {error}")));
        let read =
            read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| (1, 1, "it is not UTF-8 text".to_owned())));
        if self.problem.is_none() && read.as_ref() == Ok(&self.text) {
            return false;
        }
        match read.and_then(|text| Ok((manifest::parse(&text)?, text))) {
            Ok((documents, text)) => {
                *self = Self::new(path, text, documents, &self.good);
                true
            }
            Err((line, column, message)) => {
                let consequence =
                    if self.good.is_empty() { "nothing in it is used" } else { "what it said before stays in force" };
                let message = format!("{message}; {consequence}");
                let problem = Some(Problem { file: path.to_owned(), line, column, message });
                let is_new = problem != self.problem;
                self.problem = problem;
                is_new
            }
        }
    }

    /// An object that is none keeps what is `known` of it.
    fn new(path: &Path, text: String, documents: Vec<Document>, known: &BTreeMap<ObjectRef, Value>) -> Self {
        let mut file = Self { text, ..Self::default() };
        for Document { value, spot } in documents {
            let problem = |(line, column), message| Problem { file: path.to_owned(), line, column, message };
            match file.objects.insert(value.clone()) {
                Ok(Inserted::Known { object, .. }) => {
                    file.good.insert(object.clone(), value);
                    file.spots.push((object, spot));
                }
                Ok(Inserted::Ignored { api_version, kind }) => {
                    let message = format!("{kind} of {api_version} is not used");
                    file.ignored.push(problem((spot.line, spot.column), message));
                }
                Err(ObjectError::Invalid { object, field, cause }) => {
                    let consequence = match known.get(&object) {
                        Some(before) if file.objects.insert(before.clone()).is_ok() => {
                            file.good.insert(object.clone(), before.clone());
                            "; what it said before stays in force"
                        }
                        _ => "; it is left out",
                    };
                    let message = format!("{object}: {field}: {cause}{consequence}");
                    file.problems.push(problem(spot.locate(&file.text, &field), message));
                }
                Err(error @ ObjectError::Missing { .. }) => {
                    file.problems.push(problem(spot.locate(&file.text, ""), format!("{error}; it is left out")));
                }
            }
        }
        file
    }
}
