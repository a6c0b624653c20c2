//! A receiver's place in one transfer's chunks.

use std::{ops::ControlFlow, time::Duration};

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
    /// The last chunk or record that came: where it is in the stream, and its index. Looked at before it is relied on.
    last: Option<(u64, Option<u64>)>,
    /// Up to here in the stream, an earlier run was given everything.
    earlier: u64,
    state: State,
}

/// Whether the consumer is there.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Standing,
    /// It is to be made anew.
    Lost,
}

/// One message of the transfer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A chunk as it came, its payload not checked yet; `again` if an earlier run was given it.
    Chunk { chunk: ChunkHeader, payload: Bytes, ack_subject: String, again: bool },
    /// The end.
    Closing { record: ClosingRecord, ack_subject: String },
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
        let earlier = standing.as_ref().map_or(0, |state| state.delivered_to);
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
        let (broker, manifest, state) = (broker.clone(), manifest.clone(), State::Standing);
        Ok(Self { broker, manifest, spec, pull, last: None, earlier, state })
    }

    /// Whether a receiver's cursor stands, and has delivered and been acknowledged all that is stored.
    pub(crate) async fn has_nothing_new(
        broker: &Broker, receiver: &ReceiverName, manifest: &Manifest,
    ) -> Result<bool, ReceiveError> {
        let state = broker.consumer(&broker.stream().data(), &durable_name(receiver, manifest)).await?;
        Ok(state.is_some_and(|state| state.pending == 0 && state.unacknowledged == 0))
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
    /// Cancel safe: a lost consumer is then made anew with the next call.
    pub(crate) async fn next(&mut self) -> Result<Piece, ReceiveError> {
        loop {
            if self.state == State::Lost {
                self.renew().await?;
                self.state = State::Standing;
            }
            let delivery = match self.pull.next().await {
                Ok(delivery) => delivery,
                Err(BrokerError::ConsumerGone { .. }) => {
                    self.state = State::Lost;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let transfer = self.manifest.transfer;
            match read(&delivery, &self.manifest, self.earlier) {
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
}

/// What a receiver's cursor over one transfer is called: see PROTOCOL.md.
fn durable_name(receiver: &ReceiverName, manifest: &Manifest) -> String {
    format!("{receiver}-{}", manifest.transfer)
}

fn no_randomness(source: std::io::Error) -> ReceiveError {
    ReceiveError::Disk { doing: "cannot get randomness from", path: "the operating system".into(), source }
}

/// Where to begin when these chunks are held: at the first one that is not, found without moving payloads.
async fn start_behind(broker: &Broker, manifest: &Manifest, held: &ChunkSet) -> Result<StartAt, ReceiveError> {
    if held.first_missing() == 0 {
        return Ok(StartAt::First);
    }
    let what = format!("looking for the first chunk of transfer {} that is not here", manifest.transfer);
    let found = broker.patiently(&what, || async {
        let mut start = StartAt::First;
        broker
            .scan(manifest, |place, scanned| match scanned {
                Scanned::Chunk(chunk, _) if held.contains(chunk.index) => ControlFlow::Continue(()),
                _ => {
                    start = StartAt::Sequence(place.sequence);
                    ControlFlow::Break(())
                }
            })
            .await?;
        Ok(start)
    });
    Ok(found.await?)
}

fn read(delivery: &Delivery, manifest: &Manifest, earlier: u64) -> Result<Piece, String> {
    let ack_subject = delivery.ack_subject();
    if let Some(text) = delivery.header(header::CLOSING) {
        let record = ClosingRecord::from_header(text, manifest.transfer).map_err(|error| error.to_string())?;
        return Ok(Piece::Closing { record, ack_subject });
    }
    let chunk = ChunkHeader::from_headers(|name| delivery.header(name), manifest.chunk_size);
    let chunk = chunk.map_err(|error| error.to_string())?;
    let again = delivery.stream_sequence <= earlier;
    Ok(Piece::Chunk { chunk, payload: delivery.payload(), ack_subject, again })
}
