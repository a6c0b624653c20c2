//! What became of files that were sent, told to the user: the same words whoever waits for it.

use std::path::Path;

use anyhow::anyhow;
use natsfer_common::cli::{print_line, report};
use natsfer_producer::{FileName, NotLanded, Receipt, ReceiverName, TransferId};
use serde_json::json;

/// A receiver has a file.
pub(crate) fn landed(json: bool, receipt: &Receipt, name: &str) -> std::io::Result<()> {
    print_line(&if json {
        json!({
            "event": "landed",
            "transfer": receipt.transfer,
            "name": name,
            "receiver": receipt.receiver,
            "digest": receipt.digest,
            "size": receipt.size,
            "landed_at": receipt.landed_at,
        })
        .to_string()
    } else {
        format!("landed  {}  {name}  at {}", receipt.transfer, receipt.receiver)
    })
}

/// A receiver will not have a file.
pub(crate) fn not_landed(
    json: bool, transfer: TransferId, name: &str, receiver: &ReceiverName, why: NotLanded,
) -> std::io::Result<()> {
    if json {
        let event = json!({
            "event": "not_landed",
            "transfer": transfer,
            "name": name,
            "receiver": receiver,
            "reason": why.as_str(),
            "detail": why.to_string(),
        });
        print_line(&event.to_string())?;
    }
    report(&anyhow!(why).context(format!("'{receiver}' has not landed {name} ({transfer})")));
    Ok(())
}

/// A source was deleted.
pub(crate) fn deleted(json: bool, transfer: TransferId, name: &FileName) -> std::io::Result<()> {
    print_line(&if json {
        json!({ "event": "deleted", "transfer": transfer, "name": name }).to_string()
    } else {
        format!("deleted  {transfer}  {name}")
    })
}

/// A source was moved.
pub(crate) fn moved(json: bool, transfer: TransferId, name: &FileName, to: &Path) -> std::io::Result<()> {
    print_line(&if json {
        json!({ "event": "moved", "transfer": transfer, "name": name, "to": to.to_string_lossy() }).to_string()
    } else {
        format!("moved  {transfer}  {name}  to {}", to.display())
    })
}
