//! Stored chunks, where their copies are, and whether all of a transfer is sound.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{Broker, BrokerError, Place, Scanned, StartAt};
use crate::{ChunkSet, Digest, Manifest, Totals};

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
            self.scan(manifest, StartAt::First, |place, scanned| {
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
        let fetch = self.fetch(manifest, &copies);
        for index in copies.0.keys() {
            match fetch.sound_chunk(totals.size, *index, &copies).await? {
                Some((_, raw)) => hasher.update(&raw),
                None => _ = found.damaged.insert(*index),
            }
        }
        fetch.close().await;
        if found.missing.is_empty() && found.damaged.is_empty() {
            found.digest = Some(hasher.finish());
        }
        Ok(found)
    }
}
