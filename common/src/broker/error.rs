//! What can go wrong between us and the server.

use std::{error::Error, io, time::Duration};

use async_nats::{ConnectError, ConnectErrorKind, rustls};

use super::{AccessError, JetStreamDomain};

/// Why something asked of the server was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// No connection could be made.
    #[error("no connection to the NATS server at {server} ({advice})")]
    Connect {
        /// Where it was tried.
        server: String,
        /// Where to look.
        advice: &'static str,
        /// What the client says.
        source: ConnectError,
    },
    /// The server does not take this client for who it says it is.
    #[error("the NATS server at {server} refuses the login: {said}")]
    LoginRefused {
        /// Where it was tried.
        server: String,
        /// What the client says.
        said: String,
    },
    /// One of the two does not trust the other, or they cannot agree how to encrypt.
    #[error("no trusted connection to the NATS server at {server} ({advice})")]
    Untrusted {
        /// Where it was tried.
        server: String,
        /// Where to look.
        advice: &'static str,
        /// What the client says.
        source: ConnectError,
    },
    /// A file of the login or of TLS cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The account's permissions do not allow it.
    #[error("not permitted: {what} ({violation}); `doctor` shows what this user may do")]
    Denied {
        /// What was asked.
        what: String,
        /// The server's words.
        violation: String,
    },
    /// The server has received the question, and has not answered.
    #[error("no answer within {} s: {what}", after.as_secs())]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long was waited since the server had it.
        after: Duration,
    },
    /// The server has not answered, though it has answered what was sent later.
    #[error("no answer, though what was sent later is answered: {what}")]
    Overtaken {
        /// What was asked.
        what: String,
    },
    /// There is no connection now.
    #[error("not connected to the server: {what}")]
    Disconnected {
        /// What was asked.
        what: String,
    },
    /// Nothing listens now: the server is just starting, JetStream is off, or the stream does not exist.
    #[error("nothing answers: {what}")]
    NoResponders {
        /// What was asked.
        what: String,
    },
    /// JetStream is off, or elsewhere: the server says so, or nothing listens, though the server is there.
    #[error("JetStream is not there: {what} (is it enabled at the server, and for this account? `doctor` looks)")]
    NoJetStream {
        /// What was asked.
        what: String,
    },
    /// JetStream is there, and has no such stream.
    #[error("nothing answers: {what} (there is no stream {stream}; `natsfer-producer init` makes it)")]
    NoStream {
        /// What was asked.
        what: String,
        /// The stream.
        stream: String,
    },
    /// JetStream had the streams, and does not have them any more.
    #[error(
        "the streams are gone, and are not made anew while somebody may restore them: {what} (`natsfer-producer init --stream {stream}` \
         makes them)"
    )]
    StreamsGone {
        /// What was asked.
        what: String,
        /// The control stream.
        stream: String,
    },
    /// JetStream has no such stream, and this user may not create it.
    #[error(
        "the streams are not there, and this user may not make them: have the operator run `natsfer-producer init --stream {stream}`"
    )]
    NotMade {
        /// The control stream.
        stream: String,
    },
    /// JetStream refused.
    #[error("JetStream refused: {what}: {description}")]
    Refused {
        /// What was asked.
        what: String,
        /// JetStream's error code, such as 10059 for a stream that does not exist.
        code: u64,
        /// JetStream's words, with the code.
        description: String,
    },
    /// The stream, or the account, has as many consumers as it takes.
    #[error(
        "no more consumers: {what}: {description}. Those there are have to go first, or `max_consumers` of the stream or the account has \
         to be raised: `nats consumer ls` lists them"
    )]
    ConsumersUsedUp {
        /// What was asked.
        what: String,
        /// JetStream's words, with the code.
        description: String,
    },
    /// A stream of another JetStream domain takes the same subjects, and has answered.
    #[error("stored in JetStream domain {other}, and not as asked in {domain}: {what}")]
    OtherDomain {
        /// What was asked.
        what: String,
        /// The domain it was meant for.
        domain: JetStreamDomain,
        /// The one that has answered.
        other: String,
    },
    /// The consumer does not exist any more.
    #[error("consumer {consumer} on stream {stream} is gone")]
    ConsumerGone {
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
    },
    /// A message is larger than any of natsfer's.
    #[error("a message on stream {stream} is larger than {limit} bytes")]
    MessageTooLarge {
        /// The stream.
        stream: String,
        /// The largest that is fetched, in bytes.
        limit: u64,
    },
    /// A message is larger than may be published: by the server, the account or the user.
    #[error(
        "a message of {bytes} bytes is over the limit of {most} bytes (max_payload of the server, the account or the user): {what}"
    )]
    TooLarge {
        /// What was asked.
        what: String,
        /// What it has, headers included.
        bytes: usize,
        /// The limit, as far as it is known.
        most: usize,
    },
    /// It can never fit, whatever is removed.
    #[error("{what} can never fit: {why}")]
    NeverFits {
        /// What was asked.
        what: String,
        /// The limit, and where it is.
        why: String,
    },
    /// Messages of a listing were lost on the way; it can be asked for again.
    #[error("a listing of stream {stream} was interrupted")]
    Interrupted {
        /// The stream.
        stream: String,
    },
    /// The connection was closed.
    #[error("the connection to the server is closed: {what}")]
    Closed {
        /// What was asked.
        what: String,
    },
    /// Another connection was asked for beside one that is not ours.
    #[error("no further connection can be made: how the first one was made is not known")]
    NotOurs,
    /// The server's answer makes no sense.
    #[error("the server's answer is not understood: {what}")]
    Answer {
        /// What was asked.
        what: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// JetStream's error codes that mean something to us (nats-server, `server/errors.json`).
pub mod code {
    /// The stream does not exist.
    pub const STREAM_NOT_FOUND: u64 = 10_059;
    /// The stream's name is taken by one with other settings.
    pub const STREAM_NAME_EXISTS: u64 = 10_058;
    /// The consumer does not exist.
    pub const CONSUMER_NOT_FOUND: u64 = 10_014;
    /// A consumer of this name stands with other settings.
    pub const CONSUMER_EXISTS: u64 = 10_148;
    /// There is no such message.
    pub const MESSAGE_NOT_FOUND: u64 = 10_037;
    /// A consumer would have more unacknowledged messages than the server, the account or the stream grants.
    pub const UNACKNOWLEDGED_EXCESS: u64 = 10_121;
    /// A consumer would be kept unused for longer than the stream grants.
    pub const INACTIVITY_EXCESS: u64 = 10_153;
    /// The stream takes nothing any more.
    pub const STREAM_SEALED: u64 = 10_109;
    /// JetStream is off: at the server, or for the account.
    pub const NOT_ENABLED: [u64; 2] = [10_076, 10_039];
    /// The message is larger than the stream's `max_msg_size`.
    pub const MESSAGE_TOO_LARGE: u64 = 10_054;
    /// The stream is full, or the server's or account's storage.
    pub const STREAM_FULL: [u64; 5] = [10_077, 10_047, 10_023, 10_028, 10_002];
    /// The subject's last message is not the expected one.
    pub const WRONG_LAST_SEQUENCE: u64 = 10_071;
    /// The stream, or the account, has as many consumers as it takes.
    pub const MOST_CONSUMERS: u64 = 10_026;
    /// The server, or its leader, is not ready, is still at work on the last try, or drops what it cannot queue.
    pub const UNAVAILABLE: [u64; 13] =
        [10_004, 10_005, 10_007, 10_008, 10_009, 10_035, 10_072, 10_118, 10_119, 10_158, 10_163, 10_167, 10_194];
}

impl BrokerError {
    /// Why no connection could be made.
    pub(super) fn connect(server: String, source: ConnectError) -> Self {
        let transport = Transport::of(&server);
        match source.kind() {
            // The client's own error says this twice.
            kind @ ConnectErrorKind::AuthorizationViolation => Self::LoginRefused { server, said: kind.to_string() },
            ConnectErrorKind::Authentication => Self::LoginRefused { server, said: source.to_string() },
            ConnectErrorKind::Tls => {
                Self::Untrusted { server, advice: "are certificates and keys as they should be?", source }
            }
            _ => match tls_error(&source) {
                Some(error) => Self::Untrusted { server, advice: advice(error, transport), source },
                None => Self::Connect { advice: where_to_look(source.kind(), transport), server, source },
            },
        }
    }

    /// Whether it is this JetStream error.
    pub fn is(&self, wanted: u64) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }

    /// Whether asking again later can help: the server is away, busy, full, or has lost its leader.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::TimedOut { .. }
            | Self::Overtaken { .. }
            | Self::Disconnected { .. }
            | Self::NoResponders { .. }
            | Self::NoJetStream { .. }
            | Self::NoStream { .. }
            | Self::StreamsGone { .. }
            // Those that only look around go soon.
            | Self::ConsumersUsedUp { .. }
            | Self::Interrupted { .. } => true,
            Self::Refused { code, .. } => code::UNAVAILABLE.contains(code) || self.is_full(),
            Self::Connect { source, .. } => {
                use ConnectErrorKind::{Dns, Io, TimedOut};
                matches!(source.kind(), Dns | Io | TimedOut)
            }
            _ => false,
        }
    }

    /// Whether a message is larger than the server, the account, the user or the stream takes. A smaller one can be published.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. }) || self.is(code::MESSAGE_TOO_LARGE)
    }

    /// Whether there is no room: in the stream, or in the server's or account's storage.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code::STREAM_FULL.contains(code))
    }
}

/// What TLS says is wrong, if it is that: the client has it inside an error of its stream, and that may be inside another one.
fn tls_error(error: &ConnectError) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()).or_else(|| cause.downcast_ref()) {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// What a URL says that the server speaks at its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Nats,
    WebSocket,
}

impl Transport {
    /// Of one URL, or of several, the first.
    fn of(server: &str) -> Self {
        if server.starts_with("ws://") || server.starts_with("wss://") { Self::WebSocket } else { Self::Nats }
    }
}

/// Where to look when no connection comes about.
fn where_to_look(kind: ConnectErrorKind, transport: Transport) -> &'static str {
    match kind {
        ConnectErrorKind::Dns => "is the host's name right?",
        ConnectErrorKind::TimedOut => "is it running, and does no firewall stand between?",
        ConnectErrorKind::ServerParse => "is the URL right? One is nats://HOST:PORT",
        _ if transport == Transport::WebSocket => {
            "is it running, and does it take WebSockets at this port (`websocket` in its configuration)?"
        }
        _ => "is it running, and are host and port right?",
    }
}

fn advice(error: &rustls::Error, transport: Transport) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(_) => {
            "is the authority behind its certificate trusted here, and the URL its name?"
        }
        rustls::Error::AlertReceived(_) => "does it ask for a client certificate, and trust the authority behind it?",
        rustls::Error::InvalidMessage(_) if transport == Transport::WebSocket => {
            "does it take WebSockets with TLS at this port (`websocket` in its configuration)?"
        }
        rustls::Error::InvalidMessage(_) => "does it speak TLS there, and from the first byte on (handshake first)?",
        _ => "do both speak the same TLS?",
    }
}
