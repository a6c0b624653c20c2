//! Channels.

use natsfer_common::{Channel, ChannelFilter, Kind, Subject};

use crate::{samples, texts};

/// What is taken is kept to the byte, stands in subjects as it is, and as a filter selects itself.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let Ok(channel) = text.parse::<Channel>() else {
        assert!(serde_json::from_value::<Channel>(text.into()).is_err());
        return false;
    };
    assert_eq!(channel.as_str(), text);
    assert_eq!(serde_json::from_value::<Channel>(text.into()).unwrap(), channel);
    assert!((1..=200).contains(&text.len()));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    assert!(text.split('.').all(|token| !token.is_empty() && token.bytes().all(fits)));
    assert!(ChannelFilter::from(channel.clone()).matches(&channel) && ChannelFilter::default().matches(&channel));

    let (subjects, transfer) = (samples::subjects(), samples::subject().transfer);
    for kind in Kind::CONTROL.into_iter().chain([Kind::Data]) {
        let written = subjects.of(kind, &channel, transfer);
        assert_eq!(subjects.kind(&written), Some(kind));
        assert_eq!(subjects.parse(&written), Ok(Subject { channel: channel.clone(), transfer }));
    }
    true
}

/// Channels, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    let (longest, longer) = ("a.".repeat(99) + "bc", "a".repeat(201));
    let others = ["default", "invoices.eu", "A-b_9.x", "", ".", "a..b", "a.*", ">", "a b", "a\0", "ä", "a/b"];
    let mut seeds = texts(&others);
    seeds.extend(texts(&[&longest, &longer, "open.0123456789abcdef0123456789abcdef"]));
    seeds
}
