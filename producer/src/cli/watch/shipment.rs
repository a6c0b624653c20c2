//! Sending one version of one file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use natsfer_common::{blocking, broker::BrokerError, cli::Progresses};
use natsfer_producer::{Digest, FileName, Producer, ProducerError, SendOptions, Sent, TransferId};

use super::{
    content::{self, Comparison},
    look::{Seen, look},
    version::Version,
};
use crate::cli::{send_options::followed, sources::unfit};

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    /// What was there was sent. It looked like this before.
    Sent(Box<Sent>, Version, Now),
    /// It was not sent: it has the bytes that were sent before, and looks like this.
    Same(Version),
    /// It was not sent: it is another version now.
    Changed(Version),
    /// It was not sent: it is gone.
    Gone,
    /// It was not sent, and may be another time.
    Failed(anyhow::Error),
    /// It was not sent, and will not be as it is.
    Refused(anyhow::Error),
    /// Somebody cancelled this transfer meanwhile, and does not want these bytes sent again.
    TakenBack(TransferId, Option<Digest>, anyhow::Error),
}

/// What is there now.
#[derive(Debug)]
pub(super) enum Now {
    /// The version that was to be sent.
    Same,
    Changed(Version),
    Gone,
}

/// Sends it if it is still that version, and has other bytes than are expected, if any are. What is sent is only known for certain if
/// it is that version afterwards, too.
pub(super) async fn ship(
    producer: Producer, progresses: Progresses, path: PathBuf, name: FileName,
    (version, expected): (Version, Option<Digest>), options: SendOptions,
) -> End {
    let version = match now(&path, version).await {
        Ok(Now::Same) => version,
        // Of the same file: its rights have changed, or whatever else the times of its bytes do not tell of.
        Ok(Now::Changed(now)) if now.is_alike(&version) => now,
        Ok(Now::Changed(version)) => return End::Changed(version),
        Ok(Now::Gone) => return End::Gone,
        Err(error) => return End::Failed(error),
    };
    if let Some(digest) = expected {
        let read = {
            let path = path.clone();
            blocking(move || content::read(&path, digest)).await
        };
        match read.with_context(|| format!("cannot read {}", path.display())) {
            Ok(Some((Comparison::Same, now))) if version.is_still(&now) => return End::Same(now),
            Ok(Some((Comparison::Same, now))) => return End::Changed(now),
            Ok(Some(_)) => tracing::info!("{} looks as it did when it was sent, and is another file", path.display()),
            Ok(None) => return End::Gone,
            Err(error) => return End::Failed(error),
        }
    }
    let algorithm = options.digest;
    let sending = producer.send_file(&path, options.with_name(name.clone()));
    let sent = followed(sending, &name, &producer, &progresses).await;
    let now = match now(&path, version).await {
        Ok(now) => now,
        Err(error) => return End::Failed(error),
    };
    match (sent, now) {
        (Ok(sent), now) => End::Sent(Box::new(sent), version, now),
        (Err(_), Now::Gone) => End::Gone,
        (Err(_), Now::Changed(version)) => End::Changed(version),
        (Err(error), Now::Same) => {
            let kind = kind(&error);
            let error = anyhow::Error::from(error).context(format!("cannot send {}", path.display()));
            match kind {
                Kind::Passing => End::Failed(error),
                Kind::Final => End::Refused(error),
                Kind::TakenBack(transfer) => {
                    let digest = blocking(move || content::digest(&path, algorithm)).await;
                    End::TakenBack(transfer, digest.ok().flatten(), error)
                }
            }
        }
    }
}

/// What a failure means.
enum Kind {
    Passing,
    Final,
    TakenBack(TransferId),
}

fn kind(error: &ProducerError) -> Kind {
    match error {
        ProducerError::Cancelled { transfer, .. } => Kind::TakenBack(*transfer),
        ProducerError::Manifest { .. }
        | ProducerError::Name { .. }
        | ProducerError::NotUnicode { .. }
        | ProducerError::NotAFile { .. }
        // It would fill the stream again and again, or push out what others have sent.
        | ProducerError::PushedOut { .. }
        | ProducerError::Broker(BrokerError::NeverFits { .. }) => Kind::Final,
        _ => Kind::Passing,
    }
}

async fn now(path: &Path, version: Version) -> anyhow::Result<Now> {
    let seen = {
        let path = path.to_owned();
        blocking(move || look(&path)).await
    };
    match seen {
        Seen::File(now) if version.is_still(&now) => Ok(Now::Same),
        Seen::File(now) => Ok(Now::Changed(now)),
        Seen::Directory | Seen::Other | Seen::Nothing => Ok(Now::Gone),
        Seen::Unknown(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// A path below the outbox, as a name.
pub(super) fn name_of(path: &Path) -> anyhow::Result<FileName> {
    let shown = path.display();
    let text = path.to_str().with_context(|| format!("cannot send {shown}: its name is not Unicode (UTF-8)"))?;
    text.parse().map_err(|error| unfit(path, &error))
}
