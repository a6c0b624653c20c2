//! A simulated pair of streams: what the server stores, and what it forgets.

use std::rc::Rc;

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{ChunkHeader, Closing, ClosingRecord, Kind, Manifest, RepairRequest, header};

use crate::rng::Rng;

/// How long the server remembers a message id, in ticks.
const DUPLICATE_WINDOW: u64 = 40;

/// The headers of a message.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// One stored message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    /// In ticks.
    pub(crate) stored_at: u64,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn chunk(&self, manifest: &Manifest) -> Option<ChunkHeader> {
        ChunkHeader::from_headers(|name| self.header(name), manifest.chunk_size).ok()
    }

    pub(crate) fn closing(&self, manifest: &Manifest) -> Option<ClosingRecord> {
        ClosingRecord::from_header(self.header(header::CLOSING)?, manifest.transfer).ok()
    }

    pub(crate) fn request(&self, manifest: &Manifest) -> Option<RepairRequest> {
        RepairRequest::from_header(self.header(header::REPAIR)?, manifest.transfer).ok()
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_second(self.stored_at as i64).unwrap()
    }

    /// Whether it is this chunk, and its payload what its headers say.
    pub(crate) fn is_sound(&self, manifest: &Manifest, index: u64) -> bool {
        self.chunk(manifest).is_some_and(|chunk| {
            chunk.index == index
                && chunk
                    .encoding
                    .decode(self.payload.clone(), chunk.length as usize)
                    .is_ok_and(|raw| crc32fast::hash(&raw) == chunk.crc32)
        })
    }
}

/// A message to be published.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub(crate) kind: Kind,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    /// `Nats-Msg-Id`: the run, and what of it.
    pub(crate) id: (u32, u64),
    /// `Nats-Expected-Last-Subject-Sequence`.
    pub(crate) expected: Option<u64>,
}

/// The server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Stored(u64),
    /// The same id was stored at this place, lately.
    Duplicate(u64),
    /// The subject's last message is another one.
    Refused,
}

/// One stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    messages: Vec<Rc<Message>>,
    last: u64,
    ids: Vec<((u32, u64), u64, u64)>,
}

impl Stream {
    pub(crate) fn publish(&mut self, publication: &Publication, now: u64) -> Answer {
        let Publication { kind, headers, payload, id, expected } = publication;
        self.ids.retain(|(_, _, at)| at + DUPLICATE_WINDOW > now);
        if let Some((_, sequence, _)) = self.ids.iter().find(|(known, _, _)| known == id) {
            return Answer::Duplicate(*sequence);
        }
        if expected.is_some_and(|expected| expected != self.last_on(*kind)) {
            return Answer::Refused;
        }
        let sequence = self.store(*kind, headers.clone(), payload.clone(), now);
        self.ids.push((*id, sequence, now));
        Answer::Stored(sequence)
    }

    fn store(&mut self, kind: Kind, headers: Headers, payload: Bytes, stored_at: u64) -> u64 {
        self.last += 1;
        self.messages.push(Rc::new(Message { kind, sequence: self.last, stored_at, headers, payload }));
        self.last
    }

    /// The messages of one kind, in stream order.
    pub(crate) fn on(&self, kind: Kind) -> impl Iterator<Item = &Rc<Message>> {
        self.messages.iter().filter(move |message| message.kind == kind)
    }

    /// The sequence of the last message of a kind; 0 if there is none.
    pub(crate) fn last_on(&self, kind: Kind) -> u64 {
        self.on(kind).last().map_or(0, |message| message.sequence)
    }

    pub(crate) fn at(&self, sequence: u64) -> Option<&Rc<Message>> {
        self.messages.iter().find(|message| message.sequence == sequence)
    }

    /// Bit rot, or somebody's deletion: a message is gone. `None` if there is none.
    pub(crate) fn lose_one(&mut self, rng: &mut Rng) -> Option<Rc<Message>> {
        let at = (!self.messages.is_empty()).then(|| rng.below(self.messages.len()))?;
        Some(self.messages.remove(at))
    }

    /// A payload comes to differ from what its headers say.
    pub(crate) fn alter_one(&mut self, rng: &mut Rng) -> Option<u64> {
        let at = (!self.messages.is_empty()).then(|| rng.below(self.messages.len()))?;
        let mut message = Message::clone(&self.messages[at]);
        let mut payload = message.payload.to_vec();
        let byte = (!payload.is_empty()).then(|| rng.below(payload.len()))?;
        payload[byte] ^= 1 << rng.below(8);
        message.payload = payload.into();
        let sequence = message.sequence;
        self.messages[at] = Rc::new(message);
        Some(sequence)
    }

    /// Somebody's retry, beyond the duplicate window.
    pub(crate) fn double_one(&mut self, rng: &mut Rng, now: u64) -> Option<u64> {
        let at = (!self.messages.is_empty()).then(|| rng.below(self.messages.len()))?;
        let Message { kind, headers, payload, .. } = Message::clone(&self.messages[at]);
        Some(self.store(kind, headers, payload, now))
    }

    /// The sequences go on, and the message ids are remembered.
    pub(crate) fn purge(&mut self) {
        self.messages.clear();
    }
}

/// A receiver's consumer over the data subject, acknowledging all up to a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    pub(crate) delivered: u64,
    pub(crate) acknowledged: u64,
}

/// Both streams, and the receivers' cursors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) control: Stream,
    pub(crate) data: Stream,
    pub(crate) cursors: [Option<Cursor>; 2],
    /// How far the control stream's clock is ahead of the data stream's: their leaders may be two servers.
    pub(crate) skew: i64,
}

impl Server {
    pub(crate) fn publish(&mut self, publication: &Publication, now: u64) -> Answer {
        if publication.kind == Kind::Data {
            self.data.publish(publication, now)
        } else {
            self.control.publish(publication, now.saturating_add_signed(self.skew))
        }
    }

    /// The closing record on the close subject.
    pub(crate) fn closing_record(&self, manifest: &Manifest) -> Option<ClosingRecord> {
        self.control.on(Kind::Close).last().and_then(|message| message.closing(manifest))
    }

    /// How the transfer ended, by the first record on the data subject, else by that on the close subject.
    pub(crate) fn closing(&self, manifest: &Manifest) -> Option<Closing> {
        let mut records = self.data.on(Kind::Data).filter_map(|message| message.closing(manifest));
        records.next().or_else(|| self.closing_record(manifest)).map(|record| record.closing)
    }

    /// The stored copies of a chunk.
    pub(crate) fn copies(&self, manifest: &Manifest, index: u64) -> impl Iterator<Item = &Rc<Message>> {
        self.data
            .on(Kind::Data)
            .filter(move |message| message.chunk(manifest).is_some_and(|chunk| chunk.index == index))
    }

    /// When the newest copy of a chunk was stored.
    pub(crate) fn newest_copy(&self, manifest: &Manifest, index: u64) -> Option<u64> {
        self.copies(manifest, index).map(|message| message.stored_at).max()
    }

    /// The next messages of a cursor, which are then under way.
    pub(crate) fn pull(&mut self, receiver: usize, most: usize) -> Vec<Rc<Message>> {
        let Some(cursor) = &mut self.cursors[receiver] else { return Vec::new() };
        let behind = self.data.messages.iter().filter(|message| message.sequence > cursor.delivered);
        let messages: Vec<_> = behind.take(most).cloned().collect();
        if let Some(last) = messages.last() {
            cursor.delivered = last.sequence;
        }
        messages
    }
}
