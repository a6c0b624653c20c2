//! Judging the streams.

use super::{Finding, Work, server::NEARLY_FULL};
use crate::{
    broker::{BrokerError, Importance, Permission, StreamDifference, StreamFacts},
    cli::{count, human_age, human_bytes},
};

fn check(name: &str) -> String {
    format!("stream {name}")
}

/// A stream is not there, and this user may make it, or may not.
pub(super) fn absent(name: &str, making: &Permission) -> Finding {
    match making {
        Permission::Denied(_) => Finding::fail(
            check(name),
            "is not there, and this user may not make it: nothing can be sent or received",
            "have the operator run `natsfer-producer init`",
        ),
        _ => Finding::warn(
            check(name),
            "is not there yet; the first `send` or `receive` makes it, without limits",
            "run `natsfer-producer init` with the limits you want (--max-bytes, --max-age, --replicas)",
        ),
    }
}

pub(super) fn not_seen(name: &str, error: &BrokerError) -> Finding {
    match error {
        BrokerError::Denied { .. } => Finding::ok(
            check(name),
            "not looked at: this user may not, and need not; `doctor` as an operator looks at it",
        ),
        error => Finding::fail(
            check(name),
            error.to_string(),
            "see what the server's log says: the stream may have no leader",
        ),
    }
}

/// A limit that counts: more than 0.
fn limit(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

pub(super) fn stream(
    facts: &StreamFacts, differences: &[StreamDifference], max_payload: u64, work: &Work,
) -> Vec<Finding> {
    let mut findings: Vec<_> = differences.iter().map(|found| difference(found, work)).collect();
    let name = &facts.name;
    let config = &facts.config;
    let room = [
        (limit(config.max_bytes), facts.bytes, max_payload, "--max-bytes=N"),
        (limit(config.max_msgs), facts.messages, 1, "--max-msgs=N"),
    ];
    for (most, used, next, flag) in room {
        let Some(most) = most else { continue };
        let change = format!("nats stream edit {name} {flag}, or remove what is not needed: `natsfer-producer prune`");
        if used.saturating_add(next) > most {
            let found = format!("is full ({}): senders wait for room", filled(facts));
            findings.push(Finding::fail(check(name), found, change));
        } else if used.saturating_mul(100) >= most.saturating_mul(NEARLY_FULL) {
            findings.push(Finding::warn(check(name), format!("is nearly full ({})", filled(facts)), change));
        }
    }
    if let Some(most) = limit(config.max_consumers).filter(|most| facts.consumers.saturating_add(1) > *most) {
        let found = format!("has all it takes ({}): receivers and lists wait for one", count(most, "consumer"));
        let change =
            format!("nats stream edit {name} --max-consumers=-1, or `natsfer-consumer forget` receivers that are gone");
        findings.push(Finding::fail(check(name), found, change));
    }
    if let Some(most) = limit(config.max_msg_size).filter(|most| *most < max_payload) {
        let found = format!(
            "takes messages up to {}, the server up to {}: chunks are made smaller",
            human_bytes(most),
            human_bytes(max_payload)
        );
        findings.push(Finding::warn(
            check(name),
            found,
            format!("nats stream edit {name} --max-msg-size=-1, or `send --chunk-size`"),
        ));
    }
    if findings.is_empty() {
        let age = match config.max_age {
            0 => String::new(),
            age => {
                let age = jiff::SignedDuration::from_nanos(i64::try_from(age).unwrap_or(i64::MAX));
                format!(", removed after {}", human_age(age))
            }
        };
        let replicas = count(config.num_replicas, "copy");
        findings.push(Finding::ok(check(name), format!("{}, {replicas}{age}", filled(facts))));
    }
    findings
}

fn filled(facts: &StreamFacts) -> String {
    let messages = count(facts.messages, "message");
    let bytes = human_bytes(facts.bytes);
    match limit(facts.config.max_bytes) {
        Some(most) => format!("{messages}, {bytes} of {}", human_bytes(most)),
        None => format!("{messages}, {bytes}"),
    }
}

fn difference(difference: &StreamDifference, work: &Work) -> Finding {
    let StreamDifference { stream, importance, found, change } = difference;
    match (importance, work) {
        (Importance::Asked | Importance::Needed, _) | (Importance::NeededToSend, Work::Send(..)) => {
            Finding::fail(check(stream), found, change)
        }
        (Importance::Advised | Importance::NeededToSend, _) => Finding::warn(check(stream), found, change),
    }
}

/// What must agree between the two.
pub(super) fn together(control: &StreamFacts, data: &StreamFacts) -> Option<Finding> {
    let age = |facts: &StreamFacts| if facts.config.max_age == 0 { u64::MAX } else { facts.config.max_age };
    (age(control) < age(data)).then(|| {
        let found = "is kept for a shorter time than the chunks: they stay behind, and no list leads to them";
        let change = format!("nats stream edit {} --max-age={}s", control.name, data.config.max_age / 1_000_000_000);
        Finding::warn(check(&control.name), found, change)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelFilter, broker::StreamConfig, cli::doctor::Verdict};

    fn facts(bytes: u64, change: impl Fn(&mut StreamConfig)) -> StreamFacts {
        let mut config = StreamConfig::default();
        change(&mut config);
        StreamFacts { name: "NATSFER".into(), config, messages: 10, bytes, consumers: 2, clock_ahead: None }
    }

    fn verdict(facts: &StreamFacts) -> Verdict {
        stream(facts, &[], 1_000, &Work::Read(ChannelFilter::default()))[0].verdict
    }

    #[test]
    fn a_stream_is_full_when_the_next_message_does_not_fit() {
        let limited = |bytes| facts(bytes, |config| config.max_bytes = 10_000);
        assert_eq!(
            [0, 7_999, 8_000, 9_000, 9_001, 20_000].map(|bytes| verdict(&limited(bytes))),
            [Verdict::Ok, Verdict::Ok, Verdict::Warn, Verdict::Warn, Verdict::Fail, Verdict::Fail]
        );
        assert_eq!(verdict(&facts(u64::MAX, |config| config.max_bytes = -1)), Verdict::Ok);
        assert_eq!(verdict(&facts(0, |config| config.max_msgs = 10)), Verdict::Fail);
        assert_eq!(verdict(&facts(0, |config| config.max_consumers = 2)), Verdict::Fail);
        assert_eq!(verdict(&facts(0, |config| config.max_msg_size = 999)), Verdict::Warn);
    }

    #[test]
    fn what_is_said_stays_as_long_as_the_chunks() {
        let aged = |age| facts(0, |config| config.max_age = age);
        assert!(together(&aged(1), &aged(2)).is_some() && together(&aged(1), &aged(0)).is_some());
        assert!(together(&aged(2), &aged(1)).is_none() && together(&aged(0), &aged(0)).is_none());
    }

    #[test]
    fn a_stream_that_is_not_there_is_a_failure_for_who_may_not_make_it() {
        assert_eq!(absent("NATSFER", &Permission::Allowed).verdict, Verdict::Warn);
        assert_eq!(absent("NATSFER", &Permission::Denied("no".into())).verdict, Verdict::Fail);
        let away = BrokerError::TimedOut { what: String::new(), after: std::time::Duration::ZERO };
        assert_eq!(not_seen("NATSFER", &away).verdict, Verdict::Fail);
    }
}
