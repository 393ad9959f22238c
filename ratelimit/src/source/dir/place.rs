//! Which files are the configuration, and reading them as one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirEntry, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use super::Error;

/// How often files are read anew that changed while they were read.
const ATTEMPTS: usize = 32;
/// How names end that editors and tools give to what is not the file itself.
const LEFT_OVER: [&str; 8] = ["~", ".swp", ".swo", ".swx", ".bak", ".orig", ".rej", ".tmp"];

/// Text by file path.
pub(crate) type Files = BTreeMap<String, String>;

/// All files below a directory, or those of them whose path begins with a text. Symbolic links are followed, but no
/// directory is read twice. Names that begin with two dots, as the kubelet's do, and what
/// editors leave behind never count.
#[derive(Clone, Debug)]
pub struct Place {
    /// Walked with all that is below.
    pub dir: PathBuf,
    /// Only paths count that begin with this and a dot, relative to `dir` and with dots for slashes; empty for all.
    pub prefix: String,
    /// Whether names count that begin with a dot.
    pub dot_files: bool,
    /// A symbolic link on the way to `dir` that may be swapped.
    pub link: Option<PathBuf>,
}

impl<P: Into<PathBuf>> From<P> for Place {
    /// All files of a directory, without dot files.
    fn from(dir: P) -> Self {
        Self { dir: dir.into(), prefix: String::new(), dot_files: false, link: None }
    }
}

/// What tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    /// Where the links on the way to it led.
    path: PathBuf,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// What is there at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Survey {
    files: BTreeMap<PathBuf, Stamp>,
    directories: BTreeSet<PathBuf>,
}

impl Place {
    /// Where to watch for changes beside `dir`.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let link = self.link.as_deref().and_then(Path::parent).map(Path::to_owned);
        self.survey().unwrap_or_default().directories.into_iter().chain(link).collect()
    }

    /// Reads all files in one state of all of them, so that a swapped link is seen whole or not at all.
    pub(crate) fn read(&self) -> Result<Files, Error> {
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            match self.read_once() {
                Ok(Some(files)) if files.is_empty() => return Err(Error::Empty(self.dir.clone())),
                Ok(Some(files)) => return Ok(files),
                Ok(None) => failed = None,
                // It may have been there a moment ago.
                Err(error) => failed = Some(error),
            }
            thread::yield_now();
        }
        Err(failed.unwrap_or_else(|| Error::Unsettled(self.dir.clone())))
    }

    /// Nothing if the files changed meanwhile.
    fn read_once(&self) -> Result<Option<Files>, Error> {
        let before = self.survey()?;
        let read = |(name, stamp): (&PathBuf, &Stamp)| {
            let text = fs::read_to_string(&stamp.path).map_err(|source| Error::Read { path: name.clone(), source })?;
            Ok((name.display().to_string(), text))
        };
        let files = before.files.iter().map(read).collect::<Result<_, Error>>()?;
        Ok((self.survey()? == before).then_some(files))
    }

    fn survey(&self) -> Result<Survey, Error> {
        let mut survey = Survey::default();
        let root = fs::canonicalize(&self.dir).map_err(|source| Error::Read { path: self.dir.clone(), source })?;
        self.walk(&root, "", &self.dir, &mut survey)?;
        Ok(survey)
    }

    /// `path` is where to look, `key` how it is called with dots, and `name` what a person calls it.
    fn walk(&self, path: &Path, key: &str, name: &Path, survey: &mut Survey) -> Result<(), Error> {
        let fail = |source| Error::Read { path: name.to_owned(), source };
        if !survey.directories.insert(path.to_owned()) {
            return Ok(());
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(fail)?;
        let mut file_names: Vec<_> = entries.iter().map(DirEntry::file_name).collect();
        file_names.sort();
        for file_name in file_names {
            let text = file_name.to_string_lossy();
            let key = if key.is_empty() { text.clone().into_owned() } else { format!("{key}.{text}") };
            if !self.reads(&text) || !(self.counts(&key) || self.leads(&key)) {
                continue;
            }
            let name = name.join(&file_name);
            let fail = |source| Error::Read { path: name.clone(), source };
            let path = fs::canonicalize(path.join(&file_name)).map_err(fail)?;
            let metadata = fs::metadata(&path).map_err(fail)?;
            if metadata.is_dir() {
                self.walk(&path, &key, &name, survey)?;
            } else if metadata.is_file() && self.counts(&key) {
                survey.files.insert(name, Stamp::of(path, &metadata));
            }
        }
        Ok(())
    }

    fn reads(&self, file_name: &str) -> bool {
        let hidden = file_name.starts_with("..") || (file_name.starts_with('.') && !self.dot_files);
        let left_over = LEFT_OVER.iter().any(|end| file_name.ends_with(end));
        let lock = file_name.starts_with(".#") || file_name.starts_with('#');
        !(hidden || left_over || lock)
    }

    /// Whether a file called so is part of the configuration.
    fn counts(&self, key: &str) -> bool {
        self.prefix.is_empty() || key.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Whether files in a directory called so may be part of it.
    fn leads(&self, key: &str) -> bool {
        let below = format!("{key}.");
        self.prefix.is_empty() || self.counts(&below) || self.prefix.starts_with(&below)
    }
}

impl Stamp {
    fn of(path: PathBuf, metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { path, inode: metadata.ino(), length: metadata.len(), modified }
    }
}
