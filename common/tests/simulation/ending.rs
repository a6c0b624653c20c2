//! How a sender's run ends: closed, taken back, started over.

use bytes::Bytes;
use natsfer_common::{Closing, ClosingRecord, Ending, Kind, SendError, Totals, header};

use crate::{
    check::{Checked, Context, Sabotage, Seen, Violation, ensure},
    sender::{Listing, Look, Outcome, Sender, Sending, Stage},
    source::Source,
    stream::{Answer, Publication, Server},
    watch::Watch,
};

impl Sender {
    /// Every chunk is acknowledged.
    pub(crate) fn finish(
        &mut self, sending: Sending, context: &mut Context, server: &Server, source: &Source,
    ) -> Checked {
        let Sending { plan, hasher, offset, next, closed, look, .. } = sending;
        let digest = hasher.finish();
        if source.mtime != self.mtime {
            // A closed transfer is not taken back: what is stored of it is right.
            return match closed {
                Some(_) => self.end(Outcome::ClosedOtherwise, context),
                None => {
                    self.stage = Stage::Cancel;
                    Ok(())
                }
            };
        }
        let last = plan.last_sequence();
        let made_up = Totals { chunks: next, size: offset as u64, stored_bytes: offset as u64, digest };
        let careless = [Sabotage::EarlyClose, Sabotage::MixSources, Sabotage::RepairAll, Sabotage::ResumeAll];
        match plan.close(digest) {
            Ok(Ending::Close(totals)) => {
                let looked = look.is_some();
                let seen = look.and_then(Look::complete).filter(|seen| seen.can_close(&totals));
                if looked && seen.is_none() {
                    context.count(Seen::LookShowsLess);
                }
                // Where there was none, or it does not agree, another one is made.
                let agrees = seen.is_some() || self.stored(context, server, source).can_close(&totals);
                let listing = if agrees { Listing::Beside } else { Listing::Later };
                self.stage = Stage::Close { totals, last, listing };
            }
            Ok(Ending::Closed(totals)) => {
                self.watch.check_repair(self.run, &totals)?;
                self.stage = Stage::List(Closing::Complete(totals), Outcome::Repaired);
            }
            Err(_) if careless.iter().any(|careless| context.sabotaged(*careless)) => {
                self.stage = Stage::Close { totals: made_up, last, listing: Listing::Later };
            }
            Err(error) => {
                ensure(context.changed, || format!("run {}: {error}, of an unchanged source", self.run))?;
                match error {
                    SendError::Unacknowledged { .. } => return Err(Violation(format!("run {}: {error}", self.run))),
                    SendError::ClosedOtherwise { .. } => return self.end(Outcome::ClosedOtherwise, context),
                    _ if closed.is_some() => return self.end(Outcome::ClosedOtherwise, context),
                    SendError::SourceChanged { .. } => return self.end(Outcome::Foreign, context),
                    SendError::SizeChanged { .. } => self.stage = Stage::Cancel,
                }
            }
        }
        Ok(())
    }

    fn closing(&self, kind: Kind, closing: &Closing, expected: Option<u64>, source: &Source) -> Publication {
        let record = ClosingRecord::new(source.manifest.transfer, closing.clone()).to_header().unwrap();
        let id = (self.run, u64::MAX - 1 - u64::from(kind == Kind::Close));
        Publication { kind, headers: vec![(header::CLOSING, record)], payload: Bytes::new(), id, expected }
    }

    pub(crate) fn close(
        &mut self, totals: Totals, last: u64, listing: Listing, context: &mut Context, server: &mut Server,
        source: &Source,
    ) -> Checked {
        let closing = Closing::Complete(totals);
        if listing == Listing::Beside && context.rng.chance(50) {
            return self.list_first(totals, last, context, server, source);
        }
        let expected = (!context.sabotaged(Sabotage::BlindClose)).then_some(last);
        let before = server.data.last_on(Kind::Data);
        let stood = server.data.on(Kind::Data).any(|message| message.closing(&source.manifest).is_some());
        let publication = self.closing(Kind::Data, &closing, expected, source);
        let answer = self.publish(&publication, context, server);
        if server.data.last_on(Kind::Data) != before {
            context.count(Seen::ClosePublished);
            if stood {
                // A rival's, before the run's own last chunk: the subject's last message does not show it.
                context.count(Seen::ClosedTwice);
            }
            context.say(|| format!("run {}: closed behind {before}", self.run));
            self.watch.check_close(self.run, &totals, before, context, source)?;
        }
        match answer {
            None => self.stage = Stage::Close { totals, last, listing },
            Some(Answer::Stored(_) | Answer::Duplicate(_)) if listing == Listing::Done => {
                return self.end(Outcome::Sent, context);
            }
            Some(Answer::Stored(_) | Answer::Duplicate(_)) => self.stage = Stage::List(closing, Outcome::Sent),
            Some(Answer::Refused) => {
                context.count(Seen::CloseRefused);
                let stored = self.stored(context, server, source);
                let bytes = source.version(totals.digest).unwrap_or(&source.bytes);
                self.watch = Watch::new(server, source, bytes);
                let agrees = match listing {
                    Listing::Later | Listing::Beside => stored.can_close(&totals),
                    Listing::Done => stored.is_closed_as(&totals),
                };
                if agrees {
                    context.count(Seen::ClosedOnLookingAgain);
                    // This run has closed it itself.
                    self.watch.closing = None;
                    self.stage = Stage::Close { totals, last: stored.last_sequence(), listing };
                } else {
                    self.start_over(context)?;
                }
            }
        }
        Ok(())
    }

    /// The record for lists, before the one behind the chunks.
    fn list_first(
        &mut self, totals: Totals, last: u64, context: &mut Context, server: &mut Server, source: &Source,
    ) -> Checked {
        let closing = Closing::Complete(totals);
        let publication = self.closing(Kind::Close, &closing, Some(0), source);
        let listing = match self.publish(&publication, context, server) {
            None => Listing::Beside,
            Some(Answer::Stored(_) | Answer::Duplicate(_)) => {
                context.count(Seen::ListedFirst);
                Listing::Done
            }
            Some(Answer::Refused) => match server.closing_record(&source.manifest).map(|record| record.closing) {
                Some(Closing::Complete(standing)) if standing.same_file(&totals) => Listing::Done,
                standing => {
                    ensure(context.changed, || format!("run {}: {standing:?} stands, not {closing:?}", self.run))?;
                    return self.end(Outcome::ClosedOtherwise, context);
                }
            },
        };
        self.stage = Stage::Close { totals, last, listing };
        Ok(())
    }

    /// Begins again, as another run to the server.
    fn start_over(&mut self, context: &mut Context) -> Checked {
        context.count(Seen::StartedOver);
        context.say(|| format!("run {}: starts over", self.run));
        self.patience += 1;
        ensure(self.patience < 20, || format!("run {} starts over without end", self.run))?;
        if !context.sabotaged(Sabotage::OneNonce) {
            self.run += 1_000;
        }
        self.watch = Watch::default();
        self.stage = Stage::Open;
        Ok(())
    }

    pub(crate) fn cancel(&mut self, context: &mut Context, server: &mut Server, source: &Source) -> Checked {
        ensure(context.changed, || format!("run {} cancels the transfer of an unchanged source", self.run))?;
        let closing = Closing::Cancelled { reason: "the source changed".into() };
        let publication = self.closing(Kind::Data, &closing, None, source);
        self.stage = match self.publish(&publication, context, server) {
            None => Stage::Cancel,
            Some(_) => {
                context.count(Seen::Cancelled);
                Stage::List(closing, Outcome::Cancelled)
            }
        };
        Ok(())
    }

    /// The closing record again, unless it is there.
    pub(crate) fn list(
        &mut self, closing: Closing, outcome: Outcome, context: &mut Context, server: &mut Server, source: &Source,
    ) -> Checked {
        if matches!(outcome, Outcome::Unchanged | Outcome::Repaired) && server.control.last_on(Kind::Close) != 0 {
            return self.end(outcome, context);
        }
        let publication = self.closing(Kind::Close, &closing, Some(0), source);
        match self.publish(&publication, context, server) {
            None => self.stage = Stage::List(closing, outcome),
            Some(Answer::Refused) => {
                let standing = server.closing_record(&source.manifest).map(|record| record.closing);
                let same = match (&standing, &closing) {
                    (Some(Closing::Complete(standing)), Closing::Complete(totals)) => standing.same_file(totals),
                    (Some(Closing::Cancelled { .. }), Closing::Cancelled { .. }) | (None, _) => true,
                    _ => false,
                };
                ensure(same || context.changed, || format!("run {}: {standing:?} stands, not {closing:?}", self.run))?;
                return self.end(if same { outcome } else { Outcome::ClosedOtherwise }, context);
            }
            Some(_) => {
                context.count(Seen::CloseListed);
                return self.end(outcome, context);
            }
        }
        Ok(())
    }
}
