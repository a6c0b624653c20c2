//! Judging the commands for files that have landed.

use std::{io, path::Path};

use natsfer_common::{
    ReceiverName,
    cli::{count, doctor::Finding},
};
use natsfer_consumer::hooks::Counts;

pub(super) fn judge(into: &Path, name: &ReceiverName, counts: io::Result<Counts>) -> Vec<Finding> {
    let (check, into) = ("commands", into.display());
    let Counts { pending, failed } = match counts {
        Ok(counts) => counts,
        Err(error) => {
            let change = "let this user read .natsfer/exec in it";
            return vec![Finding::warn(check, format!("those of {into} cannot be counted: {error}"), change)];
        }
    };
    let mut findings = Vec::new();
    if pending > 0 {
        let found = format!("{} to be run (receive --exec)", count(pending, "command"));
        findings.push(Finding::ok(check, found));
    }
    if failed > 0 {
        let have = if failed == 1 { "has" } else { "have" };
        let found = format!("{} {have} failed for good (receive --exec)", count(failed, "command"));
        let change = format!(
            "see why with `natsfer-consumer hooks -n {name} --into {into}`, and have them run again with --retry-all"
        );
        findings.push(Finding::warn(check, found, change));
    }
    findings
}

#[cfg(test)]
mod tests {
    use natsfer_common::cli::doctor::Verdict;

    use super::*;

    #[test]
    fn what_has_failed_for_good_is_warned_of() {
        let verdicts = |pending, failed| -> Vec<_> {
            let counts = Ok(Counts { pending, failed });
            let findings = judge(Path::new("inbox"), &"billing".parse().unwrap(), counts);
            findings.iter().map(|finding| finding.verdict).collect()
        };
        assert_eq!(verdicts(0, 0), []);
        assert_eq!(verdicts(1, 0), [Verdict::Ok]);
        assert_eq!(verdicts(1, 2), [Verdict::Ok, Verdict::Warn]);
    }
}
