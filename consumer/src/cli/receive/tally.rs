//! What a run has come to.

use std::collections::HashMap;

use natsfer_common::{
    FileName,
    cli::{Outcome, report},
};
use natsfer_consumer::{Failure, Landing, ReceiveError, Saved, TransferId};

use super::{
    observer::{Observer, Told},
    until::Until,
};
use crate::cli::named::Named;

/// What a run has come to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    landed: u64,
    failed: u64,
    /// Put back, to be received later.
    parked: HashMap<TransferId, (FileName, Parked)>,
    /// For which transfers the server had no consumer left.
    crowded_out: HashMap<TransferId, CrowdedOut>,
}

/// A transfer that was tried while the server had no consumer left: others, of this receiver too, give up theirs.
#[derive(Debug, Clone, Copy, Default)]
struct CrowdedOut {
    /// Files that had landed when it was tried last.
    landed: u64,
    /// How often in a row it was tried with none landed in between.
    in_vain: u32,
}

/// A transfer without a consumer that was tried so often, while no other file landed, is not tried any more by those who end.
const MOST_IN_VAIN: u32 = 5;

/// Why a transfer was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parked {
    /// Its sender has not finished it.
    Unfinished,
    /// Something here, or at the server, was in the way.
    Failed,
}

impl Tally {
    /// A transfer is worked on, perhaps again.
    pub(super) fn taken(&mut self, transfer: TransferId) {
        self.parked.remove(&transfer);
    }

    /// A transfer's work has ended.
    pub(super) fn ended(&mut self, named: &Named, result: Result<Saved, ReceiveError>, observer: &Observer) {
        let error = match result {
            Ok(saved) => {
                self.landed += u64::from(saved.landing != Landing::Skipped);
                self.failed += u64::from(observer.saved(&saved) == Told::Not);
                return;
            }
            Err(error) => error,
        };
        match error.failure() {
            Failure::Cancelled | Failure::PassedOver => {}
            Failure::Final => self.failed += 1,
            Failure::Passing => match error {
                _ if error.is_unfinished() => self.park(named, Parked::Unfinished),
                // It is in good hands.
                ReceiveError::Busy { .. } => {}
                _ if error.finds_no_consumer() && self.is_worth_another_try(named.transfer) => {}
                _ => self.park(named, Parked::Failed),
            },
        }
        observer.failed(named, error);
    }

    fn is_worth_another_try(&mut self, transfer: TransferId) -> bool {
        let CrowdedOut { landed, in_vain } = self.crowded_out.entry(transfer).or_default();
        *in_vain = if *landed == self.landed { *in_vain + 1 } else { 1 };
        *landed = self.landed;
        *in_vain < MOST_IN_VAIN
    }

    fn park(&mut self, Named { transfer, name }: &Named, why: Parked) {
        self.parked.insert(*transfer, (name.clone(), why));
    }

    /// So many messages have failed that were no transfers.
    pub(super) fn unreadable(&mut self, messages: u64) {
        self.failed += messages;
    }

    /// So many commands have failed for good.
    pub(super) fn commands_failed(&mut self, commands: u64) {
        self.failed += commands;
    }

    /// Files that have landed.
    pub(super) fn landed(&self) -> u64 {
        self.landed
    }

    /// Transfers that wait for another try.
    pub(super) fn parked(&self) -> u64 {
        self.parked.len() as u64
    }

    /// Says what was put back, and what the whole comes to.
    pub(super) fn conclude(self, until: Until) -> Outcome {
        for (transfer, (name, parked)) in &self.parked {
            match parked {
                Parked::Unfinished => {
                    tracing::warn!(
                        "'{name}' ({transfer}) is not finished by its sender: it will be received when it is"
                    );
                }
                Parked::Failed if !matches!(until, Until::Stopped) => {
                    report(&anyhow::anyhow!("'{name}' ({transfer}) was not received; a later run tries it again"));
                }
                Parked::Failed => {}
            }
        }
        let failed = self.failed > 0 || self.parked.values().any(|(_, parked)| *parked == Parked::Failed);
        match until {
            // What is put back comes again, and what failed was told when it did.
            Until::Stopped => Outcome::Done,
            _ if failed => Outcome::Failed,
            _ => Outcome::Done,
        }
    }
}
