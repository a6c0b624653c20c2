//! `doctor`: whether everything is as it should be, and what to change. Both programs have it; what they share is here: the server,
//! the streams, and what this user may do. What was found is judged by functions that know no network.

mod finding;
mod line;
mod receivers;
mod rights;
mod server;
mod streams;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

pub use finding::{Finding, Verdict, print};
pub use rights::Work;

use self::server::Clock;

use super::ServerArguments;
use crate::{
    Channel, ReceiverName, TransferId,
    broker::{Attempt, Broker, BrokerError, Permission, StreamSettings, code},
};

/// Rights that are tried at once.
const AT_ONCE: usize = 8;

/// What was found so far, and the connection, if there is one with JetStream behind it.
#[derive(Debug)]
pub struct Examined {
    /// In the order it was looked at.
    pub findings: Vec<Finding>,
    /// For what else is to be looked at.
    pub broker: Option<Broker>,
}

/// Looks at the server, the account, the streams, and what this user may do of this work.
pub async fn examine(server: &ServerArguments, program: clap::Command, work: &Work) -> Examined {
    let broker = match server.connect(program, Duration::ZERO).await {
        Ok(broker) => broker,
        Err(error) => return Examined { findings: vec![server::no_connection(&error)], broker: None },
    };
    let mut findings = connection(&broker).await;
    if let Permission::Deaf(violation) = broker.may(&Attempt::Ask("INFO".into())).await {
        // Nothing else can be found out.
        findings.push(rights::deaf(&violation));
        broker.close().await;
        return Examined { findings, broker: None };
    }
    findings.extend(line::speed(&broker.line_speed().await));
    // The server's limit it has said; what the account or the user may have less shows with what measures the line.
    let facts = broker.server();
    findings.push(server::max_payload(facts.max_payload, facts.granted_payload));
    let there = match broker.account().await {
        Err(error) => server::no_account(&error),
        Ok(account) => Ok(server::account(&account)),
    };
    match there {
        Ok(about) => findings.extend(about),
        Err(absent) => {
            findings.push(absent);
            broker.close().await;
            return Examined { findings, broker: None };
        }
    }
    let (about_rights, told) = permissions(&broker, work).await;
    findings.extend(streams(&broker, told, work).await);
    findings.extend(about_rights);
    if let Work::Send(channel, receivers) = work {
        findings.extend(awaited(&broker, channel, receivers).await);
        // Who may not look at consumers is told so with its rights.
        let inboxes = broker.consumers(broker.stream().control()).await.unwrap_or_default();
        findings.extend(receivers::elsewhere(channel, &broker.listening(&inboxes, &channel.clone().into())));
    }
    Examined { findings, broker: Some(broker) }
}

async fn connection(broker: &Broker) -> Vec<Finding> {
    let facts = broker.server();
    let mut findings = vec![server::version(&facts), server::encryption(&facts)];
    findings.push(server::login(&facts, broker.identity().await.ok().as_ref()));
    findings.push(server::round_trip(broker.estimate(0).await.round_trip));
    findings
}

/// What trying the rights has told of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// They are not there.
    Absent,
    /// Nothing.
    Nothing,
}

/// Looks at both streams; the first that tells the time is believed.
async fn streams(broker: &Broker, told: Told, work: &Work) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut missing = 0;
    let (mut clock, mut found) = (Clock::NotTold, Vec::new());
    let (control, data) = (broker.stream().control().to_owned(), broker.stream().data());
    let pair = [(control, broker.subjects().control_stream()), (data, broker.subjects().data_stream())];
    for (name, subjects) in pair {
        match broker.stream_facts(&name).await {
            Ok(facts) => {
                if let (Some((ahead, off)), Clock::NotTold) = (facts.clock_ahead, clock) {
                    clock = Clock::Ahead(ahead, off);
                }
                let differences = facts.config.differences(&name, &subjects, &StreamSettings::default());
                findings.extend(streams::stream(&facts, &differences, broker.max_payload() as u64, work));
                found.push(facts);
            }
            // Whoever may not look at streams has heard it otherwise.
            Err(error)
                if error.is(code::STREAM_NOT_FOUND)
                    || told == Told::Absent && matches!(error, BrokerError::Denied { .. }) =>
            {
                missing += 1;
                let making = broker.may(&Attempt::CreateStream(name.clone())).await;
                findings.push(streams::absent(&name, &making));
            }
            Err(error) => findings.push(streams::not_seen(&name, &error)),
        }
    }
    if missing == 2 {
        clock = Clock::NoStream;
    }
    if let [control, data] = &found[..] {
        findings.extend(streams::together(control, data));
    }
    findings.push(server::clock(clock));
    findings
}

/// Tries every right of this work.
async fn permissions(broker: &Broker, work: &Work) -> (Vec<Finding>, Told) {
    let (mut findings, mut told) = (Vec::new(), Told::Nothing);
    // Nobody's: what is asked about it finds nothing.
    let Ok(nobodys) = TransferId::random() else { return (findings, told) };
    for task in work.tasks(broker.stream(), broker.subjects(), nobodys) {
        let tries = task.attempts.iter().map(|attempt| async move {
            (work.as_permitted(&broker.right(attempt), nobodys), broker.may(attempt).await)
        });
        let tried: Vec<(String, Permission)> = stream::iter(tries).buffered(AT_ONCE).collect().await;
        findings.extend(rights::judge(&task, &tried));
        if tried.iter().any(|(_, permission)| *permission == Permission::NoStream) {
            told = Told::Absent;
        }
    }
    (findings, told)
}

/// Looks for the receivers that are to be waited for.
async fn awaited(broker: &Broker, channel: &Channel, receivers: &[ReceiverName]) -> Vec<Finding> {
    let Ok(nobodys) = TransferId::random() else { return Vec::new() };
    let subject = broker.subjects().open(channel, nobodys);
    let mut findings = Vec::new();
    for name in receivers {
        let check = format!("receiver {name}");
        // That it may not be looked for is told with the permissions.
        let Ok(inbox) = broker.consumer(broker.stream().control(), name.as_str()).await else { continue };
        findings.push(match inbox {
            Some(inbox) if inbox.listens_to(&subject) => Finding::ok(check, format!("listens on channel {channel}")),
            Some(_) => {
                let change = "send on a channel that it listens on: `receivers` shows them";
                Finding::warn(check, format!("does not listen on channel {channel}"), change)
            }
            None => Finding::warn(check, "is not there (yet)", "see `receivers` for those that are"),
        });
    }
    findings
}

/// A receiver's cursor over nobody's transfer.
fn cursor(receiver: &ReceiverName, nobodys: TransferId) -> String {
    format!("{receiver}-{nobodys}")
}
