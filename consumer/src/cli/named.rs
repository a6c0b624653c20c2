//! A transfer as errors call it.

use natsfer_common::FileName;
use natsfer_consumer::{ReceiveError, TransferId};

/// A transfer, and its file's name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) transfer: TransferId,
    pub(crate) name: FileName,
}

impl Named {
    /// What it is called in front of an error about it: most of these have the id themselves.
    pub(crate) fn before(&self, error: &ReceiveError) -> String {
        let Self { transfer, name } = self;
        if error.in_full().contains(&transfer.to_string()) {
            format!("'{name}'")
        } else {
            format!("'{name}' ({transfer})")
        }
    }
}
