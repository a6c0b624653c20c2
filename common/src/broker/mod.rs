//! Talking to the server: the one module that knows async-nats.

mod catalog;
mod chunks;
mod connection;
mod consumer;
mod error;
mod fetch;
mod follow;
mod look;
mod lookup;
mod message;
mod patience;
mod publish;
mod pull;
mod pull_window;
mod push;
mod said;
mod streams;

pub use catalog::{CatalogEntry, TransferState};
pub use chunks::{Copies, Verification};
pub use connection::{Broker, ConnectOptions};
pub use consumer::{ConsumerKind, ConsumerSpec, ConsumerState, StartAt};
pub use error::{BrokerError, code};
pub use fetch::Fetch;
pub use follow::{AckPlace, Follow};
pub use lookup::{Place, Scanned};
pub use message::StoredMessage;
pub use patience::{Impatience, Patience};
pub use publish::{Acknowledgement, Stored};
pub use pull::{Delivery, Pull, PullSettings};
pub use streams::{StreamSettings, StreamsReport};
