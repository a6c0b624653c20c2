//! What is read from command lines: sizes, ranges, and choices.

use std::{fmt::Display, str::FromStr};

use natsfer_common::{
    ChunkSizing, Compression, LinkEstimate, MESSAGE_OVERHEAD,
    cli::{ByteCount, human_bytes},
};
use natsfer_consumer::{ByteRange, ConflictPolicy};

use crate::texts;

/// What is taken is within its limits, and what can be written is read again.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let policy = text.parse::<ConflictPolicy>().is_ok();
    [byte_count(text), chunk_sizing(text), byte_range(text), is_kept::<Compression>(text), policy].contains(&true)
}

fn byte_count(text: &str) -> bool {
    let Ok(ByteCount(bytes)) = text.parse() else { return false };
    assert_eq!(bytes.to_string().parse(), Ok(ByteCount(bytes)));
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    assert!(bytes >= digits.parse().unwrap(), "{text} became {bytes}");
    assert!(human_bytes(bytes).ends_with('B'));
    true
}

fn chunk_sizing(text: &str) -> bool {
    let Ok(sizing) = text.parse::<ChunkSizing>() else { return false };
    if let ChunkSizing::Fixed(size) = sizing {
        assert!((16 << 10..=64 << 20).contains(&size.bytes()));
        assert_eq!(text.parse(), Ok(ByteCount(u64::from(size.bytes()))));
    }
    for max_payload in [0, 4096, 4097, 8191, 8192, 1 << 20, 64 << 20, usize::MAX] {
        if let Ok(size) = sizing.choose(LinkEstimate::default(), max_payload) {
            assert!(size.bytes() as usize + MESSAGE_OVERHEAD as usize <= max_payload);
        }
    }
    true
}

fn byte_range(text: &str) -> bool {
    let Ok(range) = text.parse::<ByteRange>() else { return false };
    for size in [0, 1, 10, u64::MAX] {
        if let Some((start, end)) = range.within(size) {
            assert!(start <= end && end <= size, "{text} of {size} is {start} to {end}");
        }
    }
    true
}

fn is_kept<T: FromStr + Display>(text: &str) -> bool {
    text.parse::<T>().is_ok_and(|value| value.to_string() == text || panic!("{text} became {value}"))
}

/// Arguments, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "1048576",
        "64K",
        "10GiB",
        "16777215T",
        "16777216T",
        "1 m",
        "1.5G",
        "K",
        "",
        "18446744073709551615",
        "18446744073709551616",
        "auto",
        "16KiB",
        "64MiB",
        "65M",
        "65535",
        "4096M",
        "0-0",
        "5-",
        "-3",
        "-0",
        "7-5",
        "-",
        "0-18446744073709551615",
        "1-2-3",
        "+1-+2",
        "none",
        "gzip",
        "zstd",
        "rename",
        "overwrite",
        "skip",
        "fail",
    ])
}
