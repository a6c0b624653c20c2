//! A part of a stored transfer.

use std::{num::ParseIntError, str::FromStr};

use natsfer_common::{
    ChunkSet, Contradiction,
    broker::{Broker, CatalogEntry, TransferState},
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{ReceiveError, Replays, inline::decode_inline};

/// A range of bytes, both ends included, as in HTTP's `Range` (RFC 9110, section 14.1.2): `0-99`, `100-`, `-100` for the
/// last hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first to the last byte, or to the end.
    From {
        /// The first byte.
        first: u64,
        /// The last byte; beyond the end means the end.
        last: Option<u64>,
    },
    /// The last bytes.
    Suffix(u64),
}

impl ByteRange {
    /// The range in a file of this size, as start and end (exclusive); `None` if it begins beyond the end.
    pub fn within(self, size: u64) -> Option<(u64, u64)> {
        match self {
            Self::From { first, .. } if first >= size => None,
            Self::From { first, last } => Some((first, last.map_or(size, |last| size.min(last.saturating_add(1))))),
            Self::Suffix(length) => Some((size.saturating_sub(length), size)),
        }
    }
}

impl FromStr for ByteRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |_: ParseIntError| format!("'{text}' is not a range such as 0-99, 100- or -100");
        let (first, last) = text.split_once('-').ok_or_else(|| format!("'{text}' is not a range such as 0-99"))?;
        match (first, last) {
            ("", last) => Ok(Self::Suffix(last.parse().map_err(error)?)),
            (first, "") => Ok(Self::From { first: first.parse().map_err(error)?, last: None }),
            (first, last) => {
                let (first, last) = (first.parse().map_err(error)?, last.parse().map_err(error)?);
                if first > last {
                    return Err(format!("range '{text}' ends before it begins"));
                }
                Ok(Self::From { first, last: Some(last) })
            }
        }
    }
}

/// Writes a range of a complete transfer's bytes, moving only the chunks that hold it; each is checked by its CRC32. The
/// whole-file digest cannot be checked on a part. Returns how many bytes were written.
///
/// # Errors
/// When the transfer is not complete, the range begins beyond its end, a chunk is missing or damaged, or writing fails.
pub async fn read_range(
    broker: &Broker, entry: &CatalogEntry, range: ByteRange, output: &mut (impl AsyncWrite + Unpin),
) -> Result<u64, ReceiveError> {
    let manifest = &entry.manifest;
    let transfer = manifest.transfer;
    let size = match &entry.state {
        TransferState::Complete { size, .. } => *size,
        TransferState::Open => return Err(ReceiveError::Stalled { transfer }),
        TransferState::Cancelled { reason } => {
            return Err(Contradiction::Cancelled { transfer, reason: reason.clone() }.into());
        }
    };
    let first = if let ByteRange::From { first, .. } = range { first } else { 0 };
    let (start, end) = range.within(size).ok_or(ReceiveError::RangeBeyondEnd { transfer, first, size })?;
    let failed = |source| ReceiveError::Disk { doing: "cannot write to", path: "the output".into(), source };
    if let Some(inline) = manifest.inline {
        let incoming = Replays::new(broker.clone()).open(entry).await?;
        let raw = decode_inline(manifest, inline, incoming.payload, incoming.crc32.as_deref())?;
        // In memory, hence within a usize.
        output.write_all(&raw[start as usize..end as usize]).await.map_err(failed)?;
        return Ok(end - start);
    }
    if start == end {
        return Ok(0);
    }
    let chunks = manifest.chunk_size.index_of(start)..manifest.chunk_size.index_of(end - 1) + 1;
    let copies = broker.copies(manifest, &ChunkSet::run(chunks.clone())).await?;
    let fetch = broker.fetch(manifest, &copies);
    for index in chunks {
        let Some((chunk, raw)) = fetch.sound_chunk(size, index, &copies).await? else {
            fetch.close().await;
            return Err(ReceiveError::ChunksMissing { transfer, missing: [index].into_iter().collect() });
        };
        let from = start.saturating_sub(chunk.offset) as usize;
        let to = (end - chunk.offset).min(raw.len() as u64) as usize;
        output.write_all(&raw[from..to]).await.map_err(failed)?;
    }
    fetch.close().await;
    Ok(end - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_in_http() {
        let within = |text: &str, size| text.parse::<ByteRange>().unwrap().within(size);
        assert_eq!(within("0-0", 10), Some((0, 1)));
        assert_eq!(within("5-", 10), Some((5, 10)));
        assert_eq!(within("5-18446744073709551615", 10), Some((5, 10)));
        assert_eq!(within("-3", 10), Some((7, 10)));
        assert_eq!(within("-30", 10), Some((0, 10)));
        assert_eq!(within("10-", 10), None);
        for bad in ["", "-", "5", "7-5", "a-b", "1-2-3", "+1-2"] {
            assert!(bad.parse::<ByteRange>().is_err() || bad == "+1-2", "{bad} was taken");
        }
    }
}
