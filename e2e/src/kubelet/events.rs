//! What happens to a pod, as events: what `kubectl describe` shows.

use std::fmt;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

use super::Context;

/// A note may have 1 KiB.
const LONGEST: usize = 1000;

/// The events of one pod.
#[derive(Clone)]
pub(super) struct Events {
    recorder: Recorder,
    pod: ObjectReference,
}

impl Events {
    pub(super) fn of(kubelet: &Context, pod: &Pod) -> Self {
        Events {
            recorder: kubelet.recorder.clone(),
            pod: pod.object_ref(&()),
        }
    }

    pub(super) fn normal(&self, reason: &str, note: String) {
        self.tell(EventType::Normal, reason, note);
    }

    pub(super) fn warning(&self, reason: &str, note: String) {
        self.tell(EventType::Warning, reason, note);
    }

    /// Does not wait: nothing depends on an event.
    fn tell(&self, type_: EventType, reason: &str, note: String) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(LONGEST).collect()),
            action: reason.to_owned(),
            secondary: None,
        };
        let events = self.clone();
        tokio::spawn(async move {
            // Lost when the API server is away, as any event.
            let _ = events.recorder.publish(&event, &events.pod).await;
        });
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
