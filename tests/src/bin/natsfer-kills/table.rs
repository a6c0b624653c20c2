//! What came of it, in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::trial::Trials;

/// Each way of counting in a row.
pub(crate) fn summary(programs: &[(&str, &Trials)]) -> String {
    let mut text =
        String::from("| killed | counted | kills | min | median | max |\n| --- | --- | ---: | ---: | ---: | ---: |\n");
    for (program, trials) in programs {
        let mut counted: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for &(what, bytes) in trials.kills.iter().flat_map(|kill| &kill.twice) {
            counted.entry(what).or_default().push(bytes);
        }
        for (what, mut bytes) in counted {
            bytes.sort_unstable();
            let (kills, max) = (bytes.len(), bytes[bytes.len() - 1]);
            let [min, median, max] = [bytes[0], bytes[kills / 2], max].map(mib);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| `{program}` | {what} | {kills} | {min} | {median} | {max} |");
        }
    }
    text.push('\n');
    for (program, Trials { kills: _, too_early, too_late, undisturbed }) in programs {
        let seconds = undisturbed.as_secs_f64();
        let _ = writeln!(
            text,
            "`{program}` takes {seconds:.2} s when left alone; not in the table: {too_early} kills before anything had \
             moved, {too_late} after the end of the work."
        );
    }
    text
}

/// Each kill in a row.
pub(crate) fn details(programs: &[(&str, &Trials)]) -> String {
    let mut text = String::from("| killed | at s | MiB moved before | MiB twice |\n| --- | ---: | ---: | --- |\n");
    for (program, kill) in
        programs.iter().flat_map(|(program, trials)| trials.kills.iter().map(move |kill| (program, kill)))
    {
        let twice: Vec<_> = kill.twice.iter().map(|(what, bytes)| format!("{} {what}", mib(*bytes))).collect();
        let (at, moved) = (kill.at.as_secs_f64(), mib(kill.moved));
        let _ = writeln!(text, "| `{program}` | {at:.2} | {moved} | {} |", twice.join("; "));
    }
    text
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
