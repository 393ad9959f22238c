//! A directory of manifests. What is wrong in one file leaves the others alone and keeps what it held before.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use controller_core::{Snapshot, ir::ObjectRef};

use self::file::File;
use super::manifest::Problem;

mod file;

/// The manifests below a directory, with the last good state of each.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    by_path: BTreeMap<PathBuf, File>,
    /// Why the directory could not be listed; `None` too before the first time.
    unreadable: Option<Problem>,
    loaded: bool,
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

impl Files {
    /// The manifests in `directory`: its `*.yaml`, `*.yml` and `*.json`, but not those in folders below it. It may be
    /// a single file too.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), by_path: BTreeMap::new(), unreadable: None, loaded: false }
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
                    changed |= self.by_path.entry(path.clone()).or_default().load(&path);
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

    fn assemble(&self) -> Manifests {
        let mut manifests = Manifests::default();
        for (path, file) in &self.by_path {
            for (object, spot) in &file.spots {
                let place = Place { file: path.clone(), line: spot.line, column: spot.column };
                if let Some(first) = manifests.places.insert(object.clone(), place) {
                    let first = format!("{}:{}", first.file.display(), first.line);
                    let message = format!("{object} stands in {first} too; this one is in force");
                    let (line, column) = spot.locate(&file.text, "");
                    manifests.problems.push(Problem { file: path.clone(), line, column, message });
                }
            }
            manifests.snapshot.extend(&file.objects);
            manifests.problems.extend_from_slice(&file.problems);
            manifests.ignored.extend_from_slice(&file.ignored);
        }
        manifests
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
mod fuzz;
#[cfg(test)]
mod tests;
