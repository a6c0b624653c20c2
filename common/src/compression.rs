//! Which chunks to compress.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use crate::{Encoding, LinkEstimate};

/// Chunks below this are left alone: a frame's own bytes eat the gain.
const TINY: usize = 512;
/// What is sampled of a chunk, in pieces spread over it: enough to tell text from noise, a fortieth of the whole work.
const SAMPLE_PIECE: usize = 4 * 1024;
const SAMPLE_PIECES: usize = 3;
/// Zstandard's speed until some of it was seen, in bytes per second: 350 MiB/s, as measured on logs.
const USUAL_SPEED: f64 = 350.0 * 1024.0 * 1024.0;
/// What a slow link is thought to let a chunk wait, in seconds, until it shows.
const SLOW: f64 = 1.0;
/// The last chunk's share in an average: acknowledgements come in bursts, and other programs get in the way.
const WEIGHT: f64 = 0.125;
/// After this many incompressible chunks in a row, only every fourth is sampled.
const SURE_AFTER: u32 = 4;
/// While there is no time to compress, every so many chunks are sampled: others may be compressed faster.
const LOOK_AGAIN: u32 = 4;

/// What the sender asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Zstandard for chunks that a sample shows to shrink, where the link is so slow that there is time for it; the rest as they
    /// are.
    #[default]
    Auto,
    /// Every chunk as it is.
    None,
    /// gzip for every chunk that shrinks.
    Gzip,
    /// Zstandard for every chunk that shrinks.
    Zstd,
}

/// Chooses and applies the encoding of one transfer's chunks, in order.
#[derive(Debug)]
pub struct Compressor {
    compression: Compression,
    /// How many chunks in a row a sample found incompressible.
    incompressible: u32,
    sample: Vec<u8>,
    /// How many chunks in a row there was no time for.
    hurried: u32,
    /// How fast the codec was so far, in bytes per second.
    speed: f64,
    /// How long the sender waits for the link before a chunk, in seconds.
    spare: f64,
}

impl Compressor {
    /// For a file whose sender has all the time that compressing takes.
    pub fn unhurried(compression: Compression) -> Self {
        let (incompressible, hurried, sample) = Default::default();
        Self { compression, incompressible, sample, hurried, speed: USUAL_SPEED, spare: f64::INFINITY }
    }

    /// For a transfer over this link. What [`Compressor::waited`] is told shows how fast it is.
    pub fn new(compression: Compression, link: LinkEstimate) -> Self {
        let spare = if link.is_fast() { 0.0 } else { SLOW };
        Self { spare, ..Self::unhurried(compression) }
    }

    /// The chunk's encoded bytes and their encoding; `None` if it travels as it is, because that was asked for, or because
    /// encoding it would not make it smaller.
    ///
    /// Automatically, a chunk is compressed only if that takes no longer than the sender waits for the link. A fast link thus
    /// gets no compressed chunks, a slow one nothing else, and one in between as many as keep both it and the processor busy.
    pub fn compress(&mut self, raw: &[u8]) -> Option<(Encoding, Vec<u8>)> {
        let encoding = match self.compression {
            Compression::None => return None,
            _ if raw.len() < TINY => return None,
            Compression::Gzip => Encoding::Gzip,
            Compression::Zstd => Encoding::Zstd,
            Compression::Auto => {
                if !self.is_worth_trying(raw) {
                    return None;
                }
                Encoding::Zstd
            }
        };
        let (mut payload, begun) = (Vec::new(), Instant::now());
        encoding.encode(raw, &mut payload).ok()?;
        self.took(raw.len(), begun.elapsed());
        // It is counted by its length while it waits for its acknowledgement.
        payload.shrink_to_fit();
        (payload.len() < raw.len()).then_some((encoding, payload))
    }

    /// Takes note of how long the sender waited for the link before the next chunk.
    pub fn waited(&mut self, time: Duration) {
        self.spare = (1.0 - WEIGHT) * self.spare + WEIGHT * time.as_secs_f64();
    }

    /// Takes note of how long compressing so many bytes took.
    fn took(&mut self, length: usize, time: Duration) {
        let time = (1.0 - WEIGHT) * length as f64 / self.speed + WEIGHT * time.as_secs_f64();
        self.speed = length as f64 / time.max(f64::MIN_POSITIVE);
    }

    fn is_worth_trying(&mut self, raw: &[u8]) -> bool {
        if self.incompressible == 0 && is_compressed_format(raw) {
            self.incompressible = SURE_AFTER + 1;
            return false;
        }
        if self.incompressible > SURE_AFTER && !self.incompressible.is_multiple_of(4) {
            self.incompressible = self.incompressible.saturating_add(1);
            return false;
        }
        self.hurried = if self.has_time_for(raw) { 0 } else { self.hurried.wrapping_add(1) };
        if !self.hurried.is_multiple_of(LOOK_AGAIN) {
            return false;
        }
        if !self.sample_shrinks(raw) {
            self.incompressible = self.incompressible.saturating_add(1);
            return false;
        }
        self.incompressible = 0;
        self.has_time_for(raw)
    }

    fn has_time_for(&self, raw: &[u8]) -> bool {
        self.spare >= raw.len() as f64 / self.speed
    }

    /// Compresses a few pieces of the chunk; worth it from a tenth of gain up.
    fn sample_shrinks(&mut self, raw: &[u8]) -> bool {
        let mut sample = [0; SAMPLE_PIECE * SAMPLE_PIECES];
        let mut length = 0;
        let step = (raw.len() / SAMPLE_PIECES).max(SAMPLE_PIECE);
        for piece in raw.chunks(step).take(SAMPLE_PIECES) {
            let piece = &piece[..piece.len().min(SAMPLE_PIECE)];
            sample[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        let begun = Instant::now();
        let encoded = Encoding::Zstd.encode(&sample[..length], &mut self.sample);
        if self.hurried > 0 {
            self.took(length, begun.elapsed());
        }
        encoded.is_ok() && self.sample.len() * 10 < length * 9
    }
}

/// Whether a file begins with the signature of a format that is compressed already.
fn is_compressed_format(raw: &[u8]) -> bool {
    const SIGNATURES: [&[u8]; 12] = [
        b"\x1f\x8b",           // gzip, RFC 1952
        b"\x28\xb5\x2f\xfd",   // Zstandard, RFC 8878
        b"PK\x03\x04",         // zip, and what is built on it: docx, jar, apk
        b"\xfd7zXZ\0",         // xz
        b"BZh",                // bzip2
        b"7z\xbc\xaf\x27\x1c", // 7-Zip
        b"\x89PNG\r\n\x1a\n",  // PNG
        b"\xff\xd8\xff",       // JPEG
        b"Rar!\x1a\x07",       // RAR
        b"\x1a\x45\xdf\xa3",   // Matroska, WebM
        b"OggS",               // Ogg
        b"\x04\x22\x4d\x18",   // LZ4 frame
    ];
    let iso_media = raw.get(4..8) == Some(b"ftyp"); // MP4, MOV, HEIC, AVIF
    iso_media || SIGNATURES.iter().any(|signature| raw.starts_with(signature))
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err("compression is one of auto, none, gzip, zstd".into()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes no codec shrinks (xorshift64).
    fn noise(length: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn encoding(compression: Compression, raw: &[u8]) -> Option<Encoding> {
        Compressor::unhurried(compression).compress(raw).map(|(encoding, payload)| {
            assert!(payload.len() < raw.len());
            assert_eq!(encoding.decode(payload.into(), raw.len()).unwrap(), raw);
            encoding
        })
    }

    #[test]
    fn what_shrinks_is_compressed_and_nothing_else() {
        let text = br#"{"level":"info","message":"all is well"}"#.repeat(500);
        let noise = noise(100_000, 7);
        assert_eq!(encoding(Compression::Auto, &text), Some(Encoding::Zstd));
        assert_eq!(encoding(Compression::Gzip, &text), Some(Encoding::Gzip));
        assert_eq!(encoding(Compression::None, &text), None);
        for compression in [Compression::Auto, Compression::Gzip, Compression::Zstd] {
            assert_eq!(encoding(compression, &noise), None, "{compression} stored noise compressed");
            assert_eq!(encoding(compression, &text[..TINY - 1]), None, "{compression} touched a tiny chunk");
            assert_eq!(encoding(compression, b""), None);
        }
    }

    #[test]
    fn what_takes_longer_than_the_link_is_left_alone() {
        let text = b"all is well, all is well\n".repeat(20_000);
        let is_compressed = |compressor: &mut Compressor, seconds: f64| {
            (0..200).for_each(|_| compressor.waited(Duration::from_secs_f64(seconds)));
            compressor.compress(&text).is_some()
        };
        let fast = LinkEstimate { round_trip: Duration::ZERO, rate: None };
        let slow = LinkEstimate { round_trip: Duration::from_millis(50), ..fast };
        assert!(Compressor::new(Compression::Auto, slow).compress(&text).is_some());
        let mut compressor = Compressor::new(Compression::Auto, fast);
        assert!(compressor.compress(&text).is_none());
        let takes = text.len() as f64 / USUAL_SPEED;
        assert!(!is_compressed(&mut compressor, takes / 2.0));
        assert!(is_compressed(&mut compressor, takes * 2.0));
        assert!(Compressor::new(Compression::Zstd, fast).compress(&text).is_some(), "as was asked for");
    }

    #[test]
    fn bytes_that_are_compressed_faster_are_noticed() {
        let zeros = vec![0; 1 << 20];
        let mut compressor = Compressor::new(Compression::Auto, LinkEstimate::default());
        // As if it had been slow so far; no machine takes a second for the sample.
        compressor.speed = 1.0;
        compressor.spare = 1e5;
        assert!((0..1_000).any(|_| compressor.compress(&zeros).is_some()));
    }

    #[test]
    fn a_file_that_turns_compressible_is_noticed() {
        let mut compressor = Compressor::unhurried(Compression::Auto);
        let noise = noise(20_000, 3);
        for _ in 0..100 {
            assert!(compressor.compress(&noise).is_none());
        }
        let text = b"all is well, all is well\n".repeat(1_000);
        assert!((0..4).any(|_| compressor.compress(&text).is_some()));
    }
}
