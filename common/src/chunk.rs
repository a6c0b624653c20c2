//! What a chunk's message says about it.

use crate::{ChunkSize, Encoding, digest::parse_hex, header};

/// A chunk's place in the file, its checksum and its encoding: the headers of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Its place among the chunks, from 0.
    pub index: u64,
    /// Where it begins in the file, in bytes: the index times the transfer's chunk size.
    pub offset: u64,
    /// Bytes of the file it holds, decoded. At least 1, at most the transfer's chunk size.
    pub length: u32,
    /// CRC-32 (ISO 3309, as in gzip) of those bytes.
    pub crc32: u32,
    /// How they are encoded in the payload.
    pub encoding: Encoding,
}

/// Why a message is not a chunk of its transfer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A header that every chunk has is not there.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// A header is not in its form.
    #[error("header {name} is malformed: '{}'", value.escape_debug())]
    Malformed {
        /// Its name.
        name: &'static str,
        /// What it holds, shortened.
        value: String,
    },
    /// Index, offset and length do not fit together, or not into the transfer.
    #[error(
        "chunk {index} cannot hold {length} bytes at offset {offset} of a transfer in chunks of {chunk_size} bytes"
    )]
    Misplaced {
        /// The index it gives.
        index: u64,
        /// The offset it gives.
        offset: u64,
        /// The length it gives.
        length: u32,
        /// The transfer's chunk size.
        chunk_size: u32,
    },
}

impl ChunkHeader {
    /// Where it ends in the file, in bytes.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length.into())
    }

    /// The headers to publish it with.
    pub fn to_headers(&self) -> [(&'static str, String); 5] {
        [
            (header::CHUNK, self.index.to_string()),
            (header::OFFSET, self.offset.to_string()),
            (header::LENGTH, self.length.to_string()),
            (header::CRC32, format!("{:08x}", self.crc32)),
            (header::ENCODING, self.encoding.as_str().into()),
        ]
    }

    /// Reads a message's headers by name and checks them against the transfer's chunk size.
    ///
    /// # Errors
    /// When one is missing or malformed, or the place they give is not one of this transfer.
    pub fn from_headers<'a>(
        get: impl Fn(&'static str) -> Option<&'a str>, chunk_size: ChunkSize,
    ) -> Result<Self, ChunkError> {
        let text = |name| get(name).ok_or(ChunkError::Missing(name));
        let malformed = |name, value: &str| ChunkError::Malformed { name, value: value.chars().take(64).collect() };
        let number = |name| {
            let value = text(name)?;
            // Only digits, and one way to write a number: `u64::from_str` would take a sign, and zeros before it.
            let digits = value.bytes().all(|byte| byte.is_ascii_digit()) && (value == "0" || !value.starts_with('0'));
            digits.then(|| value.parse::<u64>().ok()).flatten().ok_or_else(|| malformed(name, value))
        };
        let (index, offset) = (number(header::CHUNK)?, number(header::OFFSET)?);
        let length = number(header::LENGTH)?;
        let length = u32::try_from(length).map_err(|_| malformed(header::LENGTH, &length.to_string()))?;
        let crc32 = text(header::CRC32)?;
        let crc32 = u32::from_be_bytes(parse_hex(crc32).ok_or_else(|| malformed(header::CRC32, crc32))?);
        let encoding = text(header::ENCODING)?;
        let encoding = encoding.parse().map_err(|()| malformed(header::ENCODING, encoding))?;
        let chunk = Self { index, offset, length, crc32, encoding };
        if !chunk.is_placed(chunk_size) {
            return Err(ChunkError::Misplaced { index, offset, length, chunk_size: chunk_size.bytes() });
        }
        Ok(chunk)
    }

    /// Whether some file in such chunks can have it.
    pub(crate) fn is_placed(&self, chunk_size: ChunkSize) -> bool {
        chunk_size.offset(self.index) == Some(self.offset)
            && (1..=chunk_size.bytes()).contains(&self.length)
            && i64::try_from(self.offset).is_ok_and(|offset| offset.checked_add(self.length.into()).is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u32 = 4096;

    fn read(headers: &HashMap<&'static str, String>) -> Result<ChunkHeader, ChunkError> {
        ChunkHeader::from_headers(|name| headers.get(name).map(String::as_str), ChunkSize::new(SIZE).unwrap())
    }

    proptest! {
        #[test]
        fn headers_are_read_back(index in 0u64..1 << 40, length in 1..=SIZE, crc32: u32) {
            let chunk = ChunkHeader { index, offset: index * u64::from(SIZE), length, crc32, encoding: Encoding::Gzip };
            prop_assert_eq!(read(&chunk.to_headers().into()), Ok(chunk));
        }

        #[test]
        fn nothing_else_is_read(name in prop::sample::select(vec![header::CHUNK, header::OFFSET, header::LENGTH]), value: String) {
            let chunk = ChunkHeader { index: 3, offset: 3 * u64::from(SIZE), length: SIZE, crc32: 1, encoding: Encoding::Zstd };
            let mut headers = HashMap::from(chunk.to_headers());
            headers.insert(name, value);
            if let Ok(read) = read(&headers) {
                prop_assert_eq!((read.index, read.offset), (chunk.index, chunk.offset));
            }
        }
    }

    #[test]
    fn lies_are_refused() {
        let good = ChunkHeader { index: 1, offset: 4096, length: 1, crc32: 0, encoding: Encoding::Identity };
        let with = |name, value: &str| {
            let mut headers = HashMap::from(good.to_headers());
            headers.insert(name, value.into());
            read(&headers)
        };
        assert_eq!(with(header::CRC32, "00000000"), Ok(good));
        for (name, value) in [
            (header::CHUNK, "+1"),
            (header::CHUNK, "18446744073709551615"),
            (header::OFFSET, "4095"),
            (header::LENGTH, "0"),
            (header::LENGTH, "4097"),
            (header::LENGTH, "4294967297"),
            (header::CRC32, "0"),
            (header::CRC32, "0000000G"),
            (header::ENCODING, "brotli"),
        ] {
            assert!(with(name, value).is_err(), "{name}: {value} was taken");
        }
    }
}
