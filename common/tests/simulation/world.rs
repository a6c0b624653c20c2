//! One run: a source, two streams, senders, receivers, and everything that goes wrong between them.

use natsfer_common::{Closing, Kind};

use crate::{
    check::{Checked, Context, Sabotage, Seen, Tally, Violation, ensure},
    disk::{Disk, Fuse},
    receiver::{Receiver, State},
    rng::Rng,
    sender::{Outcome, Sender},
    source::Source,
    stream::{Publication, Server},
};

/// Rounds within which all has to come to rest once nothing goes wrong any more.
const ROUNDS: usize = 8;
/// Steps within which a sender or receiver has to come to rest in such a round.
const ROUND_STEPS: usize = 400;

/// What goes wrong in this run: there is much that only shows where other things do not.
#[derive(Debug)]
pub(crate) struct Troubles {
    pub(crate) server: bool,
    pub(crate) restores: bool,
    pub(crate) disks: bool,
    pub(crate) damage: bool,
    pub(crate) source: bool,
    pub(crate) rivals: bool,
    pub(crate) kills: bool,
}

pub(crate) struct World {
    pub(crate) context: Context,
    pub(crate) server: Server,
    pub(crate) source: Source,
    pub(crate) senders: Vec<Sender>,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) troubles: Troubles,
    pub(crate) snapshot: Option<Server>,
    /// Chunks of senders that are dead, still under way.
    pub(crate) late: Vec<Publication>,
    runs: u32,
    outcome: Option<Outcome>,
}

/// A run that went wrong, told.
pub(crate) struct Failure {
    pub(crate) violation: Violation,
    pub(crate) trace: Vec<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>, traced: bool) -> Result<(Tally, Vec<String>), Failure> {
    let mut world = World::new(seed, sabotage, traced);
    match world.run() {
        Ok(()) => Ok((world.context.tally, world.context.trace.unwrap_or_default())),
        Err(violation) => Err(Failure { violation, trace: world.context.trace.unwrap_or_default() }),
    }
}

impl World {
    fn new(seed: u64, sabotage: Option<Sabotage>, traced: bool) -> Self {
        let mut context = Context::new(seed, sabotage, traced);
        let rng = &mut context.rng;
        let source = Source::new(rng);
        let mut trouble = |percent| rng.chance(percent);
        let troubles = Troubles {
            server: trouble(60),
            restores: trouble(30),
            disks: trouble(50),
            damage: trouble(50),
            source: trouble(20),
            rivals: trouble(15),
            kills: trouble(70),
        };
        let full = if troubles.disks && rng.chance(40) { 8 } else { 0 };
        let receivers = (0..1 + rng.below(2))
            .map(|number| {
                let disk = Disk::new(Rng::new(rng.next()), full, sabotage);
                Receiver::new(number, disk, &source.manifest)
            })
            .collect();
        context.count(Seen::Runs);
        if source.bytes.is_empty() {
            context.count(Seen::EmptyFiles);
        }
        if source.fixed {
            context.count(Seen::RunsOfUnknownSize);
        }
        context.say(|| format!("{} bytes in chunks of {}", source.bytes.len(), source.manifest.chunk_size.bytes()));
        let skew = [0, 0, 0, 30, -30][context.rng.below(5)];
        if skew != 0 {
            context.count(Seen::RunsOfTwoClocks);
        }
        let server = Server { skew, ..Server::default() };
        let (senders, snapshot, late) = Default::default();
        Self { context, server, source, senders, receivers, troubles, snapshot, late, runs: 0, outcome: None }
    }

    fn run(&mut self) -> Checked {
        let steps = 40 + self.context.rng.below(100);
        for _ in 0..steps {
            self.context.step += 1;
            if self.context.rng.chance(20) {
                self.context.now += self.context.rng.below(12) as u64;
            }
            match self.context.rng.below(100) {
                0..45 => self.senders_step()?,
                45..90 => {
                    let at = self.context.rng.below(self.receivers.len());
                    self.receivers[at].step(&mut self.context, &mut self.server, &self.source)?;
                }
                90..93 if self.troubles.server => self.harm_messages(),
                93..94 if self.troubles.restores => self.restore(),
                94..97 if self.troubles.disks || self.troubles.damage => self.harm_receiver()?,
                97..98 if self.troubles.source && self.context.rng.chance(40) => self.change_source(),
                98.. if self.troubles.kills => self.kill_sender(),
                _ => {}
            }
        }
        self.come_to_rest()
    }

    /// Faults are over. The sender is run to its end, and the receivers to theirs.
    fn come_to_rest(&mut self) -> Checked {
        self.context.faulty = false;
        self.context.say(|| "nothing goes wrong any more".into());
        self.receivers.iter_mut().for_each(|receiver| {
            let mut disk = receiver.disk.borrow_mut();
            disk.full = 0;
            if disk.fuse != Fuse::Blown {
                disk.fuse = Fuse::None;
            }
        });
        while let Some(late) = self.late.pop() {
            let now = self.context.tick();
            self.server.data.publish(&late, now);
        }
        if self.is_all_stored() {
            // Nobody needs a sender for this.
            self.rounds(false)?;
            let landed = self.receivers.iter().all(|receiver| matches!(receiver.state, State::Landed));
            ensure(landed, || "everything is stored, and a receiver does not land it".into())?;
            self.context.count(Seen::LandedWithoutSender);
        }
        self.rounds(true)?;
        if !self.context.changed {
            self.context.count(Seen::RunsOfUnchangedSources);
        }
        let outcome = self.outcome;
        // A sender that finds its source to be another one leaves the transfer open: a receiver waits for the first source to
        // come back, and says so. That is the one end that is neither a file nor an error, and it needs a changed source.
        let left_open = matches!(outcome, Some(Outcome::Elsewhere | Outcome::Foreign | Outcome::ClosedOtherwise));
        for receiver in &self.receivers {
            receiver.check_landed(&self.source)?;
            let ended = match receiver.state {
                State::Landed => true,
                State::Failed => self.context.changed,
                State::Away { .. } | State::Up(_) => self.context.changed && left_open,
            };
            ensure(ended, || format!("a receiver ends {:?}, the sender {outcome:?}", receiver.state))?;
        }
        self.check_nothing_is_published_again()
    }

    fn rounds(&mut self, sending: bool) -> Checked {
        for _ in 0..ROUNDS {
            self.context.now += 100;
            if sending {
                self.send_to_the_end()?;
            }
            for at in 0..self.receivers.len() {
                self.receive_to_rest(at)?;
            }
            if self.receivers.iter().all(|receiver| matches!(receiver.state, State::Landed | State::Failed)) {
                break;
            }
        }
        Ok(())
    }

    /// Whether an unchanged source is stored to its last byte, and its end as well.
    fn is_all_stored(&self) -> bool {
        let Self { server, source: Source { manifest, bytes, .. }, .. } = self;
        let chunks = manifest.chunk_size.count(bytes.len() as u64);
        let sound = |index| server.copies(manifest, index).any(|message| message.is_sound(manifest, index));
        !self.context.changed
            && server.control.last_on(Kind::Open) != 0
            && matches!(server.closing(manifest), Some(Closing::Complete(_)))
            && (0..chunks).all(sound)
    }

    /// Once all have it, sending it again publishes nothing.
    fn check_nothing_is_published_again(&mut self) -> Checked {
        let whole = self.receivers.iter().all(|receiver| matches!(receiver.state, State::Landed));
        if !whole || self.context.changed {
            return Ok(());
        }
        // A copy that came between a receiver's look and its request leaves a request that nobody needs: it is answered once.
        self.context.now += 100;
        self.send_to_the_end()?;
        match self.outcome {
            Some(Outcome::Repaired) => self.context.count(Seen::NeedlessRepair),
            Some(Outcome::Unchanged) => {}
            other => return Err(Violation(format!("sent again, the end is {other:?}"))),
        }
        let before = (self.server.data.last_on(Kind::Data), self.server.control.last_on(Kind::Close));
        self.send_to_the_end()?;
        let after = (self.server.data.last_on(Kind::Data), self.server.control.last_on(Kind::Close));
        ensure(self.outcome == Some(Outcome::Unchanged) && before == after, || {
            format!("sent again, the end is {:?}: {before:?} became {after:?}", self.outcome)
        })
    }

    fn send_to_the_end(&mut self) -> Checked {
        for _ in 0..ROUND_STEPS {
            self.context.step += 1;
            self.senders_step()?;
            // Those of the time of faults end, too; then one begins anew.
            if self.senders.is_empty() {
                break;
            }
        }
        ensure(self.senders.is_empty(), || "a sender does not end".into())?;
        self.begin_run();
        while !self.senders.is_empty() {
            self.context.step += 1;
            self.senders_step()?;
        }
        Ok(())
    }

    fn receive_to_rest(&mut self, at: usize) -> Checked {
        self.context.now += 100;
        for step in 0.. {
            ensure(step < ROUND_STEPS, || format!("a receiver does not come to rest: {:?}", self.receivers[at].state))?;
            self.context.step += 1;
            let receiver = &mut self.receivers[at];
            receiver.step(&mut self.context, &mut self.server, &self.source)?;
            if !matches!(receiver.state, State::Up(_))
                && (step > 0 || !matches!(receiver.state, State::Away { until: 0 }))
            {
                break;
            }
        }
        Ok(())
    }

    fn begin_run(&mut self) {
        self.runs += 1;
        self.senders.push(Sender::new(self.runs, &self.source));
    }

    fn senders_step(&mut self) -> Checked {
        let most = if self.troubles.rivals { 2 } else { 1 };
        if self.context.faulty && self.senders.len() < most && self.context.rng.chance(20) {
            if !self.senders.is_empty() {
                self.context.count(Seen::RivalSender);
            }
            self.begin_run();
        }
        if self.senders.is_empty() {
            return Ok(());
        }
        let at = self.context.rng.below(self.senders.len());
        self.senders[at].step(&mut self.context, &mut self.server, &self.source)?;
        if let Some(outcome) = self.senders[at].outcome() {
            self.outcome = Some(outcome);
            self.senders.remove(at);
        }
        Ok(())
    }
}
