//! `hooks`: the commands that are to be run for what has landed, or have failed too often.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::ensure;
use natsfer_common::{
    IdPrefix, ReceiverName, ShortIds,
    cli::{Column, Outcome, Table, count, note, print_line, report},
};
use natsfer_consumer::{
    TargetDirectory,
    hooks::{Attempt, Queue, Run, RunId, Shelf, harmless_lines},
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
        let (mut runs, mut outcome) = (Vec::new(), Outcome::Done);
        for queue in &queues {
            for shelf in [Shelf::Failed, Shelf::Pending] {
                for id in queue.list(shelf)? {
                    match queue.read(shelf, id) {
                        Ok(run) => runs.extend(run.map(|run| (shelf, run))),
                        Err(error) => outcome = unreadable(queue, shelf, id, error),
                    }
                }
            }
        }
        if runs.is_empty() && outcome == Outcome::Done {
            note(&format!("no command has failed, nor is one to be run, in {}", self.into.display()));
        } else if self.json {
            runs.iter().try_for_each(|(shelf, run)| print_line(&self.json_line(*shelf, run)))?;
        } else {
            self.print(&runs)?;
        }
        Ok(outcome)
    }

    fn json_line(&self, shelf: Shelf, run: &Run) -> String {
        let Run { receiver, path, manifest, noted_at, failures, last, .. } = run;
        json!({
            "event": "hook",
            "transfer": manifest.transfer,
            "channel": manifest.channel,
            "name": manifest.name,
            "path": self.into.join(path).to_string_lossy(),
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
    }

    fn print(&self, runs: &[(Shelf, Run)]) -> std::io::Result<()> {
        use Column::{Left, Right};
        let ids = ShortIds::of(runs.iter().map(|(_, run)| run.manifest.transfer));
        let mut table = Table::new(&[
            Left("TRANSFER"),
            Left("STATE"),
            Right("TRIES"),
            Left("LAST TRY"),
            Left("FILE"),
            Left("REASON"),
        ]);
        for (shelf, Run { path, manifest, failures, last, .. }) in runs {
            table.row([
                ids.show(manifest.transfer),
                shelf.as_str().into(),
                failures.to_string(),
                last.as_ref().map_or_else(|| "-".into(), |last| format!("{:.0}", last.at)),
                self.into.join(path).display().to_string(),
                last.as_ref().map_or_else(String::new, |last| reason(last, *failures)),
            ]);
        }
        table.print(0)
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
        let (mut again, mut outcome) = (0, Outcome::Done);
        for (queue, id) in &chosen {
            match queue.retry(*id) {
                Ok(()) => again += 1,
                Err(error) => outcome = unreadable(queue, Shelf::Failed, *id, error),
            }
        }
        note(&match again {
            0 => format!("no command that has failed can be run again in {}", self.into.display()),
            again => {
                let again = count(again, "command");
                format!("{again} to be run again by a receiver with --exec: at once, or when it is next started")
            }
        });
        Ok(outcome)
    }
}

/// The others are dealt with all the same.
fn unreadable(queue: &Queue, shelf: Shelf, id: RunId, error: std::io::Error) -> Outcome {
    let file = queue.path(shelf, id);
    let context =
        format!("the command for transfer {} cannot be used; remove {} to be rid of it", id.transfer, file.display());
    report(&anyhow::Error::from(error).context(context));
    Outcome::Failed
}

/// Why it has failed, with the last that it has written. Tries are counted anew once it is to be run again.
fn reason(last: &Attempt, failures: u32) -> String {
    let mut reason = if failures == 0 { "to be run again; before, " } else { "" }.to_owned();
    reason += &last.reason;
    reason.extend(harmless_lines(&last.output).last().map(|said| format!(": {said}")));
    reason
}
