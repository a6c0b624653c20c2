//! The connections that chunks are spread over.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::select_all};
use natsfer_common::broker::{Broker, BrokerError, Share};

/// One or more connections to the same server. Everything but chunks goes over the first. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    all: Arc<[Arc<Broker>]>,
    /// Bytes of all of them together, where it was said.
    window: Option<u64>,
}

/// Room for a chunk on one of the connections.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) broker: Arc<Broker>,
    pub(crate) share: Share,
}

impl Lanes {
    pub(crate) fn new(first: Broker) -> Self {
        Self { all: [Arc::new(first)].into(), window: None }
    }

    /// With so many connections in all.
    pub(crate) async fn widened(&self, connections: usize) -> Result<Self, BrokerError> {
        let mut all = self.all.to_vec();
        while all.len() < connections {
            all.push(Arc::new(self.first().another().await?));
        }
        let widened = Self { all: all.into(), window: self.window };
        widened.share_window();
        Ok(widened)
    }

    /// Whether there is more than one: then what goes over one may be faster than what went over another before.
    pub(crate) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// Everything but chunks goes over this one.
    pub(crate) fn first(&self) -> &Broker {
        &self.all[0]
    }

    /// Bounds what is in memory and on its way over all of them together, in bytes.
    pub(crate) fn with_window(self, bytes: u64) -> Self {
        let lanes = Self { window: Some(bytes), ..self };
        lanes.share_window();
        lanes
    }

    fn share_window(&self) {
        if let Some(bytes) = self.window {
            self.all.iter().for_each(|broker| broker.set_window(bytes / self.all.len() as u64));
        }
    }

    /// Waits for room for so many bytes on any of them.
    ///
    /// Cancel safe, but the turn is lost.
    pub(crate) async fn reserve(&self, bytes: usize) -> Place {
        let places = self.all.iter().map(|broker| {
            let place = async move { Place { broker: broker.clone(), share: broker.reserve(bytes).await } };
            place.boxed()
        });
        select_all(places).await.0
    }

    /// Changes whenever what was sent over any of them may be lost: see [`Broker::epoch`].
    pub(crate) fn epoch(&self) -> u64 {
        self.all.iter().map(|broker| broker.epoch()).sum()
    }

    /// Closes all of them.
    pub(crate) async fn close(&self) {
        for broker in &*self.all {
            broker.close().await;
        }
    }
}
