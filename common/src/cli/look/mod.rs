//! The commands that look around, and change nothing. Both programs have them.

mod history;
mod list;
mod receivers;
mod show;
mod status;
mod taken;

pub use list::print_stored;

use super::Outcome;
use crate::broker::Broker;

/// The commands that look around.
#[derive(Debug, clap::Subcommand)]
pub enum Look {
    #[command(flatten_help = true)]
    #[expect(missing_docs, reason = "the commands have their help")]
    List(list::List),
    #[expect(missing_docs, reason = "the commands have their help")]
    Show(show::Show),
    #[expect(missing_docs, reason = "the commands have their help")]
    Status(status::Status),
    #[expect(missing_docs, reason = "the commands have their help")]
    Receivers(receivers::Receivers),
    #[expect(missing_docs, reason = "the commands have their help")]
    History(history::History),
}

impl Look {
    /// Runs the command.
    ///
    /// # Errors
    /// When the server does not answer, what is asked for is not there, or nothing can be printed.
    pub async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        match self {
            Self::List(list) => list.run(broker).await,
            Self::Show(show) => show.run(broker).await,
            Self::Status(status) => status.run(broker).await,
            Self::Receivers(receivers) => receivers.run(broker).await,
            Self::History(history) => history.run(broker).await,
        }
    }
}

/// That nobody has made the streams yet.
fn no_stream(broker: &Broker) -> String {
    format!("there is no stream {}: the first `send` or `receive` makes it, or `init`", broker.stream())
}
