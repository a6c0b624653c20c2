//! What a run of a sender may do, judged by what the server held when it looked: found apart from the code under test.

use std::collections::{BTreeMap, BTreeSet};

use natsfer_common::{Closing, Kind, Totals};

use crate::{
    check::{Checked, Context, ensure},
    sender::Sender,
    source::Source,
    stream::Server,
};

/// What the checks know of a run, found apart from the code under test.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Chunks stored when the run looked, and neither differing from the source nor asked for again.
    pub(crate) stored: BTreeSet<u64>,
    /// All that were stored then: their CRC-32.
    pub(crate) found: BTreeMap<u64, u32>,
    pub(crate) asked: BTreeSet<u64>,
    pub(crate) acknowledged: BTreeSet<u64>,
    /// The subject's last message that the run can know of.
    pub(crate) last: u64,
    pub(crate) closing: Option<Closing>,
}

impl Watch {
    /// What is stored, found for the checks, and compared with what the run reads or has read.
    pub(crate) fn new(server: &Server, source: &Source, bytes: &[u8]) -> Self {
        let manifest = &source.manifest;
        let mut watch = Self { closing: server.closing(manifest), ..Self::default() };
        let mut newest = BTreeMap::<u64, u64>::new();
        for message in server.data.on(Kind::Data) {
            watch.last = message.sequence;
            if let Some(chunk) = message.chunk(manifest) {
                watch.found.entry(chunk.index).or_insert(chunk.crc32);
                newest.insert(chunk.index, message.stored_at);
                let raw = source.cut(bytes, chunk.index);
                if (chunk.crc32, chunk.length as usize) == (crc32fast::hash(raw), raw.len()) {
                    watch.stored.insert(chunk.index);
                }
            }
        }
        for message in server.control.on(Kind::Repair) {
            for index in message.request(manifest).iter().flat_map(|request| request.chunks.iter()) {
                if newest.get(&index).is_some_and(|newest| *newest <= message.stored_at) {
                    watch.asked.insert(index);
                    watch.stored.remove(&index);
                }
            }
        }
        watch
    }

    /// A chunk is published only if it was missing or asked for when the run looked, and never beside other bytes.
    pub(crate) fn check_chunk(
        &self, sender: &Sender, index: u64, raw: &[u8], context: &Context, source: &Source,
    ) -> Checked {
        let Self { stored, found, closing, .. } = self;
        let (run, crc32) = (sender.run, crc32fast::hash(raw));
        ensure(!stored.contains(&index), || format!("run {run} publishes chunk {index} again"))?;
        let mixed = found.get(&index).is_some_and(|found| *found != crc32);
        ensure(!mixed, || format!("run {run} publishes chunk {index} beside one with other bytes"))?;
        // What cannot be known: a source that changes after it was seen to have the digest.
        if let Some(Closing::Complete(totals)) = closing
            && source.mtime == sender.mtime
        {
            let right = source.version(totals.digest).is_some_and(|bytes| source.cut(bytes, index) == raw);
            ensure(right, || format!("run {run} publishes chunk {index} of another source"))?;
        }
        ensure(context.changed || crc32 == crc32fast::hash(source.cut(&source.versions[0], index)), || {
            format!("chunk {index} is not the source's")
        })
    }

    /// A repair leaves out nothing that was missing or asked for.
    pub(crate) fn check_repair(&self, run: u32, totals: &Totals) -> Checked {
        let done = |index: &u64| self.stored.contains(index) || self.acknowledged.contains(index);
        let missing: Vec<_> = (0..totals.chunks).filter(|index| !done(index)).collect();
        ensure(missing.is_empty(), || format!("run {run} leaves {missing:?} out of its repair"))
    }

    /// The closing record comes last, once.
    pub(crate) fn check_close(
        &self, run: u32, totals: &Totals, before: u64, context: &Context, source: &Source,
    ) -> Checked {
        let Self { stored, found, acknowledged, last, closing, .. } = self;
        // Allowed by design: a run that looks again counts what is stored and does not compare it. Where a dead run of an
        // earlier source, with size and mtime kept, has left the only copy of a chunk, it closes over that.
        let there = |index: &u64| stored.contains(index) || (context.changed && found.contains_key(index));
        let outstanding: Vec<_> =
            (0..totals.chunks).filter(|index| !there(index) && !acknowledged.contains(index)).collect();
        ensure(outstanding.is_empty(), || format!("run {run} closes before {outstanding:?} are acknowledged"))?;
        ensure(before == *last, || format!("run {run} closes behind {before}, and knows of {last}"))?;
        ensure(closing.is_none(), || format!("run {run} closes what it saw closed"))?;
        ensure(source.version(totals.digest).is_some_and(|bytes| bytes.len() as u64 == totals.size), || {
            format!("run {run} closes with a digest that the source never had")
        })
    }
}
