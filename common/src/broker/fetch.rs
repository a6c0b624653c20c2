//! Chunks read by their places, through a consumer that goes forward.
//!
//! A message can be asked for by its sequence alone, but then the sequence stands in the request, and permissions cannot hold
//! anybody to a channel. A consumer's creation carries its subject.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    Broker, BrokerError, Copies, Delivery, Place, PullSettings, StartAt, inflow::message_size, pulled::Pulled,
};
use crate::{ChunkHeader, Manifest};

/// What the names of consumers that fetch chunks begin with.
const FETCH: &str = "fetch";
/// Messages asked for at once.
const AHEAD: usize = 4;
/// Messages that are read and passed over; beyond that, a consumer is made that begins where is to be read.
const MOST_PASSED: u32 = 8;

/// Reads chunks of one transfer by their places. Fastest in stream order: what lies close together comes through one consumer.
#[derive(Debug)]
pub struct Fetch<'a> {
    broker: &'a Broker,
    manifest: &'a Manifest,
    /// Where the copies are, in stream order: no more is asked for ahead than there are.
    sequences: BTreeSet<u64>,
    reading: Mutex<Option<Reading>>,
}

/// A consumer over the transfer's messages, and where it is.
#[derive(Debug)]
struct Reading {
    pulled: Pulled,
    /// Came, and was not asked for yet.
    ahead: Option<Delivery>,
    /// Everything before this sequence has passed.
    position: u64,
}

impl Broker {
    /// Begins to read these copies by their places.
    pub fn fetch<'a>(&'a self, manifest: &'a Manifest, copies: &Copies) -> Fetch<'a> {
        let sequences = copies.iter().map(|(_, place)| place.sequence).collect();
        Fetch { broker: self, manifest, sequences, reading: Mutex::default() }
    }
}

impl Fetch<'_> {
    /// Reads the chunk of this place, as it is stored; `None` if there is no chunk of this transfer any more.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn chunk_at(&self, place: Place) -> Result<Option<(ChunkHeader, Bytes)>, BrokerError> {
        let what = format!("fetching chunks of transfer {}", self.manifest.transfer);
        let message = self.broker.patiently(&what, || async {
            let mut reading = self.reading.lock().await;
            let result = self.read(&mut reading, place.sequence).await;
            match result {
                Err(error) => {
                    self.leave(&mut reading).await;
                    Err(match error {
                        BrokerError::ConsumerGone { stream, .. } => BrokerError::Interrupted { stream },
                        error => error,
                    })
                }
                message => message,
            }
        });
        Ok(message.await?.and_then(|message| {
            let header = ChunkHeader::from_headers(|name| message.header(name), self.manifest.chunk_size).ok()?;
            Some((header, message.payload()))
        }))
    }

    /// The bytes of the first copy of a chunk that is sound, in a file of this size.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn sound_chunk(
        &self, size: u64, index: u64, copies: &Copies,
    ) -> Result<Option<(ChunkHeader, Bytes)>, BrokerError> {
        let Self { manifest, .. } = self;
        let expected = (index, manifest.chunk_size.length(index, size));
        for place in copies.of(index) {
            let Some((chunk, payload)) = self.chunk_at(*place).await? else { continue };
            match chunk.encoding.decode(payload, chunk.length as usize) {
                Ok(raw) if (chunk.index, chunk.length) == expected && crc32fast::hash(&raw) == chunk.crc32 => {
                    return Ok(Some((chunk, raw)));
                }
                _ => {
                    let (transfer, sequence) = (manifest.transfer, place.sequence);
                    tracing::warn!(%transfer, index, sequence, "a stored chunk is damaged");
                }
            }
        }
        Ok(None)
    }

    /// Ends the reading: no consumer is left. One that is dropped is removed by the server in time.
    pub async fn close(self) {
        self.leave(&mut *self.reading.lock().await).await;
    }

    async fn leave(&self, reading: &mut Option<Reading>) {
        if let Some(Reading { pulled, .. }) = reading.take() {
            pulled.close().await;
        }
    }

    /// The message of this sequence, if it is on the transfer's subject.
    async fn read(&self, state: &mut Option<Reading>, sequence: u64) -> Result<Option<Delivery>, BrokerError> {
        let mut passed = 0;
        loop {
            let reading = match state {
                Some(reading) if reading.position <= sequence && passed <= MOST_PASSED => reading,
                _ => {
                    self.leave(state).await;
                    passed = 0;
                    state.insert(Reading::from(self.broker, self.manifest, sequence).await?)
                }
            };
            if reading.ahead.is_none() && reading.pulled.pending() > 0 {
                reading.pulled.want(self.sequences.range(reading.position..).take(AHEAD).count().max(1) as u64);
                reading.ahead = reading.pulled.next().await?;
            }
            match reading.ahead.take_if(|message| message.stream_sequence <= sequence) {
                // There is none, or only later ones.
                None => return Ok(None),
                Some(message) => {
                    reading.position = message.stream_sequence + 1;
                    if message.stream_sequence == sequence {
                        return Ok(Some(message));
                    }
                    passed += 1;
                }
            }
        }
    }
}

impl Reading {
    async fn from(broker: &Broker, manifest: &Manifest, sequence: u64) -> Result<Self, BrokerError> {
        let (stream, start) = (broker.stream().data(), StartAt::Sequence(sequence));
        let filters = vec![broker.subjects().data(&manifest.channel, manifest.transfer)];
        let usual = message_size(manifest.chunk_size);
        let pulled = broker.pulled(&stream, FETCH, filters, start, false, PullSettings::Single { usual }).await?;
        Ok(Self { pulled, ahead: None, position: sequence })
    }
}
