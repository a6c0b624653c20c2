//! What a user must be permitted to do for its work, and judging what it is. docs/security.md has the same rights as
//! configurations.

use super::{Finding, cursor};
use crate::{
    Channel, ChannelFilter, Kind, ReceiverName, StreamName, Subjects, TransferId,
    broker::{Attempt, Permission},
    cli::count,
};

/// What somebody wants to do.
#[derive(Debug, Clone)]
pub enum Work {
    /// Send on this channel, and wait for these receivers.
    Send(Channel, Vec<ReceiverName>),
    /// Receive on these channels.
    Receive(ReceiverName, ChannelFilter),
    /// Read what is stored on these channels, without being a receiver.
    Read(ChannelFilter),
}

/// A part of the work, and what it takes.
#[derive(Debug)]
pub(super) struct Task {
    /// In a word.
    name: &'static str,
    need: Need,
    /// What comes of not being permitted.
    otherwise: &'static str,
    pub(super) attempts: Vec<Attempt>,
}

/// Whether a part of the work can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing comes of it without.
    Required,
    /// It goes on without, and less well.
    Optional,
    /// It is another user's, as a rule: an operator's.
    Others,
}

/// Stands for any token of a channel.
const ANY: &str = "doctor";

impl Work {
    fn channels(&self) -> ChannelFilter {
        match self {
            Self::Send(channel, _) => channel.clone().into(),
            Self::Receive(_, channels) | Self::Read(channels) => channels.clone(),
        }
    }

    /// One of its channels.
    fn channel(&self) -> Channel {
        let tokens: Vec<_> = self
            .channels()
            .as_str()
            .split('.')
            .map(|token| if matches!(token, "*" | ">") { ANY } else { token }.to_owned())
            .collect();
        tokens.join(".").parse().unwrap_or_default()
    }

    /// All that it takes, tried out with a transfer that is nobody's.
    pub(super) fn tasks(&self, stream: &StreamName, subjects: &Subjects, nobodys: TransferId) -> Vec<Task> {
        let (channel, channels) = (self.channel(), self.channels());
        let (control, data) = (stream.control().to_owned(), stream.data());
        let of = |kind| subjects.of(kind, &channel, nobodys);
        let publish = |kind| Attempt::Publish(of(kind));
        let last = |kind| Attempt::Ask(format!("DIRECT.GET.{control}.{}", of(kind)));
        let read = |stream: &str, filter| Attempt::CreateConsumer { stream: stream.into(), name: None, filter };
        let flow = || [control.clone(), data.clone()].map(Attempt::LetFlow);
        let look = |filter: &ChannelFilter| {
            [Kind::Open, Kind::Close].map(|kind| read(&control, subjects.filter(kind, filter)))
        };
        let required = |name, attempts, otherwise| Task { name, need: Need::Required, otherwise, attempts };
        let optional = |name, attempts, otherwise| Task { name, need: Need::Optional, otherwise, attempts };
        let others = |name, attempts, otherwise| Task { name, need: Need::Others, otherwise, attempts };
        let everything = ChannelFilter::default();
        let mut around = look(&everything).to_vec();
        around.extend([&control, &data].map(|stream| Attempt::Ask(format!("CONSUMER.LIST.{stream}"))));
        around.extend([&control, &data].map(|stream| Attempt::Ask(format!("STREAM.INFO.{stream}"))));
        let around = others("look around", around, "`list` without -c, `status`, `receivers` do not work");
        match self {
            Self::Send(_, receivers) => {
                let mut again = vec![
                    last(Kind::Open),
                    last(Kind::Close),
                    read(&data, of(Kind::Data)),
                    read(&control, of(Kind::Repair)),
                ];
                again.extend(flow());
                let mut wait: Vec<_> =
                    [Kind::Receipt, Kind::Reject, Kind::Close].map(|kind| read(&control, of(kind))).into();
                wait.extend(receivers.iter().map(|name| Attempt::Ask(format!("CONSUMER.INFO.{control}.{name}"))));
                let both = |attempt: fn(String) -> Attempt| [control.clone(), data.clone()].map(attempt);
                let remove = [both(Attempt::Purge), both(Attempt::AskLeader)].concat();
                vec![
                    required(
                        "send",
                        [Kind::Open, Kind::Data, Kind::Close].map(publish).into(),
                        "nothing can be sent on this channel",
                    ),
                    required("send again", again, "what was interrupted cannot be sent on, nor closed"),
                    optional(
                        "send small files again",
                        vec![last(Kind::Repair)],
                        "small files that are stored already take several times as long",
                    ),
                    optional("--wait-for", wait, "who has what is not heard"),
                    around,
                    others("cancel, prune", remove, "nothing can be removed"),
                    others("init", both(Attempt::CreateStream).into(), "an operator must make the streams"),
                ]
            }
            Self::Receive(name, _) => {
                let cursor = cursor(name, nobodys);
                let info = |stream: &str, consumer: &str| Attempt::Ask(format!("CONSUMER.INFO.{stream}.{consumer}"));
                let pull =
                    |stream: &str, consumer: &str| Attempt::Pull { stream: stream.into(), consumer: consumer.into() };
                let acknowledge = |stream: &str, consumer: &str| Attempt::Acknowledge {
                    stream: stream.into(),
                    consumer: consumer.into(),
                };
                let inbox = vec![
                    Attempt::CreateConsumer {
                        stream: control.clone(),
                        name: Some(name.to_string()),
                        filter: subjects.filter(Kind::Open, &channels),
                    },
                    info(&control, name.as_str()),
                    pull(&control, name.as_str()),
                    acknowledge(&control, name.as_str()),
                ];
                let mut chunks = vec![
                    Attempt::CreateConsumer {
                        stream: data.clone(),
                        name: Some(cursor.clone()),
                        filter: of(Kind::Data),
                    },
                    info(&data, &cursor),
                    pull(&data, &cursor),
                    acknowledge(&data, &cursor),
                    Attempt::DeleteConsumer { stream: data.clone(), consumer: cursor },
                    last(Kind::Open),
                    last(Kind::Close),
                ];
                chunks.extend([Kind::Receipt, Kind::Repair].map(|kind| read(&control, of(kind))));
                chunks.extend(flow());
                let mut speak: Vec<_> = [Kind::Receipt, Kind::Repair, Kind::Reject].map(publish).into();
                speak.push(Attempt::Publish(subjects.unreadable(name)));
                let rejected = vec![read(&control, subjects.filter(Kind::Reject, &channels))];
                vec![
                    required("receive", inbox, "nothing can be received as this receiver"),
                    required("receive chunks", chunks, "only small files can be received"),
                    optional(
                        "say what became of it",
                        speak,
                        "senders do not know who has what, and nothing is repaired",
                    ),
                    optional(
                        "list, replay",
                        look(&channels).into(),
                        "what is stored on these channels cannot be listed",
                    ),
                    optional("rejected, retry", rejected, "what was rejected cannot be listed, nor tried again"),
                    around,
                ]
            }
            Self::Read(_) => {
                let mut replay = look(&channels).to_vec();
                replay.extend([last(Kind::Open), last(Kind::Close), read(&data, of(Kind::Data))]);
                replay.extend(flow());
                vec![required("list, replay", replay, "what is stored on these channels cannot be read"), around]
            }
        }
    }
}

impl Work {
    /// What was tried, as permissions name it: any transfer on the work's channels.
    pub(super) fn as_permitted(&self, right: &str, nobodys: TransferId) -> String {
        let channels = self.channels();
        let all = match channels.as_str().strip_suffix('>') {
            Some(_) => channels.to_string(),
            None => format!("{channels}.*"),
        };
        let mut right = right.replace(&format!("{}.{nobodys}", self.channel()), &all);
        if let Self::Receive(name, _) = self {
            // A name cannot be permitted in part.
            right = right.replace(&cursor(name, nobodys), "*");
        }
        right
    }
}

/// Nothing can be asked like this.
pub(super) fn deaf(violation: &str) -> Finding {
    let change = "run it with the inbox that this user may subscribe to (--inbox-prefix), or have this one permitted";
    Finding::fail("rights: hear answers", format!("no answer can be heard: {violation}"), change)
}

/// Judges one part of the work by what was tried of it. What can be done without is one line, however much of it is denied: among
/// many, one that matters would not be seen.
pub(super) fn judge(task: &Task, tried: &[(String, Permission)]) -> Vec<Finding> {
    let (check, otherwise) = (format!("rights: {}", task.name), task.otherwise);
    let (mut denied, mut findings) = (Vec::new(), Vec::new());
    let required = "have it permitted (docs/security.md)";
    let optional = "have it permitted, if this user is to do that (docs/security.md)";
    for (right, permission) in tried {
        match permission {
            Permission::Allowed | Permission::NoStream => {}
            Permission::Denied(_) => denied.push(right.as_str()),
            Permission::Deaf(violation) => return vec![deaf(violation)],
            Permission::Unknown(why) => {
                let found = format!("no telling about {right}: {why}");
                findings.push(match task.need {
                    Need::Required => Finding::fail(&check, found, required),
                    Need::Optional | Need::Others => Finding::warn(&check, found, optional),
                });
            }
        }
    }
    let not_permitted = |rights: &str| format!("not permitted: {rights}; {otherwise}");
    match task.need {
        _ if denied.is_empty() => {}
        Need::Required => {
            findings.extend(denied.iter().map(|right| Finding::fail(&check, not_permitted(right), required)));
        }
        Need::Optional => findings.push(Finding::warn(&check, not_permitted(&denied.join(", ")), optional)),
        Need::Others => findings.push(Finding::ok(&check, not_permitted(&denied.join(", ")))),
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("{} permitted", count(tried.len() as u64, "right"))));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    fn works() -> [Work; 3] {
        let channels: ChannelFilter = "invoices.>".parse().unwrap();
        [
            Work::Send("invoices.eu".parse().unwrap(), vec!["billing".parse().unwrap()]),
            Work::Receive("billing".parse().unwrap(), channels.clone()),
            Work::Read(channels),
        ]
    }

    #[test]
    fn what_is_required_fails_and_of_the_rest_is_one_line() {
        let (stream, nobodys) = (StreamName::default(), "0".repeat(32).parse().unwrap());
        for work in works() {
            let tasks = work.tasks(&stream, &Subjects::new(&stream), nobodys);
            assert!(tasks.iter().any(|task| task.need == Need::Required));
            for task in &tasks {
                let right = ("a.b".to_owned(), Permission::Allowed);
                assert_eq!(judge(task, std::slice::from_ref(&right))[0].verdict, Verdict::Ok);
                let denied = ["c.d", "e.f"].map(|right| (right.to_owned(), Permission::Denied("no".into())));
                let findings = judge(task, &[&[right][..], &denied].concat());
                let (lines, verdict) = match task.need {
                    Need::Required => (2, Verdict::Fail),
                    Need::Optional => (1, Verdict::Warn),
                    Need::Others => (1, Verdict::Ok),
                };
                assert!(findings.len() == lines && findings.iter().all(|finding| finding.verdict == verdict));
                let found: String = findings.iter().map(|finding| finding.found.as_str()).collect();
                assert!(found.contains("c.d") && found.contains("e.f"), "{found}");
                let deaf = [("c.d".to_owned(), Permission::Deaf("no".into()))];
                assert_eq!(judge(task, &deaf)[0].verdict, Verdict::Fail);
            }
        }
    }

    #[test]
    fn a_right_is_told_as_it_is_permitted() {
        let nobodys: TransferId = "0".repeat(32).parse().unwrap();
        let [send, receive, _] = works();
        let tell = |work: &Work, right: &str| work.as_permitted(right, nobodys);
        assert_eq!(tell(&send, &format!("natsfer.open.invoices.eu.{nobodys}")), "natsfer.open.invoices.eu.*");
        assert_eq!(tell(&receive, &format!("natsfer.receipt.invoices.doctor.{nobodys}")), "natsfer.receipt.invoices.>");
        assert_eq!(tell(&receive, &format!("$JS.ACK.NATSFER_DATA.billing-{nobodys}.>")), "$JS.ACK.NATSFER_DATA.*.>");
    }
}
