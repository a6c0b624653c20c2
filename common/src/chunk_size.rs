//! How large a transfer's chunks are, and which bytes belong to which.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

const KIB: u32 = 1024;
/// Smallest chunk that can be asked for.
const MIN: u32 = 16 * KIB;
/// Largest chunk of any kind: NATS itself takes no message over 64 MiB.
const MAX: u32 = 64 * 1024 * KIB;
/// nats-server's file store takes only messages below this, headers included, whatever its `max_payload` is (`rlBadThresh` in
/// `server/filestore.go`).
pub const MOST_STORED: u32 = 32 * 1024 * KIB;
/// `auto` never leaves this range, except where `max_payload` is too small for it. What is larger costs the server no less. With its headers, the
/// largest fits within 512 KiB: buffers that messages are read into double, and half of a larger one would be copied once more.
const AUTO: std::ops::RangeInclusive<u32> = 16 * KIB..=512 * KIB - MESSAGE_OVERHEAD;
/// `auto` takes what the line moves in this time, in seconds: a part of a second, because the line may become slower than it was when
/// the transfer began.
const AUTO_SECONDS: f64 = 0.25;
/// On slow lines it takes up to twice as much, up to this size, in bytes: small chunks have headers, too.
const SMALL: f64 = (32 * KIB) as f64;
/// What travels in its manifest's message without a look at the line, in bytes.
pub const ALWAYS_INLINE: u32 = *AUTO.start();

/// Room for a message's headers, in bytes: the server's `max_payload` counts them in.
pub const MESSAGE_OVERHEAD: u32 = 4 * KIB;

/// Bytes of the file in every chunk of a transfer but the last. Fixed within a transfer, so that an offset tells its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ChunkSize(NonZeroU32);

/// The size does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkSizeError {
    /// Zero, or beyond what NATS can carry.
    #[error("a chunk size of {0} bytes is not between 1 byte and 64 MiB")]
    OutOfRange(u64),
    /// No size, or none that can be asked for.
    #[error("chunk size must be 'auto', or from 16KiB to just below 32MiB, such as 512KiB or 1MiB, not '{0}'")]
    NotASize(String),
    /// The server would refuse such messages.
    #[error(
        "chunks of {wanted} bytes do not fit: messages may have {max_payload} bytes (max_payload of the server, account or user; \
         max_msg_size of the stream), and 32 MiB to be stored; at most {most} do"
    )]
    OverMaxPayload {
        /// What was asked for.
        wanted: u32,
        /// The limit for headers and payload together.
        max_payload: usize,
        /// The largest chunk that fits.
        most: u32,
    },
}

/// How the producer chooses: `auto`, or a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChunkSizing {
    /// Within 16 KiB to 508 KiB, from what is known of the line.
    #[default]
    Auto,
    /// This many bytes.
    Fixed(ChunkSize),
}

/// What is known of the way to the server when a transfer starts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkEstimate {
    /// The round trip of a small message.
    pub round_trip: Duration,
    /// Bytes per second, as far as is known.
    pub rate: Option<f64>,
}

impl LinkEstimate {
    /// Whether the link is thought to be faster than a codec until it shows: with round trips below 5 ms. What earlier transfers
    /// reached is no measure of that: several may have shared the link, or compressed what they sent.
    pub fn is_fast(self) -> bool {
        self.round_trip < Duration::from_millis(5)
    }
}

impl ChunkSize {
    /// Checks a size from the wire.
    ///
    /// # Errors
    /// When it is zero or over 64 MiB.
    pub fn new(bytes: u32) -> Result<Self, ChunkSizeError> {
        let error = ChunkSizeError::OutOfRange(bytes.into());
        NonZeroU32::new(bytes).filter(|size| size.get() <= MAX).map(Self).ok_or(error)
    }

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        self.0.get()
    }

    /// Where the chunk begins in the file; `None` if no file could be that long.
    pub fn offset(self, index: u64) -> Option<u64> {
        index.checked_mul(u64::from(self.bytes()))
    }

    /// The chunk that holds the byte at this offset.
    pub fn index_of(self, offset: u64) -> u64 {
        offset / u64::from(self.bytes())
    }

    /// How many chunks a file of this size has: none if it is empty.
    pub fn count(self, size: u64) -> u64 {
        size.div_ceil(u64::from(self.bytes()))
    }

    /// How long the chunk is in a file of this size: 0 beyond its end.
    pub fn length(self, index: u64, size: u64) -> u32 {
        let left = self.offset(index).map_or(0, |offset| size.saturating_sub(offset));
        u32::try_from(left).map_or(self.bytes(), |left| left.min(self.bytes()))
    }
}

impl ChunkSizing {
    /// Chooses a transfer's chunk size.
    ///
    /// `auto` takes what the line moves in a quarter of a second, or in half of one on slow lines: what is urgent waits behind a whole message, nobody knows how far
    /// one is, and the server closes the connection of a receiver to which it could not write for ten seconds.
    ///
    /// # Errors
    /// When a given size does not fit the server's `max_payload` (bytes, headers included), or what it stores.
    pub fn choose(self, link: LinkEstimate, max_payload: usize) -> Result<ChunkSize, ChunkSizeError> {
        let room = u32::try_from(max_payload).unwrap_or(u32::MAX).min(MOST_STORED).saturating_sub(MESSAGE_OVERHEAD);
        // Whole pages where there is room for one: offsets then suit the disk.
        let most = if room >= MESSAGE_OVERHEAD { room / MESSAGE_OVERHEAD * MESSAGE_OVERHEAD } else { room };
        match self {
            Self::Fixed(size) if size.bytes() > most => {
                Err(ChunkSizeError::OverMaxPayload { wanted: size.bytes(), max_payload, most })
            }
            Self::Fixed(size) => Ok(size),
            Self::Auto => {
                let wanted = match link.rate {
                    // Saturates, as casts of floats do.
                    Some(rate) => {
                        (rate * AUTO_SECONDS).max((2.0 * rate * AUTO_SECONDS).min(SMALL)) as u32 / MESSAGE_OVERHEAD
                            * MESSAGE_OVERHEAD
                    }
                    None if link.is_fast() => *AUTO.end(),
                    None => *AUTO.start(),
                };
                ChunkSize::new(wanted.clamp(*AUTO.start(), *AUTO.end()).min(most))
            }
        }
    }
}

impl FromStr for ChunkSizing {
    type Err = ChunkSizeError;

    /// Reads `auto`, a number of bytes, or one with a unit: `512K`, `512KiB`, `1M`, `1MiB` (units are powers of 1,024).
    fn from_str(text: &str) -> Result<Self, ChunkSizeError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let error = || ChunkSizeError::NotASize(text.chars().take(40).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit: u32 = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => KIB,
            "m" | "mib" => KIB * KIB,
            _ => return Err(error()),
        };
        let bytes: u32 = text[..digits].parse().map_err(|_| error())?;
        let bytes = bytes.checked_mul(unit).filter(|bytes| (MIN..MOST_STORED).contains(bytes)).ok_or_else(error)?;
        ChunkSize::new(bytes).map(Self::Fixed)
    }
}

impl TryFrom<u32> for ChunkSize {
    type Error = ChunkSizeError;

    fn try_from(bytes: u32) -> Result<Self, ChunkSizeError> {
        Self::new(bytes)
    }
}

impl From<ChunkSize> for u32 {
    fn from(size: ChunkSize) -> Self {
        size.bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_tile_the_file(size in 0u64..10_000, chunk in 1u32..300) {
            let chunk = ChunkSize::new(chunk).unwrap();
            let count = chunk.count(size);
            let mut at = 0;
            for index in 0..count {
                prop_assert_eq!(chunk.offset(index), Some(at));
                prop_assert_eq!(chunk.index_of(at), index);
                prop_assert!(chunk.length(index, size) > 0);
                at += u64::from(chunk.length(index, size));
            }
            prop_assert_eq!(at, size);
            prop_assert_eq!(chunk.length(count, size), 0);
        }

        #[test]
        fn what_is_chosen_fits_a_message(rate in proptest::option::of(0.0f64..1e12), max_payload in 5_000usize..100_000_000) {
            let link = LinkEstimate { round_trip: Duration::ZERO, rate };
            let chunk = ChunkSizing::Auto.choose(link, max_payload).unwrap();
            prop_assert!(chunk.bytes() as usize + MESSAGE_OVERHEAD as usize <= max_payload);
            prop_assert!(chunk.bytes() <= *AUTO.end());
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        let fixed = |bytes| Ok(ChunkSizing::Fixed(ChunkSize::new(bytes).unwrap()));
        assert_eq!("auto".parse(), Ok(ChunkSizing::Auto));
        assert_eq!("16384".parse(), fixed(16_384));
        assert_eq!("64k".parse(), fixed(65_536));
        assert_eq!("1MiB".parse(), fixed(1 << 20));
        for bad in ["", "16383", "1k", "-1", "4G", "1 MB", "99999999999", "k", "65M", "32MiB"] {
            let said = bad.parse::<ChunkSizing>().unwrap_err().to_string();
            assert!(said.contains("from 16KiB to just below 32MiB"), "{bad:?}: {said}");
        }
    }

    #[test]
    fn faster_links_get_larger_chunks() {
        let choose = |link| ChunkSizing::Auto.choose(link, 8 << 20).unwrap().bytes();
        let by_rate = |rate| choose(LinkEstimate { round_trip: Duration::ZERO, rate: Some(rate) });
        assert_eq!(by_rate(6_250.0), 16 * KIB);
        assert_eq!(by_rate(64_000.0), 28 * KIB);
        assert_eq!(by_rate(100_000.0), 32 * KIB);
        assert_eq!(by_rate(1e6), 244 * KIB);
        assert_eq!(by_rate(1e9), 508 * KIB);
        assert_eq!(choose(LinkEstimate { round_trip: Duration::from_millis(80), rate: None }), 16 * KIB);
        assert_eq!(choose(LinkEstimate::default()), 508 * KIB);
        let fixed = ChunkSizing::Fixed(ChunkSize::new(1 << 20).unwrap());
        assert!(matches!(fixed.choose(LinkEstimate::default(), 1 << 20), Err(ChunkSizeError::OverMaxPayload { .. })));
        let most = MOST_STORED - MESSAGE_OVERHEAD;
        for (bytes, fits) in [(most, true), (most + 1, false)] {
            let fixed = ChunkSizing::Fixed(ChunkSize::new(bytes).unwrap());
            assert_eq!(fixed.choose(LinkEstimate::default(), 64 << 20).is_ok(), fits, "{bytes}");
        }
    }
}
