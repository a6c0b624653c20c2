//! Names that files travel under.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a receiver keeps what it has not landed yet, below its target directory. No file may be named so.
pub const STAGING_DIRECTORY: &str = ".natsfer";

/// Longest component, in bytes: what Linux, macOS and Windows file systems take.
const MAX_COMPONENT: usize = 255;
/// Longest name, in bytes: below Linux's PATH_MAX of 4,096.
const MAX_NAME: usize = 3_900;

/// A file's name on the wire: a relative path of UTF-8 components joined by `/`, which can only lie beneath the
/// directory it is resolved in.
///
/// There is no empty, `.` or `..` component, none over 255 bytes, no control or invisible direction-changing character,
/// and the first component is not [`STAGING_DIRECTORY`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// Why a text is not a file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a name to send a file under: {reason}", text.escape_debug())]
pub struct FileNameError {
    text: String,
    reason: &'static str,
}

impl FileNameError {
    /// What is wrong with it.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl FileName {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories above the file, if any, and the file's own name.
    pub fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((directories, file)) => (Some(directories), file),
            None => (None, &self.0),
        }
    }

    /// The file's own name without its extension, and the extension with its dot: `a` and `.tar.gz`, `.profile` and nothing.
    pub fn stem_and_extension(&self) -> (&str, &str) {
        let (_, file) = self.split();
        file.split_at(extension_start(file))
    }

    /// The `attempt`-th other name to land under when this one is taken: `dir/a (1).txt`. Shortened, at a character's
    /// boundary, where the component would become too long; the whole name can become longer than one from the wire may be, by
    /// the number.
    pub fn numbered(&self, attempt: u32) -> Self {
        let (directories, file) = self.split();
        let (mut stem, mut extension) = file.split_at(extension_start(file));
        let number = format!(" ({attempt})");
        // An extension that leaves no room for anything else is none worth keeping.
        if number.len() + extension.len() >= MAX_COMPONENT {
            (stem, extension) = (file, "");
        }
        let room = MAX_COMPONENT - number.len() - extension.len();
        let stem = &stem[..stem.floor_char_boundary(room)];
        Self(match directories {
            Some(directories) => format!("{directories}/{stem}{number}{extension}"),
            None => format!("{stem}{number}{extension}"),
        })
    }
}

/// Where a file's extension begins, its dot included: `.gz`, but `.tar.gz`. A leading dot begins none.
fn extension_start(file: &str) -> usize {
    match file.rfind('.') {
        Some(dot) if dot > 0 => match file[..dot].strip_suffix(".tar") {
            Some(stem) if !stem.is_empty() => stem.len(),
            _ => dot,
        },
        _ => file.len(),
    }
}

/// Characters that make a name read other than it is stored: control characters, and Unicode's marks, overrides
/// and isolates of direction (Bidi_Control, UAX #9).
pub(crate) fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl FromStr for FileName {
    type Err = FileNameError;

    fn from_str(text: &str) -> Result<Self, FileNameError> {
        let fail = |reason| Err(FileNameError { text: text.chars().take(300).collect(), reason });
        if text.is_empty() {
            return fail("it is empty");
        }
        if text.len() > MAX_NAME {
            return fail("it is longer than 3,900 bytes");
        }
        if text.chars().any(deceives) {
            return fail("it has a control or direction-changing character");
        }
        for (position, component) in text.split('/').enumerate() {
            match component {
                "" => return fail("it begins or ends with '/', or has an empty component"),
                "." | ".." => return fail("'.' and '..' are not allowed"),
                // Some file systems do not tell upper from lower case.
                _ if position == 0 && component.eq_ignore_ascii_case(STAGING_DIRECTORY) => {
                    return fail("'.natsfer' is where receivers keep unfinished files");
                }
                _ if component.len() > MAX_COMPONENT => return fail("a component is longer than 255 bytes"),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for FileName {
    type Error = FileNameError;

    fn try_from(text: String) -> Result<Self, FileNameError> {
        text.parse()
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(256);
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a/..",
            "./a",
            "a/.",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "\u{1b}[2J",
            "\u{85}",
            "a\u{202e}txt.exe",
            ".natsfer",
            ".natsfer/x",
            &long,
            &"a/".repeat(2_000),
        ] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn ordinary_names_are_kept_to_the_byte() {
        let long = "é".repeat(127);
        for good in ["a", "a b/c d.txt", "…", ".hidden", "a/.natsfer", "日本語/ファイル", "a\\b", "-rf", &long]
        {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn numbered_names_stay_names() {
        let numbered = |name: &str, n| name.parse::<FileName>().unwrap().numbered(n);
        assert_eq!(numbered("d/a.tar.gz", 1).as_str(), "d/a (1).tar.gz");
        assert_eq!(numbered(".profile", 2).as_str(), ".profile (2)");
        assert_eq!(numbered(".tar.gz", 2).as_str(), ".tar (2).gz");
        assert_eq!(numbered("a.b.c", 2).as_str(), "a.b (2).c");
        for name in ["é".repeat(127), format!("a.{}", "é".repeat(126)), "x".repeat(255)] {
            let numbered = numbered(&name, 4_000_000_000);
            assert!(numbered.as_str().parse::<FileName>().is_ok(), "{numbered}");
            assert!(numbered.as_str().ends_with(" (4000000000)"), "{numbered}");
        }
    }
}
