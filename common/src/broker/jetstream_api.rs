//! Where JetStream is reached: here, in another domain, or through another account.

use std::{fmt, str::FromStr};

/// The subjects on which JetStream is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum JetStreamApi {
    /// `$JS.API`: the JetStream of this account, in the domain of the server.
    #[default]
    Account,
    /// `$JS.<domain>.API`: that of another domain, as behind a leaf node.
    Domain(JetStreamDomain),
    /// Another prefix: that of another account, which exports it.
    Prefix(SubjectPrefix),
}

impl JetStreamApi {
    /// What every request's subject begins with.
    pub(super) fn prefix(&self) -> String {
        match self {
            Self::Account => "$JS.API".into(),
            Self::Domain(domain) => format!("$JS.{domain}.API"),
            Self::Prefix(prefix) => prefix.to_string(),
        }
    }

    pub(super) fn domain(&self) -> Option<&JetStreamDomain> {
        if let Self::Domain(domain) = self { Some(domain) } else { None }
    }
}

/// The name of a JetStream domain: one token of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JetStreamDomain(String);

/// The beginning of subjects: tokens without wildcards. A `.` at the end is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectPrefix(String);

/// The text is no beginning of subjects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectPrefixError {
    /// It is not a prefix.
    #[error("'{}' cannot begin a subject: it takes words joined by '.', without spaces and wildcards", .0.escape_debug())]
    Prefix(String),
    /// It is not a domain.
    #[error("'{}' is not a JetStream domain: it takes one word without '.', spaces and wildcards", .0.escape_debug())]
    Domain(String),
}

/// Longest prefix, in bytes: subjects with their tokens must fit into the server's line of 4 KiB.
const MAX_LENGTH: usize = 255;

fn is_token(token: &str) -> bool {
    !token.is_empty() && !token.contains(['*', '>']) && !token.contains(|c: char| c.is_whitespace() || c.is_control())
}

impl JetStreamDomain {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubjectPrefix {
    type Err = SubjectPrefixError;

    fn from_str(text: &str) -> Result<Self, SubjectPrefixError> {
        let prefix = text.strip_suffix('.').unwrap_or(text);
        if prefix.len() <= MAX_LENGTH && prefix.split('.').all(is_token) {
            Ok(Self(prefix.into()))
        } else {
            Err(SubjectPrefixError::Prefix(text.chars().take(100).collect()))
        }
    }
}

impl FromStr for JetStreamDomain {
    type Err = SubjectPrefixError;

    fn from_str(text: &str) -> Result<Self, SubjectPrefixError> {
        if text.len() <= MAX_LENGTH && is_token(text) && !text.contains('.') {
            Ok(Self(text.into()))
        } else {
            Err(SubjectPrefixError::Domain(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for SubjectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for JetStreamDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_words_and_a_domain_one_word() {
        let prefix = |text: &str| text.parse::<SubjectPrefix>().map(|prefix| prefix.to_string()).ok();
        assert_eq!(prefix("JS.files.").as_deref(), Some("JS.files"));
        assert_eq!(prefix("$JS.hub.API").as_deref(), Some("$JS.hub.API"));
        for wrong in ["", ".", "a..b", ".a", "a.*", "a.>", "a b", "a\tb", "a\r\nPUB b"] {
            assert_eq!(prefix(wrong), None, "{wrong:?}");
        }
        assert!("hub".parse::<JetStreamDomain>().is_ok() && "hub.eu".parse::<JetStreamDomain>().is_err());
        assert_eq!("hub".parse().map(|domain| JetStreamApi::Domain(domain).prefix()), Ok("$JS.hub.API".into()));
    }
}
