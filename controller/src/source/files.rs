//! A directory of manifests. What is wrong in one file leaves the others alone and keeps what it held before.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use controller_core::{
    Snapshot,
    ir::ObjectRef,
    snapshot::{Inserted, ObjectError},
};
use serde_json::Value;

use super::manifest::{self, Document, Problem};

/// The manifests below a directory, with the last good state of each.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    by_path: BTreeMap<PathBuf, File>,
    /// Why the directory could not be listed; `None` too before the first time.
    unreadable: Option<Problem>,
    loaded: bool,
    /// The last objects that could be read, and the file of each.
    good: BTreeMap<ObjectRef, (PathBuf, Value)>,
}

/// What the files say.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Every object.
    pub snapshot: Snapshot,
    /// What could not be read, sorted by file and line.
    pub problems: Vec<Problem>,
    /// Where the objects in force stand.
    pub places: BTreeMap<ObjectRef, Place>,
    /// Objects of kinds that the controller has no use for, such as a Deployment.
    pub ignored: Vec<Problem>,
}

/// Where an object starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u64,
    /// Counted from 1.
    pub column: u64,
}

#[derive(Debug, Default)]
struct File {
    text: String,
    documents: Vec<Document>,
    problem: Option<Problem>,
}

impl Files {
    /// The manifests in `directory`: its `*.yaml`, `*.yml` and `*.json`, but not those in folders below it. It may be
    /// a single file too.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            by_path: BTreeMap::new(),
            unreadable: None,
            loaded: false,
            good: BTreeMap::new(),
        }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads the files again. The result is all that they say, or `None` when that is what it was the last time.
    pub fn load(&mut self) -> Option<Manifests> {
        let mut changed = !std::mem::replace(&mut self.loaded, true);
        let unreadable = match list(&self.directory) {
            Ok(paths) => {
                let before = self.by_path.len();
                self.by_path.retain(|path, _| paths.contains(path));
                changed |= self.by_path.len() != before;
                for path in paths {
                    changed |= self.by_path.entry(path.clone()).or_default().load(path);
                }
                None
            }
            // A directory that cannot be listed does not mean that everything in it has been deleted.
            Err(error) => Some(unreadable(&self.directory, &error)),
        };
        changed |= unreadable != self.unreadable;
        self.unreadable = unreadable;
        changed.then(|| {
            let mut manifests = self.assemble();
            manifests.problems.extend(self.unreadable.clone());
            manifests.problems.extend(self.by_path.values().filter_map(|file| file.problem.clone()));
            manifests.problems.sort();
            manifests
        })
    }

    fn assemble(&mut self) -> Manifests {
        let mut manifests = Manifests::default();
        let mut good = BTreeMap::new();
        for (path, file) in &self.by_path {
            for document in &file.documents {
                let place = |field: &str, message: String| {
                    let (line, column) = document.locate(&file.text, field);
                    Problem { file: path.clone(), line, column, message }
                };
                match manifests.snapshot.insert(document.value.clone()) {
                    Ok(Inserted::Known { object, replaced }) => {
                        if replaced && let Some(first) = manifests.places.get(&object) {
                            let first = format!("{}:{}", first.file.display(), first.line);
                            let message = format!("{object} stands in {first} too; this one is in force");
                            manifests.problems.push(place("", message));
                        }
                        let at = Place { file: path.clone(), line: document.line, column: document.column };
                        manifests.places.insert(object.clone(), at);
                        good.insert(object, (path.clone(), document.value.clone()));
                    }
                    Ok(Inserted::Ignored { api_version, kind }) => {
                        let message = format!("{kind} of {api_version} is not used");
                        let (line, column) = (document.line, document.column);
                        manifests.ignored.push(Problem { file: path.clone(), line, column, message });
                    }
                    Err(ObjectError::Invalid { object, field, cause }) => {
                        let kept = self.good.get(&object).filter(|(before, _)| before == path);
                        let consequence = match kept {
                            Some((_, value)) if manifests.snapshot.insert(value.clone()).is_ok() => {
                                good.insert(object.clone(), (path.clone(), value.clone()));
                                "; what it said before stays in force"
                            }
                            _ => "; it is left out",
                        };
                        manifests.problems.push(place(&field, format!("{object}: {field}: {cause}{consequence}")));
                    }
                    Err(error @ ObjectError::Missing { .. }) => {
                        manifests.problems.push(place("", format!("{error}; it is left out")));
                    }
                }
            }
        }
        self.good = good;
        manifests
    }
}

impl File {
    /// Reads the file again and tells whether anything is new. One that cannot be read keeps its documents.
    fn load(&mut self, path: PathBuf) -> bool {
        let read = fs::read(&path).map_err(|error| (0, 0, format!("it cannot be read: {error}")));
        let read =
            read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| (1, 1, "it is not UTF-8 text".to_owned())));
        if self.problem.is_none() && read.as_ref() == Ok(&self.text) {
            return false;
        }
        match read.and_then(|text| Ok((manifest::parse(&text)?, text))) {
            Ok((documents, text)) => {
                *self = Self { text, documents, problem: None };
                true
            }
            Err((line, column, message)) => {
                let was_empty = self.documents.is_empty();
                let consequence =
                    if was_empty { "nothing in it is used" } else { "what it said before stays in force" };
                let message = format!("{message}; {consequence}");
                let problem = Some(Problem { file: path, line, column, message });
                let is_new = problem != self.problem;
                self.problem = problem;
                is_new
            }
        }
    }
}

/// Manifests in the order of their names. Hidden files are none.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if directory.is_file() {
        return Ok(vec![directory.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_manifest =
            path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_manifest && !is_hidden && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn unreadable(directory: &Path, error: &io::Error) -> Problem {
    let message = format!("the directory cannot be read: {error}; what was in it stays in force");
    Problem { file: directory.to_owned(), line: 0, column: 0, message }
}

#[cfg(test)]
mod tests;
