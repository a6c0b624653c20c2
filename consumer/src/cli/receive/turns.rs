//! The order of those that replace each other.

use std::collections::HashMap;

use natsfer_common::{FileName, folded};
use natsfer_consumer::ConflictPolicy;
use tokio::sync::oneshot;

/// Where files replace each other, those of one name are saved in the order they came: the last one stays.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<String, oneshot::Receiver<()>>);

/// One save's place in the order. It has ended when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    previous: Option<oneshot::Receiver<()>>,
    _ended: oneshot::Sender<()>,
}

impl Turns {
    /// A place behind all that land under this name, or one that a file system may take for the same.
    pub(super) fn take(&mut self, name: &FileName, policy: ConflictPolicy) -> Turn {
        let (_ended, next) = oneshot::channel();
        if policy != ConflictPolicy::Overwrite {
            return Turn { previous: None, _ended };
        }
        // Those that have ended hold nobody up.
        self.0.retain(|_, last| matches!(last.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        Turn { previous: self.0.insert(folded(name.as_str()), next), _ended }
    }
}

impl Turn {
    /// Waits until those before it have ended.
    pub(super) async fn come(&mut self) {
        if let Some(previous) = self.previous.take() {
            // An error, too, says that the one before has ended.
            let _ = previous.await;
        }
    }
}
