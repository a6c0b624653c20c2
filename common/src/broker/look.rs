//! Looking through the headers of all that a stream holds on a subject, now.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::{Broker, BrokerError, Delivery, StartAt, code, headers::Headers};

impl Broker {
    /// Goes through the headers of all messages that a stream holds now on this subject, until `visit` breaks.
    pub(super) async fn look(
        &self, stream: &str, filter: String, start: StartAt, mut visit: impl FnMut(Delivery) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let (mut headers, pending) = match self.headers(stream, vec![filter], start).await {
            Err(error) if error.is(code::STREAM_NOT_FOUND) => return Ok(()),
            begun => begun?,
        };
        let result = through(&mut headers, pending, &mut visit).await;
        headers.close().await;
        result
    }

    /// The headers of a subject's first message from this sequence on, if there is one.
    pub(super) async fn first_from(
        &self, stream: &str, subject: &str, sequence: u64,
    ) -> Result<Option<Delivery>, BrokerError> {
        let what = format!("looking for a message of stream {stream}");
        self.patiently(&what, || async {
            let mut found = None;
            self.look(stream, subject.to_owned(), StartAt::Sequence(sequence.max(1)), |delivery| {
                found = Some(delivery);
                ControlFlow::Break(())
            })
            .await?;
            Ok(found)
        })
        .await
    }

    /// The headers of the first message on a subject.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn first_message(&self, stream: &str, subject: &str) -> Result<Option<Delivery>, BrokerError> {
        self.first_from(stream, subject, 1).await
    }

    /// When the message of this sequence was stored, if it is still there and on this subject. Whoever asks knows that it was:
    /// the stream's leader is asked where a replica has none.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn stored_at(
        &self, stream: &str, subject: &str, sequence: u64,
    ) -> Result<Option<Timestamp>, BrokerError> {
        let first = self.first_from(stream, subject, sequence).await?;
        if let Some(message) = first.filter(|message| message.stream_sequence == sequence) {
            return Ok(Some(message.published_at));
        }
        match self.message_of_leader(stream, sequence).await {
            // Who may not ask the leader takes the replica's word.
            Err(BrokerError::Denied { .. }) => Ok(None),
            message => Ok(message?.filter(|message| message.subject == subject).map(|message| message.stored_at)),
        }
    }
}

/// Visits what is there now, until `visit` breaks.
async fn through(
    headers: &mut Headers, pending: u64, visit: &mut impl FnMut(Delivery) -> ControlFlow<()>,
) -> Result<(), BrokerError> {
    let mut seen = 0;
    while seen < pending {
        match headers.next().await {
            Ok(Some(delivery)) => {
                let last = delivery.pending == 0;
                if visit(delivery).is_break() || last {
                    break;
                }
                seen += 1;
            }
            // A server that has lost messages may have promised more than there are.
            Ok(None) => break,
            Err(BrokerError::ConsumerGone { stream, .. }) => return Err(BrokerError::Interrupted { stream }),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
