//! Whether the streams can take what is sent, and whether what they acknowledge is where receivers look for it.

use std::time::Duration;

use natsfer_common::{
    Manifest,
    broker::{Broker, BrokerError, Capacity, StoredMessage, StreamPair},
};

use crate::{Evidence, ProducerError};

/// A look at the streams is good for so long, for all that is sent over the connection.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What the streams take of one file.
#[derive(Debug, Clone)]
pub(crate) struct Suitable {
    pub(crate) room: MessageRoom,
    /// How much the data stream can hold, if that is known and limited.
    pub(crate) capacity: Option<Capacity>,
}

impl Suitable {
    /// Fails if a file of this size, in chunks that are not compressed, can never be stored whole.
    pub(crate) fn ensure_fits(&self, size: u64, chunks: u64) -> Result<(), ProducerError> {
        Ok(self.capacity.as_ref().map_or(Ok(()), |capacity| capacity.ensure_fits(size, chunks))?)
    }
}

/// How much a transfer has put into the stream, and will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Of the source, bytes that this run has stored.
    pub(crate) read: u64,
    /// What they take.
    pub(crate) stored: u64,
    /// The source's size, if it is known.
    pub(crate) size: Option<u64>,
}

/// Bytes of a file that tell how the rest is compressed.
const ENOUGH: u64 = 256 << 20;

impl Growth {
    /// What all of it will take, if the rest is like what was stored so far; what is stored and is known to come, at least.
    pub(crate) fn expected(self, next: u64) -> u64 {
        let least = self.stored.saturating_add(next);
        match self.size {
            // A beginning says little: a text may begin with a picture.
            Some(size) if self.read >= (size / 8).min(ENOUGH) && self.read > 0 => {
                let all = u128::from(size) * u128::from(self.stored) / u128::from(self.read);
                u64::try_from(all).unwrap_or(u64::MAX).max(least)
            }
            _ => least,
        }
    }
}

/// What fits into one message, headers included, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageRoom {
    /// Of the data stream.
    pub(crate) chunk: usize,
    /// Of the control stream.
    pub(crate) inline: usize,
}

impl MessageRoom {
    fn of(pair: &StreamPair) -> Self {
        Self { chunk: pair.max_data_message(), inline: pair.max_control_message() }
    }

    /// Once a small file was refused for its size.
    pub(crate) fn with_smaller_inline(self, error: &BrokerError) -> Self {
        Self { inline: smaller(self.inline, error), ..self }
    }

    /// Once a chunk was refused for its size.
    pub(crate) fn with_smaller_chunks(self, error: &BrokerError) -> Self {
        Self { chunk: smaller(self.chunk, error), ..self }
    }
}

/// What is tried next. A stream that refuses does not say its limit: half of what was allowed, then.
fn smaller(room: usize, error: &BrokerError) -> usize {
    match error {
        BrokerError::TooLarge { most, .. } => room.min(*most),
        _ => room.min(LARGEST) / 2,
    }
}

/// Where nothing is known of a limit, what is halved first: the largest chunk of `auto` and a little more.
const LARGEST: usize = 600 << 10;

/// Looks whether both streams can take files, at the first send of a run and every few seconds, and says how large a message they take.
/// Who may not look sends all the same; so does whoever gets no answer, and publishing says why.
pub(crate) async fn ensure_suitable(broker: &Broker) -> Result<Suitable, ProducerError> {
    let pair = broker.stream_pair(LOOK_AGAIN).await;
    match pair.obstacle() {
        Some(difference) => Err(ProducerError::Unsuitable { difference: Box::new(difference.clone()) }),
        None => Ok(Suitable { room: MessageRoom::of(&pair), capacity: pair.data_capacity() }),
    }
}

/// Makes sure that a small file which the server has acknowledged is where receivers look for it: by what the streams are seen to be,
/// or, for who may not see that, by the message itself.
pub(crate) async fn ensure_found(
    broker: &Broker, manifest: &Manifest, sequence: u64, evidence: Evidence,
) -> Result<(), ProducerError> {
    let pair = broker.stream_pair(LOOK_AGAIN).await;
    if let Some(difference) = pair.obstacle() {
        return Err(ProducerError::Unsuitable { difference: Box::new(difference.clone()) });
    }
    if pair.is_sound() && evidence == Evidence::Acknowledgement {
        return Ok(());
    }
    // One that was found shows where all are stored, as long as the connection stands; before a source goes, each is looked for.
    if evidence == Evidence::Acknowledgement && broker.has_found_small_file() {
        return Ok(());
    }
    let subject = broker.subjects().open(&manifest.channel, manifest.transfer);
    let is_there =
        |message: &Option<StoredMessage>| message.as_ref().is_some_and(|message| message.sequence >= sequence);
    let found = match broker.last_message(broker.stream().control(), &subject).await {
        // A replica that lags does not show it yet: only the leader can say that it is not there.
        Ok(message) if !is_there(&message) => broker.opened(&manifest.channel, manifest.transfer).await,
        found => found,
    };
    match found {
        Ok(message) if is_there(&message) => {
            broker.note_found_small_file();
            Ok(())
        }
        Ok(_) => Err(ProducerError::Misplaced { transfer: manifest.transfer }),
        // Who may not look there either believes the server.
        Err(BrokerError::Denied { .. }) => Ok(()),
        Err(_) if evidence == Evidence::Acknowledgement => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_will_take_is_told_from_what_it_took() {
        let growth = |read, stored, size| Growth { read, stored, size };
        assert_eq!(growth(0, 0, Some(1_000)).expected(10), 10);
        assert_eq!(growth(200, 100, Some(1_000)).expected(10), 500);
        assert_eq!(growth(100, 50, Some(1_000)).expected(10), 60, "a beginning says little");
        assert_eq!((growth(100, 50, None).expected(10), growth(1, u64::MAX, Some(2)).expected(1)), (60, u64::MAX));
    }

    #[test]
    fn what_was_refused_is_tried_smaller() {
        let all = MessageRoom { chunk: usize::MAX, inline: 1 << 20 };
        let told = BrokerError::TooLarge { what: String::new(), bytes: 9, most: 100_000 };
        assert_eq!(all.with_smaller_chunks(&told), MessageRoom { chunk: 100_000, ..all });
        let untold = BrokerError::Refused { what: String::new(), code: 10_054, description: String::new() };
        assert_eq!(all.with_smaller_inline(&untold).inline, 300 << 10);
        assert_eq!(all.with_smaller_chunks(&untold).with_smaller_chunks(&untold).chunk, 150 << 10);
    }
}
