//! `list`: what is stored.

use clap::ValueEnum;
use globset::GlobMatcher;
use jiff::Timestamp;
use serde_json::json;

use super::taken::{self, Sum};
use crate::{
    ChannelFilter, ShortIds,
    broker::{Broker, CatalogEntry, Occupancy, TransferState, code},
    cli::{
        Column, Outcome, StateName, Table, count, human_age, human_bytes, note, parse_glob, parse_time, print_line,
        select::matches,
    },
};

/// Show what is stored: id, state, size, age, channel, name
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} list
  {program} list '*.csv' -c 'invoices.>' --since 2h")]
pub struct List {
    /// Names to show: '*.csv', 'reports/**' ('*' stays within a directory, '**' does not)
    #[arg(value_name = "PATTERN", value_parser = parse_glob)]
    names: Vec<GlobMatcher>,
    /// Channels to show; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Only transfers in these states; comma-separated
    #[arg(long, value_name = "STATE,...", value_delimiter = ',')]
    state: Vec<StateName>,
    /// Only those published at this time or later: 2026-11-23T12:00:00Z, or an age such as 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only those published at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// What they are ordered by
    #[arg(long, value_name = "BY", default_value = "published")]
    sort: Sort,
    /// The other way round
    #[arg(short, long)]
    reverse: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Oldest first
    Published,
    /// By name
    Name,
    /// Smallest first
    Size,
    /// By channel, then name
    Channel,
}

impl List {
    pub(super) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let catalog = broker.catalog(&self.channel).await?;
        // Of all there are: what is shown must name one of them, not one of those that were selected.
        let ids = ShortIds::of(catalog.iter().map(|entry| entry.manifest.transfer));
        let stored = catalog.len();
        let selected = self.select(catalog);
        let occupancy = broker.occupancy(&self.channel, &selected).await?;
        if selected.is_empty() {
            note(&self.nothing(broker, stored).await);
        }
        if self.json {
            selected.iter().try_for_each(|entry| print_line(&json_line(entry, &occupancy)))?;
        } else if !selected.is_empty() {
            note(&print(&selected, &occupancy, &ids)?);
        }
        Ok(Outcome::Done)
    }

    fn select(&self, mut catalog: Vec<CatalogEntry>) -> Vec<CatalogEntry> {
        catalog.retain(|entry| {
            matches(&self.names, entry.manifest.name.as_str())
                && (self.state.is_empty() || self.state.iter().any(|state| state.is_of(&entry.state)))
                && self.since.is_none_or(|since| entry.published_at >= since)
                && self.until.is_none_or(|until| entry.published_at <= until)
        });
        let manifest = |entry: &CatalogEntry| entry.manifest.clone();
        match self.sort {
            Sort::Published => {}
            Sort::Name => catalog.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name)),
            Sort::Size => catalog.sort_by_key(CatalogEntry::size),
            Sort::Channel => catalog.sort_by_cached_key(|entry| (manifest(entry).channel, manifest(entry).name)),
        }
        if self.reverse {
            catalog.reverse();
        }
        catalog
    }

    /// Why nothing is shown.
    async fn nothing(&self, broker: &Broker, stored: usize) -> String {
        let facts = broker.stream_facts(broker.stream().control()).await;
        if facts.is_err_and(|error| error.is(code::STREAM_NOT_FOUND)) {
            return super::no_stream(broker);
        }
        let place = match self.channel.as_str() {
            ">" => format!("stream {}", broker.stream()),
            channel => format!("channel {channel} of stream {}", broker.stream()),
        };
        match stored {
            0 => format!("nothing is stored on {place}"),
            stored => format!("nothing matches of the {} on {place}", count(stored as u64, "transfer")),
        }
    }
}

/// Prints what is stored of several transfers as a table, and says what they come to.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print_stored(entries: &[CatalogEntry], occupancy: &Occupancy) -> std::io::Result<String> {
    print(entries, occupancy, &ShortIds::of(entries.iter().map(|entry| entry.manifest.transfer)))
}

fn print(selected: &[CatalogEntry], occupancy: &Occupancy, ids: &ShortIds) -> std::io::Result<String> {
    use Column::{Left, Right};
    let mut table = Table::new(&[
        Left("TRANSFER"),
        Left("STATE"),
        Right("SIZE"),
        Right("STORED"),
        Right("AGE"),
        Left("CHANNEL"),
        Left("NAME"),
    ]);
    let now = Timestamp::now();
    for entry in selected {
        let manifest = &entry.manifest;
        table.row([
            ids.show(manifest.transfer),
            entry.state.as_str().into(),
            entry.size().map_or_else(|| "-".into(), human_bytes),
            taken::cell(occupancy.of(entry)),
            human_age(now.duration_since(entry.published_at)),
            manifest.channel.to_string(),
            manifest.name.to_string(),
        ]);
    }
    table.print(0)?;
    Ok(totals(selected, occupancy))
}

fn totals(selected: &[CatalogEntry], occupancy: &Occupancy) -> String {
    let size = selected.iter().filter_map(CatalogEntry::size).fold(0, u64::saturating_add);
    let stored = Sum::of(occupancy, selected).to_text();
    format!("{}, {}, {stored} stored", count(selected.len() as u64, "transfer"), human_bytes(size))
}

fn json_line(entry: &CatalogEntry, occupancy: &Occupancy) -> String {
    let manifest = &entry.manifest;
    let digest = match entry.state {
        TransferState::Complete { digest, .. } => Some(digest),
        _ => None,
    };
    let mut line = json!({
        "transfer": manifest.transfer,
        "channel": manifest.channel,
        "name": manifest.name,
        "size": entry.size(),
        "digest": digest,
        "state": entry.state.as_str(),
        "published_at": entry.published_at,
    });
    Sum::from(occupancy.of(entry)).note(&mut line);
    line.to_string()
}
