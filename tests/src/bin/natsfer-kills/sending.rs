//! Kills of `send`.

use std::fs::File;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::TryStreamExt;
use natsfer_tests::files::Random;
use natsfer_tests::{Proxy, Server, steps};

use crate::Bench;
use crate::trial::{Kill, Met, Trials, kill_at, moment};

const LIMIT: Duration = Duration::from_secs(60);

/// Kills so many sends that have begun and not ended, and finishes each with another run.
pub(crate) async fn kill(bench: &Bench, count: u64, random: &mut Random) -> Result<Trials> {
    let mut trials = Trials { undisturbed: undisturbed(bench).await?, ..Trials::default() };
    while (trials.kills.len() as u64) < count {
        renew(bench).await?;
        let at = moment(trials.undisturbed, random);
        let (first, second) = (Proxy::to(&bench.server.url()).await, Proxy::to(&bench.server.url()).await);
        let command = steps::sending("", &[], &[&bench.source]);
        let met = kill_at(command, at, &first, Proxy::bytes_up).await?;
        let moved = first.bytes_up();
        if met == Met::Nothing {
            trials.too_early += 1;
            continue;
        }
        let sent = steps::send(&second, &[], &[&bench.source]).await;
        if met == Met::End || sent[0]["status"] == "unchanged" {
            trials.too_late += 1;
            continue;
        }
        steps::drain(&bench.server, "check", bench.inbox(), &[]).await;
        bench.check(&bench.inbox())?;
        let stored = stored(&bench.server).await?;
        let carried = moved + second.bytes_up();
        let twice = vec![
            ("stored in NATSFER_DATA", stored.saturating_sub(bench.size)),
            ("carried up, protocol included", carried.saturating_sub(bench.size)),
        ];
        trials.add("send", Kill { at, moved, twice });
    }
    renew(bench).await?;
    Ok(trials)
}

async fn undisturbed(bench: &Bench) -> Result<Duration> {
    renew(bench).await?;
    let proxy = Proxy::to(&bench.server.url()).await;
    let output = steps::sending(&proxy, &[], &[&bench.source]).run().await.success();
    Ok(output.elapsed)
}

/// Forgets everything, and makes another transfer of the source: its id depends on its time.
async fn renew(bench: &Bench) -> Result<()> {
    let jetstream = bench.server.jetstream().await;
    for stream in ["NATSFER", "NATSFER_DATA"] {
        // The first time there is none.
        let _ = jetstream.delete_stream(stream).await;
    }
    let source = File::options().write(true).open(&bench.source)?;
    Ok(source.set_modified(SystemTime::now())?)
}

/// How many bytes of the file the stored chunks hold, all copies counted.
async fn stored(server: &Server) -> Result<u64> {
    let stream = server.jetstream().await.get_stream("NATSFER_DATA").await?;
    let config = pull::Config { headers_only: true, ack_policy: AckPolicy::None, ..Default::default() };
    let mut consumer = stream.create_consumer(config).await?;
    let count = usize::try_from(consumer.info().await?.num_pending)?;
    let mut messages = consumer.batch().max_messages(count).expires(LIMIT).messages().await?;
    let mut bytes = 0;
    while let Some(message) = messages.try_next().await.map_err(anyhow::Error::from_boxed)? {
        let length = message.headers.as_ref().and_then(|headers| headers.get("Natsfer-Length"));
        // The closing record has none.
        bytes += length.map_or(Ok(0), |length| length.as_str().parse::<u64>()).context("a chunk's length")?;
    }
    Ok(bytes)
}
