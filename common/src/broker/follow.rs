//! What is said about transfers, as it is said.

use std::time::Duration;

use super::{Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, Pull, PullSettings, StartAt};

/// Rest before a consumer that went away is made anew.
const REST: Duration = Duration::from_millis(500);
/// Bytes asked for ahead.
const WINDOW: u64 = 1 << 20;

/// The control stream's messages on some subjects, from some place on, for as long as is listened: a consumer that is lost is
/// made anew. A message may come twice.
#[derive(Debug)]
pub struct Follow {
    broker: Broker,
    spec: ConsumerSpec,
    pull: Pull,
    /// The last message that came: its sequence and subject.
    last: Option<(u64, String)>,
    state: State,
}

/// Whether the consumer is there.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Standing,
    /// It is to be made anew.
    Lost,
}

impl Broker {
    /// Follows these subjects of the control stream, from the message of this sequence on. Headers only.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn follow(&self, filters: Vec<String>, from: u64) -> Result<Follow, BrokerError> {
        let (stream, name) = (self.stream().control().to_owned(), self.unused_name());
        let start = StartAt::Sequence(from.max(1));
        let spec = ConsumerSpec { stream, name, filters, start, headers_only: true, kind: ConsumerKind::Look };
        self.create_consumer(&spec).await?;
        let pull = Pull::new(self, &spec.stream, &spec.name, PullSettings::Flow { window: WINDOW }).await?;
        Ok(Follow { broker: self.clone(), spec, pull, last: None, state: State::Standing })
    }
}

impl Follow {
    /// The next message. Waits for it, also through the server's absence.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    /// When the connection is closed, or the server refuses.
    pub async fn next(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            if self.state == State::Lost {
                self.renew().await?;
                self.state = State::Standing;
            }
            match self.pull.next().await {
                Ok(delivery) => {
                    self.last = Some((delivery.stream_sequence, delivery.subject().to_owned()));
                    return Ok(delivery);
                }
                Err(BrokerError::ConsumerGone { .. }) => self.state = State::Lost,
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes on behind the last message, if that is still where it was. A stream that was recreated, or came back from an older
    /// disk, uses sequences again: then all is read again.
    async fn renew(&mut self) -> Result<(), BrokerError> {
        tokio::time::sleep(REST).await;
        if let Some((sequence, subject)) = &self.last {
            let message = self.broker.message_at(&self.spec.stream, *sequence).await?;
            let stands = message.is_some_and(|message| message.subject == *subject);
            self.spec.start = if stands { StartAt::Sequence(sequence + 1) } else { StartAt::First };
        }
        // It may stand after all, with another start: the server was only starting.
        self.broker.delete_consumer(&self.spec.stream, &self.spec.name).await?;
        self.broker.create_consumer(&self.spec).await.map(drop)
    }

    /// Ends the following: no consumer is left.
    pub async fn close(self) {
        let Self { broker, spec, pull, .. } = self;
        drop(pull);
        // Best effort: the server removes it by itself soon.
        let _ = broker.delete_consumer(&spec.stream, &spec.name).await;
    }
}
