//! `watch --dry-run`: what would be done with the files that are there.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use natsfer_common::{
    blocking,
    cli::{Outcome, ServerArguments, note, report},
};
use natsfer_producer::{Before, Producer};
use walkdir::WalkDir;

use super::{Setting, Watch, disposal::Disposal, shipment::name_of, state::State, state_file, version::Version};
use crate::cli::preview::Planned;

/// Says what would be done with each file.
pub(super) async fn preview(watch: &Watch, setting: &Setting, server: &ServerArguments) -> anyhow::Result<Outcome> {
    let (directory, channel) = (watch.state_directory(setting), watch.sending.channel.clone());
    let state = blocking(move || state_file::remembered(&directory, &channel)).await?;
    let broker = server.connect(<super::super::Arguments as clap::CommandFactory>::command(), Duration::ZERO).await?;
    let producer = Producer::new(broker.without_waiting_for_jetstream());
    let then = then(watch, &setting.disposal);
    let mut outcome = Outcome::Done;
    for path in files(setting) {
        let previewed = async { preview_one(watch, setting, &producer, &state, then.as_deref(), &path?).await };
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

/// The files that are selected, by their paths below the outbox.
fn files(setting: &Setting) -> impl Iterator<Item = anyhow::Result<std::path::PathBuf>> {
    let root = setting.home.path().clone();
    let (selection, top) = (setting.selection.clone(), root.clone());
    let below = move |path: &Path| path.strip_prefix(&top).unwrap_or(path).to_owned();
    let looked_into = {
        let (below, selection) = (below.clone(), selection.clone());
        move |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_type().is_dir() || selection.looks_into(&below(entry.path()))
        }
    };
    let entries = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(looked_into);
    entries.filter_map(move |entry| match entry {
        Ok(entry) => {
            let path = below(entry.path());
            (entry.file_type().is_file() && selection.takes_file(&path)).then_some(Ok(path))
        }
        Err(error) => Some(Err(anyhow!(error))),
    })
}

async fn preview_one(
    watch: &Watch, setting: &Setting, producer: &Producer, state: &State, then: Option<&str>, path: &Path,
) -> anyhow::Result<()> {
    let (name, whole) = (name_of(path)?, setting.home.path().join(path));
    let what = || format!("cannot send {}", whole.display());
    let (json, channel) = (watch.sending.json, &watch.sending.channel);
    let now = Version::from(&std::fs::symlink_metadata(&whole).with_context(what)?);
    // Also what has been pruned since is not sent again.
    if let Some(sent) = state.sent.get(&name).filter(|sent| sent.version.is_still(&now)) {
        let (transfer, size) = (Some(sent.transfer), Some(now.size));
        return Planned { channel, name: &name, transfer, size, before: Before::All, then }.print(json);
    }
    let preview = producer.preview_file(&whole, watch.sending.options(name)).await.with_context(what)?;
    Planned::of(&preview, then).print(json)
}
