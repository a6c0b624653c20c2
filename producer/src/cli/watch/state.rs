//! What a watcher remembers: which version of which file was sent, and what is still to happen to it.
//!
//! One record a line, in JSON, with the CRC-32 of its text: a line that is torn or altered counts as not there. Later lines
//! count more than earlier ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use natsfer_producer::{Digest, FileName, ReceiverName, Sent, TransferId};
use serde::{Deserialize, Serialize};

use super::{content::Content, home::Identity, version::Version, writers::Completion};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// A version of a file was sent, and nothing more is to happen to it.
    Sent {
        name: FileName,
        version: Version,
        transfer: TransferId,
        /// Earlier programs did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    /// A file looks otherwise now, and is what was sent all the same.
    Same { name: FileName, version: Version },
    /// A version of a file was sent. Receivers are waited for, or it is to be deleted or moved.
    Open {
        version: Version,
        #[serde(default)]
        completion: Completion,
        /// Whom it was sent for. Lines that know of nobody are older than this.
        #[serde(default)]
        receivers: BTreeSet<ReceiverName>,
        sent: Box<Sent>,
    },
    /// A receiver has landed an open transfer, or will not.
    Heard { transfer: TransferId, receiver: ReceiverName, word: Word },
    /// Nothing more is to happen to an open transfer's file.
    Done { transfer: TransferId },
    /// There is no such file any more.
    Gone { name: FileName },
    /// The directory that all of this is about.
    Outbox(Identity),
}

/// What was heard of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Landed,
    NotLanded,
}

/// A transfer whose file something is still to happen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) version: Version,
    pub(super) completion: Completion,
    /// Whom it was sent for.
    pub(super) receivers: BTreeSet<ReceiverName>,
    pub(super) sent: Box<Sent>,
    pub(super) heard: BTreeMap<ReceiverName, Word>,
}

/// All that is remembered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Each file's version that was sent last.
    pub(super) sent: HashMap<FileName, Content>,
    /// Also of files that have gone or changed since.
    pub(super) open: BTreeMap<TransferId, Open>,
    /// The directory that was watched.
    pub(super) outbox: Option<Identity>,
}

const BEGIN: &str = "{\"crc32\":\"";
const MIDDLE: &str = "\",\"record\":";

impl Record {
    /// Its line, with the line's end.
    pub(super) fn to_line(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string(self)?;
        let crc32 = crc32fast::hash(text.as_bytes());
        Ok(format!("{BEGIN}{crc32:08x}{MIDDLE}{text}}}\n"))
    }

    /// The record of a line without its end; `None` if it is torn or altered, or of a kind that is not known here.
    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok()?;
        let (crc32, text) = line.strip_prefix(BEGIN)?.strip_suffix('}')?.split_once(MIDDLE)?;
        let sound = crc32 == format!("{:08x}", crc32fast::hash(text.as_bytes()));
        if sound { serde_json::from_str(text).ok() } else { None }
    }
}

impl State {
    /// Takes the next record into account.
    pub(super) fn take(&mut self, record: Record) {
        match record {
            Record::Sent { name, version, transfer, digest } => {
                self.open.remove(&transfer);
                self.sent.insert(name, Content { version, transfer, digest });
            }
            Record::Open { version, completion, receivers, sent } => {
                let content = Content { version, transfer: sent.transfer, digest: Some(sent.digest) };
                self.sent.insert(sent.name.clone(), content);
                self.open.insert(sent.transfer, Open { version, completion, receivers, sent, heard: BTreeMap::new() });
            }
            Record::Same { name, version } => {
                let Some(content) = self.sent.get_mut(&name) else { return };
                content.version = version;
                if let Some(open) = self.open.get_mut(&content.transfer).filter(|open| open.sent.name == name) {
                    open.version = version;
                }
            }
            Record::Heard { transfer, receiver, word } => {
                if let Some(open) = self.open.get_mut(&transfer) {
                    open.heard.insert(receiver, word);
                }
            }
            Record::Done { transfer } => _ = self.open.remove(&transfer),
            Record::Gone { name } => _ = self.sent.remove(&name),
            Record::Outbox(identity) => self.outbox = Some(identity),
        }
    }

    /// The fewest records that say all of this, in the order in which they are to be read.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let is_current = |open: &Open| {
            self.sent
                .get(&open.sent.name)
                .is_some_and(|content| (content.version, content.transfer) == (open.version, open.sent.transfer))
        };
        // Of a file that was sent again, the last version counts.
        let superseded = self.open.values().filter(move |open| !is_current(open)).flat_map(|open| {
            let gone =
                (!self.sent.contains_key(&open.sent.name)).then(|| Record::Gone { name: open.sent.name.clone() });
            open.records().chain(gone)
        });
        let current = self.open.values().filter(move |open| is_current(open)).flat_map(Open::records);
        let closed = self.sent.iter().filter(move |(name, content)| {
            !self.open.get(&content.transfer).is_some_and(|open| is_current(open) && open.sent.name == **name)
        });
        let closed = closed.map(|(name, Content { version, transfer, digest })| Record::Sent {
            name: name.clone(),
            version: *version,
            transfer: *transfer,
            digest: *digest,
        });
        superseded.chain(current).chain(closed).chain(self.outbox.map(Record::Outbox))
    }
}

impl Open {
    /// Who has said nothing yet, of those it was sent for and those who are named now: neither lets the source go alone.
    pub(super) fn awaited(&self, named: &[ReceiverName]) -> BTreeSet<ReceiverName> {
        self.receivers.iter().chain(named).filter(|receiver| !self.heard.contains_key(receiver)).cloned().collect()
    }

    /// The worst that was heard.
    pub(super) fn worst(&self) -> Word {
        if self.heard.values().any(|word| *word == Word::NotLanded) { Word::NotLanded } else { Word::Landed }
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let transfer = self.sent.transfer;
        let heard = self.heard.iter().map(move |(receiver, word)| {
            let receiver = receiver.clone();
            Record::Heard { transfer, receiver, word: *word }
        });
        let (version, completion, receivers) = (self.version, self.completion, self.receivers.clone());
        std::iter::once(Record::Open { version, completion, receivers, sent: self.sent.clone() }).chain(heard)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(in crate::cli::watch) mod tests;
