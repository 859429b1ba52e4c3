//! The way out: give everything up, let the client say goodbye, close it.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::Consumer;

/// How long leaving the group may take once nothing is held any more.
const LEAVE: Duration = Duration::from_secs(5);

/// From the brokers' last answer until the client has sent its goodbye: its own thread needs no round trip for it.
const GOODBYE: Duration = Duration::from_millis(100);

/// From `Close` to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Running,
    /// Unsubscribed; the engine may release until then.
    Draining(Instant),
    /// Nothing is held. The client leaves the group by itself when it has given everything up, for which it waits for
    /// the brokers' answers; closed sooner, it would go without a word, and the others wait for the session timeout.
    Parting {
        until: Instant,
        deadline: Instant,
    },
    /// The client is closing; until then.
    Leaving(Instant),
}

impl Consumer {
    /// Begins to leave; idempotent.
    pub(super) fn close(&mut self, deadline: Instant) {
        if self.course != Course::Running {
            return;
        }
        self.course = Course::Draining(deadline);
        if self.client_is_dead() {
            // It gave everything up by itself and will not say so.
            self.lose_all();
        } else {
            self.client.unsubscribe();
        }
    }

    pub(super) fn client_is_dead(&self) -> bool {
        self.client.client().fatal_error().is_some()
    }

    /// Goes on with leaving. True when that is done.
    pub(super) fn proceed(&mut self, now: Instant) -> bool {
        match self.course {
            Course::Running => false,
            Course::Draining(deadline) => {
                if now >= deadline {
                    self.lose_all();
                }
                if self.partitions.is_empty() {
                    self.course = Course::Parting {
                        until: now + GOODBYE,
                        deadline: now + LEAVE,
                    };
                }
                false
            }
            Course::Parting { deadline, .. }
                if self.publication.is_under_way() && now < deadline =>
            {
                let until = now + GOODBYE;
                self.course = Course::Parting { until, deadline };
                false
            }
            Course::Parting { until, .. } => {
                if now >= until {
                    self.client.context().leave();
                    if let Err(error) = self.client.close_queue() {
                        tracing::debug!(error = %error, "close the consumer");
                        return true;
                    }
                    self.course = Course::Leaving(now + LEAVE);
                }
                false
            }
            Course::Leaving(deadline) => self.client.closed() || now >= deadline,
        }
    }
}
