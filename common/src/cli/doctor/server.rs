//! Judging the server and the account.

use std::{cmp::Ordering, time::Duration};

use super::Finding;
use crate::{
    ChunkSizing, LinkEstimate,
    broker::{AccountFacts, BrokerError, Identity, ServerFacts},
    cli::{count, human_bytes, line_of},
};

/// The oldest that natsfer works with.
const OLDEST: [u64; 3] = [2, 10, 0];
/// The oldest that is advised where users do not trust each other (docs/security.md).
const ADVISED: [u64; 3] = [2, 14, 3];
/// From here on a stream takes 1,000 consumers by default.
const COUNTS_CONSUMERS: [u64; 3] = [2, 15, 0];
/// A round trip above which every small thing takes its time.
const SLOW: Duration = Duration::from_millis(500);
/// Clocks that differ by more are told of, in milliseconds.
const MOST_CLOCK: u64 = 2_000;
/// Of a limit, the share that is told of, in percent.
pub(super) const NEARLY_FULL: u64 = 80;

/// Fewer unacknowledged messages than that are told of: transfers that wait for their senders are among them.
pub(super) const FEW_UNACKNOWLEDGED: u64 = 10_000;
pub(super) const HELD_UP: &str = "a receiver with so many files that wait for their senders takes no others";

pub(super) fn no_connection(error: &BrokerError) -> Finding {
    let change = match error {
        BrokerError::Connect { .. } => "start the server, or say where it is: --server URL, NATS_URL or --context NAME",
        BrokerError::LoginRefused { .. } => {
            "log in as a user that the server knows: --creds, --nkey, --user and --password-file, --token-file or --context"
        }
        BrokerError::Untrusted { .. } => {
            "give the authority behind its certificate (--tlsca), or this side's (--tlscert, --tlskey)"
        }
        BrokerError::Access(_) => "correct this file, or give another one",
        _ => "see what the server's log says",
    };
    Finding::fail("connection", line_of(error), change)
}

/// A version's numbers; what is behind them does not count.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let mut parts = version.split(['.', '-', '+']).map(str::parse);
    let mut next = || parts.next()?.ok();
    Some([next()?, next()?, next().unwrap_or(0)])
}

pub(super) fn version(facts: &ServerFacts) -> Finding {
    let check = "server";
    let place = match &facts.cluster {
        Some(cluster) => format!("nats-server {} '{}' of cluster '{cluster}'", facts.version, facts.name),
        None => format!("nats-server {}", facts.version),
    };
    match numbers(&facts.version) {
        None => Finding::warn(check, format!("{place}: no version that is known"), "use nats-server 2.10 or newer"),
        Some(version) if version.cmp(&OLDEST) == Ordering::Less => {
            Finding::fail(check, format!("{place} is too old"), "use nats-server 2.10 or newer, better 2.14.3 or newer")
        }
        Some(version) if version < ADVISED => {
            let found = format!("{place} works; newer ones hold users more strictly to their rights");
            Finding::warn(
                check,
                found,
                "use nats-server 2.14.3 or newer where users do not trust each other (docs/security.md)",
            )
        }
        Some(version) if version < COUNTS_CONSUMERS => Finding::ok(check, place),
        Some(_) => Finding::ok(check, format!("{place}; a stream takes 1,000 consumers unless it is set up otherwise")),
    }
}

pub(super) fn encryption(facts: &ServerFacts) -> Finding {
    match (facts.encrypted, facts.local) {
        (true, _) => Finding::ok("encryption", "TLS"),
        (false, true) => Finding::ok("encryption", "none; the connection does not leave this machine"),
        (false, false) => Finding::warn(
            "encryption",
            "none: others on the network can read and alter files, and read passwords",
            "set up `tls` at the server, and use a tls:// URL",
        ),
    }
}

pub(super) fn login(facts: &ServerFacts, identity: Option<&Identity>) -> Finding {
    let check = "login";
    let user = match identity {
        Some(Identity { user, account }) if !user.is_empty() => {
            format!("user '{}' of account '{}'", user.escape_debug(), account.escape_debug())
        }
        Some(Identity { account, .. }) => format!("nobody in particular, in account '{}'", account.escape_debug()),
        None => "accepted; this user may not ask which account it is in ($SYS.REQ.USER.INFO)".into(),
    };
    if facts.auth_required || facts.encrypted || facts.local {
        Finding::ok(check, user)
    } else {
        let found = format!("{user}: the server lets everybody in who reaches it");
        Finding::warn(check, found, "give the server users (docs/security.md)")
    }
}

pub(super) fn max_payload(said: usize, granted: usize) -> Finding {
    let text = human_bytes(granted as u64);
    match ChunkSizing::default().choose(LinkEstimate::default(), granted) {
        Ok(_) if granted < said => Finding::warn(
            "message size",
            format!(
                "the server says up to {}, and ended the connection over a message: this account or user may have less, perhaps {text}",
                human_bytes(said as u64)
            ),
            "raise max_payload in the limits of the account or the user; until then, chunks are made smaller, after a try each run",
        ),
        Ok(_) => Finding::ok("message size", format!("up to {text}")),
        Err(error) => Finding::fail(
            "message size",
            format!("up to {text}: {error}"),
            "set the server's max_payload to 1MB or more",
        ),
    }
}

pub(super) fn round_trip(took: Duration) -> Finding {
    let check = "round trip";
    if took >= SLOW {
        let found = format!("{} ms: small files take several each", took.as_millis());
        return Finding::warn(check, found, "send many files at once (--concurrency)");
    }
    Finding::ok(check, format!("{:.1} ms", took.as_secs_f64() * 1_000.0))
}

/// What is known of the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// By how many milliseconds it is ahead of this machine's, and how much that may be off.
    Ahead(i64, i64),
    /// The server tells the time with a stream, and there is none yet.
    NoStream,
    /// This user may not look at streams, or the server does not tell it.
    NotTold,
}

pub(super) fn clock(clock: Clock) -> Finding {
    let check = "clock";
    let (ahead, off) = match clock {
        Clock::Ahead(ahead, off) => (ahead, off),
        Clock::NoStream => {
            return Finding::ok(check, "not compared: the server tells its time with a stream, and there is none yet");
        }
        Clock::NotTold => return Finding::ok(check, "not compared: the server does not tell its time to this user"),
    };
    let differs = ahead.unsigned_abs().saturating_sub(off.unsigned_abs());
    let seconds = ahead.unsigned_abs() as f64 / 1_000.0;
    let way = if ahead >= 0 { "behind" } else { "ahead of" };
    if differs > MOST_CLOCK {
        let found = format!(
            "this machine's is {seconds:.1} s {way} the server's: ages, `prune --older-than` and certificates go by it"
        );
        Finding::warn(check, found, "let both synchronise their clocks (NTP)")
    } else {
        Finding::ok(check, format!("within {} ms of the server's", ahead.unsigned_abs().max(off.unsigned_abs())))
    }
}

/// What JetStream's not answering means; an error where nothing else can be found out.
pub(super) fn no_account(error: &BrokerError) -> Result<Vec<Finding>, Finding> {
    let check = "JetStream";
    let on = "enable it: `jetstream {}` in the server's configuration, `jetstream: enabled` in the account's; or say where it is \
              (--js-domain, --js-api-prefix)";
    match error {
        // Not to be asked what the account has is no harm.
        BrokerError::Denied { .. } => {
            Ok(vec![Finding::ok(check, "there; this user may not ask how full the account is")])
        }
        BrokerError::NoResponders { .. } | BrokerError::NoJetStream { .. } => {
            Err(Finding::fail(check, "it is not there: not enabled at the server, or not for this account", on))
        }
        BrokerError::Refused { description, .. } => Err(Finding::fail(check, description.clone(), on)),
        error => Err(Finding::fail(
            check,
            error.to_string(),
            "see what the server's log says: a cluster may have lost its quorum",
        )),
    }
}

pub(super) fn account(account: &AccountFacts) -> Vec<Finding> {
    let check = "JetStream";
    let AccountFacts { storage, streams, consumers, limits } = account;
    let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
    let bytes = match limit(limits.max_storage) {
        Some(most) => format!("{} of {}", human_bytes(*storage), human_bytes(most)),
        None => human_bytes(*storage),
    };
    let mut found = format!("the account has {bytes} in {}", count(*streams, "stream"));
    // Without a limit it says little: those that look around, as this did, stay for a second.
    if let Some(most) = limit(limits.max_consumers) {
        found += &format!(", {consumers} of {}", count(most, "consumer"));
    }
    let mut findings = Vec::new();
    let mut full = |used: u64, most: i64, what: &str, comes: &str| {
        let Some(most) = limit(most) else { return };
        let change = "raise the account's limit, or make room (`natsfer-producer prune`)";
        if used >= most {
            findings.push(Finding::fail(check, format!("the account's {what} are used up: {comes}"), change));
        } else if used.saturating_mul(100) >= most.saturating_mul(NEARLY_FULL) {
            findings.push(Finding::warn(check, format!("the account's {what} are nearly used up: {comes}"), change));
        }
    };
    full(*storage, limits.max_storage, "bytes", "senders wait for room");
    full(*consumers, limits.max_consumers, "consumers", "receivers and lists wait for one");
    if let Some(most) = limit(limits.max_ack_pending).filter(|most| *most < FEW_UNACKNOWLEDGED) {
        let found = format!("the account grants consumers {most} unacknowledged messages (max_ack_pending): {HELD_UP}");
        findings.push(Finding::warn(check, found, "raise the account's max_ack_pending"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, found));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::AccountLimits, cli::doctor::Verdict};

    fn facts(version: &str) -> ServerFacts {
        ServerFacts {
            version: version.into(),
            name: "n".into(),
            cluster: None,
            auth_required: false,
            encrypted: false,
            local: true,
            max_payload: 1 << 20,
            granted_payload: 1 << 20,
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let verdict = |text: &str| version(&facts(text)).verdict;
        for (text, expected) in [
            ("2.9.25", Verdict::Fail),
            ("2.10.0", Verdict::Warn),
            ("2.10.26", Verdict::Warn),
            ("2.14.2", Verdict::Warn),
            ("2.14.3", Verdict::Ok),
            ("2.15.1", Verdict::Ok),
            ("3.0.0-RC.1", Verdict::Ok),
            ("devel", Verdict::Warn),
        ] {
            assert_eq!(verdict(text), expected, "{text}");
        }
    }

    #[test]
    fn what_leaves_the_machine_should_be_encrypted_and_logged_in() {
        let away = ServerFacts { local: false, ..facts("2.15.1") };
        assert_eq!(encryption(&facts("2.15.1")).verdict, Verdict::Ok);
        assert_eq!((encryption(&away).verdict, login(&away, None).verdict), (Verdict::Warn, Verdict::Warn));
        let tls = ServerFacts { encrypted: true, auth_required: true, ..away };
        assert_eq!((encryption(&tls).verdict, login(&tls, None).verdict), (Verdict::Ok, Verdict::Ok));
    }

    #[test]
    fn limits_that_are_reached_are_told() {
        let with = |storage, max_storage| {
            let limits = AccountLimits { max_storage, max_streams: -1, max_consumers: -1, max_ack_pending: -1 };
            account(&AccountFacts { storage, streams: 2, consumers: 1, limits })[0].verdict
        };
        assert_eq!(with(1 << 40, -1), Verdict::Ok);
        assert_eq!((with(79, 100), with(80, 100), with(100, 100)), (Verdict::Ok, Verdict::Warn, Verdict::Fail));
    }

    #[test]
    fn a_clock_that_differs_by_more_than_the_measure_is_told() {
        let verdict = |ahead, off| clock(Clock::Ahead(ahead, off)).verdict;
        assert_eq!((verdict(1_500, 1), verdict(-3_000, 5)), (Verdict::Ok, Verdict::Warn));
        assert_eq!((verdict(3_000, 2_000), verdict(i64::MIN, 0)), (Verdict::Ok, Verdict::Warn));
        assert!(clock(Clock::Ahead(60_000, 1)).found.contains("60.0 s behind the server's"));
        assert!([Clock::NoStream, Clock::NotTold].iter().all(|untold| clock(*untold).found.contains("not compared")));
    }

    #[test]
    fn messages_must_have_room_for_a_chunk() {
        let verdict = |said, granted| max_payload(said, granted).verdict;
        assert_eq!((verdict(1 << 20, 1 << 20), verdict(4_096, 4_096)), (Verdict::Ok, Verdict::Fail));
        assert_eq!((verdict(1 << 20, 1 << 18), verdict(1 << 20, 4_096)), (Verdict::Warn, Verdict::Fail));
    }

    #[test]
    fn without_jetstream_nothing_works() {
        let absent = BrokerError::NoResponders { what: "x".into() };
        assert_eq!(no_account(&absent).unwrap_err().verdict, Verdict::Fail);
        let denied = BrokerError::Denied { what: "x".into(), violation: "y".into() };
        assert_eq!(no_account(&denied).unwrap()[0].verdict, Verdict::Ok);
    }
}
