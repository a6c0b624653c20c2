//! Where to connect, as whom, and what to use there.

use std::path::PathBuf;

use super::{AccessError, Handshake, JetStreamApi, Login, SubjectPrefix, Tls, secret::is_open_to_others};
use crate::StreamName;

/// Where to connect, as whom, and which pair of streams to use. `Debug` shows no secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Comma-separated server URLs: `nats://host:4222`, or `tls://` where the connection must be encrypted.
    pub server: String,
    /// Who this client is.
    pub login: Login,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Where JetStream is reached.
    pub jetstream: JetStreamApi,
    /// What the subjects of answers begin with, instead of `_INBOX`.
    pub inbox_prefix: Option<SubjectPrefix>,
    /// The pair of streams.
    pub stream: StreamName,
    /// How this client appears in the server's list of connections.
    pub client_name: String,
}

impl Default for ConnectOptions {
    /// `nats://127.0.0.1:4222`, nobody in particular, stream `NATSFER`.
    fn default() -> Self {
        Self {
            server: "nats://127.0.0.1:4222".into(),
            login: Login::default(),
            tls: Tls::default(),
            jetstream: JetStreamApi::default(),
            inbox_prefix: None,
            stream: StreamName::default(),
            client_name: "natsfer".into(),
        }
    }
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { server, login, tls, jetstream, inbox_prefix, stream, client_name } = self;
        f.debug_struct("ConnectOptions")
            .field("server", &super::servers::Servers::read(server).urls)
            .field("login", login)
            .field("tls", tls)
            .field("jetstream", jetstream)
            .field("inbox_prefix", inbox_prefix)
            .field("stream", stream)
            .field("client_name", client_name)
            .finish()
    }
}

impl ConnectOptions {
    /// Another server, or several, comma-separated.
    #[must_use]
    pub fn with_server(mut self, server: impl Into<String>) -> Self {
        self.server = server.into();
        self
    }

    /// Somebody else, whatever the URL says.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    /// Encrypted otherwise.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// JetStream is reached elsewhere.
    #[must_use]
    pub fn with_jetstream(mut self, jetstream: JetStreamApi) -> Self {
        self.jetstream = jetstream;
        self
    }

    /// Answers come on other subjects than `_INBOX.…`: so that a user may be held to an inbox of its own.
    #[must_use]
    pub fn with_inbox_prefix(mut self, prefix: SubjectPrefix) -> Self {
        self.inbox_prefix = Some(prefix);
        self
    }

    /// Another pair of streams.
    #[must_use]
    pub fn with_stream(mut self, stream: StreamName) -> Self {
        self.stream = stream;
        self
    }

    /// Another name in the server's list of connections.
    #[must_use]
    pub fn with_client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// The files of the login and of TLS that hold secrets, and that others than their owner may read or change.
    pub fn exposed_files(&self) -> Vec<PathBuf> {
        let secret = self.login.files().chain(self.tls.key());
        secret.filter(|path| is_open_to_others(path)).map(PathBuf::from).collect()
    }

    /// Takes the login out of pipes, as the shell's `<(pass show nats)` is one, which can be read only once: for whoever
    /// connects more than once with these options.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn drain_pipes(&mut self) -> Result<(), AccessError> {
        self.login.drain_pipes()
    }

    /// Whether nothing but an encrypted connection will do, since a URL says so.
    pub(super) fn encrypted(&self, by_url: bool) -> Tls {
        match self.tls.handshake {
            Handshake::AsServer if by_url => self.tls.clone().with_handshake(Handshake::Required),
            _ => self.tls.clone(),
        }
    }
}
