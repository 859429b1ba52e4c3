//! What workers say, and what follows from it.

use super::super::EngineError;
use super::super::coordinator::Input;
use super::super::deliver::Deliver;
use super::super::worker::FromWorker;
use super::Conductor;
use crate::failpoint;

impl<D: Deliver> Conductor<D> {
    pub(in crate::engine) fn on_worker(
        &mut self,
        event: FromWorker<D::File>,
    ) -> Result<(), EngineError> {
        match event {
            FromWorker::Due(tps) => self.apply(Input::Due(tps)),
            FromWorker::Began(tp) => {
                if self.topic_ids.contains_key(&tp) {
                    self.settling.gathers(tp);
                }
            }
            FromWorker::Sealed { cut, mut share } => {
                let Some(pending) = self.cuts.get_mut(&cut) else {
                    self.deliver.abandon(share.files);
                    return Ok(());
                };
                for lane in &share.lanes {
                    self.settling.sealed(&lane.tp);
                }
                pending.share.lanes.append(&mut share.lanes);
                pending.share.files.append(&mut share.files);
                pending.waiting -= 1;
                if pending.waiting == 0 {
                    failpoint::pass("engine.sealed");
                    self.apply(Input::Sealed(cut));
                }
            }
            FromWorker::Refused(refused) if refused.before => {
                let first = self.refused.get_or_insert(refused);
                tracing::error!(tp = %first.tp, offset = %first.offset, "a record does not fit: what is before it is committed, then the sink stops");
            }
            FromWorker::Refused(refused) => return Err(EngineError::Refused(refused)),
            FromWorker::Waits { class, message } => {
                let advice = class.advice;
                tracing::warn!(error = %message, advice, "rows wait for the destination");
                self.progress.hindered(class, message);
            }
            FromWorker::Broken { class, message } => {
                return Err(EngineError::Stopped { class, message });
            }
        }
        Ok(())
    }
}
