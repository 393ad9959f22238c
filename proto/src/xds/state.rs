//! The last good configuration on disk, for a start while the xDS server is away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
};

use prost::Message;
use sha2::{Digest, Sha256};

/// Bytes of the SHA-256 that follows, of all that comes after it.
const DIGEST: usize = 32;

/// Why there is no state, or why it is not kept. The server's configuration is used all the same.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not one of ours.
    #[error("{}: it does not begin as a state of {program} does", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it should be.
        program: &'static str,
    },
    /// The file is not as it was written.
    #[error("{}: its SHA-256 is not that of what it holds; it is truncated or edited", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file is whole but holds no response.
    #[error("{}: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: prost::DecodeError,
    },
}

/// A directory with one file, which only its owner may read: there may be secrets in it.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
    program: &'static str,
}

impl State {
    /// The directory is made when the first configuration is kept.
    pub fn new(dir: PathBuf, program: &'static str) -> Self {
        Self { dir, program }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.xds", self.program))
    }

    /// What the file begins with; another layout gets another number.
    fn head(&self) -> String {
        format!("{} xds state 1\n", self.program)
    }

    /// What was kept last; nothing when nothing ever was.
    pub fn load<M: Message + Default>(&self) -> Result<Option<M>, Error> {
        let path = self.path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let Some(rest) = bytes.strip_prefix(self.head().as_bytes()) else {
            return Err(Error::Foreign { path, program: self.program });
        };
        let Some((digest, message)) = rest.split_at_checked(DIGEST) else { return Err(Error::Damaged { path }) };
        if Sha256::digest(message).as_slice() != digest {
            return Err(Error::Damaged { path });
        }
        M::decode(message).map(Some).map_err(|source| Error::Decode { path, source })
    }

    /// Replaces what was kept. Whenever the machine stops, either of them is there.
    pub fn keep(&self, response: &impl Message) -> Result<(), Error> {
        let message = response.encode_to_vec();
        let bytes = [self.head().as_bytes(), Sha256::digest(&message).as_slice(), &message].concat();
        // Replicas that share the directory do not share this file.
        let draft = self.dir.join(format!(".{}.xds.{}", self.program, process::id()));
        replace(&self.dir, &draft, &self.path(), &bytes).map_err(|source| {
            let _ = fs::remove_file(&draft);
            Error::Io { path: self.dir.clone(), source }
        })
    }
}

fn replace(dir: &Path, draft: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    // The new name lasts only once the directory is written.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;

    use super::*;

    fn load(state: &State) -> Result<Option<DiscoveryResponse>, Error> {
        state.load()
    }

    fn kept(version: &str) -> DiscoveryResponse {
        DiscoveryResponse { version_info: version.into(), type_url: "x".into(), ..Default::default() }
    }

    #[test]
    fn p10_what_is_kept_is_loaded_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path().join("a/b"), "program");
        assert!(load(&state).unwrap().is_none());
        for version in ["1", "2"] {
            state.keep(&kept(version)).unwrap();
            assert_eq!(load(&state).unwrap(), Some(kept(version)));
        }
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1, "no draft stays behind");
        let mode = fs::metadata(state.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn p10_a_file_cut_or_changed_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path().into(), "program");
        state.keep(&kept("a version")).unwrap();
        let whole = fs::read(state.path()).unwrap();
        for length in 0..whole.len() {
            fs::write(state.path(), &whole[..length]).unwrap();
            assert!(load(&state).is_err(), "the first {length} bytes are believed");
            let mut changed = whole.clone();
            changed[length] ^= 1;
            fs::write(state.path(), changed).unwrap();
            assert!(load(&state).is_err(), "a change of byte {length} is believed");
        }
        fs::write(state.path(), [&whole[..], b"x"].concat()).unwrap();
        let error = load(&state).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains("truncated or edited"));
        fs::write(state.path(), "domain: d\n").unwrap();
        assert!(matches!(load(&state), Err(Error::Foreign { .. })));
    }

    #[test]
    fn p10_a_directory_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let state = State::new(dir.path().join("file"), "program");
        assert!(matches!(state.keep(&kept("1")), Err(Error::Io { .. })));
    }
}
