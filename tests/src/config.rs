//! What a server is to be like.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;

use crate::DEFAULT_VERSION;
use crate::ports::Ports;
use crate::server::Server;

/// Describes a [`Server`]; made by [`Server::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) version: String,
    pub(crate) store: Option<PathBuf>,
    pub(crate) client: ConnectOptions,
    pub(crate) member: Option<Member>,
    lines: Vec<String>,
    jetstream: Vec<String>,
}

/// A server's place in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) route: u16,
    pub(crate) routes: Vec<u16>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            version: DEFAULT_VERSION.into(),
            store: None,
            client: ConnectOptions::new(),
            member: None,
            lines: Vec::new(),
            jetstream: Vec::new(),
        }
    }
}

impl Builder {
    /// One of [`KNOWN_VERSIONS`](crate::KNOWN_VERSIONS), instead of the default.
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// A line, or several, at the top level of the server's configuration.
    pub fn config_line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// These lines instead of those that were given.
    pub(crate) fn with_config_lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }

    /// A line inside the `jetstream` block, such as `max_file_store: 10MB`.
    pub fn jetstream_line(mut self, line: impl Into<String>) -> Self {
        self.jetstream.push(line.into());
        self
    }

    /// The largest message, headers included.
    pub fn max_payload(self, bytes: usize) -> Self {
        self.config_line(format!("max_payload: {bytes}"))
    }

    /// Syncs every write to disk before acknowledging it, as a careful
    /// operator does; the server's own default is every two minutes.
    pub fn sync_always(self) -> Self {
        self.jetstream_line("sync_interval: always")
    }

    /// Keeps the store there, instead of in a directory that goes away with
    /// the server: a small tmpfs, say, or the store of an earlier server.
    pub fn store_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.store = Some(directory.into());
        self
    }

    /// Who the harness itself logs in as, when the configuration lines demand
    /// it. That account needs JetStream.
    pub fn login(self, user: &str, password: &str) -> Self {
        self.client(ConnectOptions::with_user_and_password(user.into(), password.into()))
    }

    /// How the harness itself connects, when it takes more than a user and a
    /// password: a key, credentials, an authority to trust.
    pub fn client(mut self, options: ConnectOptions) -> Self {
        self.client = options;
        self
    }

    /// Starts the server and waits until JetStream answers.
    ///
    /// # Panics
    /// When there is no such server or it does not get ready, with its log.
    pub async fn start(self) -> Server {
        crate::must(self.try_start().await, "cannot start nats-server")
    }

    /// As [`start`](Self::start), for configurations that should be refused.
    ///
    /// # Errors
    /// When there is no such server or it does not get ready, with its log.
    pub async fn try_start(self) -> anyhow::Result<Server> {
        let server = Server::prepare(self).await?;
        server.launch().await?;
        server.ready().await?;
        Ok(server)
    }

    /// The configuration file. Without `ports` the system chooses them.
    pub(crate) fn render(&self, ports: Option<Ports>, run_dir: &Path, store: &Path) -> String {
        let (client, http) = match ports {
            Some(ports) => (ports.client.to_string(), ports.http.to_string()),
            None => ("-1".into(), "-1".into()),
        };
        let mut text = String::new();
        let mut line = |line: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        };
        line(format!("listen: \"127.0.0.1:{client}\""));
        line(format!("http: \"127.0.0.1:{http}\""));
        line(format!("ports_file_dir: {}", quoted(run_dir)));
        line("jetstream {".into());
        line(format!("  store_dir: {}", quoted(store)));
        for extra in &self.jetstream {
            line(format!("  {extra}"));
        }
        line("}".into());
        if let Some(member) = &self.member {
            line(format!("server_name: {}", member.name));
            line("cluster {".into());
            line("  name: natsfer-tests".into());
            line(format!("  listen: \"127.0.0.1:{}\"", member.route));
            // Clients stay on the addresses they were given: what goes through
            // a proxy must not find a way around it.
            line("  no_advertise: true".into());
            let routes = member.routes.iter();
            let routes: Vec<_> = routes.map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).collect();
            line(format!("  routes: [{}]", routes.join(", ")));
            line("}".into());
        }
        for extra in &self.lines {
            line(extra.clone());
        }
        text
    }
}

/// A path as the server's configuration language wants strings.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}
