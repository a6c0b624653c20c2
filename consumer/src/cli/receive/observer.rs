//! What a receiver's run makes known.

use natsfer_common::cli::report;
use natsfer_consumer::{Failure, Manifest, ReceiveError, Saved, TransferId};

use crate::cli::event::Format;

/// Every moment of a run passes here, once. Who shows progress, keeps metrics or answers over HTTP listens here.
#[derive(Debug)]
pub(super) struct Observer {
    format: Format,
}

/// Whether what happened could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Told {
    Told,
    /// Standard output does not take it, as on a full disk.
    Not,
}

impl Observer {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// A transfer was taken from the inbox, to be saved.
    pub(super) fn taken(&self, manifest: &Manifest) {
        tracing::debug!(transfer = %manifest.transfer, name = %manifest.name, "receiving");
    }

    /// A transfer was saved.
    pub(super) fn saved(&self, saved: &Saved) -> Told {
        told(self.format.received(saved), "a received file")
    }

    /// A transfer was not saved.
    pub(super) fn failed(&self, transfer: TransferId, error: ReceiveError) {
        match error.failure() {
            Failure::Cancelled => tracing::info!("{:#}", anyhow::Error::from(error)),
            Failure::PassedOver => tracing::debug!("{error}"),
            Failure::Passing => tracing::warn!("put back for later: {:#}", anyhow::Error::from(error)),
            Failure::Final => {
                // That it has failed is counted either way.
                let _ = told(self.format.rejected(transfer, &error), "a rejected file");
                report(&anyhow::Error::from(error).context(format!("transfer {transfer} failed for good")));
            }
        }
    }
}

fn told(printed: std::io::Result<()>, what: &str) -> Told {
    match printed {
        Ok(()) => Told::Told,
        Err(error) => {
            report(&anyhow::Error::from(error).context(format!("{what} could not be told of")));
            Told::Not
        }
    }
}
