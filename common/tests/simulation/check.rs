//! What a run leaves behind: what happened, what was wrong, and a trace of how it came about.

use std::fmt;

use crate::rng::Rng;

macro_rules! listed {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$item_doc])* $item),* }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$item),*];
        }
    };
}

listed! {
    /// What is counted. A set of runs in which one of these did not happen has shown nothing about it.
    Seen {
        Runs, RunsOfUnchangedSources, RunsOfTwoClocks, RunsOfUnknownSize, EmptyFiles,
        SenderKilled, PublishLost, PublishAckLost, AnsweredDuplicate, PublishedLate, RivalSender,
        SourceChanged, SourceChangedWhileSent,
        ChunksPublished, ChunksFoundStored, Opened, OpenRefused,
        ClosePublished, CloseRefused, ClosedOnLookingAgain, StartedOver, CloseListed,
        LookedBeside, LookShowsLess, ListedFirst, ListedAlone,
        VerdictWhole, VerdictRepair, VerdictResume, VerdictAbandon, RepairsDone, Cancelled, SentElsewhere,
        MessageLost, PayloadAltered, MessageDoubled, DataPurged, DataRecreated, ControlRecreated,
        DataRestored, ControlRestored, BothRestored, CursorForgotten, CursorRestored,
        DeliveryLost, DeliveryTwice, DeliveryReordered, Redelivered, CursorMadeAnew,
        ChunksWritten, ChunksHeld, ChunksDamaged, Checkpoints, Acknowledged,
        ReceiverKilled, ReceiverMachineStopped, StoppedInOpen, StoppedInWrite, StoppedInCheckpoint, StoppedInLanding,
        DiskFull, Resumed, JournalTorn, JournalAltered, JournalDeleted, JournalOfAnother, PartWiped, PartCut, PartAltered,
        LookedForClose, Refetched, RefetchFoundAll, RepairRequested, RequestStands, AwaitedRepair, Unfinished,
        Landed, LandedAfterRepair, LandedBeforeTheEnd, LandedWithoutSender, FailedByName,
        OpenedOverChunks, ClosedTwice, NeedlessRepair,
    }
}

listed! {
    /// A deliberate mistake of a driver, to see that it is noticed.
    Sabotage {
        /// The receiver acknowledges what it has not checkpointed.
        AckBeforeCheckpoint,
        /// The part's sync does nothing.
        LyingSync,
        /// The journal's sync does nothing.
        LyingJournalSync,
        /// The sender closes while acknowledgements are outstanding.
        EarlyClose,
        /// The sender closes whatever the subject's last message is.
        BlindClose,
        /// The sender mixes in another source.
        MixSources,
        /// A repair publishes every chunk.
        RepairAll,
        /// A resuming sender publishes every chunk.
        ResumeAll,
        /// A sender that finds its transfer whole closes it again.
        RepublishWhole,
        /// The sender does not look at requests.
        DeafSender,
        /// The receiver does not ask.
        MuteReceiver,
        /// The receiver asks again while its request stands.
        ImpatientReceiver,
        /// The receiver asks without having tried the stored copies.
        LazyReceiver,
        /// The receiver lands what was altered since it was checked.
        LandAltered,
        /// The receiver lands though chunks are missing.
        LandMissing,
        /// The receiver names a file that is not synced.
        LandUnsynced,
        /// The receiver believes a payload rather than its CRC-32.
        BelievePayload,
        /// The receiver looks for the end nowhere but where it reads.
        ForgetClose,
        /// The receiver begins anew whenever it starts.
        WipeAtStart,
        /// A sender that starts over uses the message ids of before.
        OneNonce,
    }
}

/// How often each thing happened.
#[derive(Debug, Clone)]
pub(crate) struct Tally([u64; Seen::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Seen::ALL.len()])
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    pub(crate) fn of(&self, seen: Seen) -> u64 {
        self.0[seen as usize]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Seen::ALL.iter().try_for_each(|seen| writeln!(f, "{:>12}  {seen:?}", self.of(*seen)))
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone)]
pub(crate) struct Violation(pub(crate) String);

/// What every step answers.
pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Checks an invariant.
pub(crate) fn ensure(holds: bool, violated: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(violated())) }
}

/// What all parts of a run share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) rng: Rng,
    /// The clock, in ticks.
    pub(crate) now: u64,
    /// Whether things still go wrong.
    pub(crate) faulty: bool,
    /// Whether the source was changed at any time.
    pub(crate) changed: bool,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) tally: Tally,
    pub(crate) step: u32,
    /// Kept only when a seed is run again to tell what happened.
    pub(crate) trace: Option<Vec<String>>,
}

impl Context {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>, traced: bool) -> Self {
        let trace = traced.then(Vec::new);
        let (rng, tally) = (Rng::new(seed), Tally::default());
        Self { rng, now: 1_000, faulty: true, changed: false, sabotage, tally, step: 0, trace }
    }

    /// Notes what happens, for whoever reads the trace.
    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>4} t={:<5} {}", self.step, self.now, what()));
        }
    }

    pub(crate) fn count(&mut self, seen: Seen) {
        self.tally.0[seen as usize] += 1;
    }

    pub(crate) fn count_many(&mut self, seen: Seen, times: u64) {
        self.tally.0[seen as usize] += times;
    }

    /// A later moment.
    pub(crate) fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Something that goes wrong in so many of a hundred cases, as long as things go wrong.
    pub(crate) fn fault(&mut self, percent: usize) -> bool {
        self.faulty && self.rng.chance(percent)
    }

    pub(crate) fn sabotaged(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }
}
