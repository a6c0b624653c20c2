//! The rows of all lines, as a table.

use std::fmt::{self, Write as _};

use anyhow::Result;

use super::{Finding, Journey, LEAST_GOODPUT, MOST_CARRIED, Mover, Sample, Standing};
use crate::contest::median;

/// Writes all rows.
pub(crate) fn table(text: &mut String, journeys: &[Journey]) -> Result<()> {
    writeln!(
        text,
        "\n## Over a line\n\nMedians of the rounds that ended. Goodput is the file's share of what the line could"
    )?;
    writeln!(
        text,
        "have carried meanwhile: at least {LEAST_GOODPUT} is wanted, and never less than a peer's. Carried are the bytes"
    )?;
    writeln!(text, "that went the file's way for each of its own: at most {MOST_CARRIED} are wanted.\n")?;
    writeln!(text, "| line | MB | who | s | goodput | carried | reconnects | wanted |")?;
    writeln!(text, "| --- | ---: | --- | ---: | ---: | ---: | ---: | --- |")?;
    for journey in journeys {
        for standing in &journey.standings {
            let (name, megabytes, who) = (journey.name, journey.bytes as f64 / 1e6, standing.mover.label());
            let figures = standing.figures();
            let verdict = journey.verdict(standing);
            writeln!(text, "| {name} | {megabytes} | {who} | {figures} | {verdict} |")?;
        }
    }
    Ok(())
}

impl Journey {
    /// What natsfer has not reached; nothing for its peers.
    fn verdict(&self, standing: &Standing) -> String {
        if !matches!(standing.mover, Mover::Send | Mover::Receive) {
            return String::new();
        }
        let Some(sample) = standing.median() else {
            return "not reached".into();
        };
        let mut short = Vec::new();
        if sample.goodput < LEAST_GOODPUT {
            short.push("goodput".to_owned());
        }
        if sample.carried > MOST_CARRIED {
            short.push("carried".to_owned());
        }
        if sample.reconnects > 0 {
            short.push("reconnects".to_owned());
        }
        let peers = self.standings.iter().filter(|peer| peer.mover.direction() == standing.mover.direction());
        // By what the table shows: what is beyond is chance.
        let shown = |goodput: f64| (goodput * 100.0).round();
        let ahead = peers.filter(|peer| peer.median().is_some_and(|peer| shown(peer.goodput) > shown(sample.goodput)));
        short.extend(ahead.map(|peer| format!("{} is ahead", peer.mover.label())));
        if standing.rounds.iter().any(|round| !matches!(round, Finding::Finished(_))) {
            short.push("some rounds".to_owned());
        }
        if short.is_empty() { "reached".into() } else { format!("not reached: {}", short.join(", ")) }
    }
}

impl Standing {
    /// The rounds that ended, in the middle; nothing, if none has.
    fn median(&self) -> Option<Sample> {
        let samples: Vec<_> = self
            .rounds
            .iter()
            .filter_map(|round| match round {
                Finding::Finished(sample) => Some(*sample),
                _ => None,
            })
            .collect();
        let of = |value: fn(&Sample) -> f64| median(samples.iter().map(value));
        let reconnects = samples.iter().map(|sample| sample.reconnects).max()?;
        let (seconds, goodput) = (of(|sample| sample.seconds), of(|sample| sample.goodput));
        Some(Sample { seconds, goodput, carried: of(|sample| sample.carried), reconnects })
    }

    /// Four columns: of the rounds that ended, or else of the first one.
    fn figures(&self) -> String {
        let mut others = self.rounds.iter().filter(|round| !matches!(round, Finding::Finished(_)));
        match (self.median(), others.next()) {
            (Some(Sample { seconds, goodput, carried, reconnects }), other) => {
                let besides = other.map(|other| {
                    let count = 1 + others.count();
                    format!(" ({count} of {} {})", self.rounds.len(), other.word())
                });
                let besides = besides.unwrap_or_default();
                format!("{seconds:.1}{besides} | **{goodput:.2}** | {carried:.3} | {reconnects}")
            }
            (None, Some(other @ Finding::NotFinished { carried, reconnects })) => {
                format!("{} | | {carried:.3} | {reconnects}", other.word())
            }
            (None, Some(other)) => format!("{} | | |", other.word()),
            (None, None) => "no round | | |".into(),
        }
    }
}

impl Finding {
    /// What came of it, but for figures.
    fn word(&self) -> String {
        match self {
            Self::Finished(_) => "finished".into(),
            Self::NotFinished { .. } => "not finished".into(),
            Self::Failed { reason } => format!("failed: {}", reason.replace('|', "/")),
            Self::NotThere => "rsync is not there".into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(Sample { seconds, goodput, carried, reconnects }) => write!(
                formatter,
                "{seconds:8.1} s, goodput {goodput:.3}, {carried:.3} carried for each byte, {reconnects} reconnects"
            ),
            Self::NotFinished { carried, reconnects } => {
                write!(formatter, "not finished: {carried:.3} carried for each byte, {reconnects} reconnects")
            }
            _ => formatter.write_str(&self.word()),
        }
    }
}
