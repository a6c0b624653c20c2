//! Short names of one alphabet: transfer ids, streams, receivers, digests.

use natsfer_common::{Channel, Digest, DigestAlgorithm, ReceiverName, StreamName, TransferId};

use crate::{samples, texts};

/// Each is taken in one form only, kept to the byte, and fits where it will stand.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    [transfer(text), stream(text), receiver(text), digest(text)].contains(&true)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A token of a subject, which is also a consumer's name.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.parse::<Channel>().is_ok() && !text.contains('.')
}

fn transfer(text: &str) -> bool {
    let read = text.parse::<TransferId>();
    assert_eq!(read.is_ok(), is_hex(text, 32));
    assert_eq!(serde_json::from_value::<TransferId>(text.into()).ok(), read.clone().ok());
    read.is_ok_and(|id| id.to_string() == text || panic!("{text} became {id}"))
}

fn stream(text: &str) -> bool {
    let Ok(stream) = text.parse::<StreamName>() else {
        assert!(!is_token(text));
        return false;
    };
    assert!(is_token(text));
    assert_eq!((stream.control(), stream.data()), (text, format!("{text}_DATA")));
    assert!(is_token(&stream.prefix()) && stream.prefix().eq_ignore_ascii_case(text));
    true
}

fn receiver(text: &str) -> bool {
    let read = text.parse::<ReceiverName>();
    assert_eq!(read.is_ok(), is_token(text));
    assert_eq!(serde_json::from_value::<ReceiverName>(text.into()).ok(), read.clone().ok());
    read.is_ok_and(|name| name.as_str() == text || panic!("{text} became {name}"))
}

fn digest(text: &str) -> bool {
    let read = text.parse::<Digest>();
    let fits = text.split_once(':').is_some_and(|(name, hex)| ["blake3", "sha256"].contains(&name) && is_hex(hex, 64));
    assert_eq!(read.is_ok(), fits);
    assert_eq!(serde_json::from_value::<Digest>(text.into()).ok(), read.clone().ok());
    read.is_ok_and(|digest| {
        assert_eq!(digest.algorithm().as_str().parse::<DigestAlgorithm>(), Ok(digest.algorithm()));
        digest.to_string() == text || panic!("{text} became {digest}")
    })
}

/// One of each, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    let id = samples::subject().transfer.to_string();
    let digest = |algorithm: DigestAlgorithm| algorithm.digest(samples::FILE).to_string();
    let (blake3, sha256) = (digest(DigestAlgorithm::Blake3), digest(DigestAlgorithm::Sha256));
    let others = [&id, &blake3, &sha256, &id.to_uppercase(), &format!("{id}0"), &"x".repeat(64), &"x".repeat(65)];
    let mut seeds: Vec<_> = others.map(|text| text.clone().into_bytes()).into();
    seeds.extend(texts(&["NATSFER", "billing", "A-b_9", "", "a.b", "a*", "blake3:", "md5:00", "sha256:blake3:"]));
    seeds.push(format!("é{}", &id[2..]).into_bytes());
    seeds
}
