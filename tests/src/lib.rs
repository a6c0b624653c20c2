//! The harness of natsfer's end-to-end tests: it starts, breaks and restarts
//! real servers, real networks (a TCP proxy) and our own binaries.
//!
//! What it is: one fluent type per thing that can fail. [`Server`] and
//! [`Cluster`] run nats-server processes, [`Proxy`] is the cable between them
//! and us, [`Command`] runs `natsfer-producer` and `natsfer-consumer`, and
//! [`files`] makes and compares what they carry, and [`steps`] are what most
//! scenarios are made of. The scenarios are in `tests/tests/`.
//!
//! What it is not: a mock, a library for users, or something that hides a
//! failure. Setting up panics with everything known about the reason, because
//! in a test there is nobody to handle an error; a server that cannot be had
//! fails the test and never skips it. Nothing here waits for a fixed time:
//! readiness is probed, and [`eventually`] is how scenarios wait.
//!
//! Everything started here dies with the value that stands for it, and, where
//! `setpriv` exists (Linux), also when the test process itself is killed.
//! Elsewhere a killed test process can leave its servers behind.
//!
#![doc = include_str!("../README.md")]

pub mod docker;
pub mod document;
pub mod files;
pub mod nemesis;
pub mod steps;

mod binary;
mod build;
mod capture;
mod cluster;
mod commands;
mod config;
mod http;
mod line;
mod link;
mod mapping;
mod output;
mod packet_loss;
mod pipe;
mod ports;
mod process;
mod proxy;
mod server;
mod signals;
mod socket_buffer;
mod store;
mod usage;
mod wait;

pub use binary::{DEFAULT_VERSION, KNOWN_VERSIONS, server_binary};
pub use build::our_binary;
pub use capture::Lines;
pub use cluster::{Cluster, ClusterBuilder};
pub use commands::{Address, Command, Running, consumer, producer, program};
pub use config::Builder;
pub use http::get_text;
pub use line::{Line, Stalls};
pub use mapping::Mapping;
pub use output::Output;
pub use pipe::Pipe;
pub use proxy::Proxy;
pub use server::Server;
pub use usage::Usage;
pub use wait::{eventually, try_eventually};

/// Panics with `what` and the whole chain of causes: the harness' one way to
/// fail a test over something the test is not about.
#[track_caller]
pub(crate) fn must<T>(result: anyhow::Result<T>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error:#}"),
    }
}

/// Locks, and takes a poisoned lock too: a panic in one test thread must not
/// hide behind another's.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
