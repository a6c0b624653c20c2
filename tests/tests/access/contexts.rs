//! Contexts of the nats CLI.

use std::path::Path;

use natsfer_tests::Server;
use serde_json::{Value, json};

use crate::visitor::{Visitor, private_file};

const USERS: &str = r#"
accounts { APP { jetstream: enabled, users: [
  { user: alice, password: correct-horse }
  { user: bob, password: battery-staple, permissions: { subscribe: ["_bob.>"] } }
] } }
"#;

fn context(configuration: &Path, name: &str, fields: &Value) {
    let directory = configuration.join("nats/context");
    std::fs::create_dir_all(&directory).unwrap();
    private_file(&directory, &format!("{name}.json"), &fields.to_string());
}

#[tokio::test]
async fn a_context_says_all_that_is_not_given() {
    let server = Server::builder().config_line(USERS).login("alice", "correct-horse").start().await;
    let home = tempfile::tempdir().unwrap();
    let lab = json!({ "url": server.url(), "user": "alice", "password": "correct-horse", "token": "", "nsc": "" });
    context(home.path(), "lab", &lab);
    let bob = json!({ "url": server.url(), "user": "bob", "password": "battery-staple", "inbox_prefix": "_bob" });
    context(home.path(), "bob", &bob);
    context(home.path(), "old", &json!({ "url": "nats://127.0.0.1:1", "user": "alice", "password": "tr0ub4dor" }));
    context(home.path(), "broken", &json!({ "url": server.url(), "user": ["hunter2"] }));
    context(home.path(), "nsc", &json!({ "url": server.url(), "nsc": "nsc://operator/account/user" }));

    // NATS_URL is empty, as if it was not set: it would count more.
    let visitor = Visitor::to("").variable("XDG_CONFIG_HOME", home.path());
    let visitor =
        ["correct-horse", "battery-staple", "tr0ub4dor", "hunter2"].iter().fold(visitor, |v, word| v.secret(word));
    visitor.clone().option("--context", "lab").gets_in().await;
    visitor.clone().variable("NATS_CONTEXT", "bob").gets_in().await;
    let word = private_file(home.path(), "word", "correct-horse");
    let given = visitor.clone().option("--context", "old").option("--server", server.url());
    given.clone().option("--password-file", word).gets_in().await;
    given.stays_out("refuses the login").await;

    let unknown = format!(
        "there is no context 'prod' in {}: there are bob, broken, lab, nsc, old",
        home.path().join("nats/context").display()
    );
    visitor.clone().option("--context", "prod").is_corrected(&unknown).await;
    visitor.clone().option("--context", "../lab").is_corrected("there is no context '../lab'").await;
    visitor
        .clone()
        .option("--context", "broken")
        .is_corrected("broken.json is not a context of the nats CLI: line 1")
        .await;
    visitor.option("--context", "nsc").is_corrected("an nsc login, which natsfer does not support").await;
}

/// What a service does must not change with what somebody selects in the nats CLI.
#[tokio::test]
async fn the_selected_context_is_not_used_by_itself() {
    let server = Server::start().await;
    let home = tempfile::tempdir().unwrap();
    context(home.path(), "elsewhere", &json!({ "url": "nats://127.0.0.1:1", "inbox_prefix": "never.used" }));
    std::fs::write(home.path().join("nats/context.txt"), "elsewhere").unwrap();
    Visitor::to(&server).variable("XDG_CONFIG_HOME", home.path()).gets_in().await;
}
