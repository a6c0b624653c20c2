//! A receiver's place in one transfer's chunks.

use std::{ops::ControlFlow, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use natsfer_common::{
    ChunkHeader, ChunkSet, ClosingRecord, Manifest, ReceiverName, RecordError, TransferId,
    broker::{
        AckPlace, Broker, ConsumerKind, ConsumerSpec, ConsumerState, Delivery, Follow, LeftConsumer, Outstanding,
        Pacer, Scanned, StartAt,
    },
    header,
    metrics::{READ_BYTES, READ_CHUNKS},
};
use tokio::time::Instant;

use crate::{ReceiveError, flow::Flow, read_marks::Mark, staging::Owner};

/// The server begins to deliver in less what it says that it holds, once it is asked for. How long that takes to come is the line's, and
/// is not counted.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(2);

/// How long a reading may take to end that nobody waits for, or whose hand others wait for, where the server does not answer.
const HURRY: Duration = Duration::from_secs(10);

/// Reads one transfer's chunks and closing record, through a consumer that it makes, and deletes in the end.
#[derive(Debug)]
pub(crate) struct Cursor {
    manifest: Manifest,
    kind: ConsumerKind,
    follow: Follow,
    pacer: Pacer,
    /// Up to here in the stream, an earlier run was given everything.
    earlier: u64,
    /// The end, where it came before chunks that are still on their way.
    closing: Option<(ClosingRecord, AckPlace)>,
    /// What was outstanding at the last silence.
    silent_with: Option<Outstanding>,
    /// Whether it began with the first message that is stored.
    from_first: bool,
    /// When the transfer was opened.
    opened_at: Timestamp,
    /// The server's clock when the cursor was opened.
    server_time: Option<(Timestamp, Instant)>,
}

/// What is here of a transfer before it is read on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    /// Its chunks.
    pub(crate) chunks: &'a ChunkSet,
    /// Where it is read on, if that is known; good only while there are chunks.
    pub(crate) behind: Option<StartAt>,
}

/// The consumer of a transfer that has been read. Dropped, it is left to whoever takes the transfer next.
#[derive(Debug)]
#[must_use]
pub(crate) struct LeftCursor {
    transfer: TransferId,
    consumer: Option<LeftConsumer>,
}

/// One message of the transfer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A chunk as it came, its payload not checked yet; `again` if an earlier run was given it.
    Chunk { chunk: ChunkHeader, payload: Bytes, again: bool },
    /// The end.
    Closing(ClosingRecord),
}

impl Cursor {
    /// Opens the cursor behind the chunks that are held. One that stands from an earlier run goes on where it was, unless
    /// the disk holds nothing of what it says was received: the disk wins.
    pub(crate) async fn open(
        broker: &Broker, owner: &Owner, manifest: &Manifest, opened_at: Timestamp, held: Held<'_>, flow: &Flow,
    ) -> Result<Self, ReceiveError> {
        let (name, kind) = match owner {
            Owner::Receiver(receiver) => (durable_name(receiver, manifest), ConsumerKind::Cursor),
            Owner::Replay => ("replay".to_owned(), ConsumerKind::Look),
        };
        let stream = broker.stream().data();
        let filters = vec![broker.subjects().data(&manifest.channel, manifest.transfer)];
        let start = StartAt::First;
        let mut spec = ConsumerSpec { stream, name, filters, start, headers_only: false, kind: kind.clone() };
        let (state, earlier) = create_or_take_over(broker, &mut spec, manifest, held).await?;
        let from_first = earlier == 0 && spec.start == StartAt::First;
        let follow = Follow::standing(broker, spec, &state, flow.place.clone()).await?;
        let pacer = flow.pacer.clone();
        let server_time = state.at.map(|at| (at, Instant::now()));
        Ok(Self {
            manifest: manifest.clone(),
            kind,
            follow,
            pacer,
            earlier,
            closing: None,
            silent_with: None,
            from_first,
            opened_at,
            server_time,
        })
    }

    /// How far it has read, once all that is stored has come; `None` where more is to come, or the server does not say.
    pub(crate) async fn mark(&mut self, broker: &Broker) -> Option<Mark> {
        let (epoch, broker) = (broker.epoch(), broker.with_patience(HURRY));
        // Before it is asked what is outstanding: what is stored in between counts as new.
        let messages = broker.stored_messages(&self.manifest).await.ok()?;
        let all_read = self.follow.outstanding().await.is_ok_and(|outstanding| outstanding.is_empty());
        all_read.then(|| Mark { messages, behind: Some(self.follow.position()), epoch })
    }

    /// Whether all that is stored comes through it, and nothing lies before its beginning.
    pub(crate) fn reads_all(&self) -> bool {
        self.from_first
    }

    /// Deletes the cursor that an earlier run may have left.
    pub(crate) async fn forget(broker: &Broker, owner: &Owner, manifest: &Manifest) {
        if let Owner::Receiver(receiver) = owner {
            let name = durable_name(receiver, manifest);
            // None there is the usual case; one that cannot be deleted is removed by the server in time.
            let _ = broker.delete_consumer(&broker.stream().data(), &name).await;
        }
    }

    /// The next message of the transfer, and where it is acknowledged. Messages that are none of the protocol's are passed over.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<(Piece, AckPlace), ReceiveError> {
        loop {
            if let Some((record, place)) = self.closing.take_if(|_| !self.follow.has_gaps()) {
                return Ok((Piece::Closing(record), place));
            }
            self.pacer.free().await;
            let delivery = self.follow.next().await?;
            let bytes = delivery.payload().len();
            self.pacer.passed(bytes);
            metrics::counter!(READ_CHUNKS).increment(1);
            metrics::counter!(READ_BYTES).increment(bytes as u64);
            match read(&delivery, &self.manifest, self.earlier) {
                Ok(piece) => {
                    self.silent_with = None;
                    let place = self.follow.place(&delivery);
                    match piece {
                        Piece::Closing(record) if self.follow.has_gaps() => self.closing = Some((record, place)),
                        piece => return Ok((piece, place)),
                    }
                }
                Err(Unread::Newer(source)) => {
                    return Err(ReceiveError::Record { transfer: self.manifest.transfer, source });
                }
                Err(Unread::Nothing(why)) => {
                    let (transfer, sequence) = (self.manifest.transfer, delivery.stream_sequence);
                    tracing::warn!(%transfer, sequence, "passing over a message: {why}")
                }
            }
        }
    }

    /// Waits as long as the next message may take, so long in all since the sender stored the last one, by the server's clock: for
    /// what was abandoned long ago nobody waits again. What is held up here, for a rate's sake, is no silence; nor is what the server
    /// has said that it holds, with the last message or to [`Cursor::will_go_on`].
    pub(crate) fn silence(&self, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (patience, reconnection) = match self.silent_with {
            Some(_) => (DELIVERY_PATIENCE, None),
            // What was on its way is lost with the connection.
            None if self.follow.has_more() => (limit, Some(self.follow.reconnection())),
            None => (self.patience(limit), None),
        };
        let until = self.pacer.free_at() + patience;
        async move {
            let Some(reconnection) = reconnection else { return tokio::time::sleep_until(until).await };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = reconnection => tokio::time::sleep(DELIVERY_PATIENCE).await,
            }
        }
    }

    fn patience(&self, limit: Duration) -> Duration {
        let Some((then, at)) = self.server_time else { return limit };
        let last = self.follow.last_stored_at().map_or(self.opened_at, |stored_at| stored_at.max(self.opened_at));
        // What was stored since the cursor was opened is younger than that.
        let silent = then.duration_since(last) + SignedDuration::try_from(at.elapsed()).unwrap_or_default();
        limit.saturating_sub(Duration::try_from(silent).unwrap_or_default())
    }

    /// Whether a silence was the server's or the line's, and not the sender's: more is stored than has come, and will come by itself.
    /// Asked again, with nothing delivered in between, it is the sender's. A consumer that was lost is made anew first.
    ///
    /// However slow the line is, what the server has delivered is here before its answer, and is found by [`Cursor::next`].
    pub(crate) async fn will_go_on(&mut self) -> Result<bool, ReceiveError> {
        let outstanding = self.follow.outstanding().await?;
        let before = self.silent_with.replace(outstanding);
        Ok(!outstanding.is_empty() && before != Some(outstanding))
    }

    /// Nobody waits for what is read any more, or others wait for the hand: a server that is away is not waited for either, for long.
    pub(crate) fn hurry(&mut self) {
        self.follow.hurry(HURRY);
    }

    /// Whether all that is stored was asked for, but for the last message at most: the closing record.
    pub(crate) fn has_asked_for_nearly_all(&self) -> bool {
        self.follow.has_asked_for_nearly_all()
    }

    /// Ends the transfer's reading: no consumer is left.
    pub(crate) async fn close(self) {
        self.leave().await.delete().await;
    }

    /// Ends the transfer's reading, and leaves its consumer to be deleted.
    pub(crate) async fn leave(self) -> LeftCursor {
        LeftCursor { transfer: self.manifest.transfer, consumer: self.follow.leave().await }
    }

    /// Ends this run's reading where the server is away: the consumer of a receiver stays for the next run.
    pub(crate) async fn pause(self) {
        if self.kind == ConsumerKind::Look {
            self.close().await;
        }
    }
}

impl LeftCursor {
    /// Deletes it.
    pub(crate) async fn delete(self) {
        let Self { transfer, consumer } = self;
        if let Some(consumer) = consumer
            && let Err(error) = consumer.delete().await
        {
            tracing::warn!(%transfer, %error, "a cursor could not be deleted; the server removes it in time");
        }
    }
}

/// What a receiver's cursor over one transfer is called: see PROTOCOL.md.
fn durable_name(receiver: &ReceiverName, manifest: &Manifest) -> String {
    format!("{receiver}-{}", manifest.transfer)
}

/// Creates the consumer behind the chunks that are held, or takes the one that stands. Says where it stands, and up to where in the
/// stream an earlier run was given everything.
async fn create_or_take_over(
    broker: &Broker, spec: &mut ConsumerSpec, manifest: &Manifest, held: Held<'_>,
) -> Result<(ConsumerState, u64), ReceiveError> {
    if spec.kind != ConsumerKind::Cursor {
        spec.start = start_behind(broker, manifest, held).await?;
        return Ok((broker.create_consumer(spec).await?, 0));
    }
    // The usual case, in one round trip: none stands, or one that has delivered nothing.
    if held.chunks.is_empty()
        && let Some(state) = broker.create_consumer_unless_other(spec).await?
        && state.delivered == 0
    {
        return Ok((state, 0));
    }
    let standing = broker.consumer(&spec.stream, &spec.name).await?;
    let earlier = standing.as_ref().map_or(0, |state| state.delivered_to);
    let state = match standing {
        // What was delivered and not acknowledged would come again only after the server's wait for it.
        Some(state) if state.unacknowledged == 0 && (state.delivered_to == 0 || !held.chunks.is_empty()) => {
            // There it is made anew, should it be lost before anything comes.
            spec.start = StartAt::Sequence(state.acknowledged_to + 1);
            state
        }
        standing => {
            if standing.is_some() {
                broker.delete_consumer(&spec.stream, &spec.name).await?;
            }
            spec.start = start_behind(broker, manifest, held).await?;
            broker.create_consumer(spec).await?
        }
    };
    Ok((state, earlier))
}

/// Where to begin when these chunks are held: at the first one that is not, found without moving payloads.
async fn start_behind(
    broker: &Broker, manifest: &Manifest, Held { chunks: held, behind }: Held<'_>,
) -> Result<StartAt, ReceiveError> {
    match behind {
        _ if held.is_empty() => return Ok(StartAt::First),
        Some(behind) => return Ok(behind),
        None if held.first_missing() == 0 => return Ok(StartAt::First),
        None => {}
    }
    let what = format!("looking for the first chunk of transfer {} that is not here", manifest.transfer);
    let found = broker.patiently(&what, || async {
        let mut start = StartAt::First;
        broker
            .scan(manifest, StartAt::First, |place, scanned| match scanned {
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

/// Why a message is none of the transfer's.
enum Unread {
    /// Its end, of a newer natsfer, which this one does not understand.
    Newer(RecordError),
    /// Anything.
    Nothing(String),
}

fn read(delivery: &Delivery, manifest: &Manifest, earlier: u64) -> Result<Piece, Unread> {
    if let Some(text) = delivery.header(header::CLOSING) {
        return match ClosingRecord::from_header(text, manifest.transfer) {
            Ok(record) => Ok(Piece::Closing(record)),
            Err(source @ (RecordError::Version(_) | RecordError::Requires(_))) => Err(Unread::Newer(source)),
            Err(error) => Err(Unread::Nothing(error.to_string())),
        };
    }
    let chunk = ChunkHeader::from_headers(|name| delivery.header(name), manifest.chunk_size);
    let chunk = chunk.map_err(|error| Unread::Nothing(error.to_string()))?;
    let again = delivery.stream_sequence <= earlier;
    Ok(Piece::Chunk { chunk, payload: delivery.payload(), again })
}
