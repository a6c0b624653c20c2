//! Random faults for a short while, and then everything as if nothing had happened. Longer runs: `natsfer-nemesis`.

use std::time::Duration;

use natsfer_tests::nemesis::Nemesis;
use tokio::sync::Mutex;

/// Two at once would be each other's worst fault.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// From the environment variable `NEMESIS_SEED`, or always the same.
fn seed() -> u64 {
    std::env::var("NEMESIS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_under_fire() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let _ = Nemesis::new(seed()).lasting(Duration::from_secs(30)).run().await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_under_fire() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let _ = Nemesis::new(seed()).lasting(Duration::from_secs(20)).on_a_cluster().run().await.success();
}
