//! The connection, and requests on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    AuthError, ClientError, ConnectErrorKind, HeaderMap, Message, RequestErrorKind, connection::State,
    jetstream::response::Response,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use super::{
    AccessError, BrokerError, ConnectOptions, JetStreamApi, JetStreamDomain, Login, Patience, Share, code,
    consumer_grant::Grants,
    denied::DeniedRequests,
    inflow::{self, Inflow},
    line::{Line, Owner},
    message_limit::{MessageLimit, counted},
    servers::Servers,
    stream_pair::LastLook,
    violations::{Denials, Violations},
};
use crate::{
    LinkEstimate, StreamName, Subjects, blocking,
    in_flight::{Answer, Loss, Order},
};

/// How long a server may take to greet and to take the login. Nothing is known of the line before.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the client asks a silent server whether it is there; the third question without an answer ends the connection. Only a
/// message that has come whole is a sign to it, so this is far above what a slow line needs for one. [`Line`] finds out sooner.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether a connection stands that is waited for.
const CONNECTION_REST: Duration = Duration::from_millis(100);
/// How long closing waits for what was published to be written, besides what is on the line, with this factor.
const CLOSING: Duration = Duration::from_secs(10);
const SLOWER: u32 = 4;
/// How long a request is tried again while the server is away.
const PATIENCE: Duration = Duration::from_secs(300);

/// A connection and the pair of streams that is used over it. Clones share the connection; it is closed with the last.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(super) client: async_nats::Client,
    pub(super) line: Line,
    pub(super) inflow: Inflow,
    /// For reading what the server says about a delivery.
    pub(super) jetstream: async_nats::jetstream::Context,
    pub(super) api_prefix: String,
    /// The JetStream that publications must reach, if it is in a certain domain.
    pub(super) domain: Option<JetStreamDomain>,
    stream: StreamName,
    subjects: Subjects,
    violations: Violations,
    pub(super) message_limit: MessageLimit,
    pub(super) denied_requests: DeniedRequests,
    pub(super) last_look: LastLook,
    pub(super) grants: Grants,
    /// Whether the streams have been there since this connected first.
    streams_seen: Arc<AtomicBool>,
    /// The connection over which a small file was found where receivers look; 0 before that.
    small_file_found: Arc<AtomicU64>,
    /// Whether it was told that nothing can be said on this connection.
    silence_told: Arc<AtomicBool>,
    lost_consumers: Arc<AtomicU64>,
    /// Held by who makes the streams: whatever else misses them meanwhile finds them made.
    pub(super) making_streams: Arc<tokio::sync::Mutex<()>>,
    patience: Duration,
    room: Room,
    consumers: Consumers,
    absence: Absence,
    /// How the connection was made, if we have made it.
    options: Option<Arc<ConnectOptions>>,
    /// More connections, over which chunks are read as well.
    further: Arc<[Self]>,
    /// Whether this side has seen to it that the connection is encrypted; the server may have, too.
    pub(super) encrypted: bool,
}

/// Whether room is waited for, where a stream or the server's storage is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Awaited,
    NotAwaited,
}

/// Whether it is waited for that the stream, or the account, takes one more consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consumers {
    Awaited,
    NotAwaited,
}

/// Whether a JetStream that is not there is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// It may come: somebody may be at work on it.
    Awaited,
    /// That is the answer.
    Told,
}

impl Broker {
    /// Connects. Later disconnections heal by themselves.
    ///
    /// # Errors
    /// When no server answers, it refuses the login, either side does not trust the other, or a file of the login cannot be used.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, BrokerError> {
        Self::connect_within(options, MessageLimit::default()).await
    }

    async fn connect_within(options: &ConnectOptions, message_limit: MessageLimit) -> Result<Self, BrokerError> {
        let servers = Servers::read(&options.server);
        let login = match &options.login {
            Login::AsUrl => servers.login.clone(),
            login => login.clone(),
        };
        let tls = options.encrypted(servers.encrypted);
        let encrypted = tls.is_demanded() || servers.is_wrapped;
        let (login, tls) = blocking(move || {
            // The client's own errors would not say which file is wrong.
            login.answer(&[])?;
            tls.check()?;
            Ok::<_, AccessError>((Arc::new(login), tls))
        })
        .await?;
        let inbox_prefix = options.inbox_prefix.as_ref().map_or_else(|| "_INBOX".into(), ToString::to_string);
        let violations = Violations::new(&inbox_prefix);
        let (noted, refused) = (violations.clone(), message_limit.clone());
        let away = Arc::new(AtomicBool::new(false));
        let connect = async_nats::ConnectOptions::with_auth_callback(move |nonce| answer(login.clone(), nonce))
            .name(&options.client_name)
            .custom_inbox_prefix(&inbox_prefix)
            .connection_timeout(CONNECTION_TIMEOUT)
            .request_timeout(None)
            .ping_interval(PING_INTERVAL)
            .event_callback(move |event| {
                let (noted, away, refused) = (noted.clone(), away.clone(), refused.clone());
                async move { note_event(&event, &noted, &away, &refused) }
            });
        let client = tls
            .onto(connect)
            .connect(&servers.urls)
            .await
            .map_err(|source| BrokerError::connect(servers.shown(), source))?;
        let broker = Self::over(client, Owner::Us, options.stream.clone(), &options.jetstream, violations);
        Ok(Self { encrypted, options: Some(Arc::new(options.clone())), message_limit, ..broker })
    }

    /// Makes another connection, as this one was made: with bytes on their way, and a rate, of its own.
    ///
    /// # Errors
    /// Those of [`Broker::connect`]; and where the connection is the service's own, for it is not known how it was made.
    pub async fn another(&self) -> Result<Self, BrokerError> {
        match &self.options {
            Some(options) => Box::pin(Self::connect_within(options, self.message_limit.clone())).await,
            None => Err(BrokerError::NotOurs),
        }
    }

    /// The same connection, with others beside it: chunks are read over so many in all. For lines that one TCP connection cannot fill,
    /// because they are long and lose packets, or give each connection a part only. What may be asked for is shared out among them: see
    /// [`Broker::set_read_window`].
    ///
    /// # Errors
    /// Those of [`Broker::another`].
    pub async fn with_connections(self, connections: usize) -> Result<Self, BrokerError> {
        let mut further = self.further.to_vec();
        while 1 + further.len() < connections {
            further.push(self.another().await?);
        }
        let widened = Self { further: further.into(), ..self };
        widened.set_read_window(inflow::WINDOW);
        Ok(widened)
    }

    /// The connections beside this one, over which chunks are read as well.
    pub(super) fn further(&self) -> &[Self] {
        &self.further
    }

    /// Uses a connection that the service has already. Where its user has few rights, [`Broker::connect`] is better: what the server
    /// denies is then told at once, and here only as an answer that does not come.
    pub fn with_client(client: async_nats::Client, stream: StreamName) -> Self {
        Self::over(client, Owner::Somebody, stream, &JetStreamApi::Account, Violations::new("_INBOX"))
    }

    /// The same connection, on which JetStream is reached elsewhere.
    #[must_use]
    pub fn with_jetstream(&self, api: &JetStreamApi) -> Self {
        let further = self.further.iter().map(|broker| broker.with_jetstream(api)).collect();
        Self { api_prefix: api.prefix(), domain: api.domain().cloned(), further, ..self.clone() }
    }

    fn over(
        client: async_nats::Client, owner: Owner, stream: StreamName, api: &JetStreamApi, violations: Violations,
    ) -> Self {
        let subjects = Subjects::new(&stream);
        let line = Line::new(client.clone(), owner, format!("{}.ping", stream.prefix()), violations.clone());
        let jetstream = async_nats::jetstream::new(client.clone());
        let (api_prefix, domain) = (api.prefix(), api.domain().cloned());
        Self {
            client,
            line,
            inflow: Inflow::new(),
            jetstream,
            api_prefix,
            domain,
            stream,
            subjects,
            violations,
            message_limit: MessageLimit::default(),
            denied_requests: DeniedRequests::default(),
            last_look: LastLook::default(),
            grants: Grants::default(),
            streams_seen: Arc::default(),
            small_file_found: Arc::default(),
            silence_told: Arc::default(),
            lost_consumers: Arc::default(),
            making_streams: Arc::default(),
            patience: PATIENCE,
            room: Room::Awaited,
            consumers: Consumers::Awaited,
            absence: Absence::Awaited,
            options: None,
            further: Arc::default(),
            encrypted: false,
        }
    }

    /// The same connection, on which requests are tried again for so long while the server is away; 5 minutes by default.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The same connection, on which room is not waited for: that a stream is full is an error at once.
    #[must_use]
    pub fn without_waiting_for_room(&self) -> Self {
        Self { room: Room::NotAwaited, ..self.clone() }
    }

    /// The same connection, on which it is not waited for that others give up consumers: that the stream, or the account, takes no more
    /// is an error at once. For whoever holds a place meanwhile that others wait for.
    #[must_use]
    pub fn without_waiting_for_consumers(&self) -> Self {
        Self { consumers: Consumers::NotAwaited, ..self.clone() }
    }

    /// The same connection, on which JetStream is not waited for where it is off, or where there is no stream: that is an error within a
    /// second or two. For whoever only looks.
    #[must_use]
    pub fn without_waiting_for_jetstream(&self) -> Self {
        Self { absence: Absence::Told, ..self.clone() }
    }

    /// Whether it is an answer that JetStream is not there.
    pub(super) fn tells_absence(&self) -> bool {
        self.absence == Absence::Told
    }

    /// Whether asking again later can help what was asked here.
    pub(super) fn waits_for(&self, error: &BrokerError) -> bool {
        let is_told = match error {
            BrokerError::NoJetStream { .. } | BrokerError::NoStream { .. } => self.tells_absence(),
            BrokerError::ConsumersUsedUp { .. } => self.consumers == Consumers::NotAwaited,
            error => error.is_full() && self.room == Room::NotAwaited,
        };
        error.is_passing() && !is_told
    }

    /// Changes whenever the server may be another one than before: the connection was made anew, or a consumer was lost. A
    /// sequence remembered from before may then stand for another message, since a stream that was recreated, or came back
    /// from an older disk, uses them again.
    pub fn epoch(&self) -> u64 {
        self.connects() + self.lost_consumers.load(Ordering::Relaxed)
    }

    /// How often the connection was made.
    pub(crate) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Whether the connection stands now, as far as the client knows.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Why what does not answer now will not do so later either: JetStream is not there, or the control stream is not. `None` if it
    /// may.
    pub(super) async fn absence(&self, error: &BrokerError) -> Option<BrokerError> {
        let BrokerError::NoResponders { what: asked } = error else { return None };
        let what = "looking whether JetStream and the control stream are there";
        let subject = format!("{}.STREAM.INFO.{}", self.api_prefix, self.stream.control());
        let answer = self.request(what, subject, None, Bytes::new()).await;
        match answer.and_then(|answer| read_answer::<serde_json::Value>(what, &answer)) {
            Err(BrokerError::NoResponders { .. } | BrokerError::NoJetStream { .. }) => {
                Some(BrokerError::NoJetStream { what: asked.clone() })
            }
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                Some(BrokerError::NoStream { what: asked.clone(), stream: self.stream.control().into() })
            }
            _ => None,
        }
    }

    /// Notes that nothing can be said of files on this connection, and whether that is news.
    pub fn begins_silence(&self) -> bool {
        !self.silence_told.swap(true, Ordering::Relaxed)
    }

    /// Whether a small file was found where receivers look for it, over this connection.
    pub fn has_found_small_file(&self) -> bool {
        self.small_file_found.load(Ordering::Relaxed) == self.connects()
    }

    /// One was.
    pub fn note_found_small_file(&self) {
        self.small_file_found.store(self.connects(), Ordering::Relaxed);
    }

    /// This stream is there. The control stream is made last: where it is, both were.
    pub(super) fn note_stream(&self, name: &str) {
        if name == self.stream().control() {
            self.streams_seen.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the streams have been there since this connected first.
    pub(super) fn has_seen_streams(&self) -> bool {
        self.streams_seen.load(Ordering::Relaxed)
    }

    /// Whether JetStream is in another domain or account than the connection.
    pub(super) fn reaches_elsewhere(&self) -> bool {
        self.api_prefix != JetStreamApi::Account.prefix()
    }

    pub(super) fn note_lost_consumer(&self) {
        self.lost_consumers.fetch_add(1, Ordering::Relaxed);
    }

    /// The pair of streams.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// The subjects below its prefix.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// The limit for one message, headers included, in bytes: the server's, or what has shown of the account's or user's.
    pub fn max_payload(&self) -> usize {
        self.client.max_payload().min(self.message_limit.most())
    }

    /// Bounds the bytes of what is prepared, and on its way, to be published; 16 MiB by default. It holds for all that share the
    /// connection.
    pub fn set_window(&self, bytes: u64) {
        self.line.set_window(bytes);
    }

    /// Waits for room for so many bytes on the line to the server, in turn with others: see [`Broker::set_window`].
    ///
    /// # Cancel safety
    /// Cancel safe, but the turn is lost.
    pub async fn reserve(&self, bytes: usize) -> Share {
        self.line.reserve(bytes).await
    }

    /// What is known of the way to the server, for one who has so many bytes to send: the first time, it is measured by a 128th of them, 2
    /// to 32 KiB, that the server throws away.
    pub async fn estimate(&self, to_be_sent: u64) -> LinkEstimate {
        self.estimate_beside(to_be_sent, async {}).await.0
    }

    /// As [`Broker::estimate`], beside something else that asks the server: that begins when what measures the line is on its way, so
    /// that no answer to it comes before what is timed.
    pub async fn estimate_beside<T>(&self, to_be_sent: u64, beside: impl Future<Output = T>) -> (LinkEstimate, T) {
        let (on_its_way, is_on_its_way) = oneshot::channel();
        let beside = async {
            // The other half is dropped, and nothing sent: that is the sign.
            let _ = is_on_its_way.await;
            beside.await
        };
        tokio::join!(self.line.estimate(to_be_sent, on_its_way), beside)
    }

    /// Waits until what was published has been written to the server.
    ///
    /// # Errors
    /// When there is no connection, or it is closed.
    pub async fn flush(&self) -> Result<(), BrokerError> {
        let what = || "writing to the server".to_owned();
        let mut flush = std::pin::pin!(self.client.flush());
        loop {
            if !self.is_connected() {
                return Err(BrokerError::Disconnected { what: what() });
            }
            // However long that takes: a connection that is dead is given up.
            if let Ok(flushed) = tokio::time::timeout(CONNECTION_REST, &mut flush).await {
                return flushed.map_err(|_| BrokerError::Closed { what: what() });
            }
        }
    }

    /// Closes the connection, and those beside it, once what was published has been written. One that takes nothing any more is left.
    /// Cancel safe: call it again.
    pub async fn close(&self) {
        for broker in self.further.iter().chain([self]) {
            let limit = CLOSING + broker.line.backlog() * SLOWER;
            // Both fail only when the connection is closed or gone already.
            let _ = tokio::time::timeout(limit, async {
                let _ = broker.flush().await;
                let _ = broker.client.drain().await;
            })
            .await;
        }
    }

    /// Asks JetStream's API, again and again while the server is away. `what` says in words what is asked, for errors.
    pub(super) async fn api<T: DeserializeOwned>(
        &self, what: &str, subject: &str, request: &impl Serialize,
    ) -> Result<T, BrokerError> {
        let payload =
            serde_json::to_vec(request).map_err(|source| BrokerError::Answer { what: what.into(), source })?;
        let payload = Bytes::from(payload);
        self.patiently(what, || async {
            let subject = format!("{}.{subject}", self.api_prefix);
            read_answer(what, &self.request(what, subject, None, payload.clone()).await?)
        })
        .await
    }

    /// Asks something that is harmless to ask twice, until it is answered or the server has been away for too long. `what`
    /// says in words what is asked, for the log.
    ///
    /// # Errors
    /// When it fails for good; in the end, the server's last word.
    pub async fn patiently<T, F>(&self, what: &str, action: impl FnMut() -> F) -> Result<T, BrokerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        Patience::new(self.patience).until(self, what, action).await.map_err(super::Impatience::into_last)
    }

    /// What the server denies of this subject from now on.
    pub(super) fn denials(&self, subject: &str) -> Denials {
        self.violations.about(subject)
    }

    /// One request, one answer. There is no deadline: an answer is given up when nothing can come any more, see [`InFlight`].
    ///
    /// [`InFlight`]: crate::in_flight::InFlight
    pub(super) async fn request(
        &self, what: &str, subject: String, headers: Option<HeaderMap>, payload: Bytes,
    ) -> Result<Message, BrokerError> {
        self.exchange(what, Outgoing { subject, headers, payload, counts: Counts::Request }).await
    }

    /// As [`Broker::request`], also for messages that are to be stored.
    pub(super) async fn exchange(&self, what: &str, outgoing: Outgoing) -> Result<Message, BrokerError> {
        let (what, Outgoing { subject, headers, payload, counts }) = (|| what.to_owned(), outgoing);
        if !self.is_connected() {
            // The client would keep it for later.
            return Err(BrokerError::Disconnected { what: what() });
        }
        let (size, most) = (counted(headers.as_ref(), payload.len()), self.max_payload());
        if size > most {
            // The server would end the connection over it.
            return Err(BrokerError::TooLarge { what: what(), bytes: size, most });
        }
        let sized = self.message_limit.send(size);
        let mut denials = self.denials(&subject);
        let mut request = async_nats::Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let on_its_way = match counts {
            Counts::Request => self.line.send(Order::Any, None),
            Counts::Message { order, bytes } => self.line.send(order, Some(bytes)),
        };
        let answer = tokio::select! {
            answer = self.client.send_request(subject, request) => answer,
            // Without this nobody would know that no answer comes.
            violation = denials.next() => return Err(BrokerError::Denied { what: what(), violation }),
            loss = on_its_way.lost() => return Err(match loss {
                Loss::Disconnected => {
                    sized.lost();
                    BrokerError::Disconnected { what: what() }
                }
                Loss::Overtaken => BrokerError::Overtaken { what: what() },
                Loss::Unanswered(after) => BrokerError::TimedOut { what: what(), after },
            }),
        };
        on_its_way.answered(match (&answer, counts) {
            (Ok(answer), Counts::Message { order: Order::AsSent, .. }) => said_of_others(answer),
            // Of what comes in no order, and may be as large as a chunk, nothing follows.
            _ => Answer::AtOnce,
        });
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => BrokerError::NoResponders { what: what() },
            // The connection was made anew meanwhile, to a server that takes less.
            RequestErrorKind::MaxPayloadExceeded => {
                BrokerError::TooLarge { what: what(), bytes: size, most: self.max_payload() }
            }
            _ => BrokerError::Closed { what: what() },
        })
    }
}

/// A message that is answered.
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
    pub(super) counts: Counts,
}

/// What a message counts for on the line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counts {
    /// Nothing: it is small.
    Request,
    /// It is to be stored, and has so many bytes.
    Message { order: Order, bytes: usize },
}

/// What an answer says of messages that were sent before.
fn said_of_others(answer: &Message) -> Answer {
    /// The part of JetStream's answer to a publication that matters here.
    #[derive(Deserialize)]
    struct Publication {
        #[serde(rename = "seq")]
        _sequence: u64,
        #[serde(default)]
        duplicate: bool,
    }
    match serde_json::from_slice(&answer.payload) {
        Ok(Publication { duplicate: false, .. }) => Answer::Stored,
        _ => Answer::AtOnce,
    }
}

/// Reads what JetStream answers to a request or a publication.
pub(super) fn read_answer<T: DeserializeOwned>(what: &str, answer: &Message) -> Result<T, BrokerError> {
    let what = || what.to_owned();
    match serde_json::from_slice(&answer.payload) {
        Ok(Response::Ok(answer)) => Ok(answer),
        Ok(Response::Err { error }) if code::NOT_ENABLED.contains(&error.error_code().0) => {
            Err(BrokerError::NoJetStream { what: what() })
        }
        Ok(Response::Err { error }) if error.error_code().0 == code::MOST_CONSUMERS => {
            Err(BrokerError::ConsumersUsedUp { what: what(), description: error.to_string() })
        }
        Ok(Response::Err { error }) => {
            Err(BrokerError::Refused { what: what(), code: error.error_code().0, description: error.to_string() })
        }
        Err(source) => Err(BrokerError::Answer { what: what(), source }),
    }
}

/// The login, as it stands now, for a server that greets with this nonce.
async fn answer(login: Arc<Login>, nonce: Vec<u8>) -> Result<async_nats::Auth, AuthError> {
    let read = tokio::task::spawn_blocking(move || login.answer(&nonce));
    read.await.map_err(AuthError::new)?.map_err(|error| {
        tracing::warn!(%error, "cannot log in");
        AuthError::new(error)
    })
}

/// `away` is whether it was said that there is no connection.
fn note_event(event: &async_nats::Event, violations: &Violations, away: &AtomicBool, limit: &MessageLimit) {
    match event {
        async_nats::Event::ServerError(error) if error.to_string().to_lowercase().contains("maximum payload") => {
            let tried = limit.refused().map_or_else(String::new, |most| format!("; trying with {most} bytes at most"));
            tracing::warn!(
                "the server has closed the connection over a message: the max_payload of this account or user is below the \
                 server's{tried}"
            );
        }
        async_nats::Event::ServerError(error) if error.to_string().to_lowercase().contains("permissions violation") => {
            tracing::debug!(%error, "the server denied something");
            violations.note(&error.to_string());
        }
        async_nats::Event::ServerError(error) if *error != async_nats::ServerError::AuthorizationViolation => {
            let text = error.to_string().to_lowercase();
            let limit = if text.contains("maximum subscriptions") {
                " (max_subscriptions of the server, the account or the user): what is asked for is not heard"
            } else {
                ""
            };
            tracing::warn!("the server says: {error}{limit}");
        }
        async_nats::Event::Disconnected => {
            away.store(true, Ordering::Relaxed);
            tracing::warn!("disconnected from the server; reconnecting");
        }
        async_nats::Event::Connected => {
            violations.forget();
            match away.swap(false, Ordering::Relaxed) {
                true => tracing::info!("connected again"),
                false => tracing::debug!("connected"),
            }
        }
        // Of all that can keep it from connecting again, the one that does not pass by itself. Told with every try.
        async_nats::Event::ClientError(ClientError::Other(kind))
            if *kind == ConnectErrorKind::AuthorizationViolation.to_string() =>
        {
            tracing::warn!("the server refuses the login; trying again");
        }
        async_nats::Event::SlowConsumer(_) => tracing::warn!("messages were dropped: this client reads too slowly"),
        event => tracing::debug!(%event, "connection event"),
    }
}
