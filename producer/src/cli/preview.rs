//! `--dry-run`: says what would be done with a file.

use natsfer_common::cli::{human_bytes, print_line};
use natsfer_producer::{Before, Channel, FileName, Preview, TransferId};
use serde_json::json;

/// What would be done with a file.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) channel: &'a Channel,
    pub(crate) name: &'a FileName,
    /// Known beforehand, unless it is standard input's.
    pub(crate) transfer: Option<TransferId>,
    pub(crate) size: Option<u64>,
    pub(crate) before: Before,
    /// What would be done with the source then, in words.
    pub(crate) then: Option<&'a str>,
}

impl<'a> Planned<'a> {
    pub(crate) fn of(Preview { transfer, channel, name, size, before }: &'a Preview, then: Option<&'a str>) -> Self {
        Self { channel, name, transfer: Some(*transfer), size: Some(*size), before: *before, then }
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        Ok(print_line(&if json { self.to_json() } else { self.to_text() })?)
    }

    fn to_json(&self) -> String {
        let Self { channel, name, transfer, size, before, then } = self;
        let action = match before {
            Before::Nothing => "send",
            Before::Part => "resume",
            Before::All => "nothing",
            Before::Unknown => "unknown",
        };
        let event = "planned";
        json!({ "event": event, "action": action, "transfer": transfer, "channel": channel, "name": name, "size": size, "then": then })
            .to_string()
    }

    fn to_text(&self) -> String {
        let Self { channel, name, transfer, size, before, then } = self;
        let what = match before {
            Before::Nothing => "would be sent",
            Before::Part => "would be resumed",
            Before::All => "is stored already",
            Before::Unknown => "would be sent, unless it is stored",
        };
        let transfer = transfer.map_or_else(|| "(an id of its own)".into(), |transfer| transfer.to_string());
        let size = size.map_or_else(|| "size not known".into(), human_bytes);
        let then = then.map_or_else(String::new, |then| format!("; then {then}"));
        format!("{what}  {transfer}  {name}  {size}  on {channel}{then}")
    }
}
