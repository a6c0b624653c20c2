//! What the server denies. It says so apart from the request that it concerns, which would wait for ever.

use tokio::sync::{broadcast, watch};

/// Violations kept for requests that have not looked yet.
const MOST: usize = 64;

/// The server's words about what this user may not do, for the requests that wait.
#[derive(Debug, Clone)]
pub(super) struct Violations {
    /// Each names its subject.
    said: broadcast::Sender<String>,
    /// That no answer can be heard on this connection: it is said once, and holds for every request.
    deaf: watch::Sender<Option<String>>,
    inbox_prefix: String,
}

impl Violations {
    pub(super) fn new(inbox_prefix: &str) -> Self {
        Self { said: broadcast::Sender::new(MOST), deaf: watch::Sender::new(None), inbox_prefix: inbox_prefix.into() }
    }

    /// Hears of one.
    pub(super) fn note(&self, violation: &str) {
        if violation.contains(&format!("Subscription to \"{}.", self.inbox_prefix)) {
            self.deaf.send_replace(Some(violation.to_owned()));
        }
        // Nobody may be waiting.
        let _ = self.said.send(violation.to_owned());
    }

    /// Another connection, on which everything may be allowed.
    pub(super) fn forget(&self) {
        self.deaf.send_replace(None);
    }

    /// What the server denies of this subject from now on. What was said before about other requests does not count.
    pub(super) fn about(&self, subject: &str) -> Denials {
        Denials { said: self.said.subscribe(), deaf: self.deaf.subscribe(), quoted_subject: format!("\"{subject}\"") }
    }
}

/// What the server denies of one subject.
#[derive(Debug)]
pub(super) struct Denials {
    said: broadcast::Receiver<String>,
    deaf: watch::Receiver<Option<String>>,
    quoted_subject: String,
}

impl Denials {
    /// The server's words when it denies a request on the subject, or to hear the answer. Cancel safe.
    pub(super) async fn next(&mut self) -> String {
        let Self { said, deaf, quoted_subject } = self;
        let denied = async {
            loop {
                match said.recv().await {
                    Ok(violation) if violation.contains(&*quoted_subject) => return violation,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let unheard = async {
            let violation = deaf.wait_for(Option::is_some).await.ok().and_then(|violation| violation.clone());
            match violation {
                Some(violation) => violation,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            violation = denied => violation,
            violation = unheard => violation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mut denials: Denials) -> Option<String> {
        futures_util::FutureExt::now_or_never(denials.next())
    }

    #[tokio::test]
    async fn a_request_is_told_what_concerns_it() {
        let violations = Violations::new("_INBOX");
        let (mine, other) = (violations.about("a.b"), violations.about("a.c"));
        violations.note("Permissions Violation for Publish to \"a.b\"");
        assert!(now(mine).is_some_and(|words| words.contains("a.b")) && now(other).is_none());

        let before = violations.about("a.c");
        violations.note("Permissions Violation for Subscription to \"_INBOX.x.*\"");
        assert!(now(before).is_some() && now(violations.about("a.d")).is_some());
        violations.forget();
        assert!(now(violations.about("a.d")).is_none());
    }
}
