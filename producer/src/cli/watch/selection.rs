//! Which files of the outbox are sent.

use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};
use natsfer_common::STAGING_DIRECTORY;

use super::leaving;

/// What is looked at, by paths relative to the outbox.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    /// None: all.
    matching: Option<GlobSet>,
    excluded: GlobSet,
    hidden: Hidden,
    /// Directories that are not looked into: watchers' and receivers' own.
    own: Vec<PathBuf>,
}

/// What is done with names that begin with a dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    LeftOut,
    Taken,
}

impl Selection {
    /// # Errors
    /// When the globs are too many or too large together.
    pub(super) fn new(
        matching: &[Glob], excluded: &[Glob], hidden: Hidden, own: Vec<PathBuf>,
    ) -> Result<Self, globset::Error> {
        let matching = if matching.is_empty() { None } else { Some(set(matching)?) };
        Ok(Self { matching, excluded: set(excluded)?, hidden, own })
    }

    /// Whether a file is sent, by its path.
    pub(super) fn takes_file(&self, path: &Path) -> bool {
        self.looks_into(path)
            && self.matching.as_ref().is_none_or(|globs| globs.is_match(path))
            && !self.excluded.is_match(path)
    }

    /// Whether a directory is looked into.
    pub(super) fn looks_into(&self, path: &Path) -> bool {
        let mut components = path.components().map(Component::as_os_str);
        // Anywhere: what is watched may have outboxes and inboxes below it.
        let ours = components
            .clone()
            .any(|name| name.eq_ignore_ascii_case(STAGING_DIRECTORY) || leaving::name_before(name).is_some());
        let hidden = self.hidden == Hidden::LeftOut && components.any(|name| name.as_encoded_bytes().starts_with(b"."));
        !ours && !hidden && !self.own.iter().any(|own| path.starts_with(own))
    }
}

fn set(globs: &[Glob]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    globs.iter().for_each(|glob| _ = set.add(glob.clone()));
    set.build()
}

#[cfg(test)]
mod tests {
    use natsfer_common::cli::glob;

    use super::*;

    fn selection(matching: &[&str], excluded: &[&str], hidden: Hidden) -> Selection {
        let globs = |texts: &[&str]| texts.iter().map(|text| glob(text).unwrap()).collect::<Vec<_>>();
        Selection::new(&globs(matching), &globs(excluded), hidden, vec!["sent".into()]).unwrap()
    }

    #[test]
    fn globs_select_by_the_whole_relative_path() {
        let all = selection(&[], &[], Hidden::LeftOut);
        assert!(all.takes_file(Path::new("a/b.csv")) && all.looks_into(Path::new("a")));
        let some = selection(&["*.csv", "in/**"], &["**/*.tmp"], Hidden::LeftOut);
        for (path, taken) in
            [("a.csv", true), ("b/a.csv", false), ("in/x/y", true), ("in/x/y.tmp", false), ("a.tmp", false)]
        {
            assert_eq!(some.takes_file(Path::new(path)), taken, "{path}");
        }
    }

    #[test]
    fn what_is_hidden_or_ours_is_left_out() {
        let shy = selection(&[], &[], Hidden::LeftOut);
        let bold = selection(&[], &[], Hidden::Taken);
        for (path, bold_takes) in [
            (".a", true),
            ("d/.a", true),
            (".d/a", true),
            (".natsfer/x", false),
            (".NATSFER/x", false),
            ("d/e/.natsfer/x", false),
            ("d/.natsfer-leaving.x", false),
            ("sent/a", false),
            ("sent", false),
        ] {
            assert!(!shy.takes_file(Path::new(path)), "{path}");
            assert_eq!(bold.takes_file(Path::new(path)), bold_takes, "{path}");
        }
        assert!(shy.takes_file(Path::new("sent.txt")) && shy.looks_into(Path::new("")));
    }
}
