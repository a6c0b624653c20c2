//! Whether what is stored is what the source has.

use std::path::Path;

use natsfer_common::{
    ChunkSet, Closing, Inline, Manifest, StoredTransfer, Totals, blocking,
    broker::{Broker, Verification},
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
    let name = options.name.clone().ok_or(ProducerError::NoName)?;
    let source = blocking({
        let path = path.to_owned();
        move || Source::file(&path)
    })
    .await?;
    let mut unfinished = None;
    for revision in 0.. {
        let Some(transfer) = source.transfer_id(&options.channel, &name, revision) else { break };
        let Some(stored) = broker.stored_transfer(&options.channel, transfer).await? else { break };
        match verify_one(broker, path, &source, stored).await? {
            StoredCopy::Absent => {}
            StoredCopy::Unfinished(manifest) => unfinished = Some(manifest),
            complete => return Ok(complete),
        }
    }
    Ok(unfinished.map_or(StoredCopy::Absent, StoredCopy::Unfinished))
}

/// Under one id; [`StoredCopy::Absent`] if that is cancelled, or another file's.
async fn verify_one(
    broker: &Broker, path: &Path, source: &Source, stored: StoredTransfer,
) -> Result<StoredCopy, ProducerError> {
    let manifest = stored.manifest.clone();
    let unreadable = |source| ProducerError::Read { path: path.into(), source };
    let Some(mut copy) = source.again() else { return Ok(StoredCopy::Absent) };
    let algorithm = manifest.digest_algorithm;
    let (size, found) = blocking(move || digest(&mut copy, algorithm)).await.map_err(unreadable)?;
    if let Some(inline) = manifest.inline {
        if (manifest.size, inline.digest) != (Some(size), found) {
            return Ok(StoredCopy::Absent);
        }
        return verify_inline(broker, manifest, inline).await;
    }
    let totals = match stored.closing() {
        Some(Closing::Complete(totals)) if (totals.size, totals.digest) == (size, found) => *totals,
        None => return Ok(StoredCopy::Unfinished(manifest)),
        Some(_) => return Ok(StoredCopy::Absent),
    };
    let found = broker.verify(&manifest, &totals).await?;
    Ok(StoredCopy::Complete { manifest, totals, found })
}

async fn verify_inline(broker: &Broker, manifest: Manifest, inline: Inline) -> Result<StoredCopy, ProducerError> {
    let Manifest { transfer, ref channel, .. } = manifest;
    let subject = broker.subjects().open(channel, transfer);
    let message = broker.last_message(broker.stream().control(), &subject).await?;
    let Some(message) = message else { return Ok(StoredCopy::Absent) };
    let size = manifest.size.unwrap_or(0);
    let totals = Totals { chunks: 0, size, stored_bytes: message.payload.len() as u64, digest: inline.digest };
    let sound = inline.decode(&manifest, message.payload.clone(), message.header(header::CRC32)).is_ok();
    let damaged = if sound { ChunkSet::default() } else { [0].into_iter().collect() };
    let found = Verification { damaged, digest: sound.then_some(inline.digest), ..Verification::default() };
    Ok(StoredCopy::Complete { manifest, totals, found })
}
