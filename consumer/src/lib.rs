//! Receives files over NATS JetStream: whole or not there, however often either side or the server goes away.
//!
//! A [`Receiver`] has a durable name. Receivers of different names each get every file on their channels; processes that
//! share a name share the files. Each [`Incoming`] transfer carries its manifest and ends in one consuming call: save it
//! into a directory, read it, skip it, or reject it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use natsfer_consumer::{ConnectOptions, Receiver, ReceiverOptions, SaveOptions, TargetDirectory};
//!
//! let inbox = TargetDirectory::open("inbox")?;
//! let options = ReceiverOptions::new("billing".parse()?).with_channels("invoices.>".parse()?).with_home(&inbox);
//! let mut receiver = Receiver::connect(&ConnectOptions::default(), options).await?;
//! while let Some(incoming) = receiver.next().await? {
//!     println!("{}", incoming.save_into(&inbox, &SaveOptions::default()).await?.path.display());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Replays`] reads past transfers again without disturbing any receiver, and [`read_range`] a part of one.

mod account;
mod ahead;
mod bench;
mod checkpoint;
mod crossing;
mod cursor;
mod direct;
mod disk_error;
mod durable;
mod error;
mod examination;
mod flow;
mod group;
mod group_directories;
mod hold;
pub mod hooks;
mod incoming;
mod inline;
mod intake;
mod landed;
mod landing;
mod layout;
mod ledger;
mod limits;
mod lock;
mod move_without_replacing;
mod options;
mod origin;
mod part_files;
mod presence;
mod preview;
mod progress;
mod pump;
mod quota;
mod range;
mod read_marks;
mod reader;
mod receiver;
mod rejections;
mod replay;
mod report;
mod rights;
mod room;
mod root;
mod save;
mod selection;
mod shortfall;
mod staging;
mod sweep;
mod target;

pub use disk_error::Ability;
pub use error::{Failure, ReceiveError};
pub use examination::{DirectoryFacts, LandingFailure, Shortfall, examine_directory};
pub use incoming::Incoming;
pub use landed::Landed;
pub use landing::Landing;
pub use layout::{Layout, LayoutError, PlaceError, Placed};
pub use limits::{Limits, Unwanted};
pub use natsfer_common::{
    Channel, ChannelFilter, Digest, FileName, Manifest, PartError, ReceiverName, Rejection, RejectionReason,
    RejectionState, TransferId,
    broker::{
        AccessError, Broker, BrokerError, CatalogEntry, ClientCertificate, ConnectOptions, Contexts, Handshake,
        JetStreamApi, JetStreamDomain, Login, Secret, Settings, SettingsError, SubjectPrefix, SubjectPrefixError, Tls,
        TransferState,
    },
};
pub use options::{ConflictPolicy, ReceiverOptions, SaveOptions};
pub use preview::{Outlook, Preview, Previewing};
pub use progress::Progress;
pub use range::{ByteRange, read_range};
pub use reader::TransferReader;
pub use receiver::{Backlog, Receiver};
pub use rejections::{Rejected, Rejections};
pub use replay::{PastTransfers, Replays};
pub use root::Gone;
pub use save::Saved;
pub use selection::{Choice, MetadataPattern, NamePattern, Selection, SizeRange, Unmet};
pub use target::TargetDirectory;

/// What a slot of a ledger says, for the fuzz targets.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn noted(slot: &[u8]) -> Option<String> {
    ledger::noted(slot)
}
