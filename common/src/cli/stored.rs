//! Whether a transfer's stored copy is whole, as both `verify` commands say it.

use serde_json::json;

use super::human_bytes;
use crate::{ChunkSet, Digest, Manifest, Totals, broker::Verification};

/// What was found of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Every byte is there.
    Whole {
        /// Its size in bytes.
        size: u64,
        /// Its digest.
        digest: Digest,
    },
    /// Its sender has not finished it, or took it back: the state's name.
    Unfinished(&'static str),
    /// Chunks are gone, or stored damaged.
    Holes {
        /// Of these nothing is stored.
        missing: ChunkSet,
        /// Of these no sound copy is stored.
        damaged: ChunkSet,
    },
    /// It is stored in contradiction with itself, or with its source: how.
    Damaged(String),
    /// There is no such transfer.
    Absent,
}

impl Stored {
    /// Judges by what reading every chunk has shown.
    pub fn from_verification(found: Verification, totals: &Totals) -> Self {
        match found {
            Verification { digest: Some(digest), .. } if digest == totals.digest => {
                Self::Whole { size: totals.size, digest }
            }
            Verification { digest: Some(digest), .. } => {
                Self::Damaged(format!("its chunks have digest {digest}, its sender says {}", totals.digest))
            }
            Verification { missing, damaged, .. } => Self::Holes { missing, damaged },
        }
    }

    /// Whether every byte is there.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Whole { .. })
    }

    fn state(&self) -> &'static str {
        match self {
            Self::Whole { .. } => "whole",
            Self::Unfinished(state) => state,
            Self::Holes { .. } | Self::Damaged(_) => "damaged",
            Self::Absent => "absent",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Whole { size, digest } => format!("{}  {digest}", human_bytes(*size)),
            Self::Unfinished("open") => "not finished by its sender: send it again".into(),
            Self::Unfinished(_) => "taken back".into(),
            Self::Holes { missing, damaged } => {
                let parts = [("missing", missing), ("damaged", damaged)].into_iter().filter(|(_, set)| !set.is_empty());
                parts.map(|(what, set)| format!("chunks {set} {what}")).collect::<Vec<_>>().join("; ")
            }
            Self::Damaged(how) => how.clone(),
            Self::Absent => "not in the stream".into(),
        }
    }

    /// One line for people.
    pub fn to_text(&self, manifest: &Manifest) -> String {
        let Manifest { transfer, name, .. } = manifest;
        format!("{}  {transfer}  {name}  {}", self.state(), self.detail()).trim_end().to_owned()
    }

    /// One line of JSON.
    pub fn to_json(&self, manifest: &Manifest) -> String {
        let (missing, damaged) = match self {
            Self::Holes { missing, damaged } => (missing.clone(), damaged.clone()),
            _ => Default::default(),
        };
        let (size, digest) = match self {
            Self::Whole { size, digest } => (Some(size), Some(digest)),
            _ => (None, None),
        };
        json!({
            "event": "verified",
            "transfer": manifest.transfer,
            "channel": manifest.channel,
            "name": manifest.name,
            "state": self.state(),
            "size": size,
            "digest": digest,
            "missing": missing,
            "damaged": damaged,
            "detail": self.detail(),
        })
        .to_string()
    }
}
