//! `receive --dry-run`: what would be done with the files that wait.

use std::{collections::HashSet, path::Path};

use anyhow::bail;
use natsfer_common::cli::{human_bytes, print_line};
use natsfer_consumer::{ConflictPolicy, FileName, Outlook, Preview};
use serde_json::json;

/// Says what would be done, one file after the other.
pub(super) struct Plan<'a> {
    into: &'a Path,
    policy: ConflictPolicy,
    json: bool,
    /// Names at which files would have landed before.
    planned: HashSet<String>,
}

/// What is there where a file would land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    /// Something, or a file that would have landed before.
    Something,
    /// No directory, where one is needed.
    Obstacle,
}

/// Where a file would land, and what is there.
struct Spot {
    path: String,
    there: There,
}

impl<'a> Plan<'a> {
    /// Begins, for this target directory.
    ///
    /// # Errors
    /// When it is no directory.
    pub(super) fn new(into: &'a Path, policy: ConflictPolicy, json: bool) -> anyhow::Result<Self> {
        if into.symlink_metadata().is_ok() && !into.is_dir() {
            bail!("cannot land files in {}: not a directory", into.display());
        }
        Ok(Self { into, policy, json, planned: HashSet::new() })
    }

    /// Says what would be done with the next file.
    pub(super) fn print(&mut self, preview: &Preview) -> anyhow::Result<()> {
        let spot = match &preview.outlook {
            Outlook::Lands(name) | Outlook::Waits(name) => Some(self.spot(name)),
            _ => None,
        };
        let line = if self.json { self.to_json(preview, spot) } else { self.to_text(preview, spot) };
        Ok(print_line(&line)?)
    }

    fn spot(&mut self, name: &FileName) -> Spot {
        let path = self.into.join(name.as_str());
        let mut directories = path.ancestors().skip(1).take_while(|above| *above != self.into);
        let there = if directories.any(is_no_directory) {
            There::Obstacle
        } else if !self.planned.insert(name.as_str().to_owned()) || path.symlink_metadata().is_ok() {
            There::Something
        } else {
            There::Nothing
        };
        Spot { path: path.to_string_lossy().into_owned(), there }
    }

    fn to_json(&self, Preview { entry, outlook }: &Preview, spot: Option<Spot>) -> String {
        let there = spot.as_ref().map(|spot| spot.there);
        let (action, reason) = match outlook {
            _ if there == Some(There::Obstacle) => ("reject", Some(OBSTACLE.to_owned())),
            Outlook::Lands(_) => ("land", None),
            Outlook::Waits(_) => ("wait", None),
            Outlook::PassedOver(why) => ("pass_over", Some(why.as_str().to_owned())),
            Outlook::SizeUnknown => ("wait", Some("its size is not known yet".into())),
            Outlook::Rejected(why) => ("reject", Some(why.in_full())),
            Outlook::Cancelled => ("drop", Some("its sender has taken it back".into())),
        };
        let taken = there == Some(There::Something);
        json!({
            "event": "planned",
            "action": action,
            "transfer": entry.manifest.transfer,
            "channel": entry.manifest.channel,
            "name": entry.manifest.name,
            "size": entry.size(),
            "path": spot.map(|spot| spot.path),
            "taken": taken,
            "on_conflict": taken.then(|| self.policy.as_str()),
            "reason": reason,
        })
        .to_string()
    }

    fn to_text(&self, Preview { entry, outlook }: &Preview, spot: Option<Spot>) -> String {
        let size = entry.size().map_or_else(|| "size not known".into(), human_bytes);
        let about = format!("{}  {}", entry.manifest.transfer, entry.manifest.name);
        let there = spot.as_ref().map(|spot| spot.there);
        let taken = if there == Some(There::Something) { in_the_way(self.policy) } else { "" };
        let at = spot.map_or_else(String::new, |spot| format!("{}  {size}{taken}", spot.path));
        match outlook {
            _ if there == Some(There::Obstacle) => format!("would be rejected  {about}  at {at}: {OBSTACLE}"),
            Outlook::Lands(_) => format!("would land  {about}  at {at}"),
            Outlook::Waits(_) => format!("would wait for its sender  {about}  then land at {at}"),
            Outlook::PassedOver(why) => format!("would be passed over  {about}  {}", why.as_str()),
            Outlook::SizeUnknown => format!("would wait for its sender  {about}  its size decides whether it is taken"),
            Outlook::Rejected(why) => format!("would be rejected  {about}  {}", why.in_full()),
            Outlook::Cancelled => format!("would be left out  {about}  its sender has taken it back"),
        }
    }
}

/// Why a file would be rejected that has no directory to land in.
const OBSTACLE: &str = "something that is no directory stands where its directory would";

/// Whether something else than a directory is there, such as a link to one: files do not land through links.
fn is_no_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir())
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
