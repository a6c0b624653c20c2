//! Which files the given paths mean, and the names they are sent under.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use natsfer_common::{FileNameError, STAGING_DIRECTORY};
use natsfer_producer::FileName;
use walkdir::WalkDir;

/// One thing to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Standard input.
    StandardInput,
    /// A file, and its name.
    File(PathBuf, FileName),
}

/// Goes through the paths, directories recursively and in order. What cannot be sent is an error; the rest goes on.
pub(crate) fn walk(paths: &[PathBuf], name: Option<&FileName>) -> impl Iterator<Item = anyhow::Result<Item>> {
    paths.iter().cloned().flat_map(move |path| -> Box<dyn Iterator<Item = anyhow::Result<Item>> + Send> {
        match (path.as_os_str() == "-", path.is_dir()) {
            (true, _) => Box::new(std::iter::once(Ok(Item::StandardInput))),
            (_, true) => Box::new(directory(path)),
            _ => Box::new(std::iter::once(file(path, name))),
        }
    })
}

fn file(path: PathBuf, name: Option<&FileName>) -> anyhow::Result<Item> {
    let name = match name {
        Some(name) => name.clone(),
        None => to_name(Path::new(path.file_name().unwrap_or_default()), &path)?,
    };
    Ok(Item::File(path, name))
}

/// Files are named from the directory's own name on: `send photos` sends `photos/a.jpg`. One that has none, as `.` and `..`,
/// is left out of their names.
fn directory(root: PathBuf) -> impl Iterator<Item = anyhow::Result<Item>> {
    let nameless = root.as_os_str().to_string_lossy().ends_with("/.");
    let prefix = if nameless { None } else { root.file_name().map(PathBuf::from) };
    // What natsfer keeps in a directory that it watches or fills is nobody's file, however deep that directory lies. Right in a nameless
    // directory it is refused by its name.
    let highest = if prefix.is_some() { 1 } else { 2 };
    let own = move |entry: &walkdir::DirEntry| {
        entry.depth() >= highest
            && entry.file_type().is_dir()
            && entry.file_name().eq_ignore_ascii_case(STAGING_DIRECTORY)
    };
    let entries = WalkDir::new(&root).sort_by_file_name().into_iter().filter_entry(move |entry| !own(entry));
    entries.filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(anyhow!(error))),
        };
        let kind = entry.file_type();
        if kind.is_dir() {
            return None;
        }
        let path = entry.into_path();
        if !kind.is_file() {
            tracing::warn!("skipping {}: not a regular file", path.display());
            return None;
        }
        let below = path.strip_prefix(&root).unwrap_or(&path);
        let name = prefix.as_ref().map_or_else(|| below.to_owned(), |prefix| prefix.join(below));
        Some(to_name(&name, &path).map(|name| Item::File(path, name)))
    })
}

/// A path on the wire: its components joined by `/`.
fn to_name(relative: &Path, path: &Path) -> anyhow::Result<FileName> {
    let mut components = Vec::new();
    for component in relative {
        match component.to_str() {
            Some(component) => components.push(component),
            None => bail!("cannot send {}: its name is not Unicode (UTF-8)", path.display()),
        }
    }
    components.join("/").parse().map_err(|error| unfit(path, &error))
}

/// Shows the path alone: of a name that looks almost like it, one would ask how they differ.
pub(crate) fn unfit(path: &Path, error: &FileNameError) -> anyhow::Error {
    anyhow!("cannot send {}: it has no name to send a file under: {}", path.display(), error.reason())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[PathBuf]) -> Vec<String> {
        let name = |item| match item {
            Ok(Item::File(_, name)) => name.to_string(),
            Ok(Item::StandardInput) => "-".into(),
            Err(_) => "error".into(),
        };
        walk(paths, None).map(name).collect()
    }

    #[test]
    fn directories_keep_their_relative_paths() {
        let root = tempfile::tempdir().unwrap();
        let photos = root.path().join("photos");
        std::fs::create_dir_all(photos.join("b/c")).unwrap();
        for file in ["z", "a b", "b/c/ü"] {
            std::fs::write(photos.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("z", photos.join("link")).unwrap();
        assert_eq!(names(std::slice::from_ref(&photos)), ["photos/a b", "photos/b/c/ü", "photos/z"]);
        assert_eq!(names(&[photos.join(".")]), ["a b", "b/c/ü", "z"]);
        assert_eq!(names(&[photos.join("link"), "-".into()]), ["link", "-"]);
    }

    #[test]
    fn what_natsfer_keeps_in_a_directory_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let outbox = root.path().join("outbox");
        std::fs::create_dir_all(outbox.join(".natsfer")).unwrap();
        std::fs::create_dir_all(outbox.join("deeper/still/.NATSFER")).unwrap();
        for file in ["a", ".natsfer/watch.lock", "deeper/b", "deeper/still/.NATSFER/b"] {
            std::fs::write(outbox.join(file), "").unwrap();
        }
        assert_eq!(names(std::slice::from_ref(&outbox)), ["outbox/a", "outbox/deeper/b"]);
        assert_eq!(names(&[outbox.join(".")]), ["error", "a", "deeper/b"]);
    }

    #[test]
    fn a_name_that_cannot_travel_is_an_error_of_its_own() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        std::fs::write(root.path().join("good"), "").unwrap();
        assert_eq!(names(&[root.path().join(".")]), ["good", "error"]);
        let odd = root.path().join("esc\x1b");
        std::fs::write(&odd, "").unwrap();
        let error = walk(&[odd], None).next().unwrap().unwrap_err();
        assert_eq!(format!("{error:#}").matches("esc").count(), 1, "{error:#}");
    }
}
