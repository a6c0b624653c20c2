//! How far a transfer is on its way in.

use futures_util::{Stream, StreamExt as _, stream};
use natsfer_common::{ChunkSet, Manifest};
use tokio::sync::watch;

/// How far a transfer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the file that are here and verified, those that an earlier run left included.
    pub bytes_received: u64,
    /// Bytes among them that an earlier run left here: they say nothing of how fast this one is.
    pub bytes_found: u64,
    /// The file's size in bytes, once it is known.
    pub size: Option<u64>,
}

/// Whoever notes it.
#[derive(Debug)]
pub(crate) struct Meter(watch::Sender<Progress>);

impl Meter {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        Self(watch::Sender::new(Progress { size: manifest.size, ..Progress::default() }))
    }

    /// As far as that, now and at every change until it ends. Changes that come faster than they are taken are passed over.
    pub(crate) fn watch(&self) -> impl Stream<Item = Progress> + Send + Unpin + use<> {
        let watched = self.0.subscribe();
        let now = stream::iter([*watched.borrow()]);
        let changes = stream::unfold(watched, async |mut progress| {
            progress.changed().await.ok()?;
            let now = *progress.borrow_and_update();
            Some((now, progress))
        });
        now.chain(changes).boxed()
    }

    /// These chunks are here already.
    pub(crate) fn begin(&self, manifest: &Manifest, held: &ChunkSet) {
        let size = manifest.size;
        // Exact but for a last chunk that is held and of which the size is not known.
        let held = held.len().saturating_mul(manifest.chunk_size.bytes().into());
        self.0.send_modify(|progress| {
            let bytes_found = held.min(size.unwrap_or(u64::MAX));
            *progress = Progress { bytes_received: bytes_found, bytes_found, size };
        });
    }

    /// So many bytes more are here.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.send_modify(|progress| progress.bytes_received += bytes);
    }

    /// The size became known.
    pub(crate) fn close(&self, size: u64) {
        self.0.send_modify(|progress| progress.size = Some(size));
    }
}
