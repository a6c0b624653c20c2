//! Judging the directory that files are to be landed in.

use std::{io, path::Path};

use natsfer_common::cli::{count, doctor::Finding, human_bytes};
use natsfer_consumer::{DirectoryFacts, Shortfall};

/// Of the file system, the free share that is told of, in percent.
const LITTLE: u64 = 5;
/// Files that can be made, below which it is told.
const FEW: u64 = 10_000;

pub(super) fn judge(into: &Path, facts: io::Result<DirectoryFacts>, waiting: Option<u64>) -> Vec<Finding> {
    let check = "directory";
    let facts = match facts {
        Ok(facts) => facts,
        Err(error) => {
            let found = format!("{} cannot be used: {error}", into.display());
            return vec![Finding::fail(check, found, "give another directory (--into), or make way for this one")];
        }
    };
    let at = facts.at.display();
    let mut findings = vec![match &facts.landed {
        Ok(()) if facts.exists => Finding::ok(check, format!("{at}: files are written, synced and renamed there")),
        Ok(()) => Finding::ok(
            check,
            format!("{} will be made in {at}, where files are written, synced and renamed", into.display()),
        ),
        Err(failure) => Finding::fail(
            check,
            format!("cannot {} in {at}: {}", failure.step, failure.source),
            advice(&failure.source),
        ),
    }];
    for Shortfall { ability, source, .. } in &facts.lacking {
        let found = format!("{at}: cannot {} ({source}): {}", ability.what(), ability.consequence());
        findings.push(Finding::warn(
            check,
            found,
            "give a directory on a file system that can (--into), or leave it so",
        ));
    }
    if !facts.one_file_system {
        let found = format!(
            "{at}/.natsfer, where unfinished files are kept, is on another file system: each file is copied when it lands"
        );
        findings.push(Finding::warn(
            check,
            found,
            "have .natsfer on the file system of the directory: nothing mounted, no link",
        ));
    }
    findings.push(space(&facts, waiting));
    if let Some(files) = facts.free_files.filter(|files| *files < FEW) {
        let change = "remove files, or use a file system with more inodes";
        findings.push(match files {
            0 => Finding::fail("disk", "no more files can be made (inodes are used up)", change),
            files => Finding::warn("disk", format!("only {} can be made (inodes)", count(files, "more file")), change),
        });
    }
    findings
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "let this user write there, or give another directory (--into)",
        io::ErrorKind::ReadOnlyFilesystem => "mount it for writing, or give another directory (--into)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room",
        io::ErrorKind::CrossesDevices => "have .natsfer on the file system of the directory",
        _ => "give a directory on a local file system that can rename and sync (--into)",
    }
}

fn space(facts: &DirectoryFacts, waiting: Option<u64>) -> Finding {
    let check = "disk";
    let (free, all) = (facts.free_bytes, facts.all_bytes);
    let text = format!("{} of {} free", human_bytes(free), human_bytes(all));
    let change = "make room, or limit what is received (--max-disk, --max-size)";
    match waiting {
        _ if free == 0 => Finding::fail(check, text, "make room: files wait for it"),
        Some(waiting) if waiting > free => {
            Finding::warn(check, format!("{text}, and {} wait to be received", human_bytes(waiting)), change)
        }
        _ if free.saturating_mul(100) < all.saturating_mul(LITTLE) => Finding::warn(check, text, change),
        _ => Finding::ok(check, text),
    }
}

#[cfg(test)]
mod tests {
    use natsfer_common::cli::doctor::Verdict;
    use natsfer_consumer::examine_directory;

    use super::*;

    fn facts(change: impl Fn(&mut DirectoryFacts)) -> io::Result<DirectoryFacts> {
        let home = tempfile::tempdir().unwrap();
        let mut facts = examine_directory(home.path())?;
        (facts.free_bytes, facts.all_bytes, facts.free_files) = (50 << 30, 100 << 30, None);
        change(&mut facts);
        Ok(facts)
    }

    fn worst(facts: io::Result<DirectoryFacts>, waiting: u64) -> Verdict {
        let findings = judge(Path::new("inbox"), facts, Some(waiting));
        findings.iter().map(|finding| finding.verdict).max().unwrap()
    }

    #[test]
    fn room_and_inodes_are_judged() {
        assert_eq!(worst(facts(|_| ()), 0), Verdict::Ok);
        assert_eq!(worst(facts(|_| ()), 51 << 30), Verdict::Warn);
        assert_eq!(worst(facts(|facts| facts.free_bytes = 1 << 30), 0), Verdict::Warn);
        assert_eq!(worst(facts(|facts| facts.free_bytes = 0), 0), Verdict::Fail);
        assert_eq!(worst(facts(|facts| facts.free_files = Some(9)), 0), Verdict::Warn);
        assert_eq!(worst(facts(|facts| facts.free_files = Some(0)), 0), Verdict::Fail);
        assert_eq!(worst(facts(|facts| facts.one_file_system = false), 0), Verdict::Warn);
        assert_eq!(worst(Err(io::ErrorKind::NotADirectory.into()), 0), Verdict::Fail);
    }
}
