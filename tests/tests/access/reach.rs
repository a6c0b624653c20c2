//! Where JetStream is found, and on which subjects its answers come.

use std::time::Duration;

use natsfer_tests::{Server, consumer, files, producer, steps};

use crate::visitor::Visitor;

#[tokio::test]
async fn in_another_domain_behind_a_leaf_node() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listens = format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}");
    let hub = Server::builder().config_line("server_name: hub").config_line(listens).jetstream_line("domain: hub");
    let hub = hub.start().await;
    let remote = format!("leafnodes {{ remotes: [ {{ url: \"nats://127.0.0.1:{port}\" }} ] }}");
    let leaf = Server::builder().config_line("server_name: leaf").config_line(remote).jetstream_line("domain: leaf");
    let leaf = leaf.start().await;

    Visitor::to(&leaf).option("--js-domain", "hub").gets_in().await;
    assert!(!steps::stream(&hub, "NATSFER").await.is_null());
    assert!(steps::stream(&leaf, "NATSFER").await.is_null());
    Visitor::to(&leaf).option("--js-api-prefix", "$JS.hub.API").gets_in().await;

    // A file that just fits into a message does not fit into the leader's answer about it, which would cut off the leaf node.
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("fits.bin");
    files::random_file(&file, 1_040_000, 7);
    let options = ["--js-domain", "hub", "--compression", "none", "--stall-timeout", "2s"];
    for status in ["sent", "unchanged"] {
        assert_eq!(steps::send(&leaf, &options, &[&file]).await[0]["status"], status);
    }
    assert!(!leaf.log().contains("maximum payload exceeded") && !hub.log().contains("Maximum Payload Violation"));
    let _ = Visitor::to(&leaf)
        .option("--js-domain", "nowhere")
        .cannot_send("stored in JetStream domain hub, and not as asked in nowhere")
        .await;
}

/// Whoever may subscribe only to an inbox of its own cannot listen to what others are answered.
#[tokio::test]
async fn with_an_inbox_of_its_own() {
    let users = r#"
accounts { APP { jetstream: enabled, users: [
  { user: operator, password: secret }
  { user: alice, password: secret, permissions: { subscribe: ["_alice.>"] } }
] } }
"#;
    let server = Server::builder().config_line(users).login("operator", "secret").start().await;
    let visitor = Visitor::to(format!("nats://alice:secret@127.0.0.1:{}", server.port()).as_str());
    visitor.clone().option("--inbox-prefix", "_alice").gets_in().await;
    visitor.stays_out("permissions violation for subscription to \"_INBOX.").await;
}

/// The streams are another account's, which exports what is needed for them and no more. The account that imports it has a
/// JetStream of its own, which stays empty.
#[tokio::test]
async fn in_another_account_that_exports_it() {
    let services = [
        ("$JS.API.CONSUMER.MSG.NEXT.NATSFER.>", "APP.API.CONSUMER.MSG.NEXT.NATSFER.>", ", response_type: stream"),
        (
            "$JS.API.CONSUMER.MSG.NEXT.NATSFER_DATA.>",
            "APP.API.CONSUMER.MSG.NEXT.NATSFER_DATA.>",
            ", response_type: stream",
        ),
        ("$JS.API.CONSUMER.*.NATSFER.>", "APP.API.CONSUMER.*.NATSFER.>", ""),
        ("$JS.API.CONSUMER.*.NATSFER_DATA.>", "APP.API.CONSUMER.*.NATSFER_DATA.>", ""),
        ("$JS.API.CONSUMER.LIST.*", "APP.API.CONSUMER.LIST.*", ""),
        ("$JS.API.STREAM.*.NATSFER", "APP.API.STREAM.*.NATSFER", ""),
        ("$JS.API.STREAM.*.NATSFER_DATA", "APP.API.STREAM.*.NATSFER_DATA", ""),
        ("$JS.API.STREAM.MSG.GET.*", "APP.API.STREAM.MSG.GET.*", ""),
        ("$JS.API.DIRECT.GET.*", "APP.API.DIRECT.GET.*", ""),
        // Acknowledgements go where the message says: no prefix can be put before it.
        ("$JS.ACK.NATSFER.>", "$JS.ACK.NATSFER.>", ""),
        ("$JS.ACK.NATSFER_DATA.>", "$JS.ACK.NATSFER_DATA.>", ""),
        ("natsfer.>", "natsfer.>", ""),
    ];
    let exports = services.map(|(subject, _, more)| format!("{{ service: \"{subject}\"{more} }}")).join("\n");
    let imports = services
        .map(|(subject, to, _)| format!("{{ service: {{ account: APP, subject: \"{subject}\" }}, to: \"{to}\" }}"));
    let user = |name: &str| format!("jetstream: enabled, users: [ {{ user: {name}, password: secret }} ]");
    let accounts = format!(
        "accounts {{\nAPP {{ {}, exports: [\n{exports}\n] }}\nSERVICE {{ {}, imports: [\n{}\n] }}\nOTHER {{ {} }}\n}}",
        user("app"),
        user("service"),
        imports.join("\n"),
        user("other"),
    );
    let server = Server::builder().config_line(accounts).login("app", "secret").start().await;
    let url = |user: &str| format!("nats://{user}:secret@127.0.0.1:{}", server.port());
    let through = |user: &str| Visitor::to(url(user).as_str()).option("--js-api-prefix", "APP.API");
    through("service").gets_in().await;

    // Everything is acknowledged, and nothing came twice.
    let stream = steps::stream(&server, "NATSFER").await;
    let inbox = &stream["consumer_detail"][0];
    assert_eq!((steps::number(inbox, "num_ack_pending"), steps::number(inbox, "num_redelivered")), (0, 0), "{inbox}");
    // What else there is to do works as well.
    let sent = steps::list(url("app").as_str(), &[]).await;
    let transfer = steps::text(&sent[0], "transfer");
    for command in [
        consumer(["list"]),
        consumer(["verify", transfer]),
        producer(["status", transfer]),
        producer(["cancel", transfer]),
        producer(["prune", "--older-than", "0s"]),
    ] {
        let _ = through("service").by(command.args(["--js-api-prefix", "APP.API"])).run().await.success();
    }
    assert!(steps::list(url("app").as_str(), &[]).await.is_empty());

    let home = tempfile::tempdir().unwrap();
    let receive = |user: &str| steps::receiving(url(user).as_str(), "visitor", home.path(), &["--drain"]);
    let through_prefix =
        receive("other").args(["--js-api-prefix", "APP.API"]).limit(Duration::from_secs(60)).spawn().await;
    // Such a receiver waits: JetStream may only be starting.
    through_prefix.log_line(Duration::from_secs(20), |line| line.contains("nothing answers")).await;
}
