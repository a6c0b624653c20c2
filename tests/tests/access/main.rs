//! Every way in: who is let in and who is not, how the connection is encrypted, and where JetStream is found. And that nothing
//! secret is ever shown.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod certificates;
mod contexts;
mod jwt;
mod logins;
mod reach;
mod tls;
mod visitor;
