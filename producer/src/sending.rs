//! A send under way.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream};
use tokio::{sync::watch, task::JoinError};
use tokio_util::task::AbortOnDropHandle;

use crate::{ProducerError, Sent};

/// How far a send is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the source read.
    pub bytes_read: u64,
    /// Bytes of the source that the server has stored.
    pub bytes_stored: u64,
    /// Bytes among them that were stored before, by an earlier run: they say nothing of how fast this one is.
    pub bytes_found: u64,
    /// The source's size in bytes, if it is known.
    pub size: Option<u64>,
}

/// A send under way: await it for what came of it. Dropped, it stops; what is stored stays, and a later send goes on from there.
#[derive(Debug)]
#[must_use = "a send stops when it is dropped: await it"]
pub struct Sending {
    task: AbortOnDropHandle<Result<Sent, ProducerError>>,
    progress: watch::Receiver<Progress>,
}

impl Sending {
    pub(crate) fn start(
        progress: watch::Receiver<Progress>, work: impl Future<Output = Result<Sent, ProducerError>> + Send + 'static,
    ) -> Self {
        Self { task: AbortOnDropHandle::new(tokio::spawn(work)), progress }
    }

    /// How far it is, now and at every change until it ends. Changes that come faster than they are taken are passed over.
    pub fn progress(&self) -> impl Stream<Item = Progress> + Send + Unpin + use<> {
        let now = stream::iter([*self.progress.borrow()]);
        let changes = stream::unfold(self.progress.clone(), async |mut progress| {
            progress.changed().await.ok()?;
            let now = *progress.borrow_and_update();
            Some((now, progress))
        });
        now.chain(changes).boxed()
    }
}

impl Future for Sending {
    type Output = Result<Sent, ProducerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context).map(|result| {
            result.unwrap_or_else(|error: JoinError| {
                match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only the runtime's end cancels it while somebody waits.
                    Err(_) => Err(ProducerError::Broker(natsfer_common::broker::BrokerError::Closed {
                        what: "sending: the runtime has ended".into(),
                    })),
                }
            })
        })
    }
}
