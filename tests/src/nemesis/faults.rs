//! Doing to a victim what its lane says, and undoing it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::client::Client;
use super::record::Record;
use super::schedule::{Fault, Kind, Lane, Step};
use super::servers::Servers;
use crate::Proxy;

const SLOW: Duration = Duration::from_millis(200);
const NARROW: u64 = 1 << 20;
const LOSS: f64 = 0.01;

/// Tells when the faults are over.
#[derive(Clone, Debug)]
pub(super) struct Clock(watch::Receiver<bool>);

impl Clock {
    pub(super) fn new() -> (watch::Sender<bool>, Self) {
        let (end, over) = watch::channel(false);
        (end, Self(over))
    }

    /// Returns once the faults are over.
    pub(super) async fn over(&self) {
        let _ = self.0.clone().wait_for(|over| *over).await;
    }

    /// Lets a time pass; `false` if the faults are over before.
    async fn pass(&self, time: Duration) -> bool {
        timeout(time, self.over()).await.is_err()
    }
}

/// Follows a client's lane until the faults are over. Whatever was done is undone then.
pub(super) async fn torment(client: Arc<Client>, lane: Lane, clock: Clock) {
    for step in lane {
        if !clock.pass(step.pause).await {
            return;
        }
        let Some(running) = client.live(&clock).await else {
            return;
        };
        client.note(step.fault, step.lasts);
        let (cable, lasts) = (client.cable(), step.lasts);
        match step.fault {
            Fault::Kill | Fault::Terminate => client.end(&running, step.fault),
            Fault::Cut => cable.each(Proxy::cut),
            Fault::Stop => {
                running.pause();
                clock.pass(lasts).await;
                running.resume();
            }
            Fault::Refuse => {
                cable.each(Proxy::refuse);
                cable.each(Proxy::cut);
                clock.pass(lasts).await;
                cable.each(Proxy::accept);
            }
            Fault::BlackHole => {
                cable.each(|proxy| proxy.black_hole(true));
                clock.pass(lasts).await;
                cable.each(|proxy| proxy.black_hole(false));
            }
            Fault::Latency => {
                cable.each(|proxy| proxy.latency(SLOW));
                clock.pass(lasts).await;
                cable.each(|proxy| proxy.latency(Duration::ZERO));
            }
            Fault::Narrow => {
                cable.narrow(NARROW);
                clock.pass(lasts).await;
                cable.widen();
            }
            Fault::Loss => {
                cable.each(|proxy| proxy.loss(LOSS));
                clock.pass(lasts).await;
                cable.each(|proxy| proxy.loss(0.0));
            }
        }
    }
}

/// Follows the servers' lane: the next fault waits until the server of the last one is back, so that never more than
/// one is down.
pub(super) async fn torment_servers(servers: Arc<Servers>, lane: Lane, clock: Clock, record: Arc<Record>) {
    for Step { pause, fault, lasts, which } in lane {
        if !clock.pass(pause).await {
            return;
        }
        let number = servers.pick(which).await;
        let server = &servers.all()[number];
        record.injected(fault, Kind::Server, &format!("server-{number}"), lasts);
        if fault == Fault::Stop {
            server.pause();
            clock.pass(lasts).await;
            server.resume();
            continue;
        }
        if fault == Fault::Kill {
            server.kill().await;
        } else {
            server.stop().await;
        }
        clock.pass(lasts).await;
        servers.restart(number).await;
        record.restarted(Kind::Server);
    }
}
