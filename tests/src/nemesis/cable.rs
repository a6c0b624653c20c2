//! One client's connection: a proxy to every server.

use std::time::Duration;

use super::servers::Servers;
use crate::Proxy;

/// The proxies of one client. What happens to one of them happens to all.
#[derive(Debug)]
pub(super) struct Cable {
    proxies: Vec<Proxy>,
    rate: u64,
}

impl Cable {
    /// A cable to all servers that carries so many bytes a second.
    pub(super) async fn to(servers: &Servers, rate: u64) -> Self {
        let mut proxies = Vec::new();
        for server in servers.all() {
            proxies.push(Proxy::to(&server.url()).await);
        }
        let cable = Self { proxies, rate };
        cable.widen();
        cable
    }

    /// What the client is told, as the servers' address.
    pub(super) fn url(&self) -> String {
        self.proxies.iter().map(Proxy::url).collect::<Vec<_>>().join(",")
    }

    /// Does something to all proxies.
    pub(super) fn each(&self, act: impl Fn(&Proxy)) {
        self.proxies.iter().for_each(act);
    }

    /// Lets through so much from now on.
    pub(super) fn narrow(&self, rate: u64) {
        self.each(|proxy| proxy.rate(rate));
    }

    /// The rate it had from the start.
    pub(super) fn widen(&self) {
        self.narrow(self.rate);
    }

    /// A perfect connection, whatever was done to it.
    pub(super) fn free(&self) {
        self.each(|proxy| {
            proxy.accept();
            proxy.black_hole(false);
            proxy.latency(Duration::ZERO);
            proxy.loss(0.0);
            proxy.rate(None);
        });
    }
}
