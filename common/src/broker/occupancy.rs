//! What transfers take in the data stream, without reading it.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;

use super::{Broker, BrokerError, CatalogEntry, TransferState, code};
use crate::{Channel, ChannelFilter, Kind, Manifest, TransferId};

/// How many messages the data stream has of each transfer, where somebody had to ask.
#[derive(Debug, Clone, Default)]
pub struct Occupancy(Option<Counts>);

type Counts = HashMap<(Channel, TransferId), u64>;

/// Bytes of payload, as well as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many.
    Exactly(u64),
    /// So many, or less: only the chunks themselves say how far they are compressed.
    AtMost(u64),
    /// Nobody has asked, or may.
    Unknown,
}

/// Some of a stream's subjects.
#[derive(Deserialize)]
struct Page {
    /// Subjects in all.
    #[serde(default)]
    total: u64,
    state: Subjects,
}

#[derive(Deserialize)]
struct Subjects {
    subjects: Option<HashMap<String, u64>>,
}

impl Broker {
    /// Counts what the data stream has of transfers on these channels, if there are some in chunks: copies that several senders have
    /// stored show in nothing else. By one request, or a few where there are very many. Where it may not be asked, that stays unknown.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn occupancy(
        &self, channels: &ChannelFilter, entries: &[CatalogEntry],
    ) -> Result<Occupancy, BrokerError> {
        if entries.iter().all(|entry| entry.manifest.inline.is_some()) {
            return Ok(Occupancy::default());
        }
        match self.count_chunks(channels).await {
            Ok(counts) => Ok(Occupancy(Some(counts))),
            Err(BrokerError::Denied { .. }) => Ok(Occupancy::default()),
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Ok(Occupancy::default()),
            Err(error) => Err(error),
        }
    }

    /// How many messages the data stream has of a transfer, which changes with each that is stored; `None` where it may not be asked.
    /// It takes no consumer, and moves no message.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn stored_messages(&self, manifest: &Manifest) -> Result<Option<u64>, BrokerError> {
        let filter = self.subjects().data(&manifest.channel, manifest.transfer);
        let what = format!("counting what is stored of transfer {}", manifest.transfer);
        let subject = format!("STREAM.INFO.{}", self.stream().data());
        match self.api_unless_denied(&what, &subject, &json!({ "subjects_filter": filter })).await {
            Ok(Page { state, .. }) => {
                Ok(Some(state.subjects.and_then(|counts| counts.get(&filter).copied()).unwrap_or(0)))
            }
            Err(BrokerError::Denied { .. }) => Ok(None),
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    async fn count_chunks(&self, channels: &ChannelFilter) -> Result<Counts, BrokerError> {
        let filter = self.subjects().filter(Kind::Data, channels);
        let subject = format!("STREAM.INFO.{}", self.stream().data());
        let (mut counts, mut seen) = (Counts::new(), 0);
        loop {
            let request = json!({ "subjects_filter": filter, "offset": seen });
            let Page { total, state } = self.api("counting what is stored", &subject, &request).await?;
            let subjects = state.subjects.unwrap_or_default();
            let page = subjects.len() as u64;
            seen += page;
            counts.extend(subjects.into_iter().filter_map(|(subject, count)| {
                let subject = self.subjects().parse(&subject).ok()?;
                Some(((subject.channel, subject.transfer), count))
            }));
            if page == 0 || seen >= total {
                return Ok(counts);
            }
        }
    }
}

impl Occupancy {
    /// What a transfer takes.
    pub fn of(&self, entry: &CatalogEntry) -> Taken {
        let manifest = &entry.manifest;
        match (&entry.state, &self.0) {
            (TransferState::Complete { size, stored_bytes, .. }, Some(counts)) if manifest.inline.is_none() => {
                let messages = counts.get(&(manifest.channel.clone(), manifest.transfer)).copied().unwrap_or(0);
                // Beside a copy of each chunk there is the closing record.
                let copies = messages.saturating_sub(manifest.chunk_size.count(*size).saturating_add(1));
                match copies.saturating_mul(manifest.chunk_size.bytes().into()) {
                    0 => Taken::Exactly(*stored_bytes),
                    more => Taken::AtMost(stored_bytes.saturating_add(more)),
                }
            }
            (TransferState::Complete { stored_bytes, .. }, _) => Taken::Exactly(*stored_bytes),
            (_, None) => Taken::Unknown,
            (state, Some(counts)) => {
                let messages = counts.get(&(manifest.channel.clone(), manifest.transfer)).copied().unwrap_or(0);
                // One is the mark that a cancellation leaves.
                let mark = matches!(state, TransferState::Cancelled { .. });
                match messages.saturating_sub(mark.into()) {
                    0 => Taken::Exactly(0),
                    chunks => Taken::AtMost(chunks.saturating_mul(manifest.chunk_size.bytes().into())),
                }
            }
        }
    }
}
