//! Talking to the server: the one module that knows async-nats.

mod catalog;
mod connection;
mod consumer;
mod error;
mod lookup;
mod publish;
mod pull;
mod pull_window;
mod streams;

pub use catalog::{CatalogEntry, TransferState};
pub use connection::{Broker, ConnectOptions};
pub use consumer::{ConsumerKind, ConsumerSpec, ConsumerState, StartAt};
pub use error::{BrokerError, code};
pub use lookup::{Scanned, StoredMessage};
pub use publish::{Acknowledgement, Stored};
pub use pull::{Delivery, Pull, PullSettings};
pub use streams::{StreamSettings, StreamsReport};
