//! How fast the line to the server is, measured with a little of it.
//!
//! Up: padded messages to nobody, which the server throws away. Down: one answer of JetStream, which several subscriptions to the same inbox
//! get, a copy each; a user needs no right for it that natsfer does not need. Both begin small and grow until they take a part of a
//! second, so that they take a second or two over any line.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::Broker;

/// What takes so long has measured the line.
const ENOUGH: Duration = Duration::from_millis(250);
/// Then it is given up, and measured by what has come.
const LONGEST: Duration = Duration::from_secs(2);
/// Bytes of the messages that are sent up, at most what the server takes.
const UP: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 960 << 10];
/// Copies of each answer, and answers that are asked for at once.
const COPIES: usize = 8;
const ANSWERS: [usize; 4] = [1, 8, 64, 256];

/// How fast the line is.
#[derive(Debug, Clone, PartialEq)]
pub struct LineSpeed {
    /// To the server.
    pub up: Measured,
    /// From the server.
    pub down: Measured,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// Bytes per second.
    Rate(f64),
    /// This user may not do what measures it.
    NotPermitted,
    /// The connection did not stand for so long.
    NoAnswer,
}

impl Broker {
    /// Measures the line, one way after the other: with some 2 MiB at most, in a few seconds; longer while it stands still.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn line_speed(&self) -> LineSpeed {
        LineSpeed { up: self.speed_up().await, down: self.speed_down().await }
    }

    async fn speed_up(&self) -> Measured {
        let mut measured = Measured::NoAnswer;
        let mut empty = None;
        for bytes in [0].into_iter().chain(UP).filter(|bytes| *bytes + 1024 <= self.max_payload()) {
            let (began, sized) = (Instant::now(), self.message_limit.send(bytes));
            if !self.line.reaches(bytes).await {
                // Perhaps over its size.
                sized.lost();
                return measured;
            }
            let took = began.elapsed();
            let Some(round_trip) = empty else {
                empty = Some(took);
                continue;
            };
            let took = took.saturating_sub(round_trip);
            measured = Measured::Rate(bytes as f64 / took.as_secs_f64().max(1e-6));
            if took >= ENOUGH {
                break;
            }
        }
        measured
    }

    async fn speed_down(&self) -> Measured {
        let inbox = self.client.new_inbox();
        let mut copies = Vec::new();
        for _ in 0..COPIES {
            let Ok(copy) = self.client.subscribe(inbox.clone()).await else { return Measured::NoAnswer };
            copies.push(copy);
        }
        let mut came = stream::select_all(copies);
        let subject = format!("{}.INFO", self.api_prefix);
        let mut denials = self.denials(&subject);
        let mut measured = Measured::NoAnswer;
        for answers in ANSWERS {
            for _ in 0..answers {
                let asked = self.client.publish_with_reply(subject.clone(), inbox.clone(), Bytes::new()).await;
                if asked.is_err() {
                    return measured;
                }
            }
            let mut first = None;
            let deadline = Instant::now() + LONGEST;
            for _ in 0..answers * COPIES {
                let message = tokio::select! {
                    message = tokio::time::timeout_at(first.map_or(deadline, |(at, _)| at + LONGEST), came.next()) => message,
                    _ = denials.next() => return Measured::NotPermitted,
                };
                let Ok(Some(_)) = message else { break };
                first.get_or_insert_with(|| (Instant::now(), self.line.bytes_in()));
            }
            let Some((began, bytes)) = first else { return measured };
            let (took, bytes) = (began.elapsed(), self.line.bytes_in().saturating_sub(bytes));
            if bytes > 0 {
                measured = Measured::Rate(bytes as f64 / took.as_secs_f64().max(1e-6));
            }
            if took >= ENOUGH {
                break;
            }
        }
        measured
    }
}
