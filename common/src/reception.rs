//! A receiver's decisions while a transfer comes in: read on, look for what did not come, ask the sender, land, or let it rest.

use crate::{ChunkSet, Progress, Totals};

/// One transfer being received: fed with what happened, and with how far the file is, it says what to do.
#[derive(Debug, Default)]
pub struct Reception {
    stage: Stage,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    /// What is missing may still come by itself, or lie in the stream.
    #[default]
    Reading,
    /// What is missing was asked for.
    Asked,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The reading begins.
    Begun,
    /// A chunk came.
    Chunk,
    /// A chunk came damaged.
    Damaged,
    /// The closing record came behind the chunks: all that is stored before it has been delivered.
    Closed,
    /// Nothing came for as long as is waited.
    Silence,
    /// [`Next::LookForClose`] is done, and what was found has been taken.
    Looked,
    /// [`Next::Refetch`] is done: every stored copy was tried.
    Refetched,
    /// [`Next::Ask`] is done.
    Asked,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Wait for the next message.
    Read,
    /// Look whether the transfer was closed without its record being delivered.
    LookForClose,
    /// Fetch these by themselves: every stored copy, until one is sound.
    Refetch(ChunkSet),
    /// No sound copy of these is stored: ask whoever has the source.
    Ask(ChunkSet),
    /// Every chunk is here: the digest decides.
    Land(Totals),
    /// Leave it for later: its sender has not finished it.
    Unfinished,
    /// Leave it for later: these were asked for, and have not come yet.
    AwaitRepair(ChunkSet),
}

impl Reception {
    /// Decides.
    pub fn next(&mut self, event: Event, progress: Progress) -> Next {
        let missing = match progress {
            Progress::Whole(totals) => return Next::Land(totals),
            Progress::Missing(missing) => missing,
            Progress::Open => {
                return match event {
                    Event::Silence => Next::LookForClose,
                    Event::Looked => Next::Unfinished,
                    _ => Next::Read,
                };
            }
        };
        match (event, &self.stage) {
            (Event::Refetched, Stage::Reading) => Next::Ask(missing),
            (Event::Asked, _) => {
                self.stage = Stage::Asked;
                Next::Read
            }
            // If it is one that was asked for, it is to be asked for again.
            (Event::Damaged, _) => {
                self.stage = Stage::Reading;
                Next::Read
            }
            (Event::Silence | Event::Looked | Event::Refetched, Stage::Asked) => Next::AwaitRepair(missing),
            (Event::Closed | Event::Looked | Event::Silence, Stage::Reading) => Next::Refetch(missing),
            (Event::Begun | Event::Chunk, _) | (Event::Closed, Stage::Asked) => Next::Read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DigestAlgorithm;

    fn missing() -> Progress {
        Progress::Missing([3].into_iter().collect())
    }

    #[test]
    fn a_sender_that_has_gone_is_waited_for_later() {
        let mut reception = Reception::default();
        assert_eq!(reception.next(Event::Begun, Progress::Open), Next::Read);
        assert_eq!(reception.next(Event::Silence, Progress::Open), Next::LookForClose);
        assert_eq!(reception.next(Event::Looked, Progress::Open), Next::Unfinished);
    }

    #[test]
    fn what_is_missing_is_looked_for_then_asked_for_then_waited_for() {
        let mut reception = Reception::default();
        let chunks: ChunkSet = [3].into_iter().collect();
        assert_eq!(reception.next(Event::Chunk, missing()), Next::Read);
        assert_eq!(reception.next(Event::Closed, missing()), Next::Refetch(chunks.clone()));
        assert_eq!(reception.next(Event::Refetched, missing()), Next::Ask(chunks.clone()));
        assert_eq!(reception.next(Event::Asked, missing()), Next::Read);
        assert_eq!(reception.next(Event::Closed, missing()), Next::Read, "a second closing record says nothing new");
        assert_eq!(reception.next(Event::Silence, missing()), Next::AwaitRepair(chunks));
        let totals = Totals { chunks: 4, size: 4, stored_bytes: 4, digest: DigestAlgorithm::Blake3.digest(b"") };
        assert_eq!(reception.next(Event::Chunk, Progress::Whole(totals)), Next::Land(totals));
    }
}
