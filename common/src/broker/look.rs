//! Looking through all that a stream holds on some subjects, now.

use std::{ops::ControlFlow, time::Duration};

use super::{Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, Pull, PullSettings, StartAt, code};

/// What the names of consumers that only look around begin with.
pub(super) const LOOK: &str = "look";
/// How often a listing that stands still is looked into.
const LOOK_TICK: Duration = Duration::from_millis(500);
/// How long a listing may stand still.
const LOOK_SILENCE: Duration = Duration::from_secs(20);

impl Broker {
    /// Goes through all messages that a stream holds now on these subjects, until `visit` breaks.
    pub(super) async fn look(
        &self, stream: String, filters: Vec<String>, start: StartAt, headers_only: bool,
        mut visit: impl FnMut(&Delivery) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let name = LOOK.to_owned();
        let mut spec = ConsumerSpec { stream, name, filters, start, headers_only, kind: ConsumerKind::Look };
        let state = match self.create_consumer(&mut spec).await {
            Err(error) if error.is(code::STREAM_NOT_FOUND) => return Ok(()),
            state => state?,
        };
        let ConsumerSpec { stream, name, .. } = &spec;
        let result = self.look_through(stream, name, state.pending, &mut visit).await;
        // Best effort: the server removes it by itself soon.
        let _ = self.delete_consumer(stream, name).await;
        result
    }

    async fn look_through(
        &self, stream: &str, consumer: &str, pending: u64, visit: &mut impl FnMut(&Delivery) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        if pending == 0 {
            return Ok(());
        }
        let mut pull = Pull::new(self, stream, consumer, PullSettings::Flow { window: 4 << 20 }).await?;
        let interrupted = || BrokerError::Interrupted { stream: stream.into() };
        let (mut seen, mut silent) = (0, Duration::ZERO);
        while seen < pending {
            let delivery = match tokio::time::timeout(LOOK_TICK, pull.next()).await {
                Ok(Err(BrokerError::ConsumerGone { .. })) => return Err(interrupted()),
                Ok(delivery) => delivery?,
                // A server that has lost messages may have promised more than there are.
                Err(_) => match self.consumer(stream, consumer).await? {
                    Some(state) if (state.pending, state.delivered) == (0, seen) => return Ok(()),
                    Some(_) if silent < LOOK_SILENCE => {
                        silent += LOOK_TICK;
                        continue;
                    }
                    _ => return Err(interrupted()),
                },
            };
            (seen, silent) = (seen + 1, Duration::ZERO);
            // Nothing is delivered twice by such a consumer: what was lost with a connection shows as a gap.
            if delivery.consumer_sequence != seen {
                return Err(interrupted());
            }
            if visit(&delivery).is_break() || delivery.pending == 0 {
                break;
            }
        }
        Ok(())
    }
}
