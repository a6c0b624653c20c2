//! What natsfer counts, through the [`metrics`] facade: a service that has installed a recorder gets these with its own, and
//! nothing is counted without one. `--http` serves them for Prometheus.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Files sent, by how that ended; label `status`.
pub const SENT_FILES: &str = "natsfer_sent_files_total";
/// Bytes of the files sent.
pub const SENT_BYTES: &str = "natsfer_sent_bytes_total";
/// Files that could not be sent.
pub const SEND_FAILURES: &str = "natsfer_send_failures_total";
/// Files being sent.
pub const SENDING: &str = "natsfer_sending_files";
/// Files of a watched directory that are to be sent.
pub const OUTBOX_FILES: &str = "natsfer_outbox_files";
/// Files of a watched directory that were sent, and are awaited at receivers, or still to be deleted or moved.
pub const HELD_FILES: &str = "natsfer_held_files";
/// How long a file took, from its first byte read to the server's word that it is complete.
pub const SEND_SECONDS: &str = "natsfer_send_seconds";
/// Messages with bytes of files that the server has stored.
pub const PUBLISHED_CHUNKS: &str = "natsfer_published_chunks_total";
/// Bytes of their payloads, as published.
pub const PUBLISHED_BYTES: &str = "natsfer_published_bytes_total";
/// How long the server took to store one message.
pub const PUBLISH_SECONDS: &str = "natsfer_publish_seconds";
/// Requests and publications that were tried again, because the server was away, electing or full.
pub const RETRIES: &str = "natsfer_retries_total";
/// Files received, by what became of them; label `landing`.
pub const RECEIVED_FILES: &str = "natsfer_received_files_total";
/// Bytes of the files received.
pub const RECEIVED_BYTES: &str = "natsfer_received_bytes_total";
/// Files being received.
pub const RECEIVING: &str = "natsfer_receiving_files";
/// How long a file took at this receiver, from its manifest's arrival to its landing.
pub const RECEIVE_SECONDS: &str = "natsfer_receive_seconds";
/// How long ago the server had stored the manifest when the file landed.
pub const DELIVERY_SECONDS: &str = "natsfer_delivery_seconds";
/// Chunks that came.
pub const READ_CHUNKS: &str = "natsfer_read_chunks_total";
/// Bytes of their payloads, as they came.
pub const READ_BYTES: &str = "natsfer_read_bytes_total";
/// Bytes of files that came more than once.
pub const REFETCHED_BYTES: &str = "natsfer_refetched_bytes_total";
/// Chunks that came after they had been asked for.
pub const REPAIRED_CHUNKS: &str = "natsfer_repaired_chunks_total";
/// Requests for repair that were published.
pub const REPAIR_REQUESTS: &str = "natsfer_repair_requests_total";
/// Transfers that were put back, to be received later.
pub const PUT_BACK: &str = "natsfer_put_back_total";
/// Transfers refused for good; label `reason`.
pub const REJECTED_FILES: &str = "natsfer_rejected_files_total";
/// Transfers that no process of this receiver has taken.
pub const WAITING_FILES: &str = "natsfer_waiting_files";
/// Transfers that processes of this receiver hold: being received, or put back for later.
pub const TAKEN_FILES: &str = "natsfer_taken_files";
/// Commands that are to be run for files that have landed.
pub const PENDING_COMMANDS: &str = "natsfer_pending_commands";
/// Commands that have failed too often, and are not run any more.
pub const FAILED_COMMANDS: &str = "natsfer_failed_commands";
/// 1 while the connection to the server stands.
pub const CONNECTED: &str = "natsfer_connected";
/// How often a connection to a server was made.
pub const CONNECTIONS: &str = "natsfer_connections_total";

/// Describes all of them to the recorder.
pub fn describe() {
    for (name, unit, text) in [
        (SENT_FILES, Unit::Count, "Files sent, by how that ended"),
        (SENT_BYTES, Unit::Bytes, "Bytes of the files sent"),
        (SEND_FAILURES, Unit::Count, "Files that could not be sent"),
        (PUBLISHED_CHUNKS, Unit::Count, "Messages with bytes of files that the server has stored"),
        (PUBLISHED_BYTES, Unit::Bytes, "Bytes of their payloads"),
        (RETRIES, Unit::Count, "Requests and publications that were tried again"),
        (RECEIVED_FILES, Unit::Count, "Files received, by what became of them"),
        (RECEIVED_BYTES, Unit::Bytes, "Bytes of the files received"),
        (READ_CHUNKS, Unit::Count, "Chunks that came"),
        (READ_BYTES, Unit::Bytes, "Bytes of their payloads"),
        (REFETCHED_BYTES, Unit::Bytes, "Bytes of files that came more than once"),
        (REPAIRED_CHUNKS, Unit::Count, "Chunks that came after they had been asked for"),
        (REPAIR_REQUESTS, Unit::Count, "Requests for repair that were published"),
        (PUT_BACK, Unit::Count, "Transfers put back, to be received later"),
        (REJECTED_FILES, Unit::Count, "Transfers refused for good, by why"),
        (CONNECTIONS, Unit::Count, "Connections made to a server"),
    ] {
        describe_counter!(name, unit, text);
    }
    for (name, text) in [
        (SENDING, "Files being sent"),
        (OUTBOX_FILES, "Files of a watched directory that are to be sent"),
        (HELD_FILES, "Files of a watched directory that were sent, and awaited or still to be deleted or moved"),
        (RECEIVING, "Files being received"),
        (WAITING_FILES, "Transfers that no process of this receiver has taken"),
        (TAKEN_FILES, "Transfers that processes of this receiver hold"),
        (PENDING_COMMANDS, "Commands that are to be run for files that have landed"),
        (FAILED_COMMANDS, "Commands that have failed for good"),
        (CONNECTED, "1 while the connection to the server stands"),
    ] {
        describe_gauge!(name, Unit::Count, text);
    }
    for (name, text) in [
        (SEND_SECONDS, "From a file's first byte read to the server's word that it is complete"),
        (PUBLISH_SECONDS, "From a message's publication to the server's word that it is stored"),
        (RECEIVE_SECONDS, "From a manifest's arrival at the receiver to the file's landing"),
        (DELIVERY_SECONDS, "From a manifest's storage by the server to the file's landing"),
    ] {
        describe_histogram!(name, Unit::Seconds, text);
    }
}

/// One more of something that goes on, until this is dropped.
#[derive(Debug)]
pub struct UnderWay(&'static str);

impl UnderWay {
    /// Counts it in the gauge of this name.
    pub fn new(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1);
        Self(gauge)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1);
    }
}
