//! Why a transfer was not received.

use std::{
    io,
    path::{Path, PathBuf},
};

use natsfer_common::{
    ChunkSet, Contradiction, PartError, RecordError, RejectionReason, TransferId, broker::BrokerError, count,
    human_bytes, human_bytes_apart,
};

use crate::{
    Gone, PlaceError, Unmet,
    disk_error::{Call, Meaning, meaning},
};

/// Why a transfer was not received, or a receiver not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The server refused, or could not be asked.
    #[error("the server did not do what was asked")]
    Broker(#[from] BrokerError),
    /// A file or directory could not be used.
    #[error("{doing} {}", path.display())]
    Disk {
        /// What was tried, such as `cannot write`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Nothing came for a while, and the sender has not closed the transfer: it will be tried again.
    #[error("transfer {transfer} is not finished by its sender, and nothing more of it came for a while")]
    Stalled {
        /// The transfer.
        transfer: TransferId,
    },
    /// It is worked on already, in the same directory: by another process of this receiver, or by this one, which was given it twice.
    /// It will be tried again.
    #[error("transfer {transfer} is being received already, in this directory")]
    Busy {
        /// The transfer.
        transfer: TransferId,
    },
    /// Its messages cannot all be true, or its sender took it back.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// Its record cannot be read.
    #[error("a record of transfer {transfer} cannot be read")]
    Record {
        /// The transfer.
        transfer: TransferId,
        /// What is wrong with it.
        source: RecordError,
    },
    /// Chunks are gone from the stream, or stored damaged. A receiver has asked for them: it will be tried again.
    #[error(
        "chunks {missing} of transfer {transfer} are missing from the stream or damaged in it: run `natsfer-producer \
         send` on the unchanged source again"
    )]
    ChunksMissing {
        /// The transfer.
        transfer: TransferId,
        /// The chunks.
        missing: ChunkSet,
    },
    /// The bytes are not those that were sent: chunks of one index differ, or the digest does.
    #[error(transparent)]
    Part(PartError),
    /// The file inside a manifest's message is damaged.
    #[error("the file inside the message of transfer {transfer} is damaged: {reason}")]
    InlineDamaged {
        /// The transfer.
        transfer: TransferId,
        /// How.
        reason: String,
    },
    /// A file of that name is there already, and the policy is to fail.
    #[error("{} exists already with other contents", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The name cannot be landed under: a directory in its way is a symbolic link or a file, or it names a directory.
    #[error("'{name}' cannot be landed in {}: {reason}", target.display())]
    NotLandable {
        /// The file's name.
        name: String,
        /// The target directory.
        target: PathBuf,
        /// What is in the way.
        reason: String,
    },
    /// What its sender says of it makes no name by the layout.
    #[error("'{name}' of transfer {transfer} has no place to land")]
    NoPlace {
        /// The transfer.
        transfer: TransferId,
        /// The name it was sent under.
        name: String,
        /// Why.
        source: PlaceError,
    },
    /// A receiver of this name listens on other channels.
    #[error(
        "receiver '{receiver}' exists and listens on {existing}, not on {wanted}: say -c '{existing}', choose another name, or \
         remove it with `natsfer-consumer forget -n {receiver}`"
    )]
    OtherChannels {
        /// The receiver.
        receiver: String,
        /// The channels it listens on.
        existing: String,
        /// The channels that were asked for.
        wanted: String,
    },
    /// The target directory is not the one any more that was opened. Nothing lands in it, and no receipt is given for what has landed
    /// meanwhile: it comes again.
    #[error("the target directory {} is gone: {how}. Start again once it is in its place", path.display())]
    TargetGone {
        /// The directory.
        path: PathBuf,
        /// How.
        how: Gone,
    },
    /// It is larger than this receiver takes.
    #[error(
        "{what} of transfer {transfer} has {}; this receiver takes at most {}",
        human_bytes_apart(*bytes, *limit)[0],
        human_bytes_apart(*bytes, *limit)[1]
    )]
    TooLarge {
        /// The transfer.
        transfer: TransferId,
        /// `the file` or `a chunk`.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is larger than the target directory may ever be.
    #[error(
        "transfer {transfer} has {}, and can never fit: the files in the target directory may take {} together \
         (--max-disk)",
        human_bytes_apart(*bytes, *limit)[0],
        human_bytes_apart(*bytes, *limit)[1]
    )]
    NeverFits {
        /// The transfer.
        transfer: TransferId,
        /// Its size in bytes, as far as it is known.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is of a kind that this receiver does not take.
    #[error("'{name}' of transfer {transfer} is of a kind that this receiver does not take: {reason}")]
    Unwanted {
        /// The transfer.
        transfer: TransferId,
        /// The file's name.
        name: String,
        /// Of which kind it is.
        reason: &'static str,
    },
    /// Its sender has not finished it, and more transfers wait like that than are allowed.
    #[error(
        "transfer {transfer} is not finished by its sender, and this receiver has {} in work; at most {limit} may be",
        count(*waiting, "transfer")
    )]
    Abandoned {
        /// The transfer.
        transfer: TransferId,
        /// How many wait.
        waiting: u64,
        /// How many may.
        limit: u64,
    },
    /// The target directory may not grow as far. It will be tried again.
    #[error("no room for transfer {transfer}: the files in the target directory may take {} together", human_bytes(*limit))]
    OverQuota {
        /// The transfer.
        transfer: TransferId,
        /// The limit in bytes.
        limit: u64,
    },
    /// The receiver has not rejected it, or it has landed since.
    #[error(
        "receiver '{receiver}' has not rejected transfer {transfer}; `natsfer-consumer rejected -n {receiver}` lists what it has"
    )]
    NotRejected {
        /// The transfer.
        transfer: TransferId,
        /// The receiver.
        receiver: String,
    },
    /// What was rejected is no transfer: nothing can be received from it.
    #[error("message {sequence} of the control stream opens no transfer: there is nothing to try again")]
    NoTransfer {
        /// The message's sequence.
        sequence: u64,
    },
    /// There is no such transfer in the stream.
    #[error("there is no transfer {transfer} in the stream: it never was, or has been removed")]
    NoSuchTransfer {
        /// The transfer.
        transfer: TransferId,
    },
    /// It does not meet the conditions of those that are taken: it is taken for done, without having been received.
    #[error("transfer {transfer} is passed over: {}", why.as_str())]
    PassedOver {
        /// The transfer.
        transfer: TransferId,
        /// What it does not meet.
        why: Unmet,
    },
    /// Whether it is taken depends on its size, which is known once its sender has finished it: it will be tried again.
    #[error("transfer {transfer} is not finished by its sender: only then is its size known, by which it is chosen")]
    SizeUnknown {
        /// The transfer.
        transfer: TransferId,
    },
    /// Something that must be kept until after the file was landed could not be. It will be tried again.
    #[error("transfer {transfer} has landed, and what is to follow could not be noted")]
    NotNoted {
        /// The transfer.
        transfer: TransferId,
        /// Why.
        source: io::Error,
    },
    /// The range lies beyond the end of the file.
    #[error("the range begins at byte {first}, transfer {transfer} has {}", count(*size, "byte"))]
    RangeBeyondEnd {
        /// The transfer.
        transfer: TransferId,
        /// Where the range begins.
        first: u64,
        /// The file's size.
        size: u64,
    },
}

/// What a failure means for the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Trying again later can help: it goes back to the server.
    Passing,
    /// It will never succeed here: it is taken off the receiver's inbox.
    Final,
    /// It was taken back, or removed: there is nothing to receive.
    Cancelled,
    /// It is none of those that are taken: it is done without being received.
    PassedOver,
}

impl ReceiveError {
    /// What the failure means for the transfer.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Contradiction(Contradiction::Cancelled { .. }) => Failure::Cancelled,
            Self::Disk { source, .. } if meaning(Call::Use, source) == Meaning::TheFile => Failure::Final,
            Self::NoSuchTransfer { .. } => Failure::Cancelled,
            Self::PassedOver { .. } => Failure::PassedOver,
            Self::Broker(_)
            | Self::Disk { .. }
            | Self::Stalled { .. }
            | Self::SizeUnknown { .. }
            | Self::NotNoted { .. }
            | Self::TargetGone { .. }
            | Self::Busy { .. }
            | Self::OverQuota { .. }
            | Self::ChunksMissing { .. } => Failure::Passing,
            _ => Failure::Final,
        }
    }

    /// Whether it counts the transfer as one that its sender has not finished: `Limits::max_open` bounds those, and a receiver that
    /// drains does not wait for them. One whose chunks are missing was finished.
    pub fn is_unfinished(&self) -> bool {
        matches!(self, Self::Stalled { .. } | Self::SizeUnknown { .. })
    }

    /// Whether it says that everything stored has been read: how far that was is remembered, and nothing is read again before more
    /// is stored. Where only the size is unknown, nothing was read.
    pub(crate) fn has_read_all_stored(&self) -> bool {
        matches!(self, Self::Stalled { .. } | Self::ChunksMissing { .. })
    }

    /// Whether it says that the server had no consumer left to read the transfer with.
    pub fn finds_no_consumer(&self) -> bool {
        matches!(self, Self::Broker(BrokerError::ConsumersUsedUp { .. }))
    }

    /// Whether it says that what came does not belong together.
    pub(crate) fn is_about_bytes(&self) -> bool {
        self.rejection() == Some(RejectionReason::Contradiction)
    }

    /// Why a receiver rejects a transfer for it; `None` if it does not.
    pub fn rejection(&self) -> Option<RejectionReason> {
        if self.failure() != Failure::Final {
            return None;
        }
        Some(match self {
            // Its message has been asked for, and comes again.
            Self::InlineDamaged { .. } => return None,
            Self::TooLarge { .. } | Self::NeverFits { .. } | Self::Contradiction(Contradiction::TooLarge { .. }) => {
                RejectionReason::TooLarge
            }
            Self::Contradiction(_) | Self::Part(_) => RejectionReason::Contradiction,
            Self::Record { source: RecordError::Name(_), .. } => RejectionReason::Name,
            Self::Record { .. } => RejectionReason::Unreadable,
            Self::Unwanted { .. } | Self::NotLandable { .. } | Self::NoPlace { .. } => RejectionReason::Name,
            Self::Exists { .. } => RejectionReason::Exists,
            Self::Abandoned { .. } => RejectionReason::Abandoned,
            _ => RejectionReason::Other,
        })
    }

    /// What happened, and what caused it.
    pub fn in_full(&self) -> String {
        let sources = std::iter::successors(std::error::Error::source(self), |error| error.source());
        sources.fold(self.to_string(), |text, source| format!("{text}: {source}"))
    }

    /// Names the directory's own limit where that was what it exceeds.
    pub(crate) fn within_directory(self, max_disk: Option<u64>) -> Self {
        match (self, max_disk) {
            (Self::TooLarge { transfer, what: "the file", bytes, limit }, Some(max_disk)) if limit == max_disk => {
                Self::NeverFits { transfer, bytes, limit }
            }
            (Self::Contradiction(Contradiction::TooLarge { transfer, size, most }), Some(max_disk))
                if most == max_disk =>
            {
                Self::NeverFits { transfer, bytes: size, limit: most }
            }
            (error, _) => error,
        }
    }

    /// Says what became of a name that could not be made: it may be the name's own fault.
    pub(crate) fn naming(name: &str, target: &Path, doing: &'static str, source: io::Error) -> Self {
        match meaning(Call::Name, &source) {
            Meaning::TheFile => Self::NotLandable {
                name: name.into(),
                target: target.into(),
                reason: format!("this file system does not take it ({source})"),
            },
            _ => Self::Disk { doing, path: target.join(name), source },
        }
    }

    pub(crate) fn disk(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { doing, path, source }
    }
}

impl From<PartError> for ReceiveError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Store(source) => Self::Disk { doing: "cannot write", path: "the part file".into(), source },
            PartError::Contradiction(contradiction) => contradiction.into(),
            other => Self::Part(other),
        }
    }
}
