//! What goes wrong.

use natsfer_common::{JournalEntry, JournalHeader, Manifest};

use crate::{
    check::{Checked, Context, Seen},
    disk::Fuse,
    receiver::{Receiver, State},
    rng::Rng,
    sender::{Listing, Stage},
    world::World,
};

impl World {
    pub(crate) fn kill_sender(&mut self) {
        if !self.senders.is_empty() && self.context.rng.chance(60) {
            let at = self.context.rng.below(self.senders.len());
            let sender = self.senders.remove(at);
            if matches!(sender.stage, Stage::Close { listing: Listing::Done, .. }) {
                self.context.count(Seen::ListedAlone);
            }
            let under_way = sender.killed();
            self.context.count(Seen::SenderKilled);
            self.context.say(|| "a sender is killed".into());
            for publication in under_way {
                if self.context.rng.chance(40) {
                    self.late.push(publication);
                }
            }
        } else if let Some(publication) = self.late.pop() {
            let now = self.context.tick();
            let answer = self.server.data.publish(&publication, now);
            self.context.count(Seen::PublishedLate);
            self.context.say(|| format!("a dead sender's chunk arrives: {answer:?}"));
        }
    }

    pub(crate) fn harm_messages(&mut self) {
        let Self { context, server, .. } = self;
        let (seen, what) = match context.rng.below(20) {
            0..8 => {
                let stream = if context.rng.chance(85) { &mut server.data } else { &mut server.control };
                let Some(lost) = stream.lose_one(&mut context.rng) else { return };
                (Seen::MessageLost, format!("{:?} {}", lost.kind, lost.sequence))
            }
            8..14 => match server.data.alter_one(&mut context.rng) {
                Some(sequence) => (Seen::PayloadAltered, sequence.to_string()),
                None => return,
            },
            14..18 => {
                let now = context.tick();
                match server.data.double_one(&mut context.rng, now) {
                    Some(sequence) => (Seen::MessageDoubled, sequence.to_string()),
                    None => return,
                }
            }
            18 => {
                server.data.purge();
                (Seen::DataPurged, String::new())
            }
            _ => {
                server.cursors = [None; 2];
                (Seen::CursorForgotten, String::new())
            }
        };
        context.count(seen);
        context.say(|| format!("{seen:?} {what}"));
    }

    /// A stream comes back from an older disk, or is made anew.
    pub(crate) fn restore(&mut self) {
        let Self { context, server, snapshot, .. } = self;
        if snapshot.is_none() || context.rng.chance(40) {
            context.say(|| "a snapshot is taken".into());
            *snapshot = Some(server.clone());
            return;
        }
        let Some(older) = snapshot.clone() else { return };
        let seen = match context.rng.below(8) {
            0..2 => {
                server.data = older.data;
                Seen::DataRestored
            }
            2 => {
                server.control = older.control;
                Seen::ControlRestored
            }
            3..6 => {
                (server.data, server.control) = (older.data, older.control);
                Seen::BothRestored
            }
            6 => {
                server.data = Default::default();
                server.cursors = [None; 2];
                Seen::DataRecreated
            }
            _ => {
                server.control = Default::default();
                Seen::ControlRecreated
            }
        };
        context.count(seen);
        context.say(|| format!("{seen:?}"));
        if matches!(seen, Seen::DataRestored | Seen::BothRestored) {
            if context.rng.chance(50) {
                server.cursors = older.cursors;
                context.count(Seen::CursorRestored);
            } else {
                server.cursors = [None; 2];
                context.count(Seen::CursorForgotten);
            }
        }
    }

    pub(crate) fn change_source(&mut self) {
        // A change while it is sent shows in the mtime; one at rest may not.
        let noticeably = !self.senders.is_empty() || self.context.rng.chance(40);
        self.source.change(&mut self.context.rng, noticeably);
        self.context.changed = true;
        self.context.count(Seen::SourceChanged);
        if !self.senders.is_empty() {
            self.context.count(Seen::SourceChangedWhileSent);
        }
        self.context.say(|| format!("the source changes, noticeably: {noticeably}"));
    }

    pub(crate) fn harm_receiver(&mut self) -> Checked {
        let Self { context, receivers, troubles, source, .. } = self;
        let at = context.rng.below(receivers.len());
        let receiver = &mut receivers[at];
        match context.rng.below(12) {
            0..7 if !troubles.disks => {}
            0..5 => {
                let left = context.rng.below(8) as u32;
                let mut disk = receiver.disk.borrow_mut();
                if disk.fuse == Fuse::None && matches!(receiver.state, State::Up(_) | State::Away { .. }) {
                    disk.fuse = Fuse::Lit(left);
                }
            }
            5..7 => receiver.stops(context.rng.chance(60), context, source)?,
            _ if troubles.damage && matches!(receiver.state, State::Away { .. }) => {
                damage(receiver, context);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Somebody's hand, or a bad block, while no process is there.
fn damage(receiver: &mut Receiver, context: &mut Context) {
    let rng = &mut context.rng;
    let kind = rng.below(7);
    let (at, bit) = (rng.next() as usize, 1 << rng.below(8));
    let mut disk = receiver.disk.borrow_mut();
    let flip = |bytes: &mut Vec<u8>| {
        let length = bytes.len().max(1);
        bytes.iter_mut().skip(at % length).take(1).for_each(|byte| *byte ^= bit);
    };
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(at % (bytes.len() + 1));
    let seen = match kind {
        0 => {
            disk.journal.damage(cut);
            Seen::JournalTorn
        }
        1 => {
            disk.journal.damage(flip);
            Seen::JournalAltered
        }
        2 => {
            disk.journal.damage(Vec::clear);
            Seen::JournalDeleted
        }
        3 => {
            let (journal, part) = of_another(&receiver.manifest, rng);
            disk.journal.damage(|bytes| *bytes = journal);
            disk.part.damage(|bytes| *bytes = part);
            Seen::JournalOfAnother
        }
        4 => {
            disk.part.damage(Vec::clear);
            Seen::PartWiped
        }
        5 => {
            disk.part.damage(cut);
            Seen::PartCut
        }
        _ => {
            disk.part.damage(flip);
            Seen::PartAltered
        }
    };
    drop(disk);
    receiver.damaged();
    context.count(seen);
    context.say(|| format!("receiver {}: {seen:?}", receiver.number));
}

/// A sound journal of another transfer with a manifest as long, and the part that it speaks of.
pub(crate) fn of_another(manifest: &Manifest, rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
    let mut manifest = manifest.clone();
    manifest.transfer = "6".repeat(32).parse().unwrap();
    let size = manifest.chunk_size.bytes();
    let (mut journal, mut part) = (JournalHeader::new(manifest).to_bytes().unwrap(), Vec::new());
    for index in 0..3 {
        let chunk = rng.bytes(size as usize);
        let entry = JournalEntry { index, length: size, crc32: crc32fast::hash(&chunk) };
        journal.extend_from_slice(&entry.to_bytes());
        part.extend_from_slice(&chunk);
    }
    (journal, part)
}
