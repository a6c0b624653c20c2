//! A receiver's request for chunks that are gone from the stream, or stored damaged.

use serde::{Deserialize, Serialize};

use crate::{ChunkSet, ReceiverName, RecordError, TransferId, record};

/// Runs of chunks in one request, at most: what is beyond is asked for once these have come. So many fit a record, also where
/// each is 44 bytes long.
const MOST_RUNS: usize = 700;

/// What a receiver publishes when no sound copy of some chunks is stored. It is answered by publishing these chunks again,
/// by whoever still has the unchanged source: a forged one costs at most that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRequest {
    /// The record's version.
    version: u32,
    /// The transfer.
    pub transfer: TransferId,
    /// Who asks.
    pub receiver: ReceiverName,
    /// The chunks.
    pub chunks: ChunkSet,
}

impl RepairRequest {
    /// This receiver's request for these chunks, or for the first of them if they are scattered too widely for one message.
    pub fn new(transfer: TransferId, receiver: ReceiverName, chunks: &ChunkSet) -> Self {
        Self { version: record::VERSION, transfer, receiver, chunks: chunks.runs().take(MOST_RUNS).collect() }
    }

    /// The header's text.
    ///
    /// # Errors
    /// When the record would be over 32 KiB.
    pub fn to_header(&self) -> Result<String, RecordError> {
        record::write(self)
    }

    /// Reads and checks the header of a message about this transfer.
    ///
    /// # Errors
    /// When it is malformed, too new, speaks of another transfer, or asks for nothing.
    pub fn from_header(text: &str, transfer: TransferId) -> Result<Self, RecordError> {
        let request: Self = record::read(text)?;
        if request.transfer != transfer {
            return Err(RecordError::Contradiction("it is about another transfer than its subject names"));
        }
        if request.chunks.is_empty() {
            return Err(RecordError::Contradiction("it asks for no chunk"));
        }
        if request.chunks.runs().count() > MOST_RUNS {
            return Err(RecordError::Contradiction("it asks for more runs of chunks than a request may"));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(chunks: &ChunkSet) -> RepairRequest {
        RepairRequest::new("0".repeat(32).parse().unwrap(), "billing".parse().unwrap(), chunks)
    }

    #[test]
    fn a_request_is_read_back() {
        let chunks = [3..5, 9..10].into_iter().collect();
        let header = request(&chunks).to_header().unwrap();
        assert!(header.contains("\"chunks\":[[3,4],[9,9]]"), "{header}");
        assert_eq!(RepairRequest::from_header(&header, request(&chunks).transfer).unwrap(), request(&chunks));
    }

    #[test]
    fn what_is_scattered_widely_is_asked_for_in_parts() {
        let last = u64::MAX - 3;
        let scattered: ChunkSet = (0..5_000).map(|index| last - 2 * index..last - 2 * index + 1).collect();
        let mut request = request(&scattered);
        request.receiver = "b".repeat(64).parse().unwrap();
        assert_eq!(request.chunks.len(), MOST_RUNS as u64);
        assert!(request.to_header().is_ok());
    }

    #[test]
    fn no_more_is_read_than_is_written() {
        let runs: Vec<_> = (0..=MOST_RUNS).map(|at| format!("[{0},{0}]", 2 * at)).collect();
        let header = request(&ChunkSet::run(3..4)).to_header().unwrap();
        let lie = header.replace("[3,3]", &runs.join(","));
        assert!(RepairRequest::from_header(&lie, request(&ChunkSet::default()).transfer).is_err());
    }

    #[test]
    fn lies_are_refused() {
        let chunks = [3..5, 9..10].into_iter().collect();
        let header = request(&chunks).to_header().unwrap();
        let transfer = request(&chunks).transfer;
        for runs in [
            "[]",
            "[[5,4]]",
            "[[3,4],[4,9]]",
            "[[9,9],[3,4]]",
            "[[0,18446744073709551615]]",
            "[[0,18446744073709551615],[5,6]]",
            "[[0]]",
            "[[-1,2]]",
        ] {
            let lie = header.replace("[[3,4],[9,9]]", runs);
            assert!(RepairRequest::from_header(&lie, transfer).is_err(), "{runs} was taken");
        }
        assert!(RepairRequest::from_header(&header, "1".repeat(32).parse().unwrap()).is_err());
    }
}
