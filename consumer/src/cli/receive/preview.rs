//! `receive --dry-run`: what would be done with the files that wait.

use std::path::Path;

use natsfer_common::cli::{human_bytes, print_line};
use natsfer_consumer::{ConflictPolicy, FileName, Outlook, Preview};
use serde_json::json;

/// Says what would be done with one file.
pub(super) fn print(preview: &Preview, into: &Path, policy: ConflictPolicy, json: bool) -> anyhow::Result<()> {
    let line = if json { to_json(preview, into) } else { to_text(preview, into, policy) };
    Ok(print_line(&line)?)
}

fn to_json(Preview { entry, outlook }: &Preview, into: &Path) -> String {
    let (action, path, reason) = match outlook {
        Outlook::Lands(name) => ("land", Some(name), None),
        Outlook::Waits(name) => ("wait", Some(name), None),
        Outlook::PassedOver(why) => ("pass_over", None, Some(why.as_str().to_owned())),
        Outlook::SizeUnknown => ("wait", None, Some("its size is not known yet".into())),
        Outlook::Rejected(why) => ("reject", None, Some(why.in_full())),
        Outlook::Cancelled => ("drop", None, Some("its sender has taken it back".into())),
    };
    let path = path.map(|name| into.join(name.as_str()));
    json!({
        "event": "planned",
        "action": action,
        "transfer": entry.manifest.transfer,
        "channel": entry.manifest.channel,
        "name": entry.manifest.name,
        "size": entry.size(),
        "path": path.as_ref().map(|path| path.to_string_lossy()),
        "taken": path.as_ref().is_some_and(|path| is_taken(path)),
        "reason": reason,
    })
    .to_string()
}

fn to_text(Preview { entry, outlook }: &Preview, into: &Path, policy: ConflictPolicy) -> String {
    let size = entry.size().map_or_else(|| "size not known".into(), human_bytes);
    let about = format!("{}  {}", entry.manifest.transfer, entry.manifest.name);
    let at = |name: &FileName| {
        let path = into.join(name.as_str());
        let taken = if is_taken(&path) { in_the_way(policy) } else { "" };
        format!("{}  {size}{taken}", path.display())
    };
    match outlook {
        Outlook::Lands(name) => format!("would land  {about}  at {}", at(name)),
        Outlook::Waits(name) => format!("would wait for its sender  {about}  then land at {}", at(name)),
        Outlook::PassedOver(why) => format!("would be passed over  {about}  {}", why.as_str()),
        Outlook::SizeUnknown => format!("would wait for its sender  {about}  its size decides whether it is taken"),
        Outlook::Rejected(why) => format!("would be rejected  {about}  {}", why.in_full()),
        Outlook::Cancelled => format!("would be left out  {about}  its sender has taken it back"),
    }
}

/// What would be done about another file of the name.
fn in_the_way(policy: ConflictPolicy) -> &'static str {
    match policy {
        ConflictPolicy::Rename => "  (beside what is there, unless that is the same)",
        ConflictPolicy::Overwrite => "  (in place of what is there, unless that is the same)",
        ConflictPolicy::Skip => "  (skipped: something is there)",
        ConflictPolicy::Fail => "  (rejected: something is there; unless that is the same)",
    }
}

/// Whether something is there, whatever it is.
fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
