//! `init`: the streams.

use std::time::Duration;

use natsfer_common::{
    broker::{Broker, StreamSettings},
    cli::{ByteCount, Outcome, print_line},
};

/// Create the streams, or check those that exist
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Copies of every message, on as many servers
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Most bytes that each of the two streams takes: 500M, 100GiB
    #[arg(long, value_name = "N")]
    max_bytes: Option<ByteCount>,
    /// Age at which files are removed: 12h, 30d
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
}

impl Init {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let settings = StreamSettings::default()
            .with_replicas(self.replicas)
            .with_max_bytes(self.max_bytes.map(|ByteCount(bytes)| bytes))
            .with_max_age(self.max_age);
        let report = broker.create_streams(&settings).await?;
        for name in [broker.stream().control().to_owned(), broker.stream().data()] {
            let what = if report.created.contains(&name) { "created" } else { "exists" };
            print_line(&format!("{what}  {name}"))?;
        }
        for advice in &report.advice {
            tracing::warn!("{advice}");
        }
        Ok(Outcome::Done)
    }
}
