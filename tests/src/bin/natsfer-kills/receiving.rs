//! Kills of `receive`.

use std::time::Duration;

use anyhow::Result;
use natsfer_tests::files::Random;
use natsfer_tests::{Command, Proxy, consumer, steps};

use crate::Bench;
use crate::trial::{Kill, Met, Trials, kill_at, moment};

/// Kills so many receivers that have begun and not landed the file, and finishes each with another run.
pub(crate) async fn kill(bench: &Bench, count: u64, random: &mut Random) -> Result<Trials> {
    steps::send(&bench.server, &[], &[&bench.source]).await;
    let mut trials = Trials { undisturbed: undisturbed(bench).await?, ..Trials::default() };
    for number in 0.. {
        if trials.kills.len() as u64 == count {
            break;
        }
        let (name, at) = (format!("receiver-{number}"), moment(trials.undisturbed, random));
        let (first, second) = (Proxy::to(&bench.server.url()).await, Proxy::to(&bench.server.url()).await);
        let met = kill_at(receive(bench, &name), at, &first, Proxy::bytes_down).await?;
        let moved = first.bytes_down();
        // One that had no time to say that the file has landed is late as well.
        if met == Met::Work && !bench.inbox().join("source.bin").exists() {
            let output = receive(bench, &name).server(&second).run().await.success();
            bench.check(&bench.inbox())?;
            let carried = moved + second.bytes_down();
            let mut twice = vec![("carried down, protocol included", carried.saturating_sub(bench.size))];
            if let Some(refetched) = output.json_lines()[0]["refetched_bytes"].as_u64() {
                twice.push(("refetched_bytes, as receive says", refetched));
            }
            trials.add("receive", Kill { at, moved, twice });
        } else if met == Met::Nothing {
            trials.too_early += 1;
        } else {
            trials.too_late += 1;
        }
        clear(bench, &name).await?;
    }
    Ok(trials)
}

async fn undisturbed(bench: &Bench) -> Result<Duration> {
    let proxy = Proxy::to(&bench.server.url()).await;
    let output = receive(bench, "undisturbed").server(&proxy).run().await.success();
    clear(bench, "undisturbed").await?;
    Ok(output.elapsed)
}

fn receive(bench: &Bench, name: &str) -> Command {
    // The default takeover time only makes the second run wait longer.
    steps::receiving("", name, bench.inbox(), &["--count", "1", "--takeover", "2s"])
}

/// Removes a receiver from the server, and what it has landed.
async fn clear(bench: &Bench, name: &str) -> Result<()> {
    let forgotten = consumer(["forget", "-n", name]).server(&bench.server).run().await;
    // One killed at its very start has no place at the server yet.
    let _ = forgotten.code();
    match std::fs::remove_dir_all(bench.inbox()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
