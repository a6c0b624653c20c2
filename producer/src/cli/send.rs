//! `send`: files, directories and standard input.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, error::ErrorKind};
use futures_util::{StreamExt as _, stream};
use natsfer_common::{
    broker::Broker,
    cli::{Outcome, Progresses, note, report, stop_signal, wrong_usage},
};
use natsfer_producer::{Before, FileName, Producer, ProducerError, ReceiverName, SendOptions, Sent, TransferId};

use super::{
    awaited,
    delivery::Delivery,
    preview::{Known, Planned},
    send_options::{SendArguments, followed},
    sources::{Item, walk},
};

/// Send files, directories (with all that is in them) or standard input
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} send report.pdf photos/                 # files; directories with all that is in them
  {program} send -c invoices.eu 2026/.              # the same, without the directory's own name
  pg_dump shop | {program} send --name shop.sql -   # standard input
  {program} send --wait-for billing,archive report.pdf
  {program} send --rate 20MiB --meta project=x disk.img
  {program} send --dry-run photos/                  # says what would be sent")]
pub(crate) struct Send {
    #[command(flatten)]
    sending: SendArguments,
    /// Name to send one file, or standard input, under
    #[arg(long)]
    name: Option<FileName>,
    /// Id for standard input, 32 hexadecimal digits: sending it again with the same id goes on where it ended
    #[arg(long, value_name = "ID")]
    transfer_id: Option<TransferId>,
    /// Return only when these receivers have landed everything, however long that takes; comma-separated. Chunks that they
    /// miss are sent again meanwhile
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    wait_for: Vec<ReceiverName>,
    /// Only say what would be sent, under which name and id, and what is stored already, by name, size and time: nothing is sent,
    /// made or changed
    #[arg(long)]
    dry_run: bool,
    /// Files and directories; "-" is standard input, and needs --name
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Send {
    /// Ends the program, as clap does, where the options contradict each other.
    pub(crate) fn check_usage(&self) {
        let standard_input = self.paths.iter().any(|path| path.as_os_str() == "-");
        let wrong = if standard_input && self.name.is_none() {
            "\"-\" (standard input) needs --name"
        } else if self.name.is_some() && (self.paths.len() > 1 || self.paths.iter().any(|path| path.is_dir())) {
            "--name takes exactly one file, or standard input"
        } else if self.transfer_id.is_some() && !(standard_input && self.paths.len() == 1) {
            "--transfer-id takes standard input: the ids of files are derived from them"
        } else {
            return;
        };
        wrong_usage(super::Arguments::command(), Some("send"), ErrorKind::ArgumentConflict, wrong);
    }

    /// How long to wait for a server that is not there.
    pub(crate) fn patience(&self) -> Duration {
        self.sending.stall_timeout
    }

    fn options(&self, name: FileName, transfer: Option<TransferId>) -> SendOptions {
        let mut options = self.sending.options(name);
        options.transfer = transfer;
        options
    }

    /// Whether it is only said what would be sent.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        if self.dry_run {
            return self.preview(broker).await;
        }
        let mut stop = std::pin::pin!(stop_signal().context("cannot listen for signals")?);
        let producer = self.sending.producer(broker).await?;
        let progresses = self.sending.progresses();
        let channels = self.sending.channel.clone().into();
        awaited::warn_of_strangers(broker, &channels, &self.wait_for, "it is waited for all the same").await;
        let mut sends = stream::iter(walk(&self.paths, self.name.as_ref()))
            .map(|item| self.send(&producer, &progresses, item))
            .buffer_unordered(self.sending.concurrency());
        let (mut outcome, mut items) = (Outcome::Done, 0_u64);
        let (receivers, json) = (&self.wait_for[..], self.sending.json);
        let mut delivery = Delivery {
            producer: &producer,
            progresses: &progresses,
            receivers,
            json,
            sources: HashMap::new(),
            sent: Vec::new(),
        };
        let piped = AtomicBool::new(false);
        let all_sent = async {
            while let Some(done) = sends.next().await {
                items += 1;
                match done.and_then(|done| self.sending.print(&done.1).map(|()| done)) {
                    Ok((source, sent)) => {
                        piped.fetch_or(source.is_none(), Ordering::Relaxed);
                        if !self.wait_for.is_empty() {
                            delivery.sources.extend(source.map(|source| (sent.transfer, source)));
                            delivery.sent.push(sent);
                        }
                    }
                    Err(error) => {
                        report(&error);
                        outcome = Outcome::Failed;
                    }
                }
            }
            if items == 0 {
                let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
                note(&format!("nothing to send: there is no file in {}", paths.join(", ")));
            } else if self.wait_for.is_empty() {
                awaited::note_if_nobody(broker, &self.sending.channel).await;
            }
            match delivery.wait().await? {
                Outcome::Done => Ok(outcome),
                Outcome::Failed => Ok(Outcome::Failed),
            }
        };
        tokio::select! {
            () = &mut stop => {
                report(&anyhow::anyhow!("stopped; {}", self.how_to_go_on(piped.load(Ordering::Relaxed))));
                Ok(Outcome::Failed)
            }
            outcome = all_sent => outcome,
        }
    }

    /// Says what would be done.
    async fn preview(&self, broker: &Broker) -> anyhow::Result<Outcome> {
        let producer = Producer::new(broker.clone());
        let mut previews = stream::iter(walk(&self.paths, self.name.as_ref()))
            .map(|item| self.preview_one(&producer, item))
            .buffered(self.sending.concurrency());
        let mut outcome = Outcome::Done;
        while let Some(previewed) = previews.next().await {
            if let Err(error) = previewed {
                report(&error);
                outcome = Outcome::Failed;
            }
        }
        note("a dry run: nothing was sent");
        Ok(outcome)
    }

    async fn preview_one(&self, producer: &Producer, item: anyhow::Result<Item>) -> anyhow::Result<()> {
        match item? {
            Item::StandardInput => {
                let name = self.name.as_ref().ok_or(ProducerError::NoName)?;
                let (channel, transfer) = (&self.sending.channel, self.transfer_id);
                // What is stored under an id that was given shows once its bytes are read.
                let known = Known::Stream(if transfer.is_some() { Before::Unknown } else { Before::Nothing });
                Planned { channel, name, transfer, size: None, known, then: None }.print(self.sending.json)
            }
            Item::File(path, name) => {
                let preview = producer.preview_file(&path, self.options(name, None)).await;
                let preview = preview.with_context(|| format!("cannot send {}", path.display()))?;
                Planned::of(&preview, None).print(self.sending.json)
            }
        }
    }

    /// What to do after an interruption. `piped` is whether all of standard input was sent.
    fn how_to_go_on(&self, piped: bool) -> &'static str {
        let begins_anew = self.transfer_id.is_none() && self.paths.iter().any(|path| path.as_os_str() == "-");
        match (begins_anew, piped) {
            (false, _) => "run the same command again to go on from here",
            (true, true) => "standard input was sent: run the same command again without it to go on from here",
            (true, false) => {
                "standard input begins anew when it is sent again. What is stored of it stays open until it is removed: by \
                 `natsfer-producer cancel` and its id, which `list --state open` has, or by `prune --state open --older-than \
                 1h`. Given an id with --transfer-id, it goes on where it was"
            }
        }
    }

    /// Sends one thing, and says how to send it again, where that can be done.
    async fn send(
        &self, producer: &Producer, progresses: &Progresses, item: anyhow::Result<Item>,
    ) -> anyhow::Result<(Option<(PathBuf, SendOptions)>, Sent)> {
        match item? {
            Item::StandardInput => {
                let name = self.name.clone().ok_or(ProducerError::NoName)?;
                let options = self.options(name.clone(), self.transfer_id);
                let sending = producer.send_reader(tokio::io::stdin(), options);
                let sent = followed(sending, &name, producer, progresses).await;
                Ok((None, sent.context("cannot send standard input")?))
            }
            Item::File(path, name) => {
                let options = self.options(name.clone(), None);
                let sending = producer.send_file(&path, options.clone());
                let sent = followed(sending, &name, producer, progresses).await;
                let sent = sent.with_context(|| format!("cannot send {}", path.display()))?;
                Ok((Some((path, options)), sent))
            }
        }
    }
}
