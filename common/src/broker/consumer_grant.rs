//! What the server grants consumers, where that is less than is asked for. Server, account and stream have limits of their own, and
//! name them when they refuse.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::code;

/// What consumers of one stream are granted, as far as it has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Grant {
    unacknowledged: Option<u64>,
    unused: Option<Duration>,
}

/// The grants of a connection's streams. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants(Arc<Mutex<BTreeMap<String, Grant>>>);

impl Grant {
    /// How many messages may be delivered and not acknowledged, of so many that are wanted.
    pub(super) fn unacknowledged(self, wanted: u64) -> u64 {
        self.unacknowledged.map_or(wanted, |granted| granted.min(wanted))
    }

    /// How long a consumer may be kept that nobody uses, of the time that is wanted.
    pub(super) fn unused(self, wanted: Duration) -> Duration {
        self.unused.map_or(wanted, |granted| granted.min(wanted))
    }

    /// The grant within the limit that this refusal names; the same where it names none.
    fn within(self, code: u64, description: &str) -> Self {
        let limit = description.rsplit_once("limit of ").map(|(_, rest)| rest);
        let limit = limit.and_then(|rest| rest.split([' ', '(', ',']).next()).unwrap_or_default();
        let less = |before: Option<u64>, now: u64| Some(before.map_or(now, |before| before.min(now)));
        match code {
            code::UNACKNOWLEDGED_EXCESS => match limit.parse() {
                Ok(limit) => Self { unacknowledged: less(self.unacknowledged, limit), ..self },
                Err(_) => self,
            },
            code::INACTIVITY_EXCESS => match go_duration(limit) {
                Some(limit) => Self { unused: Some(self.unused.map_or(limit, |before| before.min(limit))), ..self },
                None => self,
            },
            _ => self,
        }
    }
}

impl Grants {
    pub(super) fn of(&self, stream: &str) -> Grant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(stream).copied().unwrap_or_default()
    }

    /// Notes the limit that this refusal names, and whether that is less than what was asked for.
    pub(super) fn narrow(&self, stream: &str, asked: Grant, code: u64, description: &str) -> bool {
        let narrowed = asked.within(code, description);
        if narrowed != asked {
            tracing::debug!(stream, ?narrowed, "consumers are kept to what the server grants");
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.to_owned(), narrowed);
        }
        narrowed != asked
    }
}

/// A duration as Go writes it: `1h0m0s`, `1.5s`, `300ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" | "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &rest[unit..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_what_the_server_says() {
        let all = Grant::default();
        let few =
            all.within(10_121, "consumer max ack pending exceeds system limit of 1000 (code 400, error code 10121)");
        assert_eq!((few.unacknowledged(1_000_000), few.unacknowledged(5)), (1_000, 5));
        let soon = few.within(10_153, "consumer inactive threshold exceeds system limit of 1h0m0s");
        assert_eq!(soon.unused(Duration::from_secs(7_200)), Duration::from_secs(3_600));
        assert_eq!((soon.unacknowledged(9_999), soon.unused(Duration::ZERO)), (1_000, Duration::ZERO));
        // What names no limit, or a higher one, is no reason to try again.
        for said in ["it exceeds something", "limit of many", "limit of 5000"] {
            assert_eq!(few.within(10_121, said), few);
        }
        let grants = Grants::default();
        assert!(
            grants.narrow("S", all, 10_121, "limit of 7") && !grants.narrow("S", grants.of("S"), 10_121, "limit of 7")
        );
        assert_eq!(grants.of("S").unacknowledged(9), 7);
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let milliseconds = |text| go_duration(text).map(|duration| duration.as_millis());
        assert_eq!(["1h0m0s", "1.5s", "300ms", "1m0.25s"].map(milliseconds), [3_600_000, 1_500, 300, 60_250].map(Some));
        assert_eq!(["", "5", "s", "1d", "1x2s"].map(milliseconds), [None; 5]);
    }
}
