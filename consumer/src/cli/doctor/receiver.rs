//! Judging the receiver as it stands.

use natsfer_common::{
    ChannelFilter, ReceiverName,
    broker::{BrokerError, Connection, ReceiverState},
    cli::{count, doctor::Finding, human_bytes},
};

/// What is known of a receiver: itself, that there is none of its name, or why nothing is.
type Known<'a> = Result<Option<&'a ReceiverState>, &'a BrokerError>;

pub(super) fn judge(name: &ReceiverName, wanted: Option<&ChannelFilter>, known: Known<'_>) -> Vec<Finding> {
    let check = format!("receiver {name}");
    let receiver = match known {
        Ok(Some(receiver)) => receiver,
        Ok(None) => return vec![Finding::ok(check, "is not there yet; `receive` makes it")],
        // That it may not look is told with its permissions.
        Err(BrokerError::Denied { .. }) => return Vec::new(),
        Err(error) => return vec![Finding::fail(check, error.to_string(), "see what the server's log says")],
    };
    let mut findings = Vec::new();
    let channels = receiver.channels.iter().map(ChannelFilter::as_str).collect::<Vec<_>>().join(",");
    match (&receiver.channels[..], wanted) {
        ([], _) => {
            let found = "its inbox reads other subjects than natsfer's: somebody else has made it";
            findings.push(Finding::fail(&check, found, "choose another name, or remove that consumer"));
        }
        ([one], Some(wanted)) if one != wanted => {
            let change =
                format!("say -c '{channels}', choose another name, or remove it: `natsfer-consumer forget -n {name}`");
            findings.push(Finding::fail(&check, format!("listens on {channels}, not on {wanted}"), change));
        }
        _ => {
            let waiting = format!("{} ({})", count(receiver.lag.files, "file"), human_bytes(receiver.lag.bytes));
            findings.push(Finding::ok(&check, format!("listens on {channels}; {waiting} to be received")));
        }
    }
    if matches!(receiver.connection, Connection::Listening | Connection::Receiving) {
        let found =
            format!("a process of this name is {}: another one would share its files", receiver.connection.as_str());
        findings.push(Finding::ok(&check, found));
    }
    if receiver.connection == Connection::Paused {
        let found = "an operator has paused its inbox: nothing is delivered";
        findings.push(Finding::warn(&check, found, format!("nats consumer resume <the control stream> {name}")));
    }
    if let Some(rejected) = receiver.rejected.filter(|rejected| *rejected > 0) {
        let found = format!("has rejected {}", count(rejected, "file"));
        let change = format!("see why with `natsfer-consumer rejected -n {name}`, and try again with `retry`");
        findings.push(Finding::warn(&check, found, change));
    }
    findings
}

#[cfg(test)]
mod tests {
    use natsfer_common::{Certainty, Lag, broker::Activity, cli::doctor::Verdict};

    use super::*;

    fn state(channels: &[&str], connection: Connection, rejected: u64) -> ReceiverState {
        ReceiverState {
            name: "billing".parse().unwrap(),
            channels: channels.iter().map(|channels| channels.parse().unwrap()).collect(),
            taken: 0,
            lag: Lag { files: 1, bytes: 10, certainty: Certainty::Exact },
            connection,
            activity: Activity::Never,
            rejected: Some(rejected),
        }
    }

    #[test]
    fn channels_must_agree_and_what_was_rejected_is_told() {
        let name = "billing".parse().unwrap();
        let wanted: ChannelFilter = "invoices.>".parse().unwrap();
        let verdicts = |known: Option<&ReceiverState>| -> Vec<_> {
            judge(&name, Some(&wanted), Ok(known)).iter().map(|finding| finding.verdict).collect()
        };
        assert_eq!(verdicts(None), [Verdict::Ok]);
        assert_eq!(verdicts(Some(&state(&["invoices.>"], Connection::Absent, 0))), [Verdict::Ok]);
        assert_eq!(verdicts(Some(&state(&["orders"], Connection::Absent, 0))), [Verdict::Fail]);
        assert_eq!(verdicts(Some(&state(&[], Connection::Absent, 0))), [Verdict::Fail]);
        let paused = state(&["invoices.>"], Connection::Paused, 0);
        assert_eq!(verdicts(Some(&paused)), [Verdict::Ok, Verdict::Warn]);
        let busy = state(&["invoices.>"], Connection::Listening, 2);
        assert_eq!(verdicts(Some(&busy)), [Verdict::Ok, Verdict::Ok, Verdict::Warn]);
        assert_eq!(judge(&name, None, Ok(Some(&state(&["orders"], Connection::Absent, 0))))[0].verdict, Verdict::Ok);
    }
}
