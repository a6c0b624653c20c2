//! One process, killed at a random moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use natsfer_tests::files::Random;
use natsfer_tests::{Command, Output, Proxy, eventually};

/// Less than this through the proxy is talk, not bytes of a file.
const TALK: u64 = 64 * 1024;

const SOON: Duration = Duration::from_secs(20);

/// A kill that counts.
#[derive(Debug)]
pub(crate) struct Kill {
    /// When, after the start.
    pub(crate) at: Duration,
    /// What had moved through the proxy until then.
    pub(crate) moved: u64,
    /// What moved twice, by each way of counting.
    pub(crate) twice: Vec<(&'static str, u64)>,
}

/// All kills of one program.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    pub(crate) kills: Vec<Kill>,
    /// Kills before anything had moved; done again with another moment.
    pub(crate) too_early: u64,
    /// Kills after the end of the work; done again likewise.
    pub(crate) too_late: u64,
    /// How long the program takes when it is left alone.
    pub(crate) undisturbed: Duration,
}

impl Trials {
    /// Takes down a kill that counts, and says so.
    pub(crate) fn add(&mut self, program: &str, kill: Kill) {
        eprintln!("{program}: kill {} at {:?}", self.kills.len() + 1, kill.at);
        self.kills.push(kill);
    }
}

/// What a kill met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Nothing,
    Work,
    End,
}

/// A moment within that time.
pub(crate) fn moment(within: Duration, random: &mut Random) -> Duration {
    Duration::from_micros(random.below(u64::try_from(within.as_micros()).unwrap_or(u64::MAX)))
}

/// Starts a command, kills it at that moment, and waits until its connection is gone.
pub(crate) async fn kill_at(
    command: Command, at: Duration, proxy: &Proxy, moved: impl Fn(&Proxy) -> u64,
) -> Result<Met> {
    let running = command.server(proxy).spawn().await;
    tokio::time::sleep(at).await;
    running.kill();
    let output: Output = running.wait().await;
    ensure!(matches!(output.code(), None | Some(0)), "it failed before it was killed: {}", output.errors());
    eventually("the killed one's connection is gone", SOON, || async { (proxy.connections() == 0).then_some(()) })
        .await;
    Ok(match output.code() {
        Some(_) => Met::End,
        None if moved(proxy) < TALK => Met::Nothing,
        None => Met::Work,
    })
}
