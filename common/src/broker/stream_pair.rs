//! What the server says of the two streams, asked once for all that need to know it for a while.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{Broker, BrokerError, StreamDifference, StreamFacts, StreamSettings, code};
use crate::human_bytes_apart;

/// A look at the streams is good for so long to know whether there is room, and for so long where there is little.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const TIGHT_LOOK: Duration = Duration::from_millis(200);
/// What a message takes in a stream beside headers and payload, about, in bytes.
const AROUND_MESSAGE: u64 = 100;
/// The most that is kept free for what receivers say, in bytes.
const MOST_RESERVED: u64 = 16 << 20;

/// What a stream can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capacity {
    /// Bytes, all around messages included.
    pub bytes: u64,
    /// What it does when it is full.
    pub discard: Discard,
    /// The stream.
    pub stream: String,
}

/// What a full stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// It refuses what comes.
    New,
    /// It removes what came first.
    Old,
}

impl Capacity {
    fn of(facts: &StreamFacts) -> Option<Self> {
        let bytes = u64::try_from(facts.config.max_bytes).ok().filter(|bytes| *bytes > 0)?;
        let discard = if facts.config.discard == "old" { Discard::Old } else { Discard::New };
        Some(Self { bytes, discard, stream: facts.name.clone() })
    }

    /// Fails if so many bytes of a file, in so many messages, can never be in it at once.
    ///
    /// # Errors
    /// [`BrokerError::NeverFits`], then.
    pub fn ensure_fits(&self, bytes: u64, messages: u64) -> Result<(), BrokerError> {
        match self.refuses(bytes, messages) {
            Some(why) => Err(BrokerError::NeverFits { what: "the file".into(), why }),
            None => Ok(()),
        }
    }

    /// Why so many bytes in so many messages can never be in it at once; `None` if they can.
    fn refuses(&self, bytes: u64, messages: u64) -> Option<String> {
        let Self { bytes: most, discard, stream } = self;
        let taken = bytes.saturating_add(messages.saturating_mul(AROUND_MESSAGE));
        let comes = match discard {
            Discard::New => "raise it, or send it in parts",
            Discard::Old => "with 'discard: old' it would push out everything, its own beginning too",
        };
        (taken > *most).then(|| {
            let [taken, most] = human_bytes_apart(taken, *most);
            format!("it takes {taken}, and stream {stream} holds {most} at most (max_bytes): {comes}")
        })
    }

    /// Whether a quarter is left free, or a fixed amount of a large stream, with so many bytes in it. One that pushes out what is old
    /// always has room.
    fn leaves_reserve(&self, taken: u64) -> bool {
        self.discard == Discard::Old || taken.saturating_add((self.bytes / 4).min(MOST_RESERVED)) <= self.bytes
    }
}

/// Both streams as they stood when they were looked at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamPair {
    /// What is said about transfers.
    pub control: Seen,
    /// The chunks.
    pub data: Seen,
    /// What is otherwise than natsfer needs it.
    pub differences: Vec<StreamDifference>,
}

/// A stream, as far as this user may see it.
#[derive(Debug, Clone)]
pub enum Seen {
    /// As it stands.
    There(Box<StreamFacts>),
    /// There is none.
    Absent,
    /// This user may not look.
    Hidden,
}

impl Seen {
    /// The stream, if it is seen.
    pub fn facts(&self) -> Option<&StreamFacts> {
        if let Self::There(facts) = self { Some(facts) } else { None }
    }

    /// Its limit for one message, headers included, in bytes.
    fn max_message(&self) -> Option<usize> {
        let limit = self.facts()?.config.max_msg_size;
        usize::try_from(limit).ok().filter(|limit| *limit > 0)
    }
}

impl StreamPair {
    /// What keeps anything from being sent, if there is anything.
    pub fn obstacle(&self) -> Option<&StreamDifference> {
        self.differences.iter().find(|difference| difference.importance.forbids_sending())
    }

    /// Whether both are seen, and none is set up so that what is sent cannot be found.
    pub fn is_sound(&self) -> bool {
        matches!((&self.control, &self.data), (Seen::There(_), Seen::There(_))) && self.obstacle().is_none()
    }

    /// Whether the data stream is known to keep what it has stored: when it is full, it refuses what comes.
    pub fn keeps_chunks(&self) -> bool {
        self.data.facts().is_some_and(|facts| facts.config.discard == "new")
    }

    /// How much the data stream can hold; `None` where that is not limited, or not seen.
    pub fn data_capacity(&self) -> Option<Capacity> {
        Capacity::of(self.data.facts()?)
    }

    /// How much the control stream can hold; `None` where that is not limited, or not seen.
    pub fn control_capacity(&self) -> Option<Capacity> {
        Capacity::of(self.control.facts()?)
    }

    /// The control stream's limit for one message, headers included, in bytes.
    pub fn max_control_message(&self) -> usize {
        self.control.max_message().unwrap_or(usize::MAX)
    }

    /// The data stream's limit for one message, headers included, in bytes.
    pub fn max_data_message(&self) -> usize {
        self.data.max_message().unwrap_or(usize::MAX)
    }
}

/// The last look, shared by all that use the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLook(Arc<Mutex<Option<Look>>>);

#[derive(Debug)]
struct Look {
    at: Instant,
    connection: u64,
    pair: Arc<StreamPair>,
    /// Bytes of what was opened since, over this connection.
    opened: u64,
    outcome: LookOutcome,
}

/// What came of asking the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookOutcome {
    Answered,
    /// It did not say: as good as hidden, and asked again only after a while.
    Unanswered,
}

/// How long a server that has not answered is not asked again: sending must not wait for it with each file.
const UNANSWERED_REST: Duration = Duration::from_secs(60);

impl Look {
    /// Whether it is good still: who may not look is told so by the server once for each connection, whose log is for real attempts.
    fn is_good(&self, connection: u64, age: Duration) -> bool {
        let is_hidden = matches!((&self.pair.control, &self.pair.data), (Seen::Hidden, Seen::Hidden));
        let age = match self.outcome {
            LookOutcome::Answered if is_hidden => Duration::MAX,
            LookOutcome::Answered => age,
            LookOutcome::Unanswered => UNANSWERED_REST,
        };
        self.connection == connection && self.at.elapsed() < age
    }
}

impl Broker {
    /// Both streams, looked at no longer ago than this, over this connection.
    ///
    /// A server that does not answer is taken for one that does not let this user look.
    pub async fn stream_pair(&self, age: Duration) -> Arc<StreamPair> {
        let mut last = self.last_look.0.lock().await;
        let connection = self.connects();
        if let Some(look) = last.as_ref().filter(|look| look.is_good(connection, age)) {
            return look.pair.clone();
        }
        let (control, data) = (self.stream().control().to_owned(), self.stream().data());
        // What is hidden is not asked for again over the same connection.
        let before =
            last.as_ref().filter(|look| look.connection == connection && look.outcome == LookOutcome::Answered);
        let hidden = |seen: Option<&Seen>| matches!(seen, Some(Seen::Hidden));
        let (no_control, no_data) =
            (hidden(before.map(|look| &look.pair.control)), hidden(before.map(|look| &look.pair.data)));
        let look = async |name: &str, hidden| if hidden { Ok(Seen::Hidden) } else { self.seen(name).await };
        let (control, data) = tokio::join!(look(&control, no_control), look(&data, no_data));
        let outcome = if control.is_ok() && data.is_ok() { LookOutcome::Answered } else { LookOutcome::Unanswered };
        let (control, data) = (control.unwrap_or(Seen::Hidden), data.unwrap_or(Seen::Hidden));
        let subjects = [self.subjects().control_stream(), self.subjects().data_stream()];
        let differences = [&control, &data].into_iter().zip(subjects).flat_map(|(seen, subjects)| {
            let facts = seen.facts();
            facts.map(|facts| facts.config.differences(&facts.name, &subjects, &StreamSettings::default()))
        });
        let differences = differences.flatten().collect();
        let pair = Arc::new(StreamPair { control, data, differences });
        *last = Some(Look { at: Instant::now(), connection, pair: pair.clone(), opened: 0, outcome });
        pair
    }

    /// Whether the control stream has room for an opening message of so many bytes, and for what receivers are to say of what is
    /// there: what frees room needs some. Nothing is known to who may not look at it, or gets no answer.
    pub async fn has_room_to_open(&self, bytes: u64) -> bool {
        for age in [LOOK_AGAIN, TIGHT_LOOK] {
            let pair = self.stream_pair(age).await;
            let (Some(facts), Some(capacity)) = (pair.control.facts(), pair.control_capacity()) else { return true };
            let mut last = self.last_look.0.lock().await;
            let Some(look) = last.as_mut() else { continue };
            let message = bytes.saturating_add(AROUND_MESSAGE);
            if capacity.leaves_reserve(facts.bytes.saturating_add(look.opened).saturating_add(message)) {
                look.opened = look.opened.saturating_add(message);
                return true;
            }
        }
        false
    }

    async fn seen(&self, name: &str) -> Result<Seen, BrokerError> {
        match self.stream_facts(name).await {
            Ok(facts) => Ok(Seen::There(Box::new(facts))),
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Ok(Seen::Absent),
            // Over a service's own connection a denial is silence.
            Err(BrokerError::Denied { .. } | BrokerError::Overtaken { .. }) => Ok(Seen::Hidden),
            Err(error) => Err(error),
        }
    }

    /// Forgets what was seen of the streams: they were made, or changed, since.
    pub(super) async fn forget_streams(&self) {
        *self.last_look.0.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_fit_is_told_by_the_limit_and_what_is_said_keeps_its_room() {
        let of = |bytes, discard| Capacity { bytes, discard, stream: "S".into() };
        let (new, old) = (of(1_000, Discard::New), of(1_000, Discard::Old));
        assert_eq!((new.refuses(900, 1), old.refuses(900, 1)), (None, None));
        assert!(
            new.refuses(900, 2).unwrap().contains("max_bytes")
                && old.refuses(1_001, 0).unwrap().contains("discard: old")
        );
        assert!(new.refuses(u64::MAX, u64::MAX).is_some());
        assert_eq!((new.leaves_reserve(750), new.leaves_reserve(751), old.leaves_reserve(2_000)), (true, false, true));
        assert!(of(1 << 40, Discard::New).leaves_reserve((1 << 40) - (16 << 20)));
    }
}
