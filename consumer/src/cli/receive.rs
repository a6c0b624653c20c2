//! `receive`: lands files.

mod lag;
mod leftovers;
mod observer;
mod place;
mod preview;
mod quiet;
mod start;
mod summary;
mod tally;
mod turns;
mod until;
mod work;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::CommandFactory as _;
use natsfer_common::{
    ChannelFilter, ReceiverName, blocking,
    broker::Broker,
    cli::{
        Http, HttpArguments, Outcome, ProgressMode, Progresses, ServerArguments, count, note, number, parse_duration,
        stop_signal,
    },
};
use natsfer_consumer::{
    Limits, Previewing, Receiver, ReceiverOptions, TargetDirectory,
    hooks::{Counts, Hooks},
};

use self::{observer::Observer, preview::Plan, until::Until, work::Work};
use super::{
    event::Format,
    exec::ExecArguments,
    landing::{LIMITS, LandingArguments},
    selection::SelectionArguments,
};

/// Land files in a directory, verified and whole
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} receive -n billing --into inbox                         # until SIGINT or SIGTERM
  {program} receive -n europe -c 'invoices.eu.>' --into inbox       # some channels only: the same ones each time
  {program} receive -n billing --into inbox --drain                 # what is there now, then exit
  {program} receive -n billing --into inbox --layout '{channel/}/{date}/{name}'
  {program} receive -n billing --match '**/*.csv' --into inbox --exec './import \"$NATSFER_PATH\"'
  {program} receive -n billing --into inbox --max-size 1GiB --max-disk 50GiB --refuse hidden,executable
  {program} receive -n billing --match '**/*.csv' --into inbox --dry-run  # says what would land, and where
  {program} receive -n billing --into inbox --rate 20MiB --http 127.0.0.1:8223")]
pub(crate) struct Receive {
    /// Durable name: receivers of different names each get every file, processes of one name share them
    #[arg(short, long)]
    name: ReceiverName,
    /// Channels to listen on; wildcards allowed: invoices.*, invoices.>
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    landing: LandingArguments,
    #[command(flatten)]
    exec: ExecArguments,
    /// Reject files whose senders are silent when more than so many were taken and are not done
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_open, value_parser = number::<u64>(0..=u64::MAX), help_heading = LIMITS)]
    max_open: u64,
    /// Exit once everything published before the start has landed, and its commands have ended
    #[arg(long, conflicts_with = "count")]
    drain: bool,
    /// Exit after this many files have landed, and their commands have ended
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=u64::MAX))]
    count: Option<u64>,
    /// Only say what would be done with the files that wait, and where they would land, then exit: nothing is received, made or
    /// acknowledged
    #[arg(long)]
    dry_run: bool,
    /// Files received at once; of those in chunks, a few at most
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = number::<u16>(1..=256))]
    concurrency: u16,
    /// Put a file back for later when its sender has stored nothing more of it for so long
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    patience: Duration,
    /// Time until the files of a process that died go to another of its name
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_duration)]
    takeover: Duration,
    #[command(flatten)]
    http: HttpArguments,
    /// How to show how far files are
    #[arg(long, value_enum, default_value_t, value_name = "HOW", requires_if("events", "json"))]
    progress: ProgressMode,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All is done that was asked for.
    Reached,
    /// A signal came.
    Stopped,
}

/// What a run works with.
struct Begun {
    broker: Broker,
    http: Option<Http>,
    target: TargetDirectory,
    receiver: Receiver,
    until: Until,
}

impl Receive {
    pub(crate) async fn run(self: Box<Self>, server: &ServerArguments) -> anyhow::Result<Outcome> {
        let mut stop = std::pin::pin!(stop_signal().context("cannot listen for signals")?);
        if self.dry_run {
            return tokio::select! {
                () = &mut stop => Ok(Outcome::Failed),
                outcome = self.preview(server) => outcome,
            };
        }
        let stopped = || tracing::info!("stopping; what is not finished goes on with the next run");
        let begun = tokio::select! {
            () = &mut stop => {
                stopped();
                // Who asked for an end that has not come must be able to tell.
                return Ok(if self.drain || self.count.is_some() { Outcome::Failed } else { Outcome::Done });
            }
            begun = self.begin(server) => begun?,
        };
        let Begun { broker, http, target, receiver, until } = begun;
        let options = self.landing.save_options().with_patience(self.patience);
        let observer = Arc::new(Observer::new(Format::new(self.json), Progresses::new(self.progress), &target));
        let hooks = self.exec.options().map(|options| {
            let observer = observer.clone();
            Hooks::start(&target, &self.name, options, move |run, state| observer.exec(run, state))
        });
        let directory = target.path().to_owned();
        let mut work = Work::new(receiver, target, options, until, self.takeover, observer, hooks.transpose()?);
        // Whatever is being waited for: what was taken is dropped, and goes back.
        let end: anyhow::Result<End> = tokio::select! {
            () = stop => {
                stopped();
                Ok(End::Stopped)
            }
            reached = async {
                work.run().await?;
                work.finish().await;
                Ok(End::Reached)
            } => reached,
            never = lag::measure(&broker, &self.name, &directory), if http.is_some() => match never {},
        };
        let tally = work.close().await;
        broker.close().await;
        let end = end?;
        let outcome = tally.conclude(until);
        Ok(match (end, until) {
            // As above.
            (End::Stopped, Until::Count(_) | Until::Drained(_)) => Outcome::Failed,
            _ => outcome,
        })
    }

    /// Says what would be done with what waits.
    async fn preview(&self, server: &ServerArguments) -> anyhow::Result<Outcome> {
        let mut plan = Plan::new(self.landing.directory(), self.landing.on_conflict(), self.json)?;
        let broker = server.connect(super::Arguments::command(), Duration::ZERO).await?;
        let (selection, limits) = (self.selection.selection(), self.landing.limits_of_each());
        let previewing = Previewing {
            receiver: &self.name,
            channels: &self.channel,
            selection: &selection,
            layout: self.landing.layout(),
            limits: &limits,
        };
        let previews = previewing.look(&broker.without_waiting_for_jetstream()).await?;
        broker.close().await;
        for preview in &previews {
            plan.print(preview)?;
        }
        let files = count(previews.len() as u64, "file");
        note(&format!("a dry run: {files} for receiver '{}', and nothing was received", self.name));
        Ok(Outcome::Done)
    }

    /// Connects, for as long as it takes, and opens all that is needed.
    async fn begin(&self, server: &ServerArguments) -> anyhow::Result<Begun> {
        let broker = server.connect(super::Arguments::command(), Duration::MAX).await?;
        let broker = self.landing.over(broker).await?;
        let http = self.http.serve(&broker).await?;
        let target = self.landing.target()?;
        let receiver = async { Ok(Receiver::open(broker.clone(), self.receiver_options(&target)).await?) };
        let until = async {
            Ok::<_, anyhow::Error>(match (self.drain, self.count) {
                (true, _) => Until::drained(&broker).await?,
                (_, Some(count)) => Until::Count(count),
                _ => Until::Stopped,
            })
        };
        // One round trip for both.
        let (receiver, until) = tokio::try_join!(receiver, until)?;
        self.tell_start(&receiver, &target).await;
        Ok(Begun { broker, http, target, receiver, until })
    }

    /// Says what is received: a name or a channel may be mistyped.
    async fn tell_start(&self, receiver: &Receiver, target: &TargetDirectory) {
        let (name, channel) = (&self.name, &self.channel);
        tracing::info!("receiver '{name}' listens on {channel}; {}", start::files(receiver.opened_with()));
        if self.exec.options().is_none() {
            let (directory, name) = (target.path().to_owned(), name.clone());
            // What cannot be counted is no reason not to receive.
            let counts = blocking(move || Counts::of(&directory, &name)).await.unwrap_or_default();
            if let Some(line) = start::commands(counts) {
                tracing::info!("{line}");
            }
        }
    }

    fn receiver_options(&self, target: &TargetDirectory) -> ReceiverOptions {
        ReceiverOptions::new(self.name.clone())
            .with_channels(self.channel.clone())
            .with_home(target)
            .with_concurrency(self.concurrency.into())
            .with_takeover(self.takeover)
            .with_rate(self.landing.rate())
            .with_selection(self.selection.selection())
            .with_limits(self.landing.limits().with_max_open(self.max_open))
    }
}
