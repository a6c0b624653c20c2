//! The servers of a run, one or several.

use std::slice;

use super::schedule::Which;
use crate::{Address, Cluster, Server};

/// The stream whose leader is preferred.
const DATA: &str = "NATSFER_DATA";

#[derive(Debug)]
pub(super) enum Servers {
    One(Box<Server>),
    Several(Cluster),
}

impl Servers {
    pub(super) async fn start(count: usize) -> Self {
        match count {
            1 => Self::One(Box::new(Server::start().await)),
            count => Self::Several(Cluster::start(count).await),
        }
    }

    pub(super) fn all(&self) -> &[Server] {
        match self {
            Self::One(server) => slice::from_ref(server),
            Self::Several(cluster) => cluster.servers(),
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::One(server) => server.address(),
            Self::Several(cluster) => cluster.address(),
        }
    }

    /// The number of the server that is meant.
    pub(super) async fn pick(&self, which: Which) -> usize {
        match (self, which) {
            (Self::One(_), _) => 0,
            (Self::Several(cluster), Which::Leader) => cluster.leader_of(DATA).await,
            (Self::Several(cluster), Which::Number(number)) => number % cluster.servers().len(),
        }
    }

    /// Starts one that is down, and waits until it is ready for the next to go.
    pub(super) async fn restart(&self, number: usize) {
        match self {
            Self::One(server) => server.restart().await,
            Self::Several(cluster) => cluster.restart(number).await,
        }
    }
}
