//! Trying out what this user may do, without doing it.

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Broker, BrokerError, code, connection::read_answer, consumer::name_of_its_own};

/// Names a stream that there is not: a message that expects it is refused, whatever else is in it.
const NO_STREAM: &str = "natsfer-doctor-stores-nothing";
/// What the names of consumers begin with that are asked for and not made.
const DOCTOR: &str = "doctor";

/// Something that a user may be permitted to do. Trying it changes nothing: JetStream is asked for what it refuses once it has been
/// asked, and told what it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// Publish a message on this subject.
    Publish(String),
    /// Create a consumer that reads this subject of a stream.
    CreateConsumer {
        /// The stream.
        stream: String,
        /// The consumer; one that nobody has where it is `None`.
        name: Option<String>,
        /// The subject.
        filter: String,
    },
    /// Pull messages from a consumer.
    Pull {
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
    },
    /// Acknowledge messages of a consumer.
    Acknowledge {
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
    },
    /// Delete a consumer: one of this name, which must not be there.
    DeleteConsumer {
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
    },
    /// Remove messages from a stream.
    Purge(String),
    /// Create a stream.
    CreateStream(String),
    /// Ask a stream's leader for a message.
    AskLeader(String),
    /// Ask JetStream something that only looks, or tell it something that it does not wait for.
    Ask(String),
    /// Let the server's flow control go on.
    LetFlow(String),
}

/// Whether a user may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allowed,
    /// It may, and JetStream says that there is no such stream.
    NoStream,
    /// It may not: the server's words.
    Denied(String),
    /// It may not hear the answer to anything: the server's words.
    Deaf(String),
    /// No answer came: why.
    Unknown(String),
}

/// One message that tries.
struct Message {
    subject: String,
    headers: Option<HeaderMap>,
    payload: Bytes,
}

impl Message {
    fn json(subject: String, payload: &Value) -> Self {
        Self { subject, headers: None, payload: payload.to_string().into() }
    }

    /// What no reader of JSON takes.
    fn unreadable(subject: String) -> Self {
        Self { subject, headers: None, payload: Bytes::from_static(b"{") }
    }
}

impl Broker {
    /// Finds out whether this user may do that. Leaves nothing behind, takes nothing, and tells no receiver anything.
    pub async fn may(&self, attempt: &Attempt) -> Permission {
        let Message { subject, headers, payload } = self.message(attempt);
        let what = "trying whether it is permitted";
        match self.request(what, subject.clone(), headers, payload).await {
            Ok(answer) if read_answer::<Value>(what, &answer).is_err_and(|error| error.is(code::STREAM_NOT_FOUND)) => {
                Permission::NoStream
            }
            // Refused, not understood, or to nobody: it was let through.
            Ok(_) | Err(BrokerError::NoResponders { .. }) => Permission::Allowed,
            Err(BrokerError::Denied { violation, .. }) if violation.contains(&format!("\"{subject}\"")) => {
                Permission::Denied(violation)
            }
            Err(BrokerError::Denied { violation, .. }) => Permission::Deaf(violation),
            Err(error) => Permission::Unknown(error.to_string()),
        }
    }

    /// The subject that permissions must allow for this, as they name it.
    pub fn right(&self, attempt: &Attempt) -> String {
        let api = &self.api_prefix;
        match attempt {
            Attempt::CreateConsumer { stream, name: None, filter } => {
                format!("{api}.CONSUMER.CREATE.{stream}.*.{filter}")
            }
            Attempt::Acknowledge { stream, consumer } => format!("$JS.ACK.{stream}.{consumer}.>"),
            Attempt::LetFlow(stream) => format!("$JS.FC.{stream}.>"),
            attempt => self.message(attempt).subject,
        }
    }

    fn message(&self, attempt: &Attempt) -> Message {
        let api = &self.api_prefix;
        match attempt {
            Attempt::Publish(subject) => {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Expected-Stream", NO_STREAM);
                Message { subject: subject.clone(), headers: Some(headers), payload: Bytes::new() }
            }
            Attempt::CreateConsumer { stream, name: Some(name), filter } => {
                Message::unreadable(format!("{api}.CONSUMER.CREATE.{stream}.{name}.{filter}"))
            }
            // There is none to be updated; before that is said, the stream is looked for.
            Attempt::CreateConsumer { stream, name: None, filter } => {
                let name = name_of_its_own(DOCTOR, &self.client.new_inbox());
                let subject = format!("{api}.CONSUMER.CREATE.{stream}.{name}.{filter}");
                let config = json!({ "name": name, "filter_subject": filter });
                Message::json(subject, &json!({ "stream_name": stream, "config": config, "action": "update" }))
            }
            // What is no JSON at all would be taken for a request for one message.
            Attempt::Pull { stream, consumer } => {
                Message::unreadable(format!("{api}.CONSUMER.MSG.NEXT.{stream}.{consumer}"))
            }
            // None of the words that acknowledge.
            Attempt::Acknowledge { stream, consumer } => Message {
                subject: format!("$JS.ACK.{stream}.{consumer}.1.1.1.1.1"),
                headers: None,
                payload: Bytes::from_static(b"natsfer doctor"),
            },
            Attempt::DeleteConsumer { stream, consumer } => {
                Message::json(format!("{api}.CONSUMER.DELETE.{stream}.{consumer}"), &json!({}))
            }
            // Nothing is stored there, in neither stream.
            Attempt::Purge(stream) => {
                let nothing = format!("{}.nothing", self.stream().prefix());
                Message::json(format!("{api}.STREAM.PURGE.{stream}"), &json!({ "filter": nothing }))
            }
            Attempt::CreateStream(stream) => Message::unreadable(format!("{api}.STREAM.CREATE.{stream}")),
            Attempt::AskLeader(stream) => {
                let nothing = format!("{}.nothing", self.stream().prefix());
                Message::json(format!("{api}.STREAM.MSG.GET.{stream}"), &json!({ "last_by_subj": nothing }))
            }
            Attempt::Ask(question) => Message::json(format!("{api}.{question}"), &json!({})),
            Attempt::LetFlow(stream) => {
                Message { subject: format!("$JS.FC.{stream}.natsfer.doctor"), headers: None, payload: Bytes::new() }
            }
        }
    }
}
