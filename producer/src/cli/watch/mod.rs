//! `watch`: a directory, from now on.

mod agenda;
mod changes;
mod content;
mod departures;
mod disposal;
mod emptied;
mod file;
mod handover;
mod home;
mod lease;
mod leaving;
mod listening;
mod look;
mod mappings;
mod outbox;
mod preview;
mod pump;
mod repairs;
mod scan;
mod selection;
mod shipment;
mod state;
mod state_file;
mod version;
mod writers;

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{CommandFactory as _, ValueEnum, error::ErrorKind};
use globset::Glob;
use natsfer_common::{
    STAGING_DIRECTORY,
    cli::{HttpArguments, Outcome, ServerArguments, glob, parse_duration, stop_signal, wrong_usage},
};
use natsfer_producer::ReceiverName;

use self::{
    agenda::Order,
    disposal::Disposal,
    home::Home,
    pump::Pump,
    selection::{Hidden, Selection},
    state::State,
    state_file::StateFile,
    writers::Completion,
};
use super::{awaited, send_options::SendArguments};

/// Send the files of a directory as they are complete, until SIGINT or SIGTERM
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} watch outbox -c invoices.eu
  {program} watch outbox --match '**/*.pdf' --exclude 'draft*' --then delete --after-delivery billing,archive
  {program} watch outbox --match '*.csv' --dry-run
  {program} watch outbox --in-order --then move --move-to sent --http 127.0.0.1:8223")]
pub(crate) struct Watch {
    #[command(flatten)]
    sending: SendArguments,
    /// Only files whose path below DIR matches: '*.csv', 'reports/**'; repeatable
    #[arg(long = "match", value_name = "GLOB", value_parser = glob)]
    matching: Vec<Glob>,
    /// Not those whose path below DIR matches; repeatable
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    exclude: Vec<Glob>,
    /// Also files and directories whose name begins with a dot
    #[arg(long)]
    hidden: bool,
    /// A file that is neither closed nor renamed in is complete when it has not changed for so long
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = parse_duration)]
    settle: Duration,
    /// Send one at a time, oldest arrival first; one that fails holds up the rest
    #[arg(long)]
    in_order: bool,
    /// What to do with a file that was sent
    #[arg(long, value_enum, default_value_t = Then::Keep)]
    then: Then,
    /// Where --then move moves files to; on the same file system
    #[arg(long, value_name = "DIR", required_if_eq("then", "move"))]
    move_to: Option<PathBuf>,
    /// Delete or move also files that have only settled where the system does not tell whether somebody still writes to them
    #[arg(long)]
    trust_settled: bool,
    /// Wait with --then until these receivers have landed the file; comma-separated. Chunks that they miss are sent again
    /// meanwhile
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    after_delivery: Vec<ReceiverName>,
    /// Where to remember what was sent [default: DIR/.natsfer]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Look through DIR so often for what the system does not tell of
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_rescan)]
    rescan: Duration,
    /// Only say what would be done with the files that are there now, then exit: nothing is sent, made or changed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    http: HttpArguments,
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Then {
    /// Leave it
    Keep,
    /// Delete it
    Delete,
    /// Move it to the directory of --move-to
    Move,
}

/// What is watched, and all that follows from the options.
#[derive(Debug)]
struct Setting {
    home: Arc<Home>,
    selection: Arc<Selection>,
    disposal: Disposal,
    /// How well files must be known to be complete to go where their writers are not known.
    trusted: Completion,
    order: Order,
}

fn parse_rescan(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time < Duration::from_secs(1) { Err("it must be 1s or more".into()) } else { Ok(time) }
}

impl Watch {
    /// Ends the program, as clap does, where the options contradict each other.
    pub(crate) fn check_usage(&self) {
        let wrong = match self.then {
            Then::Keep | Then::Delete if self.move_to.is_some() => "--move-to needs --then move",
            Then::Keep if self.trust_settled => "--trust-settled needs --then delete or move",
            _ => return,
        };
        wrong_usage(super::Arguments::command(), Some("watch"), ErrorKind::ArgumentConflict, wrong);
    }

    pub(crate) async fn run(self: Box<Self>, server: &ServerArguments) -> anyhow::Result<Outcome> {
        let mut stop = std::pin::pin!(stop_signal().context("cannot listen for signals")?);
        let setting = self.setting()?;
        if self.dry_run {
            return tokio::select! {
                () = &mut stop => Ok(Outcome::Failed),
                outcome = preview::preview(&self, &setting, server) => outcome,
            };
        }
        if let Disposal::Move(to) = &setting.disposal {
            std::fs::create_dir_all(to).with_context(|| cannot_move(to))?;
        }
        let (file, state) = self.open_state(&setting)?;
        let result = tokio::select! {
            // Whatever is under way.
            () = &mut stop => {
                tracing::info!("stopping; what is not finished goes on with the next run");
                Ok(Outcome::Done)
            }
            result = self.watch(server, &setting, &file, state) => result,
        };
        file.close().await;
        result
    }

    async fn watch(
        &self, server: &ServerArguments, setting: &Setting, file: &StateFile, state: State,
    ) -> anyhow::Result<Outcome> {
        // For as long as it takes.
        let broker = server.connect(super::Arguments::command(), Duration::MAX).await?;
        let _http = self.http.serve(&broker).await?;
        if self.after_delivery.is_empty() {
            awaited::warn_if_all_elsewhere(&broker, &self.sending.channel).await;
        } else {
            let channels = self.sending.channel.clone().into();
            awaited::warn_of_strangers(&broker, &channels, &self.after_delivery, "it is waited for all the same").await;
        }
        Pump::start(self, setting, file, &broker, state).await?.run().await
    }

    fn setting(&self) -> anyhow::Result<Setting> {
        let what = || format!("cannot watch {}", self.directory.display());
        let home = match Home::of(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                bail!("cannot watch {}: it is not a directory", self.directory.display())
            }
            home => home.with_context(what)?,
        };
        let root = home.path();
        // What may be written to, and not be looked at, would look empty for ever.
        std::fs::read_dir(root).with_context(what)?.next().transpose().with_context(what)?;
        let disposal = match (self.then, &self.move_to) {
            (Then::Move, Some(to)) => Disposal::Move(target(to, root, home.device())?),
            (Then::Delete, _) => Disposal::Delete,
            _ => Disposal::Keep,
        };
        let mut own = Vec::new();
        let state = self.state.as_deref().and_then(|state| std::path::absolute(state).ok());
        for path in state.iter().chain(if let Disposal::Move(to) = &disposal { Some(to) } else { None }) {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            own.extend(
                path.strip_prefix(&**root).ok().filter(|below| !below.as_os_str().is_empty()).map(Path::to_owned),
            );
        }
        let hidden = if self.hidden { Hidden::Taken } else { Hidden::LeftOut };
        let selection = Selection::new(&self.matching, &self.exclude, hidden, own).context("cannot use the globs")?;
        Ok(Setting {
            home: Arc::new(home),
            selection: Arc::new(selection),
            disposal,
            trusted: if self.trust_settled { Completion::Settled } else { Completion::Told },
            order: if self.in_order { Order::Kept } else { Order::Free },
        })
    }

    fn open_state(&self, setting: &Setting) -> anyhow::Result<(StateFile, State)> {
        StateFile::open(&self.state_directory(setting), &self.sending.channel)
    }

    fn state_directory(&self, setting: &Setting) -> PathBuf {
        self.state.clone().unwrap_or_else(|| setting.home.path().join(STAGING_DIRECTORY))
    }
}

fn cannot_move(to: &Path) -> String {
    format!("cannot move files to {}", to.display())
}

/// Where files are moved to. What is not there yet is not made.
fn target(to: &Path, root: &Path, device: u64) -> anyhow::Result<PathBuf> {
    let shown = to.display();
    let what = || cannot_move(to);
    let path = resolved(&std::path::absolute(to).with_context(what)?).with_context(what)?;
    ensure!(path.is_dir() || !path.exists(), "cannot move files to {shown}: it is not a directory");
    let there = device_of(&path).with_context(what)?;
    ensure!(there == device, "cannot move files to {shown}: it is on another file system than the outbox");
    ensure!(path != root, "cannot move files to {shown}: it is the directory that is watched");
    Ok(path)
}

/// An absolute path without the symbolic links in what is there of it, and without `..` behind what is not there.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match (path.canonicalize(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            let mut resolved = resolved(parent)?;
            let Some(name) = path.file_name() else {
                resolved.pop();
                return Ok(resolved);
            };
            resolved.push(name);
            // Behind a `..` that is left out now, it may be there.
            match resolved.canonicalize() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(resolved),
                there => there,
            }
        }
        (resolved, _) => resolved,
    }
}

/// The file system that an absolute path is on, or will be: that of what is there of it.
fn device_of(path: &Path) -> io::Result<u64> {
    match (std::fs::metadata(path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => device_of(parent),
        (metadata, _) => Ok(metadata?.dev()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_moved_within_one_file_system_and_not_onto_themselves() {
        let root = tempfile::tempdir().unwrap();
        let device = std::fs::metadata(root.path()).unwrap().dev();
        let root = root.path().canonicalize().unwrap();
        assert_eq!(target(&root.join("a/sent"), &root, device).unwrap(), root.join("a/sent"));
        assert!(target(&root, &root, device).unwrap_err().to_string().contains("is watched"));
        let elsewhere = |path: &str| target(&root.join(path), &root, device + 1).unwrap_err().to_string();
        assert!(elsewhere("a").contains("another file system") && elsewhere("b/c").contains("another file system"));
        assert!(!root.join("b").exists());

        std::fs::create_dir(root.join("outbox")).unwrap();
        std::os::unix::fs::symlink("outbox", root.join("link")).unwrap();
        let outbox = root.join("outbox");
        let from = |path: &str| target(&root.join(path), &outbox, device);
        assert_eq!(from("new/../sent").unwrap(), root.join("sent"));
        assert_eq!(from("new/deeper/../../outbox/sent").unwrap(), outbox.join("sent"));
        assert!(from("new/../link").unwrap_err().to_string().contains("is watched"));
        std::fs::write(root.join("file"), "").unwrap();
        assert!(from("new/../file").unwrap_err().to_string().contains("not a directory"));
        assert!(!root.join("new").exists());
    }
}
