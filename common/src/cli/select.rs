//! Choosing transfers: times, states and patterns of names, as people write them.

use clap::ValueEnum;
use globset::{Glob, GlobBuilder, GlobMatcher};
use jiff::{SignedDuration, Timestamp};

use crate::broker::TransferState;

/// Reads a point in time (RFC 3339), or how long ago it was.
///
/// # Errors
/// When it is neither, in words.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| SignedDuration::try_from(ago).ok());
    ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok())
        .ok_or_else(|| format!("'{text}' is neither a time such as 2026-11-23T12:00:00Z nor an age such as 2h"))
}

/// Reads a pattern of names: `*` stays within a directory, `**` does not. One without wildcards that is a directory's name stands for
/// everything below it, too.
///
/// # Errors
/// In words, when it is none, or no name can match it.
pub fn glob(text: &str) -> Result<Glob, String> {
    if let Some(better) = matches_nothing(text) {
        return Err(format!("'{text}' matches no file: {better}"));
    }
    let build = |text: &str| GlobBuilder::new(text).literal_separator(true).build().map_err(|error| error.to_string());
    match text.contains(WILDCARDS) {
        true => build(text),
        // A comma would part the two.
        false => build(&text.replace(',', "[,]")).and_then(|name| build(&format!("{{{0},{0}/**}}", name.glob()))),
    }
}

/// What makes a pattern of a name.
const WILDCARDS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// Why no name can match a pattern, and what was probably meant. Names are relative and have no empty, `.` or `..` part.
fn matches_nothing(text: &str) -> Option<String> {
    if text.starts_with('/') {
        return Some("names are relative; say what stands behind the directory that is sent or watched".into());
    }
    if let Some(rest) = text.strip_prefix("./") {
        return Some(format!("names are relative; say '{rest}'"));
    }
    if let Some(directory) = text.strip_suffix('/') {
        return Some(format!("say '{directory}/**' for everything below that directory"));
    }
    let odd = text.split('/').find(|part| matches!(*part, "" | "." | ".."))?;
    Some(match odd {
        "" => "a name has no empty part".into(),
        odd => format!("a name has no part '{odd}'"),
    })
}

/// The same, ready to match one name after the other.
///
/// # Errors
/// When it is none, in words.
pub fn parse_glob(text: &str) -> Result<GlobMatcher, String> {
    glob(text).map(|glob| glob.compile_matcher())
}

/// How far a transfer is, by the word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateName {
    /// Not finished by its sender
    Open,
    /// All there
    Complete,
    /// Taken back
    Cancelled,
}

impl StateName {
    /// Whether it is the word for this state.
    pub fn is_of(self, state: &TransferState) -> bool {
        match self {
            Self::Open => matches!(state, TransferState::Open),
            Self::Complete => matches!(state, TransferState::Complete { .. }),
            Self::Cancelled => matches!(state, TransferState::Cancelled { .. }),
        }
    }
}

/// Whether any of the patterns matches a name; without patterns, every name is meant.
pub(super) fn matches(patterns: &[GlobMatcher], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_directory() {
        let pattern = |text| [parse_glob(text).unwrap()];
        assert!(matches(&pattern("*.csv"), "a.csv") && !matches(&pattern("*.csv"), "a/b.csv"));
        assert!(matches(&pattern("**/*.csv"), "a.csv") && matches(&pattern("**/*.csv"), "a/b/c.csv"));
        assert!(matches(&[], "anything") && parse_glob("[").is_err());
    }

    #[test]
    fn a_directory_stands_for_what_is_below_it() {
        for (text, name, is_match) in [
            ("drafts", "drafts", true),
            ("drafts", "drafts/a/b", true),
            ("drafts", "drafts2", false),
            ("drafts", "a/drafts", false),
            ("a,b", "a,b/c", true),
            ("a,b", "b/c", false),
            ("a/b", "a/b/c", true),
            ("dr*", "drafts/a", false),
        ] {
            assert_eq!(parse_glob(text).unwrap().is_match(name), is_match, "{text} {name}");
        }
    }

    #[test]
    fn a_pattern_that_can_match_no_name_is_refused_with_what_was_meant() {
        for (text, meant) in [
            ("drafts/", "'drafts/**'"),
            ("./a.csv", "say 'a.csv'"),
            ("/srv/out/a.csv", "relative"),
            ("a//b", "empty part"),
            ("a/../*.csv", "'..'"),
            ("a/./b", "'.'"),
            ("", "empty part"),
        ] {
            let refused = parse_glob(text).unwrap_err();
            assert!(refused.contains(meant), "{text}: {refused}");
        }
    }

    #[test]
    fn a_time_is_a_point_or_an_age() {
        let point = "2026-11-23T12:00:00Z";
        assert_eq!(parse_time(point).unwrap().to_string(), point);
        assert!(parse_time("2h").unwrap() < Timestamp::now());
        assert!(parse_time("tomorrow").is_err());
    }
}
