//! Why something was not sent.

use std::{io, path::PathBuf, time::Duration};

use natsfer_common::{
    ChunkSizeError, FileName, FileNameError, RecordError, SendError, TransferId,
    broker::{BrokerError, StreamDifference},
};

use crate::CarelessPruning;

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProducerError {
    /// The server refused, or could not be asked.
    #[error("the server did not do what was asked")]
    Broker(#[from] BrokerError),
    /// Nothing moved for as long as allowed. What is stored stays: sending again goes on from there.
    #[error("nothing moved for {} s while sending transfer {transfer}; send it again to go on", after.as_secs())]
    Stalled {
        /// The transfer.
        transfer: TransferId,
        /// How long was waited.
        after: Duration,
        /// What the server said last.
        source: BrokerError,
    },
    /// The source cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file, or a name for the reader.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The source is not a regular file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The source cannot be named on the wire.
    #[error("{} cannot be sent under its name; give another one", path.display())]
    Name {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: FileNameError,
    },
    /// The source's name is not Unicode.
    #[error("the name of {} is not Unicode (UTF-8); give another one", path.display())]
    NotUnicode {
        /// The path.
        path: PathBuf,
    },
    /// No name was given for a source that has none.
    #[error("a name is needed to send bytes or a reader")]
    NoName,
    /// The chunk size does not fit the server.
    #[error("the chunk size does not fit")]
    ChunkSize(#[from] ChunkSizeError),
    /// The transfer was begun with chunks that are larger than is taken now, and cannot be begun anew: its id was given, or its source
    /// can be read only once.
    #[error("the chunks of transfer {transfer} are too large now; {}", if *given { "choose another id" } else { "send it again, with --chunk-size" })]
    ChunksTooLarge {
        /// The transfer.
        transfer: TransferId,
        /// Whether its id was given.
        given: bool,
        /// The limit.
        source: BrokerError,
    },
    /// A stream is set up so that files do not arrive.
    #[error("nothing was sent: {difference}; `doctor` shows all that is wrong")]
    Unsuitable {
        /// What is otherwise than it must be.
        difference: Box<StreamDifference>,
    },
    /// The server has acknowledged the file, and it is not there where receivers look for it.
    #[error(
        "the stream has acknowledged transfer {transfer}, and does not have it where receivers look for it: another stream takes the \
         same subjects, or the stream stores what it takes under other ones; `doctor`, as an operator, looks at the streams"
    )]
    Misplaced {
        /// The transfer.
        transfer: TransferId,
    },
    /// The manifest cannot be written: too much metadata.
    #[error("the manifest of transfer {transfer} cannot be written")]
    Manifest {
        /// The transfer.
        transfer: TransferId,
        /// Why not.
        source: RecordError,
    },
    /// The source changed while it was sent: send it again. That transfer is cancelled, unless another run has completed it
    /// from what the source was before.
    #[error("{} changed while it was sent (transfer {transfer}): send it again", path.display())]
    SourceChanged {
        /// The file, or a name for the reader.
        path: PathBuf,
        /// The transfer that will not be completed from it.
        transfer: TransferId,
        /// What showed it, where the stored chunks did.
        source: Option<SendError>,
    },
    /// Somebody cancelled the transfer while it was sent.
    #[error("transfer {transfer} was cancelled while it was sent: {}", reason.escape_debug())]
    Cancelled {
        /// The transfer.
        transfer: TransferId,
        /// Why, in the words of whoever did it.
        reason: String,
    },
    /// Chunks of a closed transfer are missing, and its source can be read only once: whether it is unchanged must be known
    /// before they are published again.
    #[error(
        "chunks of transfer {transfer} are missing, and cannot be repaired from a source that is read once: send a file"
    )]
    NotRepairable {
        /// The transfer.
        transfer: TransferId,
    },
    /// The stream holds something else than was sent, and the source can be read only once: what the server had acknowledged is
    /// gone, or somebody else sends under the same id.
    #[error(
        "the stream does not hold what was sent of transfer {transfer}: chunks were lost, or another sender has its id; send it again to go on"
    )]
    Lost {
        /// The transfer.
        transfer: TransferId,
    },
    /// The stream has removed chunks of it to take others, more than once.
    #[error(
        "the stream has 'discard: old', and pushes chunks of transfer {transfer} out while it is sent: raise its max_bytes, or set \
         'discard: new' (`doctor` says how)"
    )]
    PushedOut {
        /// The transfer.
        transfer: TransferId,
    },
    /// The transfer itself is gone from the stream, and is not begun anew: its source can be read only once, or that has happened
    /// too often.
    #[error("transfer {transfer} was removed from the stream while it was sent, or lost with it: send it again")]
    Removed {
        /// The transfer.
        transfer: TransferId,
    },
    /// What was to be removed cannot have been meant.
    #[error("nothing was removed")]
    Careless(#[from] CarelessPruning),
    /// The server does not tell this user what time it is, and ages go by its clock.
    #[error(
        "nothing was removed: ages go by the server's clock, which it does not tell this user ($JS.API.STREAM.INFO)"
    )]
    NoServerTime,
    /// There is no such transfer.
    #[error("there is no transfer {transfer} in the stream: it never was, or has been removed")]
    NoSuchTransfer {
        /// The transfer.
        transfer: TransferId,
    },
    /// The given id belongs to a transfer of another name.
    #[error("transfer {transfer} has the name {name}: choose another id, or send under that name")]
    OtherName {
        /// The transfer.
        transfer: TransferId,
        /// Its name.
        name: FileName,
    },
    /// The given id belongs to a transfer of other bytes, or a cancelled one.
    #[error("transfer {transfer} exists with other contents, or was cancelled: choose another id")]
    IdTaken {
        /// The transfer.
        transfer: TransferId,
    },
}
