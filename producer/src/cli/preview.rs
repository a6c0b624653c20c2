//! `--dry-run`: says what would be done with a file.

use natsfer_common::cli::{human_bytes, print_line};
use natsfer_producer::{Before, Channel, FileName, Preview, TransferId};
use serde_json::json;

/// What is known of a file, which decides whether it would be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known {
    /// What the stream has of it.
    Stream(Before),
    /// It was sent before, and is not sent again, also where the stream does not have it any more.
    Sent,
}

/// What would be done with a file.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) channel: &'a Channel,
    pub(crate) name: &'a FileName,
    /// Known beforehand, unless it is standard input's.
    pub(crate) transfer: Option<TransferId>,
    pub(crate) size: Option<u64>,
    pub(crate) known: Known,
    /// What would be done with the source then, in words.
    pub(crate) then: Option<&'a str>,
}

impl<'a> Planned<'a> {
    pub(crate) fn of(Preview { transfer, channel, name, size, before }: &'a Preview, then: Option<&'a str>) -> Self {
        Self { channel, name, transfer: Some(*transfer), size: Some(*size), known: Known::Stream(*before), then }
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        Ok(print_line(&if json { self.to_json() } else { self.to_text() })?)
    }

    fn to_json(&self) -> String {
        let Self { channel, name, transfer, size, known, then } = self;
        let action = match known {
            Known::Stream(Before::Nothing) => "send",
            Known::Stream(Before::Part) => "resume",
            Known::Stream(Before::All) => "nothing",
            Known::Stream(Before::Unknown) => "unknown",
            Known::Sent => "sent_before",
        };
        json!({
            "event": "planned",
            "action": action,
            "transfer": transfer,
            "channel": channel,
            "name": name,
            "size": size,
            "then": then,
        })
        .to_string()
    }

    fn to_text(&self) -> String {
        let Self { channel, name, transfer, size, known, then } = self;
        let what = match known {
            Known::Stream(Before::Nothing) => "would be sent",
            Known::Stream(Before::Part) => "would be resumed",
            Known::Stream(Before::All) => "is stored already",
            Known::Stream(Before::Unknown) => "would be sent, unless it is stored",
            Known::Sent => "was sent before",
        };
        let transfer = transfer.map_or_else(|| "(an id of its own)".into(), |transfer| transfer.to_string());
        let size = size.map_or_else(|| "size not known".into(), human_bytes);
        let then = then.map_or_else(String::new, |then| format!("; then {then}"));
        format!("{what}  {transfer}  {name}  {size}  on {channel}{then}")
    }
}
