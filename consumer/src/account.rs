//! Whether an inbox is done, as far as this process can tell without asking the server.
//!
//! Owns the count of messages that this process has taken and not done. `Receiver` tells it of each message that comes, and
//! `Hold` of each that is done. It starts no task, and ends with its receiver.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use natsfer_common::broker::ConsumerState;

/// Whether all that waited in an inbox is done. This process can tell as long as nothing of it goes to another one; the server's numbers
/// of its deliveries show that.
#[derive(Debug)]
pub(crate) struct Account {
    delivered: Delivered,
    /// Messages that wait behind the last one; `None` before one came.
    behind: Option<u64>,
    /// Messages that were taken and are not done.
    open: Arc<AtomicU64>,
}

/// To whom the inbox has delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivered {
    /// Everything up to this delivery was done before, or came to this process.
    ToUs(u64),
    /// Something may be in the hands of others.
    ToOthers,
}

/// A message that is not done. If it is dropped before [`Open::done`], the account never counts as done.
#[derive(Debug)]
pub(crate) struct Open(Arc<AtomicU64>);

impl Account {
    /// Begins where the inbox stands.
    pub(crate) fn new(inbox: &ConsumerState) -> Self {
        let delivered = match inbox.unacknowledged {
            0 => Delivered::ToUs(inbox.delivered),
            _ => Delivered::ToOthers,
        };
        Self { delivered, behind: None, open: Arc::default() }
    }

    /// A message came, in this delivery of the inbox, and so many wait behind it.
    pub(crate) fn came(&mut self, delivery: u64, behind: u64) -> Open {
        self.delivered = match self.delivered {
            Delivered::ToUs(last) if last + 1 == delivery => Delivered::ToUs(delivery),
            _ => Delivered::ToOthers,
        };
        self.behind = Some(behind);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.open.clone())
    }

    /// Whether everything is done that was there when the last message came; `false` if that is not known.
    pub(crate) fn is_done(&self) -> bool {
        self.delivered != Delivered::ToOthers && self.behind == Some(0) && self.open.load(Ordering::Relaxed) == 0
    }
}

impl Open {
    /// The server knows that it is done.
    pub(crate) fn done(self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An inbox that has delivered 4 messages, of which so many are not acknowledged.
    fn account(unacknowledged: u64) -> Account {
        Account::new(&ConsumerState {
            name: "inbox".into(),
            pending: 2,
            unacknowledged,
            acknowledged_to: 0,
            delivered: 4,
            delivered_to: 0,
            filters: Vec::new(),
            durable: true,
            waiting_pulls: 0,
            last_active: None,
            at: None,
            paused: None,
            max_unacknowledged: 0,
        })
    }

    #[test]
    fn it_is_done_when_the_last_of_all_is_done() {
        let mut account = account(0);
        assert!(!account.is_done(), "nothing has come");
        let first = account.came(5, 1);
        let second = account.came(6, 0);
        assert!(!account.is_done());
        second.done();
        assert!(!account.is_done());
        first.done();
        assert!(account.is_done());
        account.came(7, 3).done();
        assert!(!account.is_done(), "more waits");
    }

    #[test]
    fn it_does_not_know_where_others_may_have_some() {
        let mut before = account(1);
        before.came(5, 0).done();
        assert!(!before.is_done());
        let mut between = account(0);
        between.came(5, 2).done();
        between.came(7, 0).done();
        assert!(!between.is_done());
    }

    #[test]
    fn what_was_put_back_is_not_done() {
        let mut account = account(0);
        drop(account.came(5, 0));
        assert!(!account.is_done());
        account.came(6, 0).done();
        assert!(!account.is_done());
    }
}
