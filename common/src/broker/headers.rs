//! The headers of all messages on some subjects, as they come.

use super::{Broker, BrokerError, Delivery, PullSettings, StartAt, pulled::Pulled, push::Push};

/// What the names of consumers that only look around begin with.
pub(super) const LOOK: &str = "look";

/// Headers in order and without gaps.
#[derive(Debug)]
pub(super) enum Headers {
    /// As the server pushes them: no right is needed but to create the consumer, whose filter the request's subject shows.
    Pushed(Box<Push>),
    /// Pulled, where JetStream is elsewhere: what another account pushes does not arrive.
    Pulled(Box<Pulled>),
}

impl Broker {
    /// Begins to read the headers of all messages on these subjects from there on, and says how many there are now.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub(super) async fn headers(
        &self, stream: &str, filters: Vec<String>, start: StartAt,
    ) -> Result<(Headers, u64), BrokerError> {
        if !self.reaches_elsewhere() {
            let (push, pending) = self.push(stream, filters, start).await?;
            return Ok((Headers::Pushed(Box::new(push)), pending));
        }
        let pulled = self.pulled(stream, LOOK, filters, start, true, PullSettings::Small).await?;
        let pending = pulled.pending();
        Ok((Headers::Pulled(Box::new(pulled)), pending))
    }
}

impl Headers {
    /// The next message's headers; `None` when all there is has come, for now.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    /// When messages were lost, the consumer is gone, or the connection is closed: it is to be begun again.
    pub(super) async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        match self {
            Self::Pushed(push) => push.next().await,
            Self::Pulled(pulled) => pulled.next().await,
        }
    }

    /// Ends the reading: no consumer is left, or none for long.
    pub(super) async fn close(self) {
        if let Self::Pulled(pulled) = self {
            pulled.close().await;
        }
    }
}
