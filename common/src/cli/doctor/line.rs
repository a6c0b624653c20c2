//! Judging the line.

use std::time::Duration;

use super::Finding;
use crate::{
    broker::{LineSpeed, Measured},
    cut_off::{WRITE_DEADLINE, takes},
    human_bytes,
};

const GIB: u64 = 1 << 30;
/// A chunk from a sender with a fast line.
const USUAL_MESSAGE: u64 = 508 << 10;
/// Of what is faster, the measure is too short to say more than this: servers and clients take longer than the line.
const SHORT: f64 = 10e6;
/// What is faster is not worth a number.
const FAST: f64 = 500e6;

pub(super) fn speed(speed: &LineSpeed) -> Vec<Finding> {
    vec![way("line up", &speed.up, "up"), down(&speed.down)]
}

fn way(check: &str, measured: &Measured, way: &str) -> Finding {
    match *measured {
        Measured::Rate(rate) if rate >= FAST => Finding::ok(check, format!("more than {}/s", human_bytes(FAST as u64))),
        Measured::Rate(rate) if rate >= SHORT => Finding::ok(check, format!("at least {}/s", human_bytes(rate as u64))),
        Measured::Rate(rate) => {
            let gib = takes(GIB, rate).map_or_else(|| "for ever".into(), in_words);
            Finding::ok(check, format!("about {}/s: 1 GiB takes about {gib} {way}", human_bytes(rate as u64)))
        }
        Measured::NotPermitted => Finding::ok(check, "not measured: this user may not do what measures it"),
        Measured::NoAnswer => Finding::ok(check, "not measured: no answer came while it was tried"),
    }
}

fn down(measured: &Measured) -> Finding {
    let found = way("line down", measured, "down");
    let Measured::Rate(rate) = *measured else { return found };
    match takes(USUAL_MESSAGE, rate) {
        Some(takes) if takes >= WRITE_DEADLINE => Finding::warn(
            found.check,
            format!(
                "{}. A message of {}, as senders with a fast line make them, takes {}; nats-server closes a connection to which it \
                 could not write for 10 s",
                found.found,
                human_bytes(USUAL_MESSAGE),
                in_words(takes),
            ),
            "set a longer `write_deadline` in the server's configuration, or `write_timeout: retry` from nats-server 2.12.2 on, or \
             let senders use smaller chunks (--chunk-size 64KiB)",
        ),
        _ => found,
    }
}

/// A time in words, about.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => "a second".into(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", (seconds + 30) / 60),
        seconds @ 7_200..172_800 => format!("{} h", (seconds + 1_800) / 3_600),
        seconds => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    fn judged(rate: f64) -> Vec<Finding> {
        speed(&LineSpeed { up: Measured::Rate(rate), down: Measured::Rate(rate) })
    }

    #[test]
    fn it_says_what_to_expect() {
        let found = judged(1_000_000.0);
        assert_eq!(found[0].found, "about 976.6 KiB/s: 1 GiB takes about 18 min up");
        assert!(found[1].found.ends_with("18 min down"), "{}", found[1].found);
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok));
        assert_eq!(judged(50e6)[0].found, "at least 47.7 MiB/s");
        assert!(judged(1e12)[0].found.starts_with("more than"));
    }

    #[test]
    fn a_line_that_takes_longer_for_a_message_than_the_server_waits_is_warned_of() {
        let verdicts = |rate| judged(rate).into_iter().map(|finding| finding.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(6_250.0), [Verdict::Ok, Verdict::Warn]);
        assert_eq!(verdicts(64_000.0), [Verdict::Ok, Verdict::Ok]);
    }

    #[test]
    fn what_was_not_measured_is_said() {
        for measured in [Measured::NotPermitted, Measured::NoAnswer] {
            let found = speed(&LineSpeed { up: measured.clone(), down: measured });
            assert!(
                found.iter().all(|finding| finding.found.contains("not measured") && finding.verdict == Verdict::Ok)
            );
        }
    }

    #[test]
    fn times_are_told_about() {
        for (seconds, words) in [(0, "a second"), (33, "33 s"), (1_073, "18 min"), (10_800, "3 h"), (200_000, "2 days")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
