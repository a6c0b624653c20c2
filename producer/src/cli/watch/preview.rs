//! `watch --dry-run`: what would be done with the files that are there.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use natsfer_common::{
    blocking,
    cli::{Outcome, ServerArguments, note, report},
};
use natsfer_producer::Producer;
use walkdir::{DirEntry, WalkDir};

use super::{
    Setting, Watch, disposal::Disposal, home::Home, selection::Selection, shipment::name_of, state::State, state_file,
    version::Version,
};
use crate::cli::preview::{Known, Planned};

/// Says what would be done with each file.
pub(super) async fn preview(watch: &Watch, setting: &Setting, server: &ServerArguments) -> anyhow::Result<Outcome> {
    let (directory, channel) = (watch.state_directory(setting), watch.sending.channel.clone());
    let state = blocking(move || state_file::remembered(&directory, &channel)).await?;
    let broker = server.connect(<super::super::Arguments as clap::CommandFactory>::command(), Duration::ZERO).await?;
    let producer = Producer::new(broker.without_waiting_for_jetstream());
    let then = then(watch, &setting.disposal);
    let mut outcome = Outcome::Done;
    let (home, selection) = (setting.home.clone(), setting.selection.clone());
    for file in blocking(move || files(&home, &selection)).await {
        let previewed = async { preview_one(watch, setting, &producer, &state, then.as_deref(), file?).await };
        if let Err(error) = previewed.await {
            report(&error);
            outcome = Outcome::Failed;
        }
    }
    producer.close().await;
    note("a dry run: nothing was sent");
    Ok(outcome)
}

/// What is done with a file that was sent, in words.
fn then(watch: &Watch, disposal: &Disposal) -> Option<String> {
    let done = match disposal {
        Disposal::Keep => return None,
        Disposal::Delete => "deleted".to_owned(),
        Disposal::Move(to) => format!("moved to {}", to.display()),
    };
    let receivers: Vec<_> = watch.after_delivery.iter().map(ToString::to_string).collect();
    Some(match &receivers[..] {
        [] => done,
        receivers => format!(
            "{done} once {} landed it",
            receivers.join(" and ") + if receivers.len() > 1 { " have" } else { " has" }
        ),
    })
}

/// A file that is selected.
struct File {
    /// Its path below the outbox.
    path: PathBuf,
    version: Version,
}

/// The files that are selected, and why others could not be looked at.
fn files(home: &Home, selection: &Selection) -> Vec<anyhow::Result<File>> {
    let root = home.path();
    let below = |entry: &DirEntry| entry.path().strip_prefix(&**root).unwrap_or(entry.path()).to_owned();
    let looked_into =
        |entry: &DirEntry| entry.depth() == 0 || !entry.file_type().is_dir() || selection.looks_into(&below(entry));
    let entries = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(looked_into);
    let look = |entry: walkdir::Result<DirEntry>| match entry {
        Ok(entry) => {
            let path = below(&entry);
            let taken = entry.file_type().is_file() && selection.takes_file(&path);
            taken.then(|| Ok(File { path, version: Version::from(&entry.metadata()?) }))
        }
        Err(error) => Some(Err(error.into())),
    };
    entries.filter_map(look).collect()
}

async fn preview_one(
    watch: &Watch, setting: &Setting, producer: &Producer, state: &State, then: Option<&str>, file: File,
) -> anyhow::Result<()> {
    let File { path, version: now } = file;
    let (name, whole) = (name_of(&path)?, setting.home.path().join(&path));
    let (json, channel) = (watch.sending.json, &watch.sending.channel);
    // Also what has been pruned since is not sent again.
    if let Some(sent) = state.sent.get(&name).filter(|sent| sent.version.is_still(&now)) {
        let (transfer, size) = (Some(sent.transfer), Some(now.size));
        return Planned { channel, name: &name, transfer, size, known: Known::Sent, then }.print(json);
    }
    let preview = producer.preview_file(&whole, watch.sending.options(name)).await;
    let preview = preview.with_context(|| format!("cannot send {}", whole.display()))?;
    Planned::of(&preview, then).print(json)
}
