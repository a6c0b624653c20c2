//! What the benchmark has found: for machines, and as tables.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    chart,
    contest::{Measure, Outcome, Ratio, Standing, median},
    growth::Growth,
    latency::{Latency, Way},
    links::{self, Journey},
    scene::MIB,
};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    /// What the sizes were divided by.
    pub(crate) scale: u64,
    pub(crate) contests: Vec<Outcome>,
    pub(crate) latency: Vec<Latency>,
    pub(crate) growth: Vec<Growth>,
    pub(crate) links: Vec<Journey>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    server: &'static str,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let line = |file: &str, start: &str| -> Option<String> {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(start))?;
            Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        };
        let memory = line("/proc/meminfo", "MemTotal:").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Self {
            processor: line("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory.unwrap_or(0) >> 20,
            kernel: line("/proc/sys/kernel/osrelease", "").unwrap_or_default(),
            server: natsfer_tests::DEFAULT_VERSION,
        }
    }
}

impl Ratio {
    pub(crate) fn median(&self) -> f64 {
        median(self.rounds.iter().copied())
    }

    fn span(&self) -> (f64, f64) {
        let rounds = self.rounds.iter().copied();
        (rounds.clone().fold(f64::INFINITY, f64::min), rounds.fold(0.0, f64::max))
    }
}

impl Report {
    /// With nothing found yet.
    pub(crate) fn new(machine: Machine, rounds: usize, scale: u64) -> Self {
        let (contests, latency, growth, links) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { machine, rounds, scale, contests, latency, growth, links }
    }

    /// Writes `results.json`, `results.md` and `chart.svg`.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let write = |name: &str, text: String| {
            fs::write(directory.join(name), text).with_context(|| format!("cannot write {name}"))
        };
        write("results.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("chart.svg", chart::draw(&self.contests))?;
        write("results.md", self.tables()?)
    }

    pub(crate) fn tables(&self) -> Result<String> {
        let mut text = String::new();
        let Machine { processor, cores, memory_gib, kernel, server } = &self.machine;
        let (rounds, scale) = (self.rounds, self.scale);
        writeln!(
            text,
            "{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}; nats-server {server}; {rounds} rounds"
        )?;
        if scale != 1 {
            writeln!(text, "All sizes divided by {scale}.")?;
        }
        writeln!(text, "\n## Ratios\n\n| contest | what | who | beside | median | least–most | wanted |")?;
        writeln!(text, "| --- | --- | --- | --- | ---: | ---: | ---: |")?;
        for outcome in &self.contests {
            for ratio in &outcome.ratios {
                let (goal, (least, most)) = (ratio.goal, ratio.span());
                let what = match goal.measure {
                    Measure::Speed => "speed",
                    Measure::Processor => "client's processor time",
                };
                let (name, ours, theirs) = (outcome.name, goal.ours.label(), goal.theirs.label());
                let found = ratio.median();
                let wanted = match goal.at_least {
                    None => "what a ceiling leaves".into(),
                    Some(wanted) if found >= wanted => wanted.to_string(),
                    Some(wanted) => format!("{wanted}, not reached"),
                };
                writeln!(
                    text,
                    "| {name} | {what} | {ours} | {theirs} | **{found:.2}** | {least:.2}–{most:.2} | {wanted} |"
                )?;
            }
        }
        writeln!(text, "\n## What each took\n\nMedians; the peak is the most of all rounds.\n")?;
        writeln!(
            text,
            "| contest | who | s | MiB/s | client CPU s/GiB | server CPU s/GiB | client peak MiB | server peak MiB |"
        )?;
        writeln!(text, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for outcome in &self.contests {
            for standing in &outcome.contenders {
                standing.row(&mut text, outcome)?;
            }
        }
        if !self.latency.is_empty() {
            writeln!(
                text,
                "\n## A file of 4 KiB, from being published to being there under its name\n\n| who | p50 ms | p99 ms |"
            )?;
            writeln!(text, "| --- | ---: | ---: |")?;
            for Latency { way, p50, p99 } in &self.latency {
                let who = match way {
                    Way::Natsfer => "natsfer, synced",
                    Way::ObjectStore => "object store: put, watch, get to a file, not synced",
                };
                writeln!(text, "| {who} | {p50:.2} | {p99:.2} |")?;
            }
        }
        if !self.growth.is_empty() {
            writeln!(text, "\n## With many finished transfers in the stream\n\nSeconds for one more file of 8 MiB.\n")?;
            writeln!(text, "| transfers | send | receive | list its channel | list all |")?;
            writeln!(text, "| ---: | ---: | ---: | ---: | ---: |")?;
            for Growth { transfers, send, receive, list_channel, list_all } in &self.growth {
                writeln!(text, "| {transfers} | {send:.3} | {receive:.3} | {list_channel:.3} | {list_all:.3} |")?;
            }
        }
        if !self.links.is_empty() {
            links::table(&mut text, &self.links)?;
        }
        Ok(text)
    }
}

impl Standing {
    fn row(&self, text: &mut String, outcome: &Outcome) -> Result<()> {
        let bytes = outcome.bytes * self.contender.times() as u64;
        let of = |value: fn(&crate::contender::Sample, u64) -> f64| {
            median(self.rounds.iter().map(|round| value(round, bytes)))
        };
        let (seconds, rate) = (of(|round, _| round.seconds), of(|round, bytes| round.rate(bytes)));
        let (client, server) =
            (of(|round, bytes| round.cpu_per_gib(bytes).0), of(|round, bytes| round.cpu_per_gib(bytes).1));
        let peak = |value: fn(&crate::contender::Sample) -> u64| self.rounds.iter().map(value).max().unwrap_or(0) / MIB;
        let (client_peak, server_peak) = (peak(|round| round.client.peak_bytes), peak(|round| round.server.peak_bytes));
        let (name, who) = (outcome.name, self.contender.label());
        Ok(writeln!(
            text,
            "| {name} | {who} | {seconds:.2} | {rate:.0} | {client:.2} | {server:.2} | {client_peak} | {server_peak} |"
        )?)
    }
}
