//! Which chunks are stored that were on their way when the connection ended.

use std::{collections::BTreeMap, ops::ControlFlow, sync::PoisonError};

use natsfer_common::{
    ChunkHeader, Manifest,
    broker::{Broker, BrokerError, Place, Scanned, StartAt, Stored},
};
use tokio::sync::Mutex;

use crate::upload::Upload;

/// What the stream has shown of one transfer since the connection was made anew: one look serves all chunks that were on their way.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    found: Mutex<Found>,
    /// The chunks that are on their way, and up to which sequence the stream was known when each was begun: it is stored behind that.
    under_way: std::sync::Mutex<BTreeMap<u64, u64>>,
}

#[derive(Debug, Default)]
struct Found {
    /// The epoch of the look; none was taken at first.
    epoch: Option<u64>,
    /// The checksum and the place of each chunk that was not acknowledged.
    chunks: BTreeMap<u64, (u32, u64)>,
}

impl Recovery {
    /// A chunk is about to be published: the stream is known up to this sequence.
    pub(crate) fn begin(&self, index: u64, known_to: u64) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(index, known_to);
    }

    /// It is stored.
    pub(crate) fn end(&self, index: u64) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
    }

    /// Whether this chunk is stored, which was published on a connection that has ended. A user who may not look is told that it is
    /// not: to store it twice does no harm.
    pub(crate) async fn stored(
        &self, upload: &Upload, manifest: &Manifest, chunk: &ChunkHeader,
    ) -> Result<Option<Stored>, BrokerError> {
        let mut found = self.found.lock().await;
        let epoch = upload.lanes.epoch();
        if found.epoch != Some(epoch) {
            found.chunks = behind(&upload.broker, manifest, self.known_to()).await?;
            found.epoch = Some(epoch);
            let (transfer, stored) = (manifest.transfer, found.chunks.len());
            tracing::debug!(%transfer, stored, "looked which chunks were stored before the connection ended");
        }
        let found = found.chunks.get(&chunk.index).filter(|(crc32, _)| *crc32 == chunk.crc32);
        Ok(found.map(|(_, sequence)| Stored { sequence: *sequence, duplicate: true }))
    }

    /// Whatever is on its way is stored behind this sequence.
    fn known_to(&self) -> u64 {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.values().min().copied().unwrap_or_default()
    }
}

/// The chunks that are stored behind this sequence.
async fn behind(broker: &Broker, manifest: &Manifest, sequence: u64) -> Result<BTreeMap<u64, (u32, u64)>, BrokerError> {
    let mut chunks = BTreeMap::new();
    let scanned = broker.scan(manifest, StartAt::Sequence(sequence + 1), |Place { sequence, .. }, scanned| {
        if let Scanned::Chunk(ChunkHeader { index, crc32, .. }, _) = scanned {
            chunks.insert(index, (crc32, sequence));
        }
        ControlFlow::Continue(())
    });
    match scanned.await {
        Ok(()) | Err(BrokerError::Denied { .. }) => Ok(chunks),
        Err(error) => Err(error),
    }
}
