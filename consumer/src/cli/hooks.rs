//! `hooks`: the commands that are to be run for what has landed, or have failed too often.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::ensure;
use natsfer_common::{
    IdPrefix, ReceiverName,
    cli::{Outcome, note, print_line, report},
};
use natsfer_consumer::{
    TargetDirectory,
    hooks::{Queue, Run, RunId, Shelf, harmless_lines},
};
use serde_json::json;

/// Show the commands that have failed for good or are still to be run (receive --exec), or have them run again
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} hooks --into inbox
  {program} hooks --into inbox --retry 4be6c1e2")]
pub(crate) struct List {
    /// Directory that files land in
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Only those of this receiver
    #[arg(short, long)]
    name: Option<ReceiverName>,
    /// Have the command that failed for this transfer run again by its receiver, at once or when it is next started: its id, or
    /// the first digits of it
    #[arg(long, value_name = "ID", conflicts_with = "retry_all")]
    retry: Option<IdPrefix>,
    /// Have every command that failed run again
    #[arg(long)]
    retry_all: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        // Looking makes none.
        ensure!(self.into.is_dir(), "there is no directory {}", self.into.display());
        let target = TargetDirectory::open(&self.into)?;
        let mut names = Queue::receivers(&target)?;
        names.retain(|name| self.name.as_ref().is_none_or(|wanted| wanted == name));
        let queues = names.iter().map(|name| Queue::open(&target, name)).collect::<Result<Vec<_>, _>>()?;
        if self.retry.is_some() || self.retry_all {
            return self.retry(&queues);
        }
        let mut shown = 0_u64;
        for queue in &queues {
            for shelf in [Shelf::Failed, Shelf::Pending] {
                for id in queue.list(shelf)? {
                    self.show(queue, shelf, id)?;
                    shown += 1;
                }
            }
        }
        if shown == 0 {
            note(&format!("no command has failed, nor is one to be run, in {}", self.into.display()));
        }
        Ok(Outcome::Done)
    }

    fn show(&self, queue: &Queue, shelf: Shelf, id: RunId) -> anyhow::Result<()> {
        let run = match queue.read(shelf, id) {
            Ok(Some(run)) => run,
            // It has succeeded meanwhile.
            Ok(None) => return Ok(()),
            Err(error) => {
                report(
                    &anyhow::Error::from(error)
                        .context(format!("the command for transfer {} cannot be read", id.transfer)),
                );
                return Ok(());
            }
        };
        let Run { receiver, path, manifest, noted_at, failures, last, .. } = &run;
        let path = self.into.join(path);
        Ok(print_line(&if self.json {
            json!({
                "event": "hook",
                "transfer": manifest.transfer,
                "channel": manifest.channel,
                "name": manifest.name,
                "path": path.to_string_lossy(),
                "receiver": receiver,
                "state": shelf.as_str(),
                "tries": failures,
                "noted_at": noted_at,
                "failed_at": last.as_ref().map(|last| last.at),
                "exit_code": last.as_ref().and_then(|last| last.exit_code),
                "reason": last.as_ref().map(|last| &last.reason),
                "output": last.as_ref().map(|last| &last.output),
            })
            .to_string()
        } else {
            let mut line = format!("{}  {:7}  {}", manifest.transfer, shelf.as_str(), path.display());
            if let Some(last) = last {
                line += &format!("  {} ({failures} tries, {:.0})", last.reason, last.at);
                line.extend(harmless_lines(&last.output).last().map(|said| format!(": {said}")));
            }
            line
        })?)
    }

    fn retry(&self, queues: &[Queue]) -> anyhow::Result<Outcome> {
        let mut chosen = Vec::new();
        for queue in queues {
            let failed = queue.list(Shelf::Failed)?.into_iter();
            let wanted = failed.filter(|id| self.retry.as_ref().is_none_or(|wanted| wanted.begins(id.transfer)));
            chosen.extend(wanted.map(|id| (queue, id)));
        }
        if let Some(wanted) = &self.retry {
            let transfers: BTreeSet<_> = chosen.iter().map(|(_, id)| id.transfer.to_string()).collect();
            let into = self.into.display();
            ensure!(!transfers.is_empty(), "no command has failed for transfer {wanted} in {into}");
            let several = transfers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            ensure!(transfers.len() == 1, "{wanted} stands for several transfers in {into}: {several}");
        }
        for (queue, id) in &chosen {
            queue.retry(*id)?;
        }
        tracing::info!(
            "{} to be run again, by a receiver with --exec: at once, or when it is next started",
            chosen.len()
        );
        Ok(Outcome::Done)
    }
}
