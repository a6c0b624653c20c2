//! What the server says of the two streams, asked once for all that need to know it for a while.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{Broker, BrokerError, StreamDifference, StreamFacts, StreamSettings, code};

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
}

impl Look {
    /// Whether it is good still: who may not look is told so by the server once for each connection, whose log is for real attempts.
    fn is_good(&self, connection: u64, age: Duration) -> bool {
        let is_hidden = matches!((&self.pair.control, &self.pair.data), (Seen::Hidden, Seen::Hidden));
        self.connection == connection && (is_hidden || self.at.elapsed() < age)
    }
}

impl Broker {
    /// Both streams, looked at no longer ago than this, over this connection.
    ///
    /// # Errors
    /// When the server does not answer. It is asked once.
    pub async fn stream_pair(&self, age: Duration) -> Result<Arc<StreamPair>, BrokerError> {
        let mut last = self.last_look.0.lock().await;
        let connection = self.connects();
        if let Some(look) = last.as_ref().filter(|look| look.is_good(connection, age)) {
            return Ok(look.pair.clone());
        }
        let (control, data) = (self.stream().control().to_owned(), self.stream().data());
        let (control, data) = tokio::join!(self.seen(&control), self.seen(&data));
        let (control, data) = (control?, data?);
        let subjects = [self.subjects().control_stream(), self.subjects().data_stream()];
        let differences = [&control, &data].into_iter().zip(subjects).flat_map(|(seen, subjects)| {
            let facts = seen.facts();
            facts.map(|facts| facts.config.differences(&facts.name, &subjects, &StreamSettings::default()))
        });
        let differences = differences.flatten().collect();
        let pair = Arc::new(StreamPair { control, data, differences });
        *last = Some(Look { at: Instant::now(), connection, pair: pair.clone() });
        Ok(pair)
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
