//! An imitation of packets that are lost: what an application notices of it.

use std::time::Duration;

use crate::files::Random;

/// What one packet carries on an Ethernet.
const SEGMENT: usize = 1460;

/// How long a sender waits before it repeats a packet: Linux' shortest time.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A packet that is lost so often ends a real connection.
const MOST_REPEATS: u32 = 6;

/// Draws which packets of a direction are lost.
#[derive(Debug)]
pub(crate) struct PacketLoss {
    draws: Random,
}

impl PacketLoss {
    /// Losses of that seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { draws: Random::new(seed) }
    }

    /// How long lost packets hold up so many bytes, and all behind them: nothing if none is lost, otherwise one
    /// retransmission time, doubled whenever the repeated packet is lost as well.
    pub(crate) fn delay(&mut self, bytes: usize, probability: f64) -> Duration {
        if probability <= 0.0 {
            return Duration::ZERO;
        }
        let mut lost = || (self.draws.number() as f64) < probability * u64::MAX as f64;
        let segments = bytes.div_ceil(SEGMENT);
        // All are drawn, so that the next piece's luck does not hang on this one's.
        if (0..segments).filter(|_| lost()).count() == 0 {
            return Duration::ZERO;
        }
        let repeats = (0..MOST_REPEATS).take_while(|_| lost()).count();
        RETRANSMISSION * (1 << repeats)
    }
}
