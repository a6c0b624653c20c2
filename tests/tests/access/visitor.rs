//! Somebody who wants in.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use natsfer_tests::steps::{receiving, sending};
use natsfer_tests::{Address, Command, Output, files};

static VISITS: AtomicU32 = AtomicU32::new(0);

/// A way to a server, as options and variables say it, and what must never be shown of it.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    url: String,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Visitor {
    pub(crate) fn to(server: &(impl Address + ?Sized)) -> Self {
        Self { url: server.address(), options: Vec::new(), variables: Vec::new(), secrets: Vec::new() }
    }

    /// One more option, with its value if it has one.
    pub(crate) fn option(mut self, option: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref().to_str().unwrap();
        self.options.extend([option, value].into_iter().filter(|text| !text.is_empty()).map(str::to_owned));
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.variables.push((name.into(), value.as_ref().to_str().unwrap().into()));
        self
    }

    pub(crate) fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// A command that goes this way, and logs all it can.
    pub(crate) fn by(&self, command: Command) -> Command {
        let command = command.server(self.url.as_str()).env("RUST_LOG", "trace");
        self.variables.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    fn sending(&self, more: &[&str], paths: &[PathBuf]) -> Command {
        let options = self.options.iter().map(String::as_str).chain(["--stall-timeout", "2s"]);
        self.by(sending(self.url.as_str(), &options.chain(more.iter().copied()).collect::<Vec<_>>(), paths))
    }

    /// Receives what is on the channel, by a receiver of the same name.
    fn receiving(&self, channel: &str, into: &Path) -> Command {
        let options = self.options.iter().map(String::as_str).chain(["--drain", "-c", channel]);
        self.by(receiving(self.url.as_str(), channel, into, &options.collect::<Vec<_>>()))
    }

    /// Sends files, and receives the same.
    pub(crate) async fn gets_in(&self) {
        let home = tempfile::tempdir().unwrap();
        let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
        files::tree(&outbox, 3, 0..1_500_000, 1);
        // Once in, the next way in must not find everything done.
        let channel = format!("visit-{}", VISITS.fetch_add(1, Ordering::Relaxed));
        let sending = self.sending(&["-c", &channel], &[outbox.join(".")]);
        let sent = self.shows_nothing(sending.run().await.success());
        assert_eq!(sent.json_lines().len(), 3);
        let received = self.shows_nothing(self.receiving(&channel, &inbox).run().await.success());
        assert_eq!(received.json_lines().len(), 3);
        files::assert_same(&outbox, &inbox);
    }

    /// Cannot send, and is told why in these words. Returns all that was said.
    pub(crate) async fn cannot_send(&self, words: &str) -> Output {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.bin");
        files::random_file(&file, 100, 1);
        self.told(self.sending(&[], &[file]).run().await.exited(1), words)
    }

    /// Can neither send nor receive, and is told why in these words.
    pub(crate) async fn stays_out(&self, words: &str) {
        let _ = self.cannot_send(words).await;
        let home = tempfile::tempdir().unwrap();
        let _ = self.told(self.receiving("default", home.path()).run().await.exited(1), words);
    }

    /// Gives options that are wrong usage, and is told why in these words.
    pub(crate) async fn is_corrected(&self, words: &str) {
        let home = tempfile::tempdir().unwrap();
        let _ = self.told(self.sending(&[], &[home.path().to_owned()]).run().await.exited(2), words);
        let _ = self.told(self.receiving("default", home.path()).run().await.exited(2), words);
    }

    fn told(&self, output: Output, words: &str) -> Output {
        let errors = output.errors();
        let told = errors.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(told.to_lowercase().contains(&words.to_lowercase()), "not told '{words}': {errors}");
        assert!(output.elapsed < Duration::from_secs(20), "{:?}", output.elapsed);
        self.shows_nothing(output)
    }

    fn shows_nothing(&self, output: Output) -> Output {
        for secret in &self.secrets {
            let said = output.text() + &output.errors();
            assert!(!said.contains(secret), "'{secret}' is shown: {said}");
            assert!(!output.command.contains(secret), "'{secret}' is an argument: {}", output.command);
        }
        output
    }
}

/// A file that only its owner may read.
pub(crate) fn private_file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
