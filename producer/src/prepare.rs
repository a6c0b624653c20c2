//! From a source to chunks that are ready to publish: cut, checksummed, digested, compressed. On a thread of its own.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use natsfer_common::{
    ChunkHeader, Compression, Compressor, Digest, DigestAlgorithm, Encoding, LinkEstimate, Offer, SendPlan,
};
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    cutter::{Buffers, cut},
    lanes::{Lanes, Place},
};

/// Preparations that wait to be taken: the window bounds what chunks among them hold.
const AHEAD: usize = 4;

/// A plan that the preparing thread and the publishing task consult.
pub(crate) type SharedPlan = Arc<Mutex<SendPlan>>;

/// One chunk on its way.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) chunk: ChunkHeader,
    pub(crate) payload: Bytes,
    /// Held until the server has acknowledged it.
    pub(crate) place: Place,
}

/// What comes from the preparing thread.
#[derive(Debug)]
pub(crate) enum Preparation {
    /// A chunk to publish.
    Chunk(Prepared),
    /// A chunk of so many bytes that is stored already.
    Stored(u32),
    /// The end, and the digest of all.
    End(Digest),
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is not what is stored.
    Foreign,
}

/// How to prepare.
pub(crate) struct Preparing {
    pub(crate) chunk_size: usize,
    pub(crate) compression: Compression,
    pub(crate) digest: DigestAlgorithm,
    pub(crate) plan: SharedPlan,
    pub(crate) buffers: Buffers,
    pub(crate) lanes: Lanes,
    pub(crate) link: LinkEstimate,
}

impl Preparing {
    /// Starts the thread. It ends with the source, or when nobody takes its chunks any more.
    pub(crate) fn start(self, mut source: impl io::Read + Send + 'static) -> mpsc::Receiver<Preparation> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let end = self.run(&mut source, &sender, &runtime);
            // Whoever took the chunks may have gone.
            let _ = sender.blocking_send(end);
        });
        receiver
    }

    fn run(self, source: &mut impl io::Read, sender: &mpsc::Sender<Preparation>, runtime: &Handle) -> Preparation {
        let mut hasher = self.digest.hasher();
        let mut compressor = Compressor::new(self.compression, self.link);
        let mut offset = 0;
        for index in 0.. {
            let raw = match cut(source, self.chunk_size, &self.buffers) {
                Ok(Some(raw)) => raw.freeze(),
                Ok(None) => break,
                Err(error) => return Preparation::Unreadable(error),
            };
            hasher.update(&raw);
            // A chunk is at most 64 MiB.
            let (length, crc32) = (raw.len() as u32, crc32fast::hash(&raw));
            let offer = self.plan.lock().unwrap_or_else(PoisonError::into_inner).offer(length, crc32);
            let preparation = match offer {
                Err(error) => {
                    tracing::info!("what is stored is of another source: {error}");
                    return Preparation::Foreign;
                }
                Ok(Offer::Stored) => {
                    self.buffers.give_back(raw);
                    Preparation::Stored(length)
                }
                Ok(Offer::Publish) => {
                    // Not before it is read: a source may be quiet for long, and what is stored needs no share.
                    let Some(mut place) = self.place(sender, runtime) else { break };
                    compressor.waited(place.share.waited);
                    let (encoding, payload) = match compressor.compress(&raw) {
                        Some((encoding, payload)) => {
                            self.buffers.give_back(raw);
                            (encoding, payload.into())
                        }
                        None => (Encoding::Identity, raw),
                    };
                    place.share.shrink_to(payload.len());
                    let chunk = ChunkHeader { index, offset, length, crc32, encoding };
                    Preparation::Chunk(Prepared { chunk, payload, place })
                }
            };
            offset += u64::from(length);
            if sender.blocking_send(preparation).is_err() {
                break;
            }
        }
        Preparation::End(hasher.finish())
    }

    /// Waits for room on the line; `None` when nobody takes chunks any more.
    fn place(&self, sender: &mpsc::Sender<Preparation>, runtime: &Handle) -> Option<Place> {
        runtime.block_on(async {
            tokio::select! {
                place = self.lanes.reserve(self.chunk_size) => Some(place),
                () = sender.closed() => None,
            }
        })
    }
}

/// The digest of everything a source gives. Blocking.
pub(crate) fn digest(source: &mut impl io::Read, algorithm: DigestAlgorithm) -> io::Result<(u64, Digest)> {
    let (mut hasher, buffers, mut size) = (algorithm.hasher(), Buffers::default(), 0);
    while let Some(chunk) = cut(source, 512 * 1024, &buffers)? {
        hasher.update(&chunk);
        size += chunk.len() as u64;
        buffers.give_back(chunk.freeze());
    }
    Ok((size, hasher.finish()))
}
