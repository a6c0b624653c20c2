//! Stored chunks, one by one: where their copies are, which are sound, and whether all of a transfer is.

use std::{collections::BTreeMap, ops::ControlFlow};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use super::{Broker, BrokerError, Place, Scanned};
use crate::{ChunkHeader, ChunkSet, Digest, Manifest, Totals};

/// Chunks fetched at once.
const AHEAD: usize = 4;

/// Where in the stream the copies of a transfer's chunks are, in stream order. About 60 bytes for each chunk.
#[derive(Debug, Clone, Default)]
pub struct Copies(BTreeMap<u64, Vec<Place>>);

impl Copies {
    /// The places of a chunk's copies.
    pub fn of(&self, index: u64) -> &[Place] {
        self.0.get(&index).map_or(&[], Vec::as_slice)
    }

    /// The chunks that have any.
    pub fn chunks(&self) -> ChunkSet {
        self.0.keys().copied().collect()
    }

    /// All copies, by chunk.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Place)> + '_ {
        self.0.iter().flat_map(|(index, places)| places.iter().map(|place| (*index, *place)))
    }
}

/// What reading every stored byte of a transfer has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Chunks of which nothing is stored.
    pub missing: ChunkSet,
    /// Chunks of which no stored copy is sound.
    pub damaged: ChunkSet,
    /// The digest of all bytes, where they are all there.
    pub digest: Option<Digest>,
}

impl Broker {
    /// Where the copies of these chunks are. Reads headers only.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn copies(&self, manifest: &Manifest, wanted: &ChunkSet) -> Result<Copies, BrokerError> {
        let what = format!("looking for chunks of transfer {}", manifest.transfer);
        self.patiently(&what, || async {
            let mut copies = Copies::default();
            self.scan(manifest, |place, scanned| {
                if let Scanned::Chunk(chunk, _) = scanned
                    && wanted.contains(chunk.index)
                {
                    copies.0.entry(chunk.index).or_default().push(place);
                }
                ControlFlow::Continue(())
            })
            .await?;
            Ok(copies)
        })
        .await
    }

    /// Reads one chunk by its place in the stream; `None` if there is no chunk of this transfer.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn chunk_at(
        &self, manifest: &Manifest, sequence: u64,
    ) -> Result<Option<(ChunkHeader, Bytes)>, BrokerError> {
        let subject = self.subjects().data(&manifest.channel, manifest.transfer);
        let message = self.message_at(&self.stream().data(), sequence).await?;
        let Some(message) = message.filter(|message| message.subject == subject) else { return Ok(None) };
        let chunk = ChunkHeader::from_headers(|name| message.header(name), manifest.chunk_size).ok();
        Ok(chunk.map(|chunk| (chunk, message.payload)))
    }

    /// The first copy of each of these chunks, in order, several fetched ahead; `None` where it is gone.
    pub fn first_copies<'a>(
        &'a self, manifest: &'a Manifest, copies: &'a Copies,
    ) -> impl Stream<Item = Result<(u64, Option<(ChunkHeader, Bytes)>), BrokerError>> + 'a {
        let firsts = copies.0.iter().filter_map(|(index, places)| Some((*index, *places.first()?)));
        stream::iter(firsts)
            .map(async |(index, place)| Ok((index, self.chunk_at(manifest, place.sequence).await?)))
            .buffered(AHEAD)
    }

    /// The bytes of the first copy of a chunk that is sound, in a file of this size.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn sound_chunk(
        &self, manifest: &Manifest, size: u64, index: u64, copies: &Copies,
    ) -> Result<Option<(ChunkHeader, Bytes)>, BrokerError> {
        let expected = (index, manifest.chunk_size.length(index, size));
        for Place { sequence, .. } in copies.of(index) {
            let Some((chunk, payload)) = self.chunk_at(manifest, *sequence).await? else { continue };
            match chunk.encoding.decode(payload, chunk.length as usize) {
                Ok(raw) if (chunk.index, chunk.length) == expected && crc32fast::hash(&raw) == chunk.crc32 => {
                    return Ok(Some((chunk, raw)));
                }
                _ => tracing::warn!(transfer = %manifest.transfer, index, sequence, "a stored chunk is damaged"),
            }
        }
        Ok(None)
    }

    /// Reads every stored byte of a closed transfer in chunks.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn verify(&self, manifest: &Manifest, totals: &Totals) -> Result<Verification, BrokerError> {
        let all = ChunkSet::run(0..totals.chunks);
        let copies = self.copies(manifest, &all).await?;
        let missing = all.without(&copies.chunks());
        let mut found = Verification { missing, ..Verification::default() };
        let mut hasher = manifest.digest_algorithm.hasher();
        let mut chunks = stream::iter(copies.0.keys().copied())
            .map(|index| {
                let copies = &copies;
                async move { (index, self.sound_chunk(manifest, totals.size, index, copies).await) }
            })
            .buffered(AHEAD);
        while let Some((index, chunk)) = chunks.next().await {
            match chunk? {
                Some((_, raw)) => hasher.update(&raw),
                None => _ = found.damaged.insert(index),
            }
        }
        if found.missing.is_empty() && found.damaged.is_empty() {
            found.digest = Some(hasher.finish());
        }
        Ok(found)
    }
}
