//! Channels: where files are published, and the filters receivers select them with.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::subject::selects;

/// Longest channel or filter, in bytes. With prefix, kind and id a subject stays far below the server's control line limit (4,096).
const MAX_LENGTH: usize = 200;

/// A channel: one or more subject tokens joined by dots, such as `invoices.eu`.
///
/// A token holds ASCII letters, digits, `-` and `_`. The server itself would store wildcards and control characters in a
/// subject literally, so channels are checked here, on the way out and on the way in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel(String);

/// Which channels a receiver listens on: a [`Channel`] whose tokens may be `*` (any one token), the last one also `>`
/// (one or more tokens).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChannelFilter(String);

/// Why a text is not a channel or a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a channel: {reason}", text.escape_debug())]
pub struct ChannelError {
    text: String,
    reason: &'static str,
}

impl Channel {
    /// The channel as it stands in subjects.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Channel {
    /// The channel `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl ChannelFilter {
    /// The filter as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The subject tokens that select a transfer's messages on these channels, its id included.
    ///
    /// `a.>` must not select channel `a`, whose transfers are at `a.<id>`: hence `a.*.>`.
    pub(crate) fn subject_tail(&self) -> String {
        match self.0.strip_suffix('>') {
            Some(head) => format!("{head}*.>"),
            None => format!("{}.*", self.0),
        }
    }

    /// Whether the filter selects this channel.
    pub fn matches(&self, channel: &Channel) -> bool {
        selects(&self.0, &channel.0)
    }
}

impl Default for ChannelFilter {
    /// Every channel: `>`.
    fn default() -> Self {
        Self(">".into())
    }
}

impl From<Channel> for ChannelFilter {
    fn from(channel: Channel) -> Self {
        Self(channel.0)
    }
}

fn check(text: &str, wildcards: bool) -> Result<(), ChannelError> {
    let fail = |reason| Err(ChannelError { text: text.into(), reason });
    if text.len() > MAX_LENGTH {
        return fail("it is longer than 200 bytes");
    }
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            "" => return fail("a token is empty"),
            "*" if wildcards => {}
            ">" if wildcards && tokens.peek().is_none() => {}
            ">" if wildcards => return fail("'>' may only stand last"),
            _ if token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') => {}
            _ => return fail("tokens take ASCII letters, digits, '-' and '_', joined by dots"),
        }
    }
    Ok(())
}

impl FromStr for Channel {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, ChannelError> {
        check(text, false).map(|()| Self(text.into()))
    }
}

impl FromStr for ChannelFilter {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, ChannelError> {
        check(text, true).map(|()| Self(text.into()))
    }
}

impl TryFrom<String> for Channel {
    type Error = ChannelError;

    fn try_from(text: String) -> Result<Self, ChannelError> {
        text.parse()
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ChannelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_one_alphabet() {
        for good in ["default", "invoices.eu", "A-b_9.x"] {
            assert_eq!(good.parse::<Channel>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "ä", "a\0", "a/b", &"a".repeat(201)] {
            assert!(bad.parse::<Channel>().is_err(), "{bad:?} was taken");
        }
        for bad in ["a.>.b", "a*", "x>"] {
            assert!(bad.parse::<ChannelFilter>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn filters_select_as_nats_subjects_do() {
        let matches =
            |filter: &str, channel: &str| filter.parse::<ChannelFilter>().unwrap().matches(&channel.parse().unwrap());
        assert!(matches(">", "a") && matches(">", "a.b") && matches("a.>", "a.b.c") && matches("*.b", "a.b"));
        assert!(!matches("a.>", "a") && !matches("*", "a.b") && !matches("a", "b") && !matches("a.b", "a"));
        assert_eq!("a.>".parse::<ChannelFilter>().unwrap().subject_tail(), "a.*.>");
        assert_eq!(">".parse::<ChannelFilter>().unwrap().subject_tail(), "*.>");
        assert_eq!("a.*".parse::<ChannelFilter>().unwrap().subject_tail(), "a.*.*");
    }
}
