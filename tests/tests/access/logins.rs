//! Who is let in.

use std::os::unix::fs::PermissionsExt as _;

use async_nats::ConnectOptions;
use natsfer_tests::{Server, consumer, producer};
use nkeys::KeyPair;

use crate::jwt::Operator;
use crate::visitor::{Visitor, private_file};

const AUTHORIZATION: &str = "refuses the login: authorization violation";

#[tokio::test]
async fn with_user_and_password() {
    let users = "authorization { user: alice, password: correct-horse }";
    let server = Server::builder().config_line(users).login("alice", "correct-horse").start().await;
    let home = tempfile::tempdir().unwrap();
    let right = private_file(home.path(), "right", "correct-horse\n");
    let wrong = private_file(home.path(), "wrong", "battery-staple\n");
    let visitor = Visitor::to(&server).secret("correct-horse").secret("battery-staple");

    visitor.clone().option("--user", "alice").option("--password-file", &right).gets_in().await;
    visitor.clone().variable("NATS_USER", "alice").variable("NATS_PASSWORD", "correct-horse").gets_in().await;
    visitor.clone().option("--user", "alice").variable("NATS_PASSWORD", "correct-horse").gets_in().await;
    let url = format!("nats://alice:correct-horse@127.0.0.1:{}", server.port());
    Visitor::to(url.as_str()).secret("correct-horse").gets_in().await;
    // What is given counts more than what is around.
    let around = visitor.clone().variable("NATS_USER", "alice").variable("NATS_PASSWORD", "battery-staple");
    around.clone().option("--password-file", &right).gets_in().await;

    around.stays_out(AUTHORIZATION).await;
    visitor.clone().option("--user", "alice").option("--password-file", &wrong).stays_out(AUTHORIZATION).await;
    visitor.stays_out(AUTHORIZATION).await;
    let missing = home.path().join("missing");
    let missing = visitor.clone().option("--user", "alice").option("--password-file", missing);
    missing.stays_out("missing, which should hold a password: is it there").await;
}

#[tokio::test]
async fn with_a_token() {
    let token = "authorization { token: \"open-sesame\" }";
    let client = ConnectOptions::with_token("open-sesame".into());
    let server = Server::builder().config_line(token).client(client).start().await;
    let home = tempfile::tempdir().unwrap();
    let visitor = Visitor::to(&server).secret("open-sesame").secret("open-barley");
    visitor.clone().option("--token-file", private_file(home.path(), "right", "open-sesame")).gets_in().await;
    visitor.clone().variable("NATS_TOKEN", "open-sesame").gets_in().await;
    visitor.clone().variable("NATS_TOKEN", "open-barley").stays_out(AUTHORIZATION).await;
    let wrong = private_file(home.path(), "wrong", "open-barley");
    visitor.option("--token-file", wrong).stays_out(AUTHORIZATION).await;
}

#[tokio::test]
async fn with_an_nkey() {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", known.public_key());
    let client = ConnectOptions::with_nkey(known.seed().unwrap());
    let server = Server::builder().config_line(users).client(client).start().await;
    let home = tempfile::tempdir().unwrap();
    let (seed, other) = (known.seed().unwrap(), unknown.seed().unwrap());
    let visitor = Visitor::to(&server).secret(&seed).secret(&other).secret("hunter2");
    let file = private_file(home.path(), "known.nk", &seed);
    visitor.clone().option("--nkey", &file).gets_in().await;
    visitor.clone().variable("NATS_NKEY", &file).gets_in().await;
    visitor.clone().option("--nkey", private_file(home.path(), "unknown.nk", &other)).stays_out(AUTHORIZATION).await;
    let broken = private_file(home.path(), "broken.nk", "SUhunter2");
    visitor.option("--nkey", broken).stays_out("broken.nk does not hold the NKEY seed of a user").await;
}

#[tokio::test]
async fn with_credentials_of_an_operators_account() {
    let (operator, stranger) = (Operator::new(), Operator::new());
    let (harness, _) = operator.user();
    let client = ConnectOptions::with_credentials(&harness).unwrap();
    let server = Server::builder().config_line(operator.configuration()).client(client).start().await;
    let home = tempfile::tempdir().unwrap();
    let ((creds, seed), (foreign, other)) = (operator.user(), stranger.user());
    let visitor = Visitor::to(&server).secret(&seed).secret(&other).secret("hunter2");
    let file = private_file(home.path(), "alice.creds", &creds);
    visitor.clone().option("--creds", &file).gets_in().await;
    visitor.clone().variable("NATS_CREDS", &file).gets_in().await;
    // A pipe can be read once, and is asked for at each connection.
    let piped = format!("exec \"$0\" list --creds <(cat {})", file.display());
    let list =
        natsfer_tests::program("bash", ["-c", &piped]).arg(natsfer_tests::our_binary("natsfer-consumer").unwrap());
    let _ = visitor.by(list).run().await.success();

    visitor
        .clone()
        .option("--creds", private_file(home.path(), "foreign.creds", &foreign))
        .stays_out(AUTHORIZATION)
        .await;
    let broken = private_file(home.path(), "broken.creds", &creds.replace(&seed, "SUhunter2"));
    visitor.option("--creds", broken).stays_out("broken.creds does not hold a user's JWT and NKEY seed").await;
}

/// A file that was replaced counts from the next connection on, without a restart of the receiver.
#[tokio::test]
async fn renewed_credentials_count_when_it_reconnects() {
    use natsfer_tests::{eventually, steps};
    use std::time::Duration;

    let users = |password: &str| format!("authorization {{ user: alice, password: {password} }}");
    let home = tempfile::tempdir().unwrap();
    let word = private_file(home.path(), "password", "old-word");
    let store = home.path().join("store");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |password: &'static str| {
        let builder =
            Server::builder().config_line(format!("listen: \"127.0.0.1:{port}\"")).config_line(users(password));
        builder.store_dir(&store).login("alice", password).start()
    };
    let server = start("old-word").await;
    let inbox = home.path().join("inbox");
    let options = ["--user", "alice", "--password-file", word.to_str().unwrap()];
    let receiver = steps::receiving(&server, "steady", &inbox, &options).spawn().await;
    let there = || async { (server.connections().await == 1).then_some(()) };
    eventually("it is connected", Duration::from_secs(20), there).await;
    server.stop().await;
    drop(server);
    private_file(home.path(), "password", "new-word");
    let server = start("new-word").await;
    let file = home.path().join("a.bin");
    natsfer_tests::files::random_file(&file, 1000, 1);
    let _ = steps::send(&server, &options, &[&file]).await;
    receiver.event(Duration::from_secs(30), |event| event["event"] == "received").await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
}

#[tokio::test]
async fn what_does_not_fit_together_is_wrong_usage() {
    let visitor = Visitor::to("nats://127.0.0.1:1").secret("hunter2");
    let two = visitor.clone().option("--creds", "a.creds").option("--token-file", "token");
    two.is_corrected("--token-file and --creds are two logins: give one").await;
    let two = visitor.clone().variable("NATS_CREDS", "a.creds").variable("NATS_TOKEN", "hunter2");
    two.is_corrected("NATS_TOKEN and NATS_CREDS are two logins: give one").await;
    visitor.clone().option("--user", "alice").is_corrected("--user needs a password").await;
    visitor.clone().option("--password-file", "p").is_corrected("--password-file needs a user").await;
    visitor.clone().option("--tlscert", "c.pem").is_corrected("a client certificate and its key go together").await;
    let two = visitor.clone().option("--js-domain", "hub").option("--js-api-prefix", "JS.hub");
    two.is_corrected("--js-domain and --js-api-prefix are two places for JetStream").await;
    visitor.clone().option("--js-domain", "a.b").is_corrected("invalid value 'a.b' for '--js-domain").await;
    visitor.option("--inbox-prefix", "a.>").is_corrected("invalid value 'a.>' for '--inbox-prefix").await;
}

/// What others could read of a process is its arguments: no option takes a password or a token, and help shows none.
#[tokio::test]
async fn no_option_takes_a_secret_and_help_shows_none() {
    for command in [producer(["send", "--help"]), consumer(["receive", "--help"])] {
        let secrets =
            ["NATS_PASSWORD", "NATS_TOKEN"].iter().fold(command, |command, name| command.env(*name, "hunter2"));
        let help = secrets.env("NATS_URL", "nats://u:hunter2@a").run().await.success().text();
        assert!(help.contains("NATS_PASSWORD") && help.contains("NATS_TOKEN"), "{help}");
        assert!(!help.contains("hunter2") && !help.contains("--password ") && !help.contains("--token "), "{help}");
    }
    for option in ["--password", "--token"] {
        let _ = producer(["send", option, "hunter2", "a"]).run().await.exited(2);
    }
}

#[tokio::test]
async fn a_secret_that_others_may_read_is_warned_of() {
    let users = "authorization { user: alice, password: correct-horse }";
    let server = Server::builder().config_line(users).login("alice", "correct-horse").start().await;
    let home = tempfile::tempdir().unwrap();
    let file = private_file(home.path(), "password", "correct-horse");
    let warned = async || {
        let list = consumer(["list", "--user", "alice", "--password-file"]).arg(&file).server(&server);
        list.run().await.success().errors().contains("others may read")
    };
    assert!(!warned().await);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(warned().await);
}
