//! What both ends of natsfer agree on.
//!
//! The modules at the top level are the protocol and every decision about it: validated names, the records that
//! travel in message headers, chunk arithmetic, codecs, digests, and the two state machines ([`SendPlan`] for the
//! producer, [`Assembler`] for the receiver). They know no network, no clock and no task: they are fed with what was
//! read and answer with what to do, so they are tested in thousands of random runs without a server.
//!
//! [`broker`] is the one module that talks to NATS: connecting, creating the streams, pulling within a byte budget,
//! and looking up what is stored.
//!
//! This crate is not meant to be used alone: a service depends on `natsfer-producer` or `natsfer-consumer`.

mod arrival_rate;
mod arrivals;
mod assembler;
mod blocking;
pub mod broker;
mod channel;
mod chunk;
mod chunk_set;
mod chunk_size;
#[cfg(feature = "cli")]
pub mod cli;
mod closing;
mod compression;
mod congestion;
mod cut_off;
mod digest;
mod encoding;
mod file_name;
pub mod header;
mod id_prefix;
mod in_flight;
mod in_words;
mod journal;
mod lag;
mod liveness;
mod manifest;
pub mod metrics;
mod pace;
mod part;
mod portable_name;
mod read_ahead;
mod receipt;
mod receiver_name;
mod reception;
mod record;
mod rejection;
mod repair;
mod send_plan;
mod stored_transfer;
mod stream_name;
mod subject;
mod together;
mod transfer_id;

pub use assembler::{Assembler, Contradiction, Placement, Progress};
pub use blocking::{blocking, joined};
pub use channel::{Channel, ChannelError, ChannelFilter};
pub use chunk::{ChunkError, ChunkHeader};
pub use chunk_set::{ChunkSet, ChunkSetError};
pub use chunk_size::{
    ALWAYS_INLINE, ChunkSize, ChunkSizeError, ChunkSizing, LinkEstimate, MESSAGE_OVERHEAD, MOST_STORED,
};
pub use closing::{Closing, ClosingRecord, Totals};
pub use compression::{Compression, Compressor};
pub use congestion::{Congestion, Flight, Probe};
pub use digest::{Digest, DigestAlgorithm, DigestAlgorithmError, DigestError, Hasher};
pub use encoding::{DecodeError, Encoding};
pub use file_name::{FileName, FileNameError, STAGING_DIRECTORY};
pub use id_prefix::{IdPrefix, IdPrefixError, ShortIds};
pub use in_words::{count, human_age, human_bytes, human_bytes_apart};
pub use journal::{Journal, JournalEntry, JournalError, JournalHeader};
pub use lag::{Certainty, Lag, Position, Queued, Settled};
pub use manifest::{Inline, InlineError, Manifest, Metadata};
pub use pace::{Pace, Rate};
pub use part::{Fate, Part, PartError, PartStore};
pub use portable_name::folded;
pub use receipt::Receipt;
pub use receiver_name::{ReceiverName, ReceiverNameError};
pub use reception::{Event, Next, Reception};
pub use record::RecordError;
pub use rejection::{Rejection, RejectionReason, RejectionState};
pub use repair::RepairRequest;
pub use send_plan::{Ending, Offer, Published, SendError, SendPlan};
pub use stored_transfer::{AcknowledgedChunk, StoredChunk, StoredTransfer, Verdict};
pub use stream_name::{StreamName, StreamNameError};
pub use subject::{Kind, Subject, SubjectError, Subjects, overlap, selects};
pub use together::Together;
pub use transfer_id::{TransferId, TransferIdError};
