//! Sends files over NATS JetStream: resumable without local state, never a wrong byte.
//!
//! A [`Producer`] publishes files, readers and bytes on channels. The stream is its journal: a transfer's id is derived from
//! what is sent, so that sending again finds the earlier work, publishes only what is missing, and closes.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use natsfer_producer::{ConnectOptions, Producer, SendOptions};
//!
//! let producer = Producer::connect(&ConnectOptions::default()).await?;
//! let options = SendOptions::default().with_channel("invoices.eu".parse()?);
//! let sent = producer.send_file("invoice.pdf", options).await?;
//! println!("{} as {}", sent.name, sent.transfer);
//! # Ok(())
//! # }
//! ```

mod attempt;
mod chunks;
mod closing;
mod cutter;
mod deliveries;
mod error;
mod inline_file;
mod input;
mod lanes;
mod options;
mod patience;
mod prepare;
mod preview;
mod producer;
mod pruning;
mod recovery;
mod removal;
mod rounds;
mod sending;
mod sent;
mod source;
mod suitability;
mod tombstone;
mod turns;
mod upload;
mod verification;

pub use deliveries::{Deliveries, NotLanded, Word};
pub use error::ProducerError;
pub use natsfer_common::{
    Channel, ChannelFilter, ChunkSize, ChunkSizing, Compression, Digest, DigestAlgorithm, FileName, Manifest, Metadata,
    Receipt, ReceiverName, RejectionReason, RepairRequest, TransferId,
    broker::{
        AccessError, Broker, BrokerError, CatalogEntry, ClientCertificate, ConnectOptions, Contexts, Handshake,
        JetStreamApi, JetStreamDomain, Login, Secret, Settings, SettingsError, Standing, StandingState, StreamSettings,
        StreamsReport, SubjectPrefix, SubjectPrefixError, Tls, TransferState, standings,
    },
};
pub use options::{Evidence, SendOptions};
pub use preview::{Before, Preview};
pub use producer::Producer;
pub use pruning::{CarelessPruning, PruneState, Pruning};
pub use removal::{Cancellation, Remover, cancel, remove};
pub use sending::{Progress, Sending};
pub use sent::{Sent, SentStatus};
pub use verification::StoredCopy;
