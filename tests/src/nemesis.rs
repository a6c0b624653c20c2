//! The nemesis: real producers, receivers and servers under random faults, and what has to hold when it is over.
//!
//! For a given time, files of all sizes flow from two producers to the receivers `alpha`, one process, and `beta`, two
//! processes that share the name and a directory, while everyone is killed, stopped, cut off and slowed down. Each
//! client has a connection of its own that can suffer alone; one that ends is started again with the same arguments, as
//! an init system would. Then the faults stop, and within a limit everything must be as if nothing had happened: see
//! [`Report::failures`].
//!
//! What is done, to whom, for how long, and what is sent are functions of a seed ([`schedule`]). What the processes make
//! of it is not: a run can be repeated, its outcome only roughly.

pub mod schedule;

mod cable;
mod client;
mod faults;
mod outbox;
mod receipts;
mod record;
mod report;
mod servers;
mod tree;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use report::{GaveUp, Injections, Report};

use crate::{must, our_binary, producer, steps};
use client::Client;
use faults::Clock;
use outbox::Outbox;
use record::Record;
use schedule::{Kind, Lane};
use servers::Servers;

/// What a producer's and a receiver's connection carry in a second when nothing is wrong: slow enough that a fault
/// most often meets a file half-way, and that a long run stays within a disk.
const PRODUCER_RATE: u64 = 3 << 20;
const RECEIVER_RATE: u64 = 12 << 20;

/// The receivers' names, and how many processes each has.
const RECEIVERS: [(&str, usize); 2] = [("alpha", 1), ("beta", 2)];
const PRODUCERS: usize = 2;

/// A run to be made.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Nemesis {
    seed: u64,
    lasts: Duration,
    servers: usize,
}

impl Nemesis {
    /// On one server, for half a minute.
    pub fn new(seed: u64) -> Self {
        Self { seed, lasts: Duration::from_secs(30), servers: 1 }
    }

    /// How long faults are injected.
    pub fn lasting(mut self, lasts: Duration) -> Self {
        self.lasts = lasts;
        self
    }

    /// On three servers with three copies of everything, never more than one of them down.
    pub fn on_a_cluster(mut self) -> Self {
        self.servers = 3;
        self
    }

    /// Runs to the end, with a line on standard error for each fault.
    ///
    /// # Panics
    /// When the harness itself cannot go on.
    pub async fn run(self) -> Report {
        let home = must(tempfile::tempdir().map_err(Into::into), "a directory to run in");
        // Building them may take minutes, which are no part of the run.
        let built = tokio::task::spawn_blocking(|| our_binary("natsfer-consumer")).await;
        must(built.map_err(Into::into).flatten(), "our binaries");
        let record = Arc::new(Record::new());
        record.note(&format!("nemesis with seed {}, {} server(s), for {:?}", self.seed, self.servers, self.lasts));
        let servers = Arc::new(Servers::start(self.servers).await);
        let replicas = self.servers.to_string();
        // Twice what can come through, and a minute more.
        let room = (PRODUCER_RATE * 2 * PRODUCERS as u64 * (self.lasts.as_secs() + 60)).to_string();
        let init = producer(["init", "--max-bytes", &room, "--replicas", &replicas]).server(&*servers.url());
        let _ = init.run().await.success();

        let (stop_faults, clock) = Clock::new();
        let (stop_sending, sending) = watch::channel(false);
        let (stop_receiving, receiving) = watch::channel(false);
        let outbox = Outbox::new(home.path().join("outbox"), self.seed);
        let mut victims = Vec::new();
        let mut producers = JoinSet::new();
        for number in 0..PRODUCERS {
            let client = client(Kind::Producer, format!("producer-{number}"), &servers, &record, PRODUCER_RATE).await;
            producers.spawn(Arc::clone(&client).send(outbox.clone(), number, sending.clone()));
            victims.push(client);
        }
        let mut receivers = JoinSet::new();
        for (name, processes) in RECEIVERS {
            for process in 0..processes {
                let id = format!("{name}-{process}");
                let client = client(Kind::Receiver, id, &servers, &record, RECEIVER_RATE).await;
                let inbox = home.path().join(name);
                let command = steps::receiving("", name, inbox, &["--takeover", "3s"]);
                receivers.spawn(Arc::clone(&client).serve(command, receiving.clone()));
                victims.push(client);
            }
        }
        let mut lanes = JoinSet::new();
        for (number, client) in victims.iter().enumerate() {
            let lane = Lane::new(self.seed, client.kind(), number);
            lanes.spawn(faults::torment(Arc::clone(client), lane, clock.clone()));
        }
        let lane = Lane::new(self.seed, Kind::Server, 0);
        lanes.spawn(faults::torment_servers(Arc::clone(&servers), lane, clock, Arc::clone(&record)));

        tokio::time::sleep(self.lasts).await;
        stop_faults.send_replace(true);
        stop_sending.send_replace(true);
        let _: Vec<()> = lanes.join_all().await;
        victims.iter().for_each(|client| client.cable().free());
        record.note("the faults are over");

        let over = Instant::now();
        let mut verdict = verdict::Verdict::new(home.path(), &servers, verdict::limit(self.lasts));
        let sent = verdict.sent(producers).await;
        verdict.landed().await;
        verdict.nothing_staged().await;
        verdict.nothing_to_do().await;
        stop_receiving.send_replace(true);
        verdict.ended(receivers).await;
        let converged = over.elapsed();
        verdict.nothing_connected().await;
        verdict.same_bytes();
        let receipts = verdict.receipts(&sent).await;
        record.note("the verdict is in");
        verdict.report(self, &record, &sent, receipts, converged)
    }
}

async fn client(kind: Kind, name: String, servers: &Servers, record: &Arc<Record>, rate: u64) -> Arc<Client> {
    let cable = cable::Cable::to(servers, rate).await;
    Arc::new(Client::new(kind, name, cable, Arc::clone(record)))
}
