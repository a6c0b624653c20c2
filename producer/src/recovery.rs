//! Which chunks are stored that were on their way when the connection ended.

use std::{collections::BTreeMap, ops::ControlFlow, sync::PoisonError};

use natsfer_common::{
    ChunkHeader, Manifest,
    broker::{Broker, BrokerError, Place, Scanned, StartAt, Stored},
};
use tokio::sync::Mutex;

use crate::{prepare::SharedPlan, upload::Upload};

/// What the stream has shown of one transfer since the connection was made anew: one look serves all chunks that were on their way.
#[derive(Debug, Default)]
pub(crate) struct Recovery(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    /// The epoch of the look; none was taken at first.
    epoch: Option<u64>,
    /// The checksum and the place of each chunk that was not acknowledged.
    chunks: BTreeMap<u64, (u32, u64)>,
}

impl Recovery {
    /// Whether this chunk is stored, which was published on a connection that has ended. A user who may not look is told that it is
    /// not: to store it twice does no harm.
    pub(crate) async fn stored(
        &self, upload: &Upload, manifest: &Manifest, plan: &SharedPlan, chunk: &ChunkHeader,
    ) -> Result<Option<Stored>, BrokerError> {
        let mut found = self.0.lock().await;
        let epoch = upload.lanes.epoch();
        if found.epoch != Some(epoch) {
            let acknowledged = plan.lock().unwrap_or_else(PoisonError::into_inner).last_sequence();
            found.chunks = unacknowledged(&upload.broker, manifest, acknowledged).await?;
            found.epoch = Some(epoch);
            let (transfer, stored) = (manifest.transfer, found.chunks.len());
            tracing::debug!(%transfer, stored, "looked which chunks were stored before the connection ended");
        }
        let found = found.chunks.get(&chunk.index).filter(|(crc32, _)| *crc32 == chunk.crc32);
        Ok(found.map(|(_, sequence)| Stored { sequence: *sequence, duplicate: true }))
    }
}

/// The chunks behind the last one that was acknowledged: the server acknowledges in the order in which it stores.
async fn unacknowledged(
    broker: &Broker, manifest: &Manifest, acknowledged: u64,
) -> Result<BTreeMap<u64, (u32, u64)>, BrokerError> {
    let mut chunks = BTreeMap::new();
    let scanned = broker.scan(manifest, StartAt::Sequence(acknowledged + 1), |Place { sequence, .. }, scanned| {
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
