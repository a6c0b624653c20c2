//! docs/security.md: its configurations, for servers that are started as it says, and users who log in there.

use crate::{Server, must, producer};

const DOCUMENT: &str = include_str!("../../docs/security.md");

/// What every password and key of the document is here.
pub const SECRET: &str = "secret-of-the-tests";

/// The variables that the document takes from the server's environment.
const VARIABLES: [&str; 9] = [
    "OPERATOR_PASSWORD",
    "PRODUCER_PASSWORD",
    "BILLING_PASSWORD",
    "AUDITOR_PASSWORD",
    "INDEXER_PASSWORD",
    "ARCHIVE_PASSWORD",
    "RED_PASSWORD",
    "BLUE_PASSWORD",
    "JS_KEY",
];

/// The document's fenced block with this info string, [`SECRET`] in it where it takes something from the environment.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn block(info: &str) -> String {
    let block = DOCUMENT.split_once(&format!("```{info}\n")).and_then(|(_, rest)| rest.split_once("\n```"));
    let (block, _) = must(block.ok_or_else(|| anyhow::anyhow!("no block '{info}'")), "docs/security.md");
    VARIABLES.iter().fold(block.to_owned(), |text, name| text.replace(&format!("${name}"), &format!("\"{SECRET}\"")))
}

/// A server with these users, one of them the document's operator, who has made the streams.
///
/// # Panics
/// When it does not start, with its log.
pub async fn start(users: &str) -> Server {
    let server = Server::builder().config_line(users).login("operator", SECRET).start().await;
    let _ = producer(["init"]).server(url(&server.url(), "operator").as_str()).run().await.success();
    server
}

/// An address as this user logs in there.
#[must_use]
pub fn url(address: &str, user: &str) -> String {
    address.replace("nats://", &format!("nats://{user}:{SECRET}@"))
}
