//! What the system keeps of a connection beside the line.

use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use crate::Line;

/// A socket that was bounded and should not be any more is given this: the system no longer chooses by itself then.
const AMPLE: usize = 4 << 20;

/// One buffer of a socket: small where the line is slow, so that what it cannot carry yet waits in its sender's own socket.
#[derive(Debug)]
pub(crate) struct SocketBuffer {
    kind: Kind,
    /// As the line last wanted it.
    wanted: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// What has come and was not read.
    Receive,
    /// What was written and was not acknowledged.
    Send,
}

impl SocketBuffer {
    /// The buffer for what comes, as the system made it.
    pub(crate) fn receive() -> Self {
        Self { kind: Kind::Receive, wanted: None }
    }

    /// The buffer for what goes, as the system made it.
    pub(crate) fn send() -> Self {
        Self { kind: Kind::Send, wanted: None }
    }

    /// Makes it fit the line.
    pub(crate) fn fit(&mut self, socket: impl AsFd, line: &Line) -> io::Result<()> {
        let wanted = line.socket_buffer();
        if self.wanted == wanted {
            return Ok(());
        }
        self.wanted = wanted;
        let bytes = wanted.unwrap_or(AMPLE);
        match self.kind {
            Kind::Receive => set_socket_recv_buffer_size(socket, bytes)?,
            Kind::Send => set_socket_send_buffer_size(socket, bytes)?,
        }
        Ok(())
    }
}
