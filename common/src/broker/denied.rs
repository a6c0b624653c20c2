//! Requests that this user may not make, and that natsfer can do without.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Broker, BrokerError};

/// What this user may not ask, by subject, and the server's words when it was tried.
#[derive(Debug, Clone, Default)]
pub(super) struct DeniedRequests(Arc<Mutex<BTreeMap<String, Denial>>>);

/// Good for one connection: the next one may have other rights.
#[derive(Debug)]
struct Denial {
    connection: u64,
    violation: String,
}

impl DeniedRequests {
    fn of(&self, subject: &str, connection: u64) -> Option<String> {
        let denials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        denials.get(subject).filter(|denial| denial.connection == connection).map(|denial| denial.violation.clone())
    }

    fn note(&self, subject: &str, connection: u64, violation: &str) {
        let denial = Denial { connection, violation: violation.to_owned() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.to_owned(), denial);
    }
}

impl Broker {
    /// As [`Broker::api`]. Whoever may not ask is told so by the server once for each connection, whose log is for real attempts.
    pub(super) async fn api_unless_denied<T: DeserializeOwned>(
        &self, what: &str, subject: &str, request: &impl Serialize,
    ) -> Result<T, BrokerError> {
        if let Some(violation) = self.denied_requests.of(subject, self.connects()) {
            return Err(BrokerError::Denied { what: what.to_owned(), violation });
        }
        let answer = self.api(what, subject, request).await;
        if let Err(BrokerError::Denied { violation, .. }) = &answer {
            self.denied_requests.note(subject, self.connects(), violation);
        }
        answer
    }
}
