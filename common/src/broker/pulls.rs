//! One consumer, read over every connection that there is.

use std::time::Duration;

use futures_util::{FutureExt as _, future::select_all};

use super::{Broker, BrokerError, Delivery, FlowPlace, Pull, PullSettings, line::Line};

/// How often it is looked whether a connection was made anew.
const TICK: Duration = Duration::from_millis(500);

/// A consumer of a transfer being read over one or more connections. The server deals its messages out among the requests that wait,
/// so that each connection has as many as it carries. They come in the consumer's order over each of them, and not over all.
#[derive(Debug)]
pub(super) struct Pulls {
    all: Vec<Pull>,
    /// Whose turn it is to be looked at first.
    turn: usize,
    /// How often the connections had been made together, when was last asked.
    connects: u64,
}

impl Pulls {
    /// Begins to read a consumer that has so many messages to deliver. Nothing is asked for before [`Pulls::next`].
    pub(super) async fn new(
        broker: &Broker, stream: &str, consumer: &str, place: &FlowPlace, stored: u64,
    ) -> Result<Self, BrokerError> {
        let mut all =
            vec![Pull::new(broker, stream, consumer, PullSettings::Flow { place: place.clone(), stored }).await?];
        for further in broker.further() {
            let settings = PullSettings::Beside { message: place.message() };
            all.push(Pull::new(further, stream, consumer, settings).await?);
        }
        let connects = connects(&all);
        Ok(Self { all, turn: 0, connects })
    }

    /// The next message, over any of the connections: see [`Pull::next`].
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Delivery, BrokerError> {
        if let [only] = &mut self.all[..] {
            return only.next().await;
        }
        self.turn = (self.turn + 1) % self.all.len();
        let (later, first) = self.all.split_at_mut(self.turn);
        select_all(first.iter_mut().chain(later).map(|pull| pull.next().boxed())).await.0
    }

    /// Whether all that is known to be stored was asked for, but for the last message at most.
    pub(super) fn have_asked_for_nearly_all(&self) -> bool {
        self.all.iter().all(Pull::has_asked_for_nearly_all)
    }

    /// Waits until a connection is another one than when the last message came.
    pub(super) fn reconnection(&self) -> impl Future<Output = ()> + Send + use<> {
        let lines: Vec<_> = self.all.iter().map(Pull::line).collect();
        let before = self.connects;
        async move {
            while lines.iter().map(Line::connects).sum::<u64>() == before {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Whether a connection was made anew since this was last asked: what was on its way over it comes no more.
    pub(super) fn has_reconnected(&mut self) -> bool {
        let connects = connects(&self.all);
        std::mem::replace(&mut self.connects, connects) != connects
    }
}

fn connects(pulls: &[Pull]) -> u64 {
    pulls.iter().map(Pull::connects).sum()
}
