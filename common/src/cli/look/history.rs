//! `history`: what happened to transfers, and goes on happening.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use globset::GlobMatcher;
use jiff::Timestamp;
use serde_json::json;

use crate::{
    Channel, ChannelFilter, Closing, FileName, Kind, Manifest, RejectionState, ShortIds, TransferId,
    broker::{Broker, BrokerError, Follow, Said, StartAt, Word},
    cli::{
        Column, Outcome, Table, human_bytes, in_brief, note, number, parse_glob, parse_time, print_line,
        select::matches, stop_signal, without_id,
    },
};

/// Events that are kept at once, at most; the newest.
const MOST: usize = 1_000_000;

/// Show what happened, oldest first: published, complete, landed, rejected, wanted again, cancelled
///
/// Times are the server's. What was pruned is not in it any more, nor what max_age has removed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} history --since 1h
  {program} history -c 'invoices.>' --follow")]
pub struct History {
    /// Channels to show; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Only what happened at this time or later: 2026-11-23T12:00:00Z, or an age such as 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only about files whose name matches: '*.csv', 'reports/**'
    #[arg(long = "match", value_name = "GLOB", value_parser = parse_glob)]
    names: Option<GlobMatcher>,
    /// Only the last so many
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..=u64::MAX))]
    limit: Option<u32>,
    /// Go on with what happens, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// The kinds of words, manifests first: they have the names.
const KINDS: [Kind; 5] = Kind::CONTROL;

/// What is told of.
struct Teller {
    options: History,
    names: BTreeMap<(Channel, TransferId), FileName>,
    ids: ShortIds,
}

impl History {
    pub(super) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let mut stop = std::pin::pin!(stop_signal().context("cannot listen for signals")?);
        let follow = self.follow;
        let (mut teller, words) = tokio::select! {
            () = &mut stop => return Ok(if follow { Outcome::Done } else { Outcome::Failed }),
            past = self.past(broker) => past?,
        };
        let last = words.last_key_value().map_or(0, |(sequence, _)| *sequence);
        if words.is_empty() && !follow {
            note(&format!("nothing that matches has happened on stream {}", broker.stream()));
        }
        teller.tell_past(words)?;
        if !follow {
            return Ok(Outcome::Done);
        }
        tokio::select! {
            () = &mut stop => Ok(Outcome::Done),
            ended = teller.follow(broker, last) => ended.map(|()| Outcome::Done),
        }
    }

    /// What has happened until now, by sequence.
    async fn past(self, broker: &Broker) -> anyhow::Result<(Teller, BTreeMap<u64, Word>)> {
        let most = self.limit.map_or(MOST, |limit| limit as usize);
        let mut teller = Teller { names: BTreeMap::new(), ids: ShortIds::of([]), options: self };
        let mut words = BTreeMap::new();
        for kind in KINDS {
            let options = &teller.options;
            let begin = || (Vec::new(), BTreeMap::new());
            let names = &teller.names;
            let heard = broker.hear(kind, &options.channel, StartAt::First, begin, |(named, heard), word| {
                let mut name = None;
                if let (Said::Published(manifest), Some(subject)) = (&word.said, &word.subject) {
                    name = Some(&manifest.name);
                    named.push(((subject.channel.clone(), subject.transfer), manifest.name.clone()));
                }
                let name = name.or_else(|| name_of(names, &word));
                if options.is_wanted(&word, name) {
                    heard.insert(word.sequence, word);
                    if heard.len() > most {
                        heard.pop_first();
                    }
                }
            });
            match heard.await {
                Ok((named, heard)) => {
                    teller.names.extend(named);
                    words.extend(heard);
                }
                // Without manifests there is nothing to tell of.
                Err(BrokerError::Denied { violation, .. }) if kind != Kind::Open => {
                    tracing::warn!("'{}' is not shown: {violation}", kind.as_str());
                }
                Err(error) => return Err(error.into()),
            }
        }
        while words.len() > most {
            words.pop_first();
        }
        teller.ids = ShortIds::of(teller.names.keys().map(|(_, id)| *id));
        Ok((teller, words))
    }

    fn is_wanted(&self, word: &Word, name: Option<&FileName>) -> bool {
        self.since.is_none_or(|since| word.at >= since)
            && match (&self.names, name) {
                (None, _) => true,
                (Some(pattern), Some(name)) => matches(std::slice::from_ref(pattern), name.as_str()),
                (Some(_), None) => false,
            }
    }
}

fn name_of<'a>(names: &'a BTreeMap<(Channel, TransferId), FileName>, word: &Word) -> Option<&'a FileName> {
    let subject = word.subject.as_ref()?;
    names.get(&(subject.channel.clone(), subject.transfer))
}

/// Tells which of these were published before: a small file is, when a receiver asks for it.
fn repetitions(words: impl Iterator<Item = Word>) -> impl Iterator<Item = (bool, Word)> {
    let mut seen = BTreeSet::new();
    words.map(move |word| {
        let again = match (&word.said, &word.subject) {
            (Said::Published(_), Some(subject)) => !seen.insert((subject.channel.clone(), subject.transfer)),
            _ => false,
        };
        (again, word)
    })
}

impl Teller {
    async fn follow(&mut self, broker: &Broker, last: u64) -> anyhow::Result<()> {
        let mut follows = listen(broker, &self.options.channel, last + 1).await?;
        let mut before: Option<(u64, Timestamp)> = None;
        loop {
            let delivery = {
                let nexts = follows.iter_mut().map(|follow| Box::pin(follow.next()));
                futures_util::future::select_all(nexts).await.0?
            };
            let place = (delivery.stream_sequence, delivery.published_at);
            // A message may come twice.
            if before.replace(place) == Some(place) {
                continue;
            }
            let Some(word) = Word::read(broker.subjects(), &delivery) else { continue };
            let mut again = false;
            if let (Said::Published(manifest), Some(subject)) = (&word.said, &word.subject) {
                let key = (subject.channel.clone(), subject.transfer);
                again = self.names.insert(key, manifest.name.clone()).is_some();
            }
            if self.options.is_wanted(&word, name_of(&self.names, &word)) {
                self.tell(&word, again)?;
            }
        }
    }

    fn tell(&self, word: &Word, again: bool) -> std::io::Result<()> {
        print_line(&if self.options.json { self.json(word, again) } else { self.cells(word, again).join("  ") })
    }

    /// Tells what has happened; to people in columns.
    fn tell_past(&self, words: BTreeMap<u64, Word>) -> std::io::Result<()> {
        let words = repetitions(words.into_values());
        if self.options.json {
            return words.into_iter().try_for_each(|(again, word)| self.tell(&word, again));
        }
        let mut table = Table::new(&["TIME", "EVENT", "TRANSFER", "CHANNEL", "NAME", ""].map(Column::Left));
        words.for_each(|(again, word)| table.row(self.cells(&word, again)));
        if table.is_empty() { Ok(()) } else { table.print(0) }
    }

    fn cells(&self, word: &Word, again: bool) -> [String; 6] {
        let (id, channel) = match &word.subject {
            Some(subject) => (self.ids.show(subject.transfer), subject.channel.to_string()),
            None => ("-".into(), "-".into()),
        };
        let name = name_of(&self.names, word).map_or("-", FileName::as_str);
        let event = word.said.as_str();
        [format!("{:.0}", word.at), format!("{event:9}"), id, channel, name.into(), detail(&word.said, again)]
    }

    fn json(&self, word: &Word, again: bool) -> String {
        let mut line = json!({
            "event": word.said.as_str(),
            "at": word.at,
            "sequence": word.sequence,
            "transfer": word.subject.as_ref().map(|subject| subject.transfer),
            "channel": word.subject.as_ref().map(|subject| &subject.channel),
            "name": name_of(&self.names, word),
        });
        if let Some(receiver) = word.said.receiver() {
            line["receiver"] = json!(receiver);
        }
        match &word.said {
            Said::Published(manifest) => {
                line["size"] = json!(manifest.size);
                line["inline"] = json!(manifest.inline.is_some());
                line["again"] = json!(again);
            }
            Said::Closed(Closing::Complete(totals)) => {
                line["size"] = json!(totals.size);
                line["stored_bytes"] = json!(totals.stored_bytes);
                line["digest"] = json!(totals.digest);
            }
            Said::Closed(Closing::Cancelled { reason }) => line["reason"] = json!(reason),
            Said::Landed(receipt) => {
                line["size"] = json!(receipt.size);
                line["digest"] = json!(receipt.digest);
                line["landed_at"] = json!(receipt.landed_at);
            }
            Said::Rejected(rejection) => {
                if let RejectionState::Rejected { reason, detail } = &rejection.state {
                    line["reason"] = json!(reason.as_str());
                    line["detail"] = json!(detail);
                }
            }
            Said::Wanted(request) => line["chunks"] = json!(request.chunks),
        }
        line.to_string()
    }
}

/// What there is to say beside what happened. Strangers may have written parts of it.
fn detail(said: &Said, again: bool) -> String {
    match said {
        Said::Published(manifest) => published(manifest, again),
        Said::Closed(Closing::Complete(totals)) => {
            format!("{}, {} stored", human_bytes(totals.size), human_bytes(totals.stored_bytes))
        }
        Said::Closed(Closing::Cancelled { reason }) => in_brief(reason),
        Said::Landed(receipt) => format!("at {}", receipt.receiver),
        Said::Rejected(rejection) => match &rejection.state {
            RejectionState::Rejected { reason, detail } => {
                format!(
                    "by {}: {}: {}",
                    rejection.receiver,
                    reason.as_str(),
                    in_brief(&without_id(detail, rejection.transfer))
                )
            }
            RejectionState::Withdrawn => format!("by {}: not rejected any more", rejection.receiver),
        },
        Said::Wanted(request) => format!("by {}: chunks {}", request.receiver, request.chunks),
    }
}

fn published(manifest: &Manifest, again: bool) -> String {
    let size = manifest.size.map_or_else(|| "size unknown".into(), human_bytes);
    let whole = if manifest.inline.is_some() { ", complete" } else { "" };
    let again = if again { ", again" } else { "" };
    format!("{size}{whole}{again}")
}

/// All words at once, where that is permitted: who may look at its own channels alone, asks for each kind by itself, whose subject
/// then stands in the request's own.
async fn listen(broker: &Broker, channel: &ChannelFilter, from: u64) -> Result<Vec<Follow>, BrokerError> {
    let filters: Vec<_> = KINDS.into_iter().flat_map(|kind| broker.where_said(kind, channel)).collect();
    match broker.follow(filters.clone(), from).await {
        Err(BrokerError::Denied { .. }) => {}
        follow => return Ok(vec![follow?]),
    }
    let mut follows = Vec::new();
    for filter in filters {
        match broker.follow(vec![filter], from).await {
            Err(BrokerError::Denied { .. }) if !follows.is_empty() => {}
            follow => follows.push(follow?),
        }
    }
    Ok(follows)
}
