//! How large a message may be. The server says so when it greets, before it knows whose connection it is: what the account or the user
//! may have beyond that shows only when it ends the connection over a message.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_nats::HeaderMap;

/// No limit is below this, in bytes: without it, not even requests would be taken.
const SMALL: usize = 1_024;

/// What is known of the limit, and the messages that are on their way. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct MessageLimit(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// More than that is thought not to be taken; `None` as long as nothing was refused.
    most: Option<usize>,
    /// How many messages of each size wait for an answer.
    under_way: BTreeMap<usize, usize>,
    /// The largest that was lost with a connection since the last refusal: the connection may be seen to end before it is heard why.
    lost: usize,
}

/// A message that waits for its answer.
#[derive(Debug)]
pub(super) struct OnItsWay {
    limit: MessageLimit,
    bytes: usize,
}

impl MessageLimit {
    /// The limit, as far as it has shown; `usize::MAX` if nothing has.
    pub(super) fn most(&self) -> usize {
        self.with(|state| state.most.unwrap_or(usize::MAX))
    }

    /// A message of so many bytes, headers included, is sent.
    pub(super) fn send(&self, bytes: usize) -> OnItsWay {
        self.with(|state| *state.under_way.entry(bytes).or_default() += 1);
        OnItsWay { limit: self.clone(), bytes }
    }

    /// The server has ended the connection over a message. Which one it does not say: the largest is over the limit if any is. Says
    /// what is thought to be taken from now on, the half of that.
    pub(super) fn refused(&self) -> Option<usize> {
        self.with(|state| {
            let largest = state.under_way.keys().next_back().copied().unwrap_or(0).max(state.lost);
            state.lost = 0;
            // All that were on their way may have been lost, and have been told so.
            let most = (largest / 2).min(state.most.unwrap_or(usize::MAX));
            // A request is never what was too large.
            (largest > SMALL).then(|| *state.most.insert(most))
        })
    }

    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OnItsWay {
    /// The connection has ended before it was answered.
    pub(super) fn lost(&self) {
        self.limit.with(|state| state.lost = state.lost.max(self.bytes));
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.limit.with(|state| {
            if let Some(count) = state.under_way.get_mut(&self.bytes) {
                *count -= 1;
                if *count == 0 {
                    state.under_way.remove(&self.bytes);
                }
            }
        });
    }
}

/// What the server counts of a message: headers as they stand on the wire, and the payload.
pub(super) fn counted(headers: Option<&HeaderMap>, payload: usize) -> usize {
    const FIRST_AND_LAST_LINE: usize = "NATS/1.0\r\n\r\n".len();
    let Some(headers) = headers.filter(|headers| !headers.is_empty()) else { return payload };
    let lines = headers.iter().flat_map(|(name, values)| {
        values.iter().map(|value| AsRef::<str>::as_ref(name).len() + ": \r\n".len() + value.as_str().len())
    });
    FIRST_AND_LAST_LINE + lines.sum::<usize>() + payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_looked_for_below_the_largest_that_can_have_been_refused() {
        let limit = MessageLimit::default();
        assert_eq!((limit.refused(), limit.most()), (None, usize::MAX));
        let (large, small) = (limit.send(100_000), limit.send(1_000));
        assert_eq!((limit.refused(), limit.most()), (Some(50_000), 50_000));
        drop((large, small));
        // It is heard of after the connection was seen to end.
        let next = limit.send(40_000);
        next.lost();
        drop(next);
        assert_eq!(limit.refused(), Some(20_000));
        // What says less than is known does not raise it.
        let twice = (limit.send(90_000), limit.send(90_000));
        assert_eq!((limit.refused(), limit.most()), (Some(20_000), 20_000));
        drop(twice);
        let _request = limit.send(SMALL);
        assert_eq!((limit.refused(), limit.most()), (None, 20_000));
    }

    #[test]
    fn headers_count() {
        let mut headers = HeaderMap::new();
        assert_eq!((counted(None, 5), counted(Some(&headers), 5)), (5, 5));
        headers.insert("A", "bc");
        assert_eq!(counted(Some(&headers), 5), "NATS/1.0\r\nA: bc\r\n\r\n".len() + 5);
    }
}
