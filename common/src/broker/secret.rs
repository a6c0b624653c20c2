//! What nobody else must know.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Far above any password, key, credentials, or bundle of authorities.
const LARGEST_FILE: u64 = 1 << 20;

/// A password, token, key or credentials: the text itself, or the file that holds it. Never shown, not by `Debug` either, which
/// says no more than where it is.
///
/// A file is read anew for each connection, so one that was renewed counts from the next reconnect on.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Text(String),
    File(PathBuf),
}

/// A file of the login or of TLS cannot be used, or what it holds. Never shows what it holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The file cannot be read.
    #[error("cannot read {}, which should hold {wanted}: is it there, and may this user read it?", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is something else in it.
    #[error("{place} does not hold {wanted}")]
    Unfit {
        /// The file, or where else it was given.
        place: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

impl Secret {
    /// The text itself.
    pub fn text(text: impl Into<String>) -> Self {
        Self(Source::Text(text.into()))
    }

    /// The file that holds it, and nothing else but an end of line.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// The file that holds it, if it is in one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Source::Text(_) => None,
            Source::File(path) => Some(path),
        }
    }

    /// What it is, as of now, without a file's end of line.
    pub(super) fn read(&self, wanted: &'static str) -> Result<String, AccessError> {
        let text = match &self.0 {
            Source::Text(text) => text.clone(),
            Source::File(path) => read_text(path, wanted)?.trim_end_matches(['\r', '\n']).to_owned(),
        };
        if text.is_empty() { Err(self.unfit(wanted)) } else { Ok(text) }
    }

    /// Takes what a pipe holds, as the shell's `<(pass show nats)` is one: it can be read only once.
    pub(super) fn drain_pipe(&mut self, wanted: &'static str) -> Result<(), AccessError> {
        if self.path().is_some_and(|path| path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())) {
            *self = Self::text(self.read(wanted)?);
        }
        Ok(())
    }

    pub(super) fn unfit(&self, wanted: &'static str) -> AccessError {
        let place = self.path().map_or_else(|| "the login".into(), |path| path.display().to_string());
        AccessError::Unfit { place, wanted }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Text(_) => f.write_str("Secret(hidden)"),
            Source::File(path) => f.debug_tuple("Secret").field(path).finish(),
        }
    }
}

/// Reads a small text file.
pub(super) fn read_text(path: &Path, wanted: &'static str) -> Result<String, AccessError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text))
        .map_err(|source| AccessError::Unreadable { path: path.to_owned(), wanted, source })?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(AccessError::Unfit { place: path.display().to_string(), wanted });
    }
    Ok(text)
}

/// Whether others than its owner may read or change the file.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_can_be_printed_shows_a_secret() {
        let secret = Secret::text("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        assert_eq!(secret.unfit("an NKEY seed").to_string(), "the login does not hold an NKEY seed");
        assert_eq!(format!("{:?}", Secret::file("/run/token")), "Secret(\"/run/token\")");
    }

    #[test]
    fn a_file_that_is_missing_endless_or_empty_is_named() {
        for path in ["/nonexistent/token", "/dev/zero", "/dev/null"] {
            let error = Secret::file(path).read("a token").map(drop).map_err(|error| error.to_string());
            assert!(error.is_err_and(|error| error.contains(path) && error.contains("a token")));
        }
    }
}
