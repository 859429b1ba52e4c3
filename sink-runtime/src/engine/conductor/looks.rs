//! Where lanes go on: looks that are taken, taken again, and acted upon. Partitions fail alone: what the brokers do not tell
//! of one is asked again for it by itself, without end, while the others go on; only what never passes stops the sink.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::committing::ends;
use super::super::coordinator::Input;
use super::super::deliver::Deliver;
use super::super::recovery::{self, Ask, Asked, Looked, Resumed, Why};
use super::super::worker::ToWorker;
use super::super::{EngineError, RETRY};
use super::{Conductor, list};
use crate::errors::{Retry, class};
use crate::plan::OnRecordsExpired;
use crate::record::{AssignmentEpoch, Offset, TopicPartition};
use crate::source::SourceCommand;

/// Between two looks at how far others are with what was set out to be read here.
const ELSEWHERE: Duration = Duration::from_secs(1);

impl<D: Deliver> Conductor<D> {
    pub(super) fn recover(&mut self, lanes: Vec<Asked>) {
        let times = |(tp, _): &Asked| self.astray.get(tp).map_or(0, |(_, times)| *times);
        let (astray, lanes): (Vec<_>, Vec<_>) = lanes.into_iter().partition(|at| times(at) > 1);
        let tries = astray.iter().map(times).max();
        let ask = |lanes| Ask {
            lanes,
            ..Ask::default()
        };
        self.look(ask(lanes));
        self.look_again(ask(astray), tries.unwrap_or_default());
    }

    fn look(&mut self, ask: Ask) {
        if !ask.lanes.is_empty() {
            self.recoveries.spawn(recovery::look(
                Arc::clone(&self.plan),
                Arc::clone(&self.facts),
                Arc::clone(&self.counted),
                Arc::clone(&self.deliver),
                ask,
            ));
        }
    }

    fn look_again(&mut self, ask: Ask, tries: u32) {
        if !ask.lanes.is_empty() {
            let pause = RETRY.delay(tries, rand::random());
            self.again.push((Instant::now() + pause, ask));
        }
    }

    /// Those whose time has come, as far as they are still ours.
    pub(super) fn look_at_due(&mut self) {
        let now = Instant::now();
        let again = std::mem::take(&mut self.again);
        let (due, again): (Vec<_>, Vec<_>) = again.into_iter().partition(|(at, _)| *at <= now);
        self.again = again;
        for (_, mut ask) in due {
            ask.lanes
                .retain(|(tp, epoch)| self.coordinator.owns(tp, *epoch));
            self.look(ask);
        }
    }

    pub(super) fn on_looked(&mut self, looked: Looked) -> Result<(), EngineError> {
        let Looked {
            ask,
            mut found,
            mut waiting,
            refused,
            doubts,
        } = looked;
        let asked = ask.lanes.len();
        // What was taken away meanwhile is not our business any more, however the look ended.
        let owned = |(tp, epoch): &Asked| self.coordinator.owns(tp, *epoch);
        let lanes: Vec<_> = ask.lanes.into_iter().filter(owned).collect();
        let some_gone = lanes.len() < asked;
        let (mut resumed, mut unanswered, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for (tp, epoch) in lanes {
            match (found.remove(&tp), waiting.remove(&tp)) {
                (Some(found), _) => resumed.push((tp, epoch, found)),
                (None, Some(why)) => unanswered.push((tp, epoch, why)),
                (None, None) => open.push((tp, epoch)),
            }
        }
        self.resume(resumed);
        self.wait(unanswered, ask.unanswered + 1);
        let mut ask = Ask { lanes: open, ..ask };
        match refused {
            None if ask.failures > 0 => self.progress.reached(),
            // It may have been about what is gone.
            Some(_) if some_gone => self.look(ask),
            // Log and ledger were not read in one moment: others may have come between.
            Some(_) if !doubts.is_empty() => {
                ask.doubted.extend(doubts);
                self.look(ask);
            }
            Some(Why { class, message }) if !ask.lanes.is_empty() => {
                ask.failures += 1;
                ask.telling += u32::from(class.retry != Retry::Backoff);
                self.progress.hindered(class, message.clone());
                // What passes is waited for, however long.
                let last = self.plan.commit.max_consecutive_failures;
                if ends(class, ask.telling, last) {
                    return Err(EngineError::Stopped { class, message });
                }
                tracing::warn!(error = %message, advice = class.advice, "partitions cannot be recovered yet");
                for (tp, _) in &ask.lanes {
                    self.progress.waits(tp, class, message.clone());
                }
                let failures = ask.failures;
                self.look_again(ask, failures);
            }
            None | Some(_) => {}
        }
        Ok(())
    }

    fn resume(&mut self, resumed: Vec<(TopicPartition, AssignmentEpoch, Resumed)>) {
        let mut next = Vec::new();
        let mut ends = Vec::new();
        for (tp, epoch, resumed) in resumed {
            let Resumed {
                found,
                watermarks,
                topic_id,
                generation,
            } = resumed;
            self.topic_ids.insert(tp.clone(), topic_id);
            self.generations.insert(tp.clone(), generation);
            self.settling.opened(&tp);
            next.extend(found.expected.map(|next| (tp.clone(), next)));
            self.progress.owned(&tp, found.expected, Some(watermarks));
            self.progress.begins(&tp, found.start);
            self.goals.taken(&tp, found.start, watermarks.1);
            ends.push((tp.clone(), watermarks.1));
            self.apply(Input::Recovered { tp, epoch, found });
        }
        if self.goals.ends() {
            self.source.send(SourceCommand::Announce(ends));
        }
        // The last owner may have died between its commit and the group's offsets.
        self.source.send(SourceCommand::CommitOffsets(next));
    }

    /// These wait for the brokers, without end; the others go on.
    fn wait(&mut self, unanswered: Vec<(TopicPartition, AssignmentEpoch, Why)>, tries: u32) {
        let Some((_, _, first)) = unanswered.first() else {
            return;
        };
        let (error, advice) = (first.message.clone(), first.class.advice);
        let mut ask = Ask {
            unanswered: tries,
            ..Ask::default()
        };
        for (tp, epoch, why) in unanswered {
            self.progress.waits(&tp, why.class, why.message);
            ask.lanes.push((tp, epoch));
        }
        let tps: Vec<_> = ask.lanes.iter().map(|(tp, _)| tp.clone()).collect();
        tracing::warn!(partitions = %list(&tps), %error, advice, "partitions wait for the brokers");
        self.look_again(ask, tries);
    }

    /// Retention overtook the position, or the log was cut short under it.
    pub(super) fn out_of_range(
        &mut self,
        tp: &TopicPartition,
        epoch: AssignmentEpoch,
        position: Offset,
        (log_start, log_end): (Offset, Offset),
    ) -> Result<(), EngineError> {
        if !self.coordinator.owns(tp, epoch) {
            // It goes on elsewhere by now.
            return Ok(());
        }
        let expired = position < log_start;
        if expired && self.plan.source.on_records_expired == OnRecordsExpired::Skip {
            let gap = log_start.0 - position.0;
            tracing::warn!(%tp, %position, %log_start, gap, "records expired before they were read; going on at the log's start");
            self.progress.expired(gap as u64);
            self.router.send(
                tp,
                ToWorker::Advance {
                    tp: tp.clone(),
                    epoch,
                    at: log_start,
                },
            );
            self.source
                .send(SourceCommand::Seek(tp.clone(), log_start, epoch));
            return Ok(());
        }
        // The recovery looks at the log and the ledger together, and applies the policies: a new owner may have gone
        // on before the records expired, and this one not know yet.
        tracing::warn!(%tp, %position, %log_start, %log_end, "the position is not in the log");
        let before = self.astray.get(tp).filter(|(at, _)| *at == position);
        let times = before.map_or(1, |(_, times)| times + 1);
        self.astray.insert(tp.clone(), (position, times));
        if times > 1 {
            // The recovery found nothing wrong with it.
            let class = match expired {
                true => class::OFFSET_OUT_OF_RANGE,
                false => class::LOG_TRUNCATED,
            };
            let message =
                format!("{tp}: offset {position} is not in the log, [{log_start}, {log_end})");
            self.progress.hindered(class, message.clone());
            if times > self.plan.commit.max_consecutive_failures {
                return Err(EngineError::Stopped { class, message });
            }
        }
        self.apply(Input::Reread(vec![tp.clone()]));
        Ok(())
    }

    /// What was set out to be read here and given away is somebody else's to commit: the group tells of it.
    pub(super) fn look_elsewhere(&mut self) {
        if !self.goals.ends()
            || !self.elsewhere.is_empty()
            || self.looked_elsewhere.elapsed() < ELSEWHERE
        {
            return;
        }
        self.looked_elsewhere = Instant::now();
        let owed = self.goals.owed(self.coordinator.lanes());
        if !owed.is_empty() {
            let facts = Arc::clone(&self.facts);
            self.elsewhere
                .spawn_blocking(move || recovery::elsewhere(&facts, &owed));
        }
    }
}
