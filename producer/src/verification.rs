//! Whether what is stored is what the source has.

use std::path::Path;

use natsfer_common::{
    ChunkSet, Closing, Digest, DigestAlgorithm, Inline, Manifest, StoredTransfer, Totals, blocking,
    broker::{Broker, Verification, code},
    header,
};

use crate::{ProducerError, SendOptions, prepare::digest, source::Source};

/// What is stored of a source.
#[derive(Debug, Clone)]
pub enum StoredCopy {
    /// Nothing, or only what was cancelled or has other bytes.
    Absent,
    /// Its sender has not finished it.
    Unfinished(Manifest),
    /// It is closed, with the source's digest; this is what reading all of it has shown.
    Complete {
        /// What was said when it was opened.
        manifest: Manifest,
        /// What it should be.
        totals: Totals,
        /// What it is. The file inside a damaged message counts as a damaged chunk.
        found: Verification,
    },
}

/// Reads the stored copy of a file to its end, and compares it with the file.
///
/// # Errors
/// When the file cannot be read, or the server does not answer.
pub(crate) async fn verify_file(
    broker: &Broker, path: &Path, options: &SendOptions,
) -> Result<StoredCopy, ProducerError> {
    let (name, channel) = (options.name.clone().ok_or(ProducerError::NoName)?, &options.channel);
    let source = blocking({
        let path = path.to_owned();
        move || Source::file(&path)
    })
    .await?;
    let mut verifying = Verifying { broker, path, source, digested: None };
    let mut unfinished = None;
    for revision in 0.. {
        let Some(transfer) = verifying.source.transfer_id(channel, &name, revision) else { break };
        let stored = match broker.stored_transfer(channel, transfer).await {
            Err(error) if error.is(code::STREAM_NOT_FOUND) => break,
            stored => stored?,
        };
        let Some(stored) = stored else {
            let open = broker.subjects().open(channel, transfer);
            match broker.known_message(broker.stream().control(), &open).await? {
                // One that cannot be read was passed over when the file was sent, too.
                Some(_) => continue,
                None => break,
            }
        };
        match verifying.revision(stored).await? {
            StoredCopy::Absent => {}
            StoredCopy::Unfinished(manifest) => unfinished = Some(manifest),
            complete => return Ok(complete),
        }
    }
    Ok(unfinished.map_or(StoredCopy::Absent, StoredCopy::Unfinished))
}

/// A file, and what is known of it.
struct Verifying<'a> {
    broker: &'a Broker,
    path: &'a Path,
    source: Source,
    /// Its size and digest, by the algorithm last asked for: revisions seldom differ in it.
    digested: Option<(u64, Digest)>,
}

impl Verifying<'_> {
    /// Under one id; [`StoredCopy::Absent`] if that is cancelled, or another file's.
    async fn revision(&mut self, stored: StoredTransfer) -> Result<StoredCopy, ProducerError> {
        let broker = self.broker;
        let manifest = stored.manifest.clone();
        let Some(digested) = self.digest(manifest.digest_algorithm).await? else { return Ok(StoredCopy::Absent) };
        if let Some(inline) = manifest.inline {
            if (manifest.size, inline.digest) != (Some(digested.0), digested.1) {
                return Ok(StoredCopy::Absent);
            }
            return verify_inline(broker, manifest, inline).await;
        }
        let totals = match stored.closing() {
            Some(Closing::Complete(totals)) if (totals.size, totals.digest) == digested => *totals,
            None => return Ok(StoredCopy::Unfinished(manifest)),
            Some(_) => return Ok(StoredCopy::Absent),
        };
        let found = broker.verify(&manifest, &totals).await?;
        Ok(StoredCopy::Complete { manifest, totals, found })
    }

    /// The source's size and digest; `None` where it can be read only once.
    async fn digest(&mut self, algorithm: DigestAlgorithm) -> Result<Option<(u64, Digest)>, ProducerError> {
        if let Some(known) = self.digested.filter(|(_, digest)| digest.algorithm() == algorithm) {
            return Ok(Some(known));
        }
        let Some(mut copy) = self.source.again() else { return Ok(None) };
        let unreadable = |source| ProducerError::Read { path: self.path.into(), source };
        let found = blocking(move || digest(&mut copy, algorithm)).await.map_err(unreadable)?;
        Ok(Some(*self.digested.insert(found)))
    }
}

async fn verify_inline(broker: &Broker, manifest: Manifest, inline: Inline) -> Result<StoredCopy, ProducerError> {
    let Manifest { transfer, ref channel, .. } = manifest;
    let subject = broker.subjects().open(channel, transfer);
    let message = broker.known_message(broker.stream().control(), &subject).await?;
    let Some(message) = message else { return Ok(StoredCopy::Absent) };
    let size = manifest.size.unwrap_or(0);
    let totals = Totals { chunks: 0, size, stored_bytes: message.payload.len() as u64, digest: inline.digest };
    let sound = inline.decode(&manifest, message.payload.clone(), message.header(header::CRC32)).is_ok();
    let damaged = if sound { ChunkSet::default() } else { [0].into_iter().collect() };
    let found = Verification { damaged, digest: sound.then_some(inline.digest), ..Verification::default() };
    Ok(StoredCopy::Complete { manifest, totals, found })
}
