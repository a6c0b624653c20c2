//! What comes over one connection: how much is asked for ahead by all that read, and how many transfers flow at once.
//!
//! The decisions are [`ReadAhead`]'s; here are the clock, and those who wait for a place.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::Broker;
use crate::{ChunkSize, MESSAGE_OVERHEAD, Manifest, TransferId, human_bytes, read_ahead::ReadAhead};

/// Bytes that may be asked for, unless told otherwise: what 1 Gbit/s holds over 100 ms, and some messages more.
pub(super) const WINDOW: u64 = 16 << 20;
/// Besides its headers the server counts a message's subjects.
const SUBJECTS: u64 = 4 * 1024;
/// What headers and subjects usually have.
const USUAL_HEADERS: u64 = 512;

/// What comes over one connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Inflow(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    ahead: Mutex<ReadAhead>,
    /// Something has come, or a transfer flows no more.
    moved: Notify,
    /// Held by the one who waits for a place: places are given in turn.
    turn: tokio::sync::Mutex<()>,
}

/// A place among the transfers of a connection that flow; free again with its last clone. A transfer that waits for what is not stored yet
/// leaves it to others meanwhile.
#[derive(Debug, Clone)]
pub struct FlowPlace(Arc<Place>);

#[derive(Debug)]
struct Place {
    inflow: Inflow,
    transfer: TransferId,
    /// Bytes of the largest message.
    message: u64,
    flows: AtomicBool,
}

impl Broker {
    /// Sets how many bytes may be asked for ahead on this connection, by all that share it; 16 MiB at first. Each reader may have one
    /// message more.
    ///
    /// Where it is read over several connections, they share it.
    pub fn set_read_window(&self, bytes: u64) {
        let each = (bytes / (1 + self.further().len() as u64)).max(1);
        for broker in self.further().iter().chain([self]) {
            broker.inflow.with(|ahead, _| ahead.set_most(each));
        }
    }

    /// A reader looks which connection there is.
    pub(super) fn note_connection(&self) {
        let (connection, bytes) = (self.connects(), self.line.bytes_in());
        if let Some(most) = self.inflow.with(|ahead, now| ahead.connected(now, connection, bytes)) {
            tracing::warn!(
                "the server ends the connection as soon as something is asked for; asking for {} at a time from now on. Its `max_pending` \
                 may be small, or the line is down",
                human_bytes(most),
            );
        }
    }

    /// Waits until this transfer may flow, in turn with others: as many do as the line carries a message of each within two seconds, one
    /// at least.
    ///
    /// # Cancel safety
    /// Cancel safe, but the turn is lost.
    pub async fn flow_place(&self, manifest: &Manifest) -> FlowPlace {
        let message = message_size(manifest.chunk_size);
        let Shared { ahead, moved, turn, .. } = &*self.inflow.0;
        let _turn = turn.lock().await;
        loop {
            let mut moves = std::pin::pin!(moved.notified());
            moves.as_mut().enable();
            {
                let mut ahead = ahead.lock().unwrap_or_else(PoisonError::into_inner);
                if ahead.admits(message) {
                    ahead.flows(message);
                    let (inflow, flows) = (self.inflow.clone(), AtomicBool::new(true));
                    return FlowPlace(Arc::new(Place { inflow, transfer: manifest.transfer, message, flows }));
                }
            }
            moves.await;
        }
    }
}

/// Bytes that the server counts for a message with a chunk, at most.
pub(super) fn message_size(chunks: ChunkSize) -> u64 {
    u64::from(chunks.bytes()) + u64::from(MESSAGE_OVERHEAD) + SUBJECTS
}

impl Inflow {
    pub(super) fn new() -> Self {
        let ahead = Mutex::new(ReadAhead::new(WINDOW));
        let (began, moved, turn) = (Instant::now(), Notify::new(), tokio::sync::Mutex::new(()));
        Self(Arc::new(Shared { began, ahead, moved, turn }))
    }

    /// Decides something, now.
    pub(super) fn with<T>(&self, decide: impl FnOnce(&mut ReadAhead, Duration) -> T) -> T {
        decide(&mut self.0.ahead.lock().unwrap_or_else(PoisonError::into_inner), self.0.began.elapsed())
    }

    /// Something has come: there may be room for others.
    pub(super) fn moved(&self) {
        self.0.moved.notify_waiters();
    }
}

impl FlowPlace {
    /// Which transfer has it.
    pub(super) fn transfer(&self) -> TransferId {
        self.0.transfer
    }

    /// Bytes of the largest message of the transfer.
    pub(super) fn message(&self) -> u64 {
        self.0.message
    }

    /// Bytes that most of its messages have, where they are not compressed.
    pub(super) fn usual(&self) -> u64 {
        self.0.message - u64::from(MESSAGE_OVERHEAD) - SUBJECTS + USUAL_HEADERS
    }

    /// Whether the transfer flows, or waits: for what is not stored yet, or for whoever takes what came.
    pub fn set_flowing(&self, flows: bool) {
        self.0.set(flows);
    }
}

impl Place {
    fn set(&self, flows: bool) {
        if self.flows.swap(flows, Ordering::Relaxed) == flows {
            return;
        }
        self.inflow.with(|ahead, _| if flows { ahead.flows(self.message) } else { ahead.rests(self.message) });
        self.inflow.moved();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set(false);
    }
}
