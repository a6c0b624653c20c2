//! `init`: the streams.

use std::time::Duration;

use natsfer_common::{
    broker::{Broker, Importance, StreamSettings},
    cli::{ByteCount, Outcome, number, parse_duration, print_line, report},
};

/// Create the streams, or check those that exist
///
/// A stream that exists is left as it is. Where it differs from what is asked for, or does not work for natsfer, that is an error,
/// which says how to change it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} init
  {program} init --replicas 3 --max-bytes 100GiB --max-age 30d")]
pub(crate) struct Init {
    /// Copies of every message, on as many servers; one where it is not given
    #[arg(long, value_name = "N", value_parser = number::<u8>(1..=5))]
    replicas: Option<u8>,
    /// Most bytes that each of the two streams takes: 500M, 100GiB
    #[arg(long, value_name = "N")]
    max_bytes: Option<ByteCount>,
    /// Age at which files are removed: 12h, 30d
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    max_age: Option<Duration>,
}

impl Init {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let settings = self.replicas.into_iter().fold(StreamSettings::default(), StreamSettings::with_replicas);
        let settings = settings.with_max_bytes(self.max_bytes.map(|ByteCount(bytes)| bytes)).with_max_age(self.max_age);
        let found = broker.create_streams(&settings).await?;
        for name in [broker.stream().control().to_owned(), broker.stream().data()] {
            let what = if found.created.contains(&name) { "created" } else { "exists" };
            print_line(&format!("{what}  {name}"))?;
        }
        let mut outcome = Outcome::Done;
        for difference in &found.differences {
            match difference.importance {
                Importance::Advised => tracing::warn!("{difference}"),
                Importance::Asked | Importance::Needed | Importance::NeededToSend => {
                    report(&anyhow::anyhow!("{difference}"));
                    outcome = Outcome::Failed;
                }
            }
        }
        Ok(outcome)
    }
}
