//! The commands of both programs that need no server.

use super::{Health, Outcome, Program, pages};

/// What needs no server.
#[derive(Debug, clap::Subcommand)]
pub enum Offline {
    /// `health`.
    #[command(about = "Ask a program that runs with --http whether it is connected")]
    Health(Health),
    /// `completions`.
    #[command(about = "Print a completion script for a shell")]
    Completions(pages::Completions),
    /// `man`.
    #[command(about = "Write man pages, one for each command")]
    Man(pages::Man),
}

impl Offline {
    /// Runs it.
    ///
    /// # Errors
    /// Those of the command.
    pub async fn run<P: Program>(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Health(health) => health.run().await,
            Self::Completions(completions) => completions.run::<P>(),
            Self::Man(man) => man.run::<P>(),
        }
    }
}
