//! A receiver's place in one transfer's chunks.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use bytes::Bytes;
use natsfer_common::{
    ChunkHeader, ChunkSet, ClosingRecord, Manifest, ReceiverName,
    broker::{
        Acknowledgement, Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, Pull, PullSettings, Scanned,
        StartAt,
    },
    header,
};

use crate::{ReceiveError, staging::Owner};

/// Rest before a consumer that went away is made anew.
const REST: Duration = Duration::from_millis(500);

/// Reads one transfer's chunks and closing record, through a consumer that it makes, makes anew when it is lost, and deletes
/// in the end.
#[derive(Debug)]
pub(crate) struct Cursor {
    broker: Broker,
    manifest: Manifest,
    spec: ConsumerSpec,
    pull: Pull,
    /// The last chunk or record that came: where it is in the stream, and its subject's place in it is checked before it is
    /// relied on.
    last: Option<(u64, Option<u64>)>,
}

/// One message of the transfer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A chunk as it came, its payload not checked yet.
    Chunk { chunk: ChunkHeader, payload: Bytes, ack_subject: String },
    /// The end.
    Closing(ClosingRecord),
}

impl Cursor {
    /// Opens the cursor behind the chunks that are held. One that stands from an earlier run goes on where it was, unless
    /// the disk holds nothing of what it says was received: the disk wins.
    pub(crate) async fn open(
        broker: &Broker, owner: &Owner, manifest: &Manifest, held: &ChunkSet, window: u64,
    ) -> Result<Self, ReceiveError> {
        let (name, kind) = match owner {
            Owner::Receiver(receiver) => (durable_name(receiver, manifest), ConsumerKind::Cursor),
            Owner::Replay => {
                (format!("replay-{}", natsfer_common::TransferId::random().map_err(no_randomness)?), ConsumerKind::Look)
            }
        };
        let stream = broker.stream().data();
        let filters = vec![broker.subjects().data(&manifest.channel, manifest.transfer)];
        let mut spec = ConsumerSpec { stream, name, filters, start: StartAt::First, headers_only: false, kind };
        let standing = match kind {
            ConsumerKind::Cursor => broker.consumer(&spec.stream, &spec.name).await?,
            _ => None,
        };
        match standing {
            // What was delivered and not acknowledged would come again only after the server's wait for it.
            Some(state) if state.unacknowledged == 0 && (state.delivered_to == 0 || !held.is_empty()) => {}
            standing => {
                if standing.is_some() {
                    broker.delete_consumer(&spec.stream, &spec.name).await?;
                }
                spec.start = start_behind(broker, manifest, held).await?;
                broker.create_consumer(&spec).await?;
            }
        }
        let settings = PullSettings::Flow { window };
        let pull = Pull::new(broker, &spec.stream, &spec.name, settings).await?;
        Ok(Self { broker: broker.clone(), manifest: manifest.clone(), spec, pull, last: None })
    }

    /// Deletes the cursor that an earlier run may have left.
    pub(crate) async fn forget(broker: &Broker, owner: &Owner, manifest: &Manifest) {
        if let Owner::Receiver(receiver) = owner {
            let name = durable_name(receiver, manifest);
            // None there is the usual case; one that cannot be deleted is removed by the server in time.
            let _ = broker.delete_consumer(&broker.stream().data(), &name).await;
        }
    }

    /// The next message of the transfer. Messages that are none of the protocol's are passed over.
    ///
    /// Cancel safe, but for the time in which a lost consumer is made anew: then that begins again.
    pub(crate) async fn next(&mut self) -> Result<Piece, ReceiveError> {
        loop {
            let delivery = match self.pull.next().await {
                Ok(delivery) => delivery,
                Err(BrokerError::ConsumerGone { .. }) => {
                    self.renew().await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let transfer = self.manifest.transfer;
            match read(&delivery, &self.manifest) {
                Ok(piece) => {
                    let index = if let Piece::Chunk { chunk, .. } = &piece { Some(chunk.index) } else { None };
                    self.last = Some((delivery.stream_sequence, index));
                    return Ok(piece);
                }
                Err(why) => {
                    tracing::warn!(%transfer, sequence = delivery.stream_sequence, "passing over a message: {why}")
                }
            }
        }
    }

    /// Tells the server that all up to this message is on disk.
    pub(crate) async fn acknowledge(&self, ack_subject: &str) {
        self.broker.acknowledge(ack_subject, Acknowledgement::Done).await;
    }

    /// Makes a lost consumer anew: behind the last message if that is still where it was, otherwise from the beginning. The
    /// stream may have been recreated, and its sequences be others.
    async fn renew(&mut self) -> Result<(), ReceiveError> {
        tracing::info!(transfer = %self.manifest.transfer, "the cursor is gone; making it anew");
        tokio::time::sleep(REST).await;
        self.spec.start = StartAt::First;
        if let Some((sequence, index)) = self.last
            && let Some(message) = self.broker.message_at(&self.spec.stream, sequence).await?
            && Some(&message.subject) == self.spec.filters.first()
            && message.header(header::CHUNK) == index.map(|index| index.to_string()).as_deref()
        {
            self.spec.start = StartAt::Sequence(sequence + 1);
        }
        // It may stand after all: the server was only starting.
        self.broker.delete_consumer(&self.spec.stream, &self.spec.name).await?;
        self.broker.create_consumer(&self.spec).await?;
        Ok(())
    }

    /// Ends the transfer's reading: no consumer is left.
    pub(crate) async fn close(self) {
        let Self { broker, spec, pull, .. } = self;
        drop(pull);
        if let Err(error) = broker.delete_consumer(&spec.stream, &spec.name).await {
            tracing::warn!(consumer = spec.name, %error, "a cursor could not be deleted; the server removes it in time");
        }
    }

    /// Ends this run's reading; the consumer of a receiver stays for the next run.
    pub(crate) async fn pause(self) {
        if self.spec.kind == ConsumerKind::Look {
            self.close().await;
        }
    }

    /// Where in the stream the copies of these chunks are.
    pub(crate) async fn locate(&self, wanted: &ChunkSet) -> Result<BTreeMap<u64, Vec<u64>>, ReceiveError> {
        locate(&self.broker, &self.manifest, wanted).await
    }

    /// Reads one chunk by its place in the stream; `None` if it is no longer there.
    pub(crate) async fn fetch(&self, sequence: u64) -> Result<Option<(ChunkHeader, Bytes)>, ReceiveError> {
        fetch(&self.broker, &self.manifest, sequence).await
    }
}

/// What a receiver's cursor over one transfer is called: see PROTOCOL.md.
fn durable_name(receiver: &ReceiverName, manifest: &Manifest) -> String {
    format!("{receiver}-{}", manifest.transfer)
}

fn no_randomness(source: std::io::Error) -> ReceiveError {
    ReceiveError::Disk { doing: "cannot get randomness from", path: "the operating system".into(), source }
}

/// Where in the stream the copies of these chunks are, in stream order. Reads headers only.
pub(crate) async fn locate(
    broker: &Broker, manifest: &Manifest, wanted: &ChunkSet,
) -> Result<BTreeMap<u64, Vec<u64>>, ReceiveError> {
    let mut found = BTreeMap::<u64, Vec<u64>>::new();
    broker
        .scan(manifest, |sequence, scanned| {
            if let Scanned::Chunk(chunk, _) = scanned
                && wanted.contains(chunk.index)
            {
                found.entry(chunk.index).or_default().push(sequence);
            }
            ControlFlow::Continue(())
        })
        .await?;
    Ok(found)
}

/// Reads one chunk by its place in the stream; `None` if there is no chunk of this transfer.
pub(crate) async fn fetch(
    broker: &Broker, manifest: &Manifest, sequence: u64,
) -> Result<Option<(ChunkHeader, Bytes)>, ReceiveError> {
    let subject = broker.subjects().data(&manifest.channel, manifest.transfer);
    let message = broker.message_at(&broker.stream().data(), sequence).await?;
    let Some(message) = message.filter(|message| message.subject == subject) else { return Ok(None) };
    let chunk = ChunkHeader::from_headers(|name| message.header(name), manifest.chunk_size).ok();
    Ok(chunk.map(|chunk| (chunk, message.payload)))
}

/// Where to begin when these chunks are held: at the first one that is not, found without moving payloads.
async fn start_behind(broker: &Broker, manifest: &Manifest, held: &ChunkSet) -> Result<StartAt, ReceiveError> {
    if held.first_missing() == 0 {
        return Ok(StartAt::First);
    }
    let mut start = StartAt::First;
    broker
        .scan(manifest, |sequence, scanned| match scanned {
            Scanned::Chunk(chunk, _) if held.contains(chunk.index) => ControlFlow::Continue(()),
            _ => {
                start = StartAt::Sequence(sequence);
                ControlFlow::Break(())
            }
        })
        .await?;
    Ok(start)
}

fn read(delivery: &Delivery, manifest: &Manifest) -> Result<Piece, String> {
    if let Some(text) = delivery.header(header::CLOSING) {
        let record = ClosingRecord::from_header(text, manifest.transfer).map_err(|error| error.to_string())?;
        return Ok(Piece::Closing(record));
    }
    let chunk = ChunkHeader::from_headers(|name| delivery.header(name), manifest.chunk_size);
    let chunk = chunk.map_err(|error| error.to_string())?;
    Ok(Piece::Chunk { chunk, payload: delivery.payload(), ack_subject: delivery.ack_subject() })
}
