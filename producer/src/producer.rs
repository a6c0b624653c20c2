//! The producer.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use natsfer_common::{
    Rate, Together, blocking,
    broker::{Broker, ConnectOptions, Pacer},
    metrics::{SEND_FAILURES, SEND_SECONDS, SENDING, SENT_BYTES, SENT_FILES, UnderWay},
};
use tokio::{io::AsyncRead, sync::watch, time::Instant};

use crate::{
    Preview, ProducerError, Progress, SendOptions, Sending, Sent, StoredCopy, cutter::Buffers, lanes::Lanes,
    preview::preview, source::Source, turns::Turns, upload::Upload, verification::verify_file,
};

/// Files that are opened in one go, and read where they are small, at most.
const MOST_OPENED: usize = 32;
/// In so many goes at once: a file system that does not answer keeps nobody from the others.
const MOST_OPENINGS: usize = 4;

/// Sends files, readers and bytes over one connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Producer {
    lanes: Lanes,
    buffers: Buffers,
    pacer: Pacer,
    turns: Turns,
    opening: Together<PathBuf, Result<Source, ProducerError>>,
}

impl Producer {
    /// Connects. The streams are created with the first send, if they do not exist.
    ///
    /// # Errors
    /// When no server answers, or it refuses the login.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ProducerError> {
        Ok(Self::new(Broker::connect(options).await?))
    }

    /// Uses a connection that is there already.
    pub fn new(broker: Broker) -> Self {
        Self {
            lanes: Lanes::new(broker),
            buffers: Buffers::default(),
            pacer: Pacer::default(),
            turns: Turns::default(),
            opening: Together::new(MOST_OPENED, MOST_OPENINGS, |paths| {
                paths.iter().map(|path| Source::file(path)).collect()
            }),
        }
    }

    /// With so many bytes of chunks under way at most, of all that is sent over the connection; 16 MiB by default. Fewer are under way
    /// where the line holds less. A chunk larger than that goes alone. Besides, each transfer holds the chunk that it reads.
    #[must_use]
    pub fn with_window(self, bytes: u64) -> Self {
        Self { lanes: self.lanes.with_window(bytes), ..self }
    }

    /// Spreads chunks over so many connections in all; one by default. For lines that one TCP connection cannot fill, because they are
    /// long and lose packets, or give each connection a part only. A window that is set ([`Producer::with_window`]) is shared out among
    /// them.
    ///
    /// # Errors
    /// When a connection cannot be made, or the first one is the service's own ([`Broker::with_client`]).
    pub async fn with_connections(self, connections: u16) -> Result<Self, ProducerError> {
        Ok(Self { lanes: self.lanes.widened(connections.into()).await?, ..self })
    }

    /// With no more than so many bytes per second, of all transfers together, as they are published.
    #[must_use]
    pub fn with_rate(self, rate: Option<Rate>) -> Self {
        Self { pacer: Pacer::new(rate), ..self }
    }

    /// The connection.
    pub fn broker(&self) -> &Broker {
        self.lanes.first()
    }

    /// Sends a regular file; under its own name, without the directories before it, unless the options give one. Sent again,
    /// what is stored already is not published again.
    ///
    /// # Errors
    /// From awaiting what is returned: see [`ProducerError`].
    pub fn send_file(&self, path: impl AsRef<Path>, mut options: SendOptions) -> Sending {
        let (path, opening) = (path.as_ref().to_owned(), self.opening.clone());
        self.start(async move {
            if options.name.is_none() {
                options.name = Some(own_name(&path)?);
            }
            let given_up =
                || Err(ProducerError::Read { path: path.clone(), source: io::Error::other("that was given up") });
            Ok((opening.done(path.clone()).await.unwrap_or_else(given_up)?, options))
        })
    }

    /// What [`Producer::send_file`] would do with a file, by its name, size and time. Nothing is published, nor created.
    ///
    /// # Errors
    /// When the file cannot be opened, or the server does not answer.
    pub async fn preview_file(
        &self, path: impl AsRef<Path>, mut options: SendOptions,
    ) -> Result<Preview, ProducerError> {
        let path = path.as_ref().to_owned();
        if options.name.is_none() {
            options.name = Some(own_name(&path)?);
        }
        let source = blocking(move || Source::file(&path)).await?;
        preview(self.broker(), &source, &options).await
    }

    /// Reads the stored copy of a file to its end, and compares it with the file. The options are those it was sent with.
    ///
    /// # Errors
    /// When the file cannot be read, or the server does not answer.
    pub async fn verify_file(
        &self, path: impl AsRef<Path>, mut options: SendOptions,
    ) -> Result<StoredCopy, ProducerError> {
        if options.name.is_none() {
            options.name = Some(own_name(path.as_ref())?);
        }
        verify_file(self.broker(), path.as_ref(), &options).await
    }

    /// Sends what a reader gives, to its end. The options must give a name. Sent again, it is another transfer, unless the options
    /// give an id.
    ///
    /// # Errors
    /// From awaiting what is returned: see [`ProducerError`].
    pub fn send_reader(&self, reader: impl AsyncRead + Send + Unpin + 'static, options: SendOptions) -> Sending {
        self.start(async move { Ok((Source::reader(reader), options)) })
    }

    /// Sends bytes. The options must give a name. The same bytes under the same name are the same transfer.
    ///
    /// # Errors
    /// From awaiting what is returned: see [`ProducerError`].
    pub fn send_bytes(&self, bytes: impl Into<Bytes>, options: SendOptions) -> Sending {
        let bytes = bytes.into();
        self.start(async move { Ok((Source::bytes(bytes), options)) })
    }

    fn start(
        &self, open: impl Future<Output = Result<(Source, SendOptions), ProducerError>> + Send + 'static,
    ) -> Sending {
        let (progress, watched) = watch::channel(Progress::default());
        let Self { lanes, buffers, pacer, turns, .. } = self.clone();
        Sending::start(watched, async move {
            let (mut source, options) = open.await?;
            // Gone with whoever waits for it: a thread would read on for as long as the reader is quiet.
            let _pump = source.pump();
            progress.send_modify(|progress| progress.size = source.version().map(|version| version.size));
            let _under_way = UnderWay::new(SENDING);
            let started = Instant::now();
            let broker = lanes.first().with_patience(options.stall_timeout);
            let upload = Upload { broker, lanes, buffers, pacer, turns, options, progress };
            upload.run(source).await.inspect(|sent| count(sent, started)).inspect_err(|_| {
                metrics::counter!(SEND_FAILURES).increment(1);
            })
        })
    }

    /// Closes the connections, once what was published has been written.
    pub async fn close(self) {
        self.lanes.close().await;
    }
}

fn count(sent: &Sent, started: Instant) {
    metrics::counter!(SENT_FILES, "status" => sent.status.as_str()).increment(1);
    metrics::counter!(SENT_BYTES).increment(sent.size);
    metrics::histogram!(SEND_SECONDS).record(started.elapsed());
}

/// A path's last component, as a name.
fn own_name(path: &Path) -> Result<natsfer_common::FileName, ProducerError> {
    let name = path.file_name().unwrap_or_default();
    let name = name.to_str().ok_or_else(|| ProducerError::NotUnicode { path: path.into() })?;
    name.parse().map_err(|source| ProducerError::Name { path: path.into(), source })
}
