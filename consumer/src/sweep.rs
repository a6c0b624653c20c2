//! What earlier runs left of transfers that do not come again.

use natsfer_common::{
    Journal, Manifest, blocking,
    broker::{Broker, BrokerError},
};

use crate::{
    ReceiveError, TargetDirectory,
    cursor::Cursor,
    limits::MOST_JOURNAL_HEADER,
    staging::{Discarded, JOURNAL, Owner, PART, StagingDirectory},
};

/// An unfinished transfer on disk that no process works on.
struct Leftover {
    /// Its files' common beginning.
    stem: String,
    /// What its journal says it is; `None` where there is no journal that can be read, hence nothing to go on from.
    manifest: Option<Manifest>,
}

/// Removes parts of transfers that this owner is not given again: those that have been removed from the stream, and those that
/// are done, as when a process died that was given one twice. Says how many.
pub(crate) async fn sweep(broker: &Broker, target: &TargetDirectory, owner: &Owner) -> Result<u64, ReceiveError> {
    let (of, whose, path) = (target.clone(), owner.clone(), target.path().to_owned());
    let leftovers = blocking(move || {
        let directory = StagingDirectory::open(&of, &whose)?;
        leftovers(&directory).map_err(ReceiveError::disk("cannot look at unfinished files in", path))
    })
    .await?;
    if leftovers.is_empty() {
        return Ok(0);
    }
    let done_to = match owner {
        Owner::Receiver(name) => broker.consumer(broker.stream().control(), name.as_str()).await?,
        Owner::Replay => None,
    };
    let done_to = done_to.map_or(0, |inbox| inbox.acknowledged_to);
    let mut removed = 0;
    for Leftover { stem, manifest } in leftovers {
        if let Some(manifest) = &manifest
            && is_to_come(broker, manifest, done_to).await?
        {
            continue;
        }
        let (of, whose) = (target.clone(), owner.clone());
        let discard = move || StagingDirectory::open(&of, &whose).map(|directory| directory.discard(&stem));
        // What has landed since they were listed leaves nothing, and is not counted.
        if blocking(discard).await? == Discarded::Removed {
            removed += 1;
            if let Some(manifest) = &manifest {
                Cursor::forget(broker, owner, manifest).await;
            }
        }
    }
    Ok(removed)
}

/// Whether it is stored, behind all that is done.
async fn is_to_come(broker: &Broker, manifest: &Manifest, done_to: u64) -> Result<bool, BrokerError> {
    let subject = broker.subjects().open(&manifest.channel, manifest.transfer);
    // A replica that lags costs at most that the part's bytes are fetched again.
    let opened = broker.latest_message(broker.stream().control(), &subject).await?;
    Ok(opened.is_some_and(|opened| opened.sequence > done_to))
}

fn leftovers(directory: &StagingDirectory) -> std::io::Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for name in directory.names(JOURNAL)? {
        // One that has landed meanwhile cannot be read.
        let journal =
            directory.read(&name, MOST_JOURNAL_HEADER).ok().and_then(|bytes| Journal::from_bytes(&bytes).ok());
        let manifest = journal.map(|journal| journal.header.manifest);
        found.extend(name.strip_suffix(JOURNAL).map(|stem| Leftover { stem: stem.to_owned(), manifest }));
    }
    for name in directory.names(PART)? {
        if let Some(stem) = name.strip_suffix(PART)
            && !found.iter().any(|leftover: &Leftover| leftover.stem == stem)
        {
            found.push(Leftover { stem: stem.to_owned(), manifest: None });
        }
    }
    Ok(found)
}
