//! What things cost with more and more finished transfers in the stream.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use natsfer_producer::{ConnectOptions, Producer, SendOptions};
use natsfer_tests::{Server, consumer, files, producer};
use serde::Serialize;

use crate::{contest::median, scene};

/// Seconds, medians of several runs.
#[derive(Debug, Serialize)]
pub(crate) struct Growth {
    /// Finished transfers in the stream, each received.
    pub(crate) transfers: usize,
    /// `send` of one file of 8 MiB.
    pub(crate) send: f64,
    /// `receive --drain` of that file, by a receiver that has all others.
    pub(crate) receive: f64,
    /// `list` of a channel with that file alone.
    pub(crate) list_channel: f64,
    /// `list` of everything.
    pub(crate) list_all: f64,
}

pub(crate) async fn measure(levels: &[usize], rounds: usize) -> Result<Vec<Growth>> {
    let server = scene::server().start().await;
    let home = tempfile::tempdir()?;
    let (mut found, mut stored) = (Vec::new(), 0);
    for &transfers in levels {
        store(&server, stored..transfers).await?;
        stored = transfers;
        // Whatever it costs, once: not what is asked here.
        timed(&server, home.path(), &["receive", "-n", "steady", "--into", "inbox", "--drain", "--concurrency", "64"])
            .await;
        let mut level: [Vec<f64>; 4] = Default::default();
        for round in 0..rounds {
            let (name, channel) = (format!("{transfers}-{round}.bin"), format!("large.{transfers}.{round}"));
            files::random_file(home.path().join(&name), 8 << 20, (transfers + round) as u64);
            let send = producer(["send", "-c", &channel, &name]).server(&server).current_dir(home.path());
            level[0].push(send.run().await.success().elapsed.as_secs_f64());
            let receive = ["receive", "-n", "steady", "--into", "inbox", "--drain"];
            level[1].push(timed(&server, home.path(), &receive).await);
            level[2].push(timed(&server, home.path(), &["list", "-c", &channel]).await);
            level[3].push(timed(&server, home.path(), &["list"]).await);
        }
        let [send, receive, list_channel, list_all] = level.map(median);
        let growth = Growth { transfers, send, receive, list_channel, list_all };
        eprintln!("{growth:?}");
        found.push(growth);
    }
    Ok(found)
}

/// Small files, as most are where there are many.
async fn store(server: &Server, which: std::ops::Range<usize>) -> Result<()> {
    let producer = Producer::connect(&ConnectOptions::default().with_server(server.url())).await?;
    let options = SendOptions::default().with_channel("small".parse()?);
    let sends = which.map(|index| {
        let (producer, options) = (&producer, options.clone());
        async move {
            let name = format!("{index}.txt").parse().context("a name")?;
            producer.send_bytes(format!("number {index}"), options.with_name(name)).await?;
            anyhow::Ok(())
        }
    });
    stream::iter(sends).buffer_unordered(64).try_collect::<()>().await?;
    producer.close().await;
    Ok(())
}

async fn timed(server: &Server, home: &Path, arguments: &[&str]) -> f64 {
    let command = consumer(arguments).server(server).current_dir(home).limit(Duration::from_secs(900));
    command.run().await.success().elapsed.as_secs_f64()
}
