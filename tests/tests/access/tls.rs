//! How the connection is encrypted, and who is trusted on it.

use async_nats::ConnectOptions;
use natsfer_tests::{Builder, Server};

use crate::certificates::{Authority, Identity};
use crate::visitor::{Visitor, private_file};

/// A server with a certificate of this authority, and whatever else its `tls` block is to have.
fn server(authority: &Authority, more: &str) -> Builder {
    let Identity { certificate, key } = authority.identity("127.0.0.1");
    let tls = format!("cert_file: {certificate:?}, key_file: {key:?}, ca_file: {:?}, {more}", authority.file());
    Server::builder().config_line(format!("tls {{ {tls} }}"))
}

fn trusting(authority: &Authority) -> ConnectOptions {
    ConnectOptions::new().add_root_certificates(authority.file())
}

#[tokio::test]
async fn with_an_authority_of_its_own() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = server(&authority, "").client(trusting(&authority)).start().await;
    let visitor = Visitor::to(&server);
    visitor.clone().option("--tlsca", authority.file()).gets_in().await;
    visitor.clone().variable("NATS_CA", authority.file()).gets_in().await;
    let encrypted = server.url().replace("nats://", "tls://");
    Visitor::to(encrypted.as_str()).option("--tlsca", authority.file()).gets_in().await;

    visitor.stays_out("is the authority behind its certificate trusted here, and the URL its name?").await;
    visitor.clone().option("--tlsca", stranger.file()).stays_out("no trusted connection").await;
    // It vouches for the address, not for this name.
    let named = server.url().replace("127.0.0.1", "localhost");
    Visitor::to(named.as_str()).option("--tlsca", authority.file()).stays_out("no trusted connection").await;
    let empty = private_file(authority.directory(), "empty.pem", "");
    visitor.option("--tlsca", empty).stays_out("empty.pem does not hold certificates in PEM").await;
}

#[tokio::test]
async fn with_a_certificate_of_ones_own() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let Identity { certificate, key } = authority.identity("alice");
    let client = trusting(&authority).add_client_certificate(certificate.clone(), key.clone());
    let server = server(&authority, "verify: true").client(client).start().await;
    let visitor = Visitor::to(&server).option("--tlsca", authority.file());
    visitor.clone().option("--tlscert", &certificate).option("--tlskey", &key).gets_in().await;
    visitor.clone().variable("NATS_CERT", &certificate).variable("NATS_KEY", &key).gets_in().await;

    visitor.stays_out("does it ask for a client certificate").await;
    let other = stranger.identity("alice");
    let foreign = visitor.clone().option("--tlscert", &other.certificate).option("--tlskey", &other.key);
    foreign.stays_out("trust the authority behind it").await;
    visitor
        .option("--tlscert", &certificate)
        .option("--tlskey", &other.certificate)
        .stays_out("does not hold a private key")
        .await;
}

/// The server knows the user by the certificate alone.
#[tokio::test]
async fn a_certificate_can_be_the_login() {
    let authority = Authority::new();
    let (known, unknown) = (authority.identity("alice"), authority.identity("mallory"));
    let users = "authorization { users: [ { user: \"CN=alice\" } ] }";
    let client = trusting(&authority).add_client_certificate(known.certificate.clone(), known.key.clone());
    let server = server(&authority, "verify_and_map: true").config_line(users).client(client).start().await;
    let shows = |identity: &Identity| {
        let visitor = Visitor::to(&server).option("--tlsca", authority.file());
        visitor.option("--tlscert", &identity.certificate).option("--tlskey", &identity.key)
    };
    shows(&known).gets_in().await;
    shows(&unknown).stays_out("refuses the login").await;
}

#[tokio::test]
async fn before_the_server_greets() {
    let authority = Authority::new();
    let server = server(&authority, "handshake_first: true").client(trusting(&authority).tls_first()).start().await;
    let visitor = Visitor::to(&server).option("--tlsca", authority.file());
    visitor.clone().option("--tlsfirst", "").gets_in().await;
    // Both wait for the other to begin.
    let _ = visitor.cannot_send("no connection to the NATS server").await;
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_is_refused_where_it_must() {
    let (server, authority) = (Server::start().await, Authority::new());
    let encrypted = server.url().replace("nats://", "tls://");
    Visitor::to(encrypted.as_str()).stays_out("no trusted connection").await;
    Visitor::to(&server).option("--tlsca", authority.file()).stays_out("no trusted connection").await;
    Visitor::to(&server).option("--tlsfirst", "").stays_out("no trusted connection").await;
}
