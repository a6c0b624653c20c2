//! The line to the server: how much may be on its way, what is, and whether the server is still there.
//!
//! One line belongs to one connection, and everything that shares the connection shares it. The decisions are [`Congestion`]'s and
//! [`InFlight`]'s; here are the clock, those who wait, and a task that watches for signs of the server. The task starts with the first
//! message and ends with the last clone of the [`Line`].

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::connection::State as Connection;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    send_window::{Admitted, SendWindow, Turn},
    violations::Violations,
};
use crate::{
    Flight, LinkEstimate, Probe,
    in_flight::{Answer, InFlight, Loss, Order, Pulse, Standing, Ticket},
};

/// Bytes that may be on their way, unless told otherwise: what 1 Gbit/s holds over 130 ms.
pub(super) const WINDOW: u64 = 16 << 20;
/// How often the client's counters are looked at: it tells nobody that bytes came.
const TICK: Duration = Duration::from_millis(500);
/// What a server may take to give a sign, where it is not heard if it denies that.
const DENIED_UNHEARD: Duration = Duration::from_secs(5);
/// Bytes of the message that measures the rate: a part of what is to be sent, so that it costs little, within these bounds. A line may
/// take the first few KiB at once, into buffers or because it is allowed bursts.
const PROBE_PART: u64 = 128;
const PROBE_BYTES: std::ops::RangeInclusive<u64> = 2 * 1024..=32 * 1024;
/// How long after an empty message it is sent, and the least difference that says anything.
const APART: Duration = Duration::from_millis(2);
const SHORTEST: Duration = Duration::from_micros(100);

/// The line of one connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    shared: Arc<Shared>,
    watching: Arc<OnceLock<AbortOnDropHandle<()>>>,
}

/// Who has made the connection, and decides when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// We have.
    Us,
    /// The service that embeds us.
    Somebody,
}

#[derive(Debug)]
struct Shared {
    client: async_nats::Client,
    owner: Owner,
    violations: Violations,
    /// A subject on which nobody has to listen.
    nobody: String,
    began: Instant,
    state: Mutex<State>,
    /// What the client's counter of bytes showed last.
    bytes_in: AtomicU64,
    /// Something has changed for what is in flight, other than that it is answered.
    changed: watch::Sender<()>,
    /// The connection on which an empty message came back last, as [`Shared::connects`] counts.
    came_back: AtomicU64,
    /// Held by who measures the line: others wait for what is found.
    measuring: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    window: SendWindow<Share>,
    in_flight: InFlight,
    /// What a message behind an empty one has measured.
    measured: Option<LinkEstimate>,
}

/// Bytes that may be prepared and sent; free again when dropped.
#[derive(Debug)]
pub struct Share {
    shared: Arc<Shared>,
    bytes: u64,
    /// How long the line made it wait: the time that went by, divided by how many waited.
    pub waited: Duration,
}

/// A message that is sent and not answered. Dropped, nothing more is expected of it.
#[derive(Debug)]
pub(super) struct OnItsWay {
    shared: Arc<Shared>,
    ticket: Ticket,
    flight: Option<Flight>,
}

impl Line {
    pub(super) fn new(client: async_nats::Client, owner: Owner, nobody: String, violations: Violations) -> Self {
        let state = State { window: SendWindow::new(WINDOW), in_flight: InFlight::default(), measured: None };
        let shared = Shared {
            client,
            owner,
            violations,
            nobody,
            began: Instant::now(),
            state: Mutex::new(state),
            bytes_in: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            came_back: AtomicU64::new(0),
            measuring: tokio::sync::Mutex::new(()),
        };
        Self { shared: Arc::new(shared), watching: Arc::default() }
    }

    /// Bounds what is prepared and on its way together, in bytes.
    pub(super) fn set_window(&self, most: u64) {
        let admitted = self.shared.lock().window.set_most(most);
        self.shared.let_in(admitted);
    }

    /// Waits for room for so many bytes, in turn with others. What is larger than all the room goes alone.
    ///
    /// Cancel safe, but the turn is lost.
    pub(super) async fn reserve(&self, bytes: usize) -> Share {
        let (asked, share) =
            (Instant::now(), |bytes| Share { shared: self.shared.clone(), bytes, waited: Duration::ZERO });
        let turn = self.shared.lock().window.take(bytes as u64);
        match turn {
            Turn::Now => share(bytes as u64),
            Turn::Later { ahead, turn } => {
                // Those who wait are forgotten only with the line, which this is one of.
                let mut share = turn.await.unwrap_or_else(|_| share(0));
                share.waited = asked.elapsed() / (ahead + 1);
                share
            }
        }
    }

    /// A message is about to be sent. Its bytes count where they are many.
    pub(super) fn send(&self, order: Order, bytes: Option<usize>) -> OnItsWay {
        self.watching.get_or_init(|| AbortOnDropHandle::new(tokio::spawn(watch_over(self.shared.clone()))));
        let shared = self.shared.clone();
        let now = shared.now();
        let connection = shared.connection();
        let mut state = shared.lock();
        let anew = state.connected(now, connection);
        let expected = state.window.congestion.backlog();
        let ticket = state.in_flight.sent(now, order, expected);
        let mut admitted = Vec::new();
        let flight = bytes.map(|bytes| {
            let flight = state.window.congestion.sent(now, bytes as u64);
            // Nothing was known of the size of messages before the first one: there may be room for another.
            admitted = state.window.admit();
            if state.window.is_idle() {
                state.window.congestion.idle();
            }
            flight
        });
        drop(state);
        shared.let_in(admitted);
        if anew {
            shared.changed.send_replace(());
        }
        OnItsWay { shared, ticket, flight }
    }

    /// What is known of the line: what transfers have reached, if they filled it; otherwise what two messages measure, the first time,
    /// for so many bytes that are to be sent. `on_its_way` is dropped when nothing stands before what is asked besides: answers
    /// to that would come before those that are timed.
    pub(super) async fn estimate(&self, to_be_sent: u64, on_its_way: oneshot::Sender<()>) -> LinkEstimate {
        let _one_at_a_time = self.shared.measuring.lock().await;
        let known = self.shared.lock().known();
        match known {
            Some(known) => {
                drop(on_its_way);
                known
            }
            None => {
                let (measured, bytes) = self.measure(to_be_sent, on_its_way).await;
                // Where the connection ended meanwhile, the next one measures again.
                if let LinkEstimate { rate: Some(rate), round_trip } = measured {
                    let mut state = self.shared.lock();
                    state.window.congestion.probed(Probe { rate, round_trip, bytes });
                    state.measured = Some(measured);
                    let admitted = state.window.admit();
                    drop(state);
                    self.shared.let_in(admitted);
                }
                measured
            }
        }
    }

    /// Waits for a sign, and for another one behind a long message to nobody, which the server throws away. The first shows the round
    /// trip, and by how much the second takes longer, the rate. The second is asked for without waiting for the first, but not together
    /// with it: then the server would give both at a time. Where none comes, because the connection is made anew, the rate is unknown.
    /// Also says how many bytes the long message had.
    async fn measure(&self, to_be_sent: u64, on_its_way: oneshot::Sender<()>) -> (LinkEstimate, u64) {
        let most = (self.shared.client.max_payload() as u64).min(*PROBE_BYTES.end()).max(1);
        let probe = (to_be_sent / PROBE_PART).clamp(*PROBE_BYTES.start().min(&most), most);
        let timed = async |bytes| {
            let began = Instant::now();
            (self.reaches(bytes).await, began.elapsed())
        };
        let mut short = std::pin::pin!(timed(0));
        let first = tokio::time::timeout(APART, &mut short).await.ok();
        let long = timed(probe as usize);
        // Polled once, it is with the client.
        let begun = async { drop(on_its_way) };
        let (first, second) = match first {
            Some(first) => (first, tokio::join!(biased; long, begun).0),
            None => {
                let (short, long, ()) = tokio::join!(biased; short, long, begun);
                (short, long)
            }
        };
        let ((short_came, round_trip), (long_came, longer)) = (first, second);
        // What cannot be told apart is a fast line.
        let took = longer.saturating_sub(round_trip).max(SHORTEST).as_secs_f64();
        (LinkEstimate { round_trip, rate: (short_came && long_came).then(|| probe as f64 / took) }, probe)
    }

    /// Waits until so many bytes have reached the server, which throws them away, also where this user may not send them; `false` if
    /// nothing is heard of them.
    ///
    /// Cancel safe.
    pub(super) async fn reaches(&self, bytes: usize) -> bool {
        let padding = Bytes::from(vec![b'.'; bytes]);
        if bytes > 0 && self.shared.client.publish(self.shared.nobody.clone(), padding).await.is_err() {
            return false;
        }
        self.sign().await
    }

    /// Waits until the server has received all that was sent before; `false` if the connection is another one then.
    ///
    /// Cancel safe.
    pub(super) async fn sign(&self) -> bool {
        let on_its_way = self.send(Order::Any, None);
        let came = tokio::select! {
            came = self.shared.sign() => came,
            _ = on_its_way.lost() => false,
        };
        on_its_way.answered(Answer::AtOnce);
        came
    }

    /// How long what is on its way should take.
    pub(super) fn backlog(&self) -> Duration {
        self.shared.lock().window.congestion.backlog()
    }

    /// How often the connection was made.
    pub(super) fn connects(&self) -> u64 {
        self.shared.connects()
    }

    /// Bytes that have come, of messages that have not come whole, too.
    pub(super) fn bytes_in(&self) -> u64 {
        self.shared.client.statistics().in_bytes.load(Ordering::Relaxed)
    }
}

impl State {
    /// Whether the connection is another one, or has ended. Of the line of another one, nothing is known.
    fn connected(&mut self, now: Duration, connection: u64) -> bool {
        let first = self.in_flight.is_new();
        let anew = self.in_flight.connected(now, connection);
        if anew && !first {
            self.window.congestion.restart();
            self.measured = None;
        }
        anew
    }

    /// What is known of the line.
    fn known(&self) -> Option<LinkEstimate> {
        let measured = self.measured?;
        let rate = self.window.congestion.line_rate().or(measured.rate);
        Some(LinkEstimate { rate, ..measured })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over shares. One that nobody takes any more is given back.
    fn let_in(self: &Arc<Self>, admitted: Vec<Admitted<Share>>) {
        for Admitted { bytes, turn } in admitted {
            drop(turn.send(Share { shared: self.clone(), bytes, waited: Duration::ZERO }));
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Tells connections apart, and the time between two of them: when one has ended, nothing will be heard over it.
    fn connection(&self) -> u64 {
        let ended = self.client.connection_state() != Connection::Connected;
        2 * self.connects() + u64::from(ended)
    }

    /// Sends an empty message to an inbox of its own, and waits until it is back, or the server says that this user may not send it: both
    /// come behind all that the server had sent before. Nobody else could answer it, or keep the server from answering. On somebody
    /// else's connection a denial is not heard: that nothing comes is then taken for one, unless one has come back on this connection.
    /// `false` if the connection is closed.
    async fn sign(&self) -> bool {
        let connection = self.connects();
        let is_heard = self.owner == Owner::Us || self.came_back.load(Ordering::Relaxed) == connection;
        let unheard = async {
            match is_heard {
                true => std::future::pending().await,
                false => tokio::time::sleep(DENIED_UNHEARD).await,
            }
        };
        let inbox = self.client.new_inbox();
        let mut denials = self.violations.about(&inbox);
        let Ok(mut own) = self.client.subscribe(inbox.clone()).await else { return false };
        if self.client.publish(inbox, Bytes::new()).await.is_err() {
            return false;
        }
        tokio::select! {
            back = own.next() => {
                self.came_back.store(connection, Ordering::Relaxed);
                back.is_some()
            }
            _ = denials.next() => true,
            () = unheard => true,
        }
    }

    /// Takes note of what the client counts, and says what is to be done, and for how long the server has been silent.
    fn look(&self) -> (Pulse, Option<Duration>) {
        let (now, connection) = (self.now(), self.connection());
        let bytes_in = self.client.statistics().in_bytes.load(Ordering::Relaxed);
        let came = self.bytes_in.swap(bytes_in, Ordering::Relaxed) != bytes_in;
        let mut state = self.lock();
        let anew = state.connected(now, connection);
        // While there is no connection, the client tries to make one, and nothing else can be done.
        if came || self.client.connection_state() != Connection::Connected {
            state.in_flight.heard(now);
        }
        let backlog = state.window.congestion.backlog();
        let seen = (state.in_flight.pulse(now, backlog), state.in_flight.silence(now, backlog));
        drop(state);
        if anew {
            self.changed.send_replace(());
        }
        seen
    }
}

/// What was said of the server.
#[derive(Debug, Clone, Copy)]
enum Told {
    Nothing,
    /// That it is silent, since then.
    Silent {
        since: Instant,
    },
}

impl Told {
    /// Says when the server falls silent, and when it is heard again.
    fn tell(&mut self, silence: Option<Duration>, connected: bool) {
        match (*self, silence) {
            (Self::Nothing, Some(silent)) => {
                tracing::warn!("waiting for the server: no sign of it for {:.0} s", silent.as_secs_f64());
                *self = Self::Silent { since: Instant::now() - silent };
            }
            (Self::Silent { since }, None) => {
                // That it is disconnected is said elsewhere.
                if connected {
                    tracing::info!("the server is there again, after {:.0} s", since.elapsed().as_secs_f64());
                }
                *self = Self::Nothing;
            }
            (Self::Nothing, None) | (Self::Silent { .. }, Some(_)) => {}
        }
    }
}

/// Watches for signs of the server for as long as the line is used.
async fn watch_over(shared: Arc<Shared>) {
    let (mut asking, mut told) = (None, Told::Nothing);
    loop {
        let (pulse, silence) = shared.look();
        told.tell(silence, shared.client.connection_state() == Connection::Connected);
        match pulse {
            Pulse::Ask => {
                let asked = shared.lock().in_flight.asked(shared.now());
                let asker = shared.clone();
                let sign = async move { (asked, asker.sign().await) };
                asking = Some(AbortOnDropHandle::new(tokio::spawn(sign)));
            }
            Pulse::Dead { silent } if shared.owner == Owner::Us => {
                tracing::warn!("no sign of the server for {:.0} s: connecting anew", silent.as_secs_f64());
                asking = None;
                // What was asked is forgotten with the connection. Only a closed one fails.
                let _ = shared.client.force_reconnect().await;
                shared.lock().in_flight.heard(shared.now());
            }
            Pulse::Dead { .. } | Pulse::Rest { .. } => {}
        }
        let sign = async {
            match &mut asking {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            sign = sign => {
                asking = None;
                if let Ok((asked, true)) = sign {
                    shared.lock().in_flight.received(shared.now(), asked);
                    shared.changed.send_replace(());
                }
            }
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

impl OnItsWay {
    /// The server has answered.
    pub(super) fn answered(mut self, answer: Answer) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let overtakes = state.in_flight.answered(now, self.ticket, answer);
        let mut admitted = Vec::new();
        if let Some(flight) = self.flight.take() {
            state.window.congestion.acknowledged(now, flight);
            admitted = state.window.admit();
        }
        drop(state);
        self.shared.let_in(admitted);
        if overtakes {
            self.shared.changed.send_replace(());
        }
    }

    /// Waits until nothing will be heard of it, and says why.
    ///
    /// Cancel safe.
    pub(super) async fn lost(&self) -> Loss {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let standing = self.shared.lock().in_flight.standing(self.shared.now(), self.ticket);
            let until = match standing {
                Standing::Lost(loss) => {
                    self.shared.lock().in_flight.lost(self.ticket, loss);
                    return loss;
                }
                Standing::OnItsWay { until } => until,
            };
            let again = async {
                match until {
                    Some(until) => tokio::time::sleep_until(self.shared.began + until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = again => {}
            }
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_flight.forgotten(self.ticket);
        if let Some(flight) = self.flight.take() {
            state.window.congestion.forgotten(flight);
        }
    }
}

impl Share {
    /// Gives back all but so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let kept = self.bytes.min(bytes as u64);
        let free = std::mem::replace(&mut self.bytes, kept) - kept;
        let admitted = self.shared.lock().window.give_back(free);
        self.shared.let_in(admitted);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}
