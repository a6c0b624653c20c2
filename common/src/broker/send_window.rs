//! Room for what is published: how many bytes may be prepared and on their way, and who is next.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::Congestion;

/// The bytes of all shares, within what the line holds and within a bound on memory. `S` is what is handed to those who waited.
#[derive(Debug)]
pub(super) struct SendWindow<S> {
    pub(super) congestion: Congestion,
    most: u64,
    /// Bytes of all shares.
    taken: u64,
    waiting: VecDeque<Waiting<S>>,
}

/// One who waits for a share.
#[derive(Debug)]
struct Waiting<S> {
    bytes: u64,
    turn: oneshot::Sender<S>,
}

/// What comes of asking for a share.
#[derive(Debug)]
pub(super) enum Turn<S> {
    /// The bytes are taken.
    Now,
    /// They will be handed over; so many others are before.
    Later { ahead: u32, turn: oneshot::Receiver<S> },
}

/// One whose turn it is: the bytes are taken.
#[derive(Debug)]
#[must_use = "whoever waits is told by a share that is handed over"]
pub(super) struct Admitted<S> {
    pub(super) bytes: u64,
    pub(super) turn: oneshot::Sender<S>,
}

impl<S> SendWindow<S> {
    pub(super) fn new(most: u64) -> Self {
        Self { congestion: Congestion::new(most), most, taken: 0, waiting: VecDeque::new() }
    }

    /// Bounds the bytes of all shares from now on.
    pub(super) fn set_most(&mut self, most: u64) -> Vec<Admitted<S>> {
        self.most = most.max(1);
        self.congestion.set_most(self.most);
        self.admit()
    }

    /// Takes so many bytes, in turn with others. What is larger than all the room goes alone.
    pub(super) fn take(&mut self, bytes: u64) -> Turn<S> {
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        if self.waiting.is_empty() && self.has_room(bytes) {
            self.taken += bytes;
            return Turn::Now;
        }
        let ahead = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let (turn, waits) = oneshot::channel();
        self.waiting.push_back(Waiting { bytes, turn });
        Turn::Later { ahead, turn: waits }
    }

    /// So many bytes are free again.
    pub(super) fn give_back(&mut self, bytes: u64) -> Vec<Admitted<S>> {
        self.taken -= bytes;
        self.admit()
    }

    /// Those who have room now, in turn: also after an acknowledgement, which may have widened the window.
    pub(super) fn admit(&mut self) -> Vec<Admitted<S>> {
        let mut admitted = Vec::new();
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        while self.waiting.front().is_some_and(|next| self.has_room(next.bytes))
            && let Some(Waiting { bytes, turn }) = self.waiting.pop_front()
        {
            self.taken += bytes;
            admitted.push(Admitted { bytes, turn });
        }
        admitted
    }

    /// Whether there is room for one more message, and nobody has asked for it.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.has_room(self.congestion.largest())
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.taken == 0 || self.taken.saturating_add(bytes) <= self.congestion.window().min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn is_now<S>(turn: &Turn<S>) -> bool {
        matches!(turn, Turn::Now)
    }

    #[test]
    fn whoever_waits_comes_in_turn_and_a_large_one_goes_alone() {
        let mut window = SendWindow::<()>::new(1 << 20);
        assert!(is_now(&window.take(5 << 20)), "larger than the window");
        let Turn::Later { ahead: 0, turn: mut first } = window.take(10) else { panic!() };
        let Turn::Later { ahead: 1, turn: mut second } = window.take(4 << 20) else { panic!() };
        let Turn::Later { ahead: 2, turn: mut third } = window.take(10) else { panic!() };
        let tell = |admitted: Vec<Admitted<()>>| admitted.into_iter().for_each(|next| next.turn.send(()).unwrap());
        tell(window.give_back(5 << 20));
        assert!(first.try_recv().is_ok() && second.try_recv().is_err() && third.try_recv().is_err());
        tell(window.give_back(10));
        assert!(second.try_recv().is_ok() && third.try_recv().is_err());
        tell(window.give_back(4 << 20));
        assert!(third.try_recv().is_ok());
    }

    #[test]
    fn whoever_has_gone_holds_up_nobody() {
        let mut window = SendWindow::<()>::new(1 << 20);
        assert!(is_now(&window.take(1)));
        drop(window.take(2 << 20));
        assert!(is_now(&window.take(1)), "the one before has gone");
    }

    #[test]
    fn who_fills_the_window_is_not_idle_while_he_prepares_the_next_message() {
        let (mut window, message) = (SendWindow::<()>::new(1 << 20), 10_000);
        let mut idle = Vec::new();
        for milliseconds in 0..100 {
            let now = Duration::from_millis(milliseconds);
            // Nobody waits: one is admitted, sent, and only then is there another.
            while is_now(&window.take(message)) {
                let flight = window.congestion.sent(now, message);
                idle.push(window.is_idle());
                window.congestion.acknowledged(now + Duration::from_millis(5), flight);
            }
            assert_eq!(idle.pop(), Some(false), "the last one filled it");
            drop(window.give_back(window.taken));
        }
    }

    proptest! {
        /// Whatever is taken, waited for and given back, shares never exceed the bound but one that is larger, and nobody waits
        /// where there is room.
        #[test]
        fn shares_stay_within_the_bound(
            most in 1_u64..10_000, steps in prop::collection::vec((any::<bool>(), 1_u64..5_000), 1..200),
        ) {
            let mut window = SendWindow::<u64>::new(most);
            let (mut held, mut waits, mut now) = (Vec::new(), Vec::new(), Duration::ZERO);
            for (takes, bytes) in steps {
                now += Duration::from_millis(1);
                let admitted = if takes {
                    match window.take(bytes) {
                        Turn::Now => held.push(bytes),
                        Turn::Later { turn, .. } => waits.push(turn),
                    }
                    Vec::new()
                } else if held.is_empty() {
                    Vec::new()
                } else {
                    // As when a message of that size is answered.
                    let bytes = held.swap_remove(bytes as usize % held.len());
                    let flight = window.congestion.sent(now, bytes);
                    now += Duration::from_millis(1);
                    window.congestion.acknowledged(now, flight);
                    window.give_back(bytes)
                };
                admitted.into_iter().for_each(|Admitted { bytes, turn }| turn.send(bytes).unwrap());
                waits.retain_mut(|turn| turn.try_recv().map(|bytes| held.push(bytes)).is_err());
                let sum = held.iter().sum::<u64>();
                prop_assert_eq!(sum, window.taken);
                prop_assert!(sum <= most || held.len() == 1, "{:?} of {}", held, most);
                prop_assert!(!held.is_empty() || waits.is_empty());
            }
        }
    }
}
