//! Who moves a file over a line.

use std::path::{Path, PathBuf};

use natsfer_tests::{Command, Proxy, consumer, producer};
use serde::Serialize;

use super::Place;
use crate::{peer, rsync};

/// What the daemon calls the file that is pulled.
pub(super) const STORED: &str = "stored";

/// One way to move a file from one end of a line to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Mover {
    /// `natsfer-producer send`.
    Send,
    /// async-nats's object store: put.
    Put,
    /// To rsync's daemon.
    Push,
    /// `natsfer-consumer receive --drain`.
    Receive,
    /// async-nats's object store: get to a file.
    Get,
    /// From rsync's daemon.
    Pull,
}

/// Which way the file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the server.
    Up,
    /// From the server.
    Down,
}

impl Mover {
    /// Those of one direction; natsfer is the first.
    pub(super) fn of(direction: Direction) -> [Self; 3] {
        match direction {
            Direction::Up => [Self::Send, Self::Put, Self::Push],
            Direction::Down => [Self::Receive, Self::Get, Self::Pull],
        }
    }

    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Send | Self::Put | Self::Push => Direction::Up,
            Self::Receive | Self::Get | Self::Pull => Direction::Down,
        }
    }

    /// As it stands in tables.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Send => "natsfer send",
            Self::Put => "object store put",
            Self::Push => "rsync push",
            Self::Receive => "natsfer receive",
            Self::Get => "object store get",
            Self::Pull => "rsync pull",
        }
    }

    /// Where its server listens; nothing, where there is none.
    pub(super) fn server(self, place: &Place) -> Option<String> {
        match self {
            Self::Push | Self::Pull => Some(place.daemon.as_ref()?.address()),
            _ => Some(place.scene.url()),
        }
    }

    /// What moves the file; what comes goes into that directory, and what is pushed into one of that name.
    pub(super) fn command(self, proxy: &Proxy, place: &Place, name: &str, into: &Path) -> Command {
        let (source, url) = (place.scene.source(), proxy.url());
        match self {
            Self::Send => producer(["send"]).arg(source).server(proxy),
            Self::Put => peer::command(["put", &url, "1", "1"]).arg(source),
            Self::Push => rsync::push(proxy.port(), source, name),
            Self::Receive => consumer(["receive", "--drain", "-n", name, "--into"]).arg(into).server(proxy),
            Self::Get => peer::command(["get", &url, "1"]).arg(into),
            Self::Pull => rsync::pull(proxy.port(), STORED, into),
        }
    }

    /// The file that a run has left; nothing, where it is in a stream.
    pub(super) fn arrived(self, place: &Place, name: &str, into: &Path) -> Option<PathBuf> {
        match self {
            Self::Send | Self::Put => None,
            Self::Push => Some(place.pushed(name)?.join("source")),
            Self::Receive | Self::Get => Some(into.join("source")),
            Self::Pull => Some(into.join(STORED)),
        }
    }
}
