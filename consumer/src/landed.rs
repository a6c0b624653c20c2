//! A file that has landed, before anybody was told.

use futures_util::future::OptionFuture;
use jiff::Timestamp;
use natsfer_common::{FileName, Manifest, broker::Broker};

use crate::{Landing, ReceiveError, Saved, cursor::LeftCursor, origin::Origin, report::Before};

/// A file that stands in the directory, verified and synced, of which neither its sender nor the receiver's inbox know yet. What
/// must not be lost, whatever happens, is noted now. Dropped, the transfer goes back to the server, comes again, and is recognised.
#[derive(Debug)]
#[must_use]
pub struct Landed {
    pub(crate) broker: Broker,
    pub(crate) manifest: Manifest,
    pub(crate) published_at: Timestamp,
    pub(crate) origin: Origin,
    pub(crate) saved: Saved,
    /// Its cursor, which is needed no more.
    pub(crate) cursor: Option<LeftCursor>,
}

impl Landed {
    /// What became of it.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// When its manifest was stored.
    pub fn published_at(&self) -> Timestamp {
        self.published_at
    }

    /// Whether this receiver has said before that it has the file: what was to be noted then has been. Who may not look says no.
    ///
    /// # Cancel safety
    /// Cancel safe: it only looks.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn was_told(&self) -> Result<bool, ReceiveError> {
        self.origin.has_said(&self.broker, &self.manifest, self.saved.digest, self.saved.size).await
    }

    /// Tells its sender and whoever listens, by a receipt, and then the inbox.
    ///
    /// # Cancel safety
    /// Dropped half-way, the receipt may have been published, and the transfer goes back to the server, comes again, and is
    /// recognised. Once the inbox is being told, that goes on.
    ///
    /// # Errors
    /// When the receipt could not be published: the transfer is put back then, to be tried again.
    pub async fn settle(self) -> Result<Saved, ReceiveError> {
        let Self { broker, manifest, origin, saved, cursor, .. } = self;
        let report = async {
            if saved.landing == Landing::Skipped {
                return Ok(());
            }
            let before = if saved.landing == Landing::Landed { Before::No } else { Before::Perhaps };
            let path = saved.below_target.to_str().and_then(|path| path.parse::<FileName>().ok());
            origin.report(&broker, &manifest, saved.digest, saved.size, path, before).await
        };
        // Both before the inbox forgets it: whoever takes it up after a crash does them then.
        let (result, _) = tokio::join!(report, OptionFuture::from(cursor.map(LeftCursor::delete)));
        origin.settle(&broker, &manifest, result.as_ref().err()).await;
        result.map(|()| saved)
    }

    /// Does not tell: deletes its cursor, and puts it back for this, to be tried again. Gives the error back.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transfer goes back to the server all the same, and may come again at once. Once the inbox is being
    /// told, that goes on.
    pub async fn put_back(self, error: ReceiveError) -> ReceiveError {
        let Self { broker, manifest, origin, cursor, .. } = self;
        // Before the inbox: what comes again makes a cursor of the same name.
        OptionFuture::from(cursor.map(LeftCursor::delete)).await;
        origin.settle(&broker, &manifest, Some(&error)).await;
        error
    }
}
