//! One run of the command, as it is kept on disk.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use natsfer_common::{Digest, Manifest, ReceiverName, TransferId};
use serde::{Deserialize, Serialize};

use crate::{Landed, Saved};

/// The version this code writes and reads.
const VERSION: u32 = 1;

/// A run that is to be, or has failed: everything the command is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    version: u32,
    /// Who has received the file.
    pub receiver: ReceiverName,
    /// Where it stands, below the target directory.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// When its manifest was stored.
    pub published_at: Timestamp,
    /// When it had landed.
    pub noted_at: Timestamp,
    /// What its sender says of it.
    pub manifest: Manifest,
    /// How many tries have failed, since it was noted or told to be tried again.
    pub failures: u32,
    /// The last try that has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Attempt>,
}

/// A try that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// The command's exit code; none if it was killed, or could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What went wrong, in words.
    pub reason: String,
    /// The end of what it wrote.
    pub output: String,
}

/// What a run is called: in the order of landing, by transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId {
    /// Microseconds since 1970 when it was noted, by this machine's clock.
    pub(super) number: u64,
    /// The transfer.
    pub transfer: TransferId,
}

impl Run {
    /// The first run for a file that has landed.
    pub fn new(landed: &Landed, receiver: ReceiverName) -> Self {
        let Saved { below_target, size, digest, .. } = landed.saved();
        Self {
            version: VERSION,
            receiver,
            path: below_target.to_string_lossy().into_owned(),
            size: *size,
            digest: *digest,
            published_at: landed.published_at(),
            noted_at: Timestamp::now(),
            manifest: landed.manifest().clone(),
            failures: 0,
            last: None,
        }
    }

    pub(super) fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> std::io::Result<Self> {
        let run: Self = serde_json::from_slice(bytes)?;
        match run.version {
            VERSION => Ok(run),
            newer => {
                let why = format!("it has version {newer}: install a newer natsfer");
                Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why))
            }
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.number, self.transfer)
    }
}

impl FromStr for RunId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, transfer) = text.split_once('-').ok_or(())?;
        let id =
            Self { number: u64::from_str_radix(number, 16).map_err(drop)?, transfer: transfer.parse().map_err(drop)? };
        if id.to_string() == text { Ok(id) } else { Err(()) }
    }
}
