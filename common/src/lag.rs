//! How far a receiver is behind.

/// Where a receiver's inbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Every message of the inbox up to this sequence is acknowledged.
    pub acknowledged_to: u64,
    /// The last sequence that was delivered.
    pub delivered_to: u64,
    /// How many messages were delivered and not acknowledged.
    pub unacknowledged: u64,
}

/// A transfer in an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Its manifest's sequence in the control stream.
    pub sequence: u64,
    /// Its size in bytes, where that is known.
    pub size: Option<u64>,
    /// Whether it is known to need nothing any more.
    pub settled: Settled,
}

/// Whether a receiver is known to be done with a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The receiver has said that it has it, or refuses it; or it was taken back, and nobody will have it.
    Known,
    /// Nothing says so.
    Unknown,
}

/// What a receiver has yet to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether they are just so many.
    pub certainty: Certainty,
}

/// Whether a number of bytes is just so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It is.
    Exact,
    /// There are no more, but for files of which no size is known.
    About,
}

impl Lag {
    /// What is left of the transfers on a receiver's channels. Up to where all is acknowledged, it is done; behind what was
    /// delivered, it is not. In between the server tells only how many are not, and what the receiver has said tells which.
    pub fn of(position: Position, transfers: impl IntoIterator<Item = Queued>) -> Self {
        let (mut waiting, mut open, mut bytes, mut all_sizes) = (0_u64, 0_u64, 0_u64, true);
        for transfer in transfers {
            if transfer.sequence <= position.acknowledged_to || transfer.settled == Settled::Known {
                continue;
            }
            if transfer.sequence > position.delivered_to {
                waiting += 1;
            } else {
                open += 1;
            }
            all_sizes &= transfer.size.is_some();
            bytes = bytes.saturating_add(transfer.size.unwrap_or(0));
        }
        let certain = all_sizes && open <= position.unacknowledged;
        let certainty = if certain { Certainty::Exact } else { Certainty::About };
        Self { files: waiting + open.min(position.unacknowledged), bytes, certainty }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queued(sequence: u64, settled: Settled) -> Queued {
        Queued { sequence, size: Some(10), settled }
    }

    #[test]
    fn what_was_delivered_and_is_silent_makes_it_uncertain() {
        let position = Position { acknowledged_to: 2, delivered_to: 6, unacknowledged: 1 };
        let words = |five| {
            [queued(1, Settled::Unknown), queued(4, Settled::Unknown), queued(5, five), queued(9, Settled::Unknown)]
        };
        let exact = Lag { files: 2, bytes: 20, certainty: Certainty::Exact };
        assert_eq!(Lag::of(position, words(Settled::Known)), exact);
        // One of 4 and 5 is done, and nothing says which.
        let about = Lag { files: 2, bytes: 30, certainty: Certainty::About };
        assert_eq!(Lag::of(position, words(Settled::Unknown)), about);
        let sizeless = Queued { size: None, ..queued(9, Settled::Unknown) };
        assert_eq!(Lag::of(position, [sizeless]).certainty, Certainty::About);
    }

    proptest! {
        /// Any inbox that the server can have: whether each message is acknowledged, and whether the receiver says so.
        #[test]
        fn it_is_exact_where_it_says_so(inbox in prop::collection::vec((any::<bool>(), any::<bool>(), 0..100_u64), 0..30), delivered in 0..30_usize) {
            let delivered = delivered.min(inbox.len());
            let done = |at: usize| at < delivered && inbox[at].0;
            let floor = (0..delivered).take_while(|at| done(*at)).count();
            let left: Vec<_> = (0..inbox.len()).filter(|at| !done(*at)).collect();
            let position = Position {
                acknowledged_to: floor as u64,
                delivered_to: delivered as u64,
                unacknowledged: left.iter().filter(|at| **at < delivered).count() as u64,
            };
            let transfers = (0..inbox.len()).map(|at| Queued {
                sequence: at as u64 + 1,
                size: Some(inbox[at].2),
                settled: if done(at) && inbox[at].1 { Settled::Known } else { Settled::Unknown },
            });
            let lag = Lag::of(position, transfers);
            let bytes: u64 = left.iter().map(|at| inbox[*at].2).sum();
            prop_assert_eq!(lag.files, left.len() as u64);
            match lag.certainty {
                Certainty::Exact => prop_assert_eq!(lag.bytes, bytes),
                Certainty::About => prop_assert!(lag.bytes >= bytes),
            }
        }
    }
}
