//! Ports: those a server was given, and those to give it.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Where a server listens, on loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) http: u16,
}

impl Ports {
    /// From the file the server writes once it listens; `None` until it is
    /// there and whole.
    pub(crate) fn read(run_dir: &Path) -> Option<Self> {
        let file = std::fs::read_dir(run_dir)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "ports"))?;
        let ports: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let port = |key: &str| ports[key][0].as_str()?.rsplit(':').next()?.parse().ok();
        Some(Self { client: port("nats")?, http: port("monitoring")? })
    }
}

/// Ports that were free a moment ago. Someone may take one before its server
/// does, so whoever uses them has to be ready to try again.
pub(crate) fn free(count: usize) -> Result<Vec<u16>> {
    // All are held until all are known, or the system might give one twice.
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()
        .context("no free port on loopback")?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
