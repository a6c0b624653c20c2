//! Filters of channels, and subjects' wildcards. Input: a filter, and a channel, a line each.

use natsfer_common::{Channel, ChannelFilter, Kind, selects};

use crate::{samples, text_lines, texts};

/// A filter selects a channel exactly if the server delivers that channel's messages to a consumer with its subject.
pub fn check(data: &[u8]) -> bool {
    let Some([filter_text, channel]) = text_lines(data) else { return false };
    assert_eq!(selects(filter_text, channel), delivers(&tokens(filter_text), &tokens(channel)));
    let Ok(filter) = filter_text.parse::<ChannelFilter>() else { return false };
    assert_eq!(filter.as_str(), filter_text);
    let (subjects, transfer) = (samples::subjects(), samples::subject().transfer);
    let filtered = subjects.filter(Kind::Open, &filter);
    let wildcards = tokens(&filtered);
    assert!(wildcards.iter().all(|token| !token.is_empty()));
    assert!(wildcards[..wildcards.len() - 1].iter().all(|token| *token != ">"));

    let Ok(channel) = channel.parse::<Channel>() else { return false };
    let subject = subjects.of(Kind::Open, &channel, transfer);
    assert_eq!(filter.matches(&channel), delivers(&wildcards, &tokens(&subject)), "{filtered} {subject}");
    filter.matches(&channel)
}

fn tokens(subject: &str) -> Vec<&str> {
    subject.split('.').collect()
}

/// As the server's documentation has it.
fn delivers(filter: &[&str], subject: &[&str]) -> bool {
    match (filter, subject) {
        ([], []) => true,
        ([">", ..], [_, ..]) => true,
        ([wanted, filter @ ..], [token, subject @ ..]) => {
            (*wanted == "*" || wanted == token) && delivers(filter, subject)
        }
        _ => false,
    }
}

/// Filters and channels that they select or do not.
pub fn seeds() -> Vec<Vec<u8>> {
    let pairs = [
        ">\na",
        ">\na.b",
        "a.>\na",
        "a.>\na.b.c",
        "*\na.b",
        "*.b\na.b",
        "a.*.c\na.b.c",
        "*.>\na",
        "a\nb",
        "a.>.b\na.c.b",
        "a*\nab",
        ">\n>",
        "*\n*",
        "a.\na.",
        "\n",
        "*.*\na.b",
    ];
    let longest = "*.".repeat(99) + ">\n" + &"a.".repeat(99) + "a";
    let mut seeds = texts(&pairs);
    seeds.push(longest.into_bytes());
    seeds
}
