//! What the commands print about a file.

use std::path::Path;

use natsfer_common::cli::{count, human_bytes, print_line};
use natsfer_consumer::{
    Landing, ReceiveError, Saved, TransferId,
    hooks::{HookState, Run},
};
use serde_json::json;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    pub(crate) fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Says, to programs, that a transfer was rejected; people read the error.
    pub(crate) fn rejected(self, transfer: TransferId, error: &ReceiveError) -> std::io::Result<()> {
        let (Self::Json, Some(reason)) = (self, error.rejection()) else { return Ok(()) };
        let event = json!({
            "event": "rejected",
            "transfer": transfer,
            "reason": reason.as_str(),
            "detail": error.in_full(),
        });
        print_line(&event.to_string())
    }

    /// Says, to programs, what became of a command for a file; people read the log.
    pub(crate) fn exec(self, run: &Run, state: &HookState, path: &Path) -> std::io::Result<()> {
        let Self::Json = self else { return Ok(()) };
        let (word, again) = match state {
            HookState::Succeeded => ("succeeded", None),
            HookState::Retrying(after) => ("retrying", Some(after.as_secs_f64())),
            HookState::Failed => ("failed", None),
            HookState::Interrupted => ("interrupted", None),
        };
        let failed = matches!(state, HookState::Retrying(_) | HookState::Failed);
        let last = run.last.as_ref().filter(|_| failed);
        let event = json!({
            "event": "exec",
            "transfer": run.manifest.transfer,
            "channel": run.manifest.channel,
            "name": run.manifest.name,
            "path": path.to_string_lossy(),
            "state": word,
            "failures": run.failures,
            "exit_code": last.and_then(|last| last.exit_code),
            "reason": last.map(|last| &last.reason),
            "again_in_seconds": again,
        });
        print_line(&event.to_string())
    }

    /// Says that a file was received.
    pub(crate) fn received(self, saved: &Saved) -> std::io::Result<()> {
        let Saved { transfer, channel, name, path, size, digest, landing, .. } = saved;
        let (event, verb) = match landing {
            Landing::Landed => ("received", "received"),
            Landing::Identical => ("received", "already here"),
            Landing::Skipped => ("skipped", "skipped"),
        };
        print_line(&match self {
            Self::Json => json!({
                "event": event,
                "transfer": transfer,
                "channel": channel,
                "name": name,
                "path": path.to_string_lossy(),
                "size": size,
                "digest": digest,
                "identical": *landing == Landing::Identical,
                "refetched_bytes": saved.refetched_bytes,
                "repaired_chunks": saved.repaired_chunks,
            })
            .to_string(),
            Self::Text => {
                let mut line = format!("{verb}  {}  {}  {digest}", path.display(), human_bytes(*size));
                if saved.repaired_chunks > 0 {
                    line += &format!("  ({} repaired)", count(saved.repaired_chunks, "chunk"));
                }
                line
            }
        })
    }
}
