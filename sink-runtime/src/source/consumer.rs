//! The consumer thread: polls the client, drains the data queue, and carries messages to and from the engine. It never
//! waits for anything but its own wake-up, so the client is polled whatever the engine does.
//!
//! Each turn: what the client noted, data, what the engine asked, what the brokers answered. It sleeps only when
//! all of these were empty, and is unparked by any of them.

mod intake;
mod parting;
mod publication;
mod rebalance;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, unbounded};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::mpsc::UnboundedSender;

use self::parting::Course;
use self::publication::Publication;
use super::batch::DataQueue;
use super::context::{Context, Noted, Protocol};
use super::facts::client_config;
use super::inquiry::{Answer, Inquiry};
use super::partitions::Partitions;
use super::trouble::{Troubles, meaning};
use super::{
    BatchSink, Needs, SourceCommand, SourceError, SourceEvent, SourceHandle, client_error,
};
use crate::plan::{SourcePlan, Topics};
use crate::record::{Offset, TopicName, TopicPartition};

/// Messages per call: 10 000 of 200 bytes are 2 MB and some 3 ms of work, then control events get their turn.
const DRAIN: usize = 10_000;

/// The longest sleep. Wake-ups come by themselves; this only bounds the harm of one that was lost.
const REST: Duration = Duration::from_millis(100);

/// Between two looks at the pressure while paused, and at a partition whose forwarding may have been undone.
const SHORT_REST: Duration = Duration::from_millis(2);

/// Control events served a turn.
const EVENTS_PER_TURN: usize = 1000;

/// How long a release waits for group offsets, which are worth less than a quick hand-over.
const PUBLISHED: Duration = Duration::from_secs(1);

pub(super) struct Consumer {
    /// Before the client in this struct: destroyed before it.
    queue: DataQueue<Context>,
    client: Arc<BaseConsumer<Context>>,
    plan: SourcePlan,
    needs: Needs,
    sink: Arc<dyn BatchSink>,
    events: UnboundedSender<SourceEvent>,
    commands: Receiver<SourceCommand>,
    answers: Receiver<Answer>,
    inquiry: Inquiry,
    partitions: Partitions,
    protocol: Protocol,
    /// Revoked and not yet released. The client waits for one answer to all.
    to_release: BTreeSet<TopicPartition>,
    /// When what is still to be released is lost.
    release_due: Option<Instant>,
    /// Released, and to be taken from the client in that answer.
    released: Vec<TopicPartition>,
    /// To be released as soon as group offsets are settled, or at the latest then.
    releasing: Vec<TopicPartition>,
    release_by: Option<Instant>,
    /// Seeks that wait until no answer to a revocation is due: the client would take them for it.
    seeks: BTreeMap<TopicPartition, Offset>,
    /// Some partition's forwarding is to be repeated.
    unsettled: bool,
    publication: Publication,
    subscribed: BTreeSet<TopicName>,
    troubles: Troubles,
    paused: bool,
    /// Some partition has an offset to announce.
    announcing: bool,
    fatal: bool,
    course: Course,
}

pub(super) fn start(
    plan: &SourcePlan,
    needs: Needs,
    sink: Arc<dyn BatchSink>,
    events: UnboundedSender<SourceEvent>,
) -> Result<SourceHandle, SourceError> {
    let mut config = client_config(plan);
    // What this module's correctness rests on, whatever the plan says.
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set_log_level(if plan.properties.contains_key("debug") {
            RDKafkaLogLevel::Debug
        } else {
            RDKafkaLogLevel::Info
        });
    let mut client: BaseConsumer<Context> = config
        .create_with_context(Context::default())
        .map_err(|error| client_error(plan, &error))?;
    // As many as the engine has commands and the partitions questions: bounded by the partitions.
    let (handle, commands) = unbounded();
    let (inquirer, answers) = unbounded();
    let wake = Arc::new(OnceLock::<Thread>::new());
    let to_wake = Arc::clone(&wake);
    let answer = move |answer| {
        // Sent before `wake` is looked at: an answer that finds it empty is seen by the thread's first turn.
        if inquirer.send(answer).is_ok()
            && let Some(thread) = to_wake.get()
        {
            thread.unpark();
        }
    };
    let inquiry = Inquiry::start(plan, answer.clone())?;
    let plan = plan.clone();
    let join = thread::Builder::new()
        .name("kafka-consumer".to_owned())
        .spawn(move || {
            let me = thread::current();
            wake.get_or_init(|| me.clone());
            let unparked = me.clone();
            client.set_nonempty_callback(move || unparked.unpark());
            let client = Arc::new(client);
            let publication = Publication::start(Arc::clone(&client), answer);
            Consumer {
                queue: DataQueue::new(Arc::clone(&client), DRAIN, me),
                client,
                partitions: Partitions::new(needs, plan.batch_records),
                plan,
                needs,
                sink,
                events,
                commands,
                answers,
                inquiry,
                protocol: Protocol::Incremental,
                to_release: BTreeSet::new(),
                release_due: None,
                released: Vec::new(),
                releasing: Vec::new(),
                release_by: None,
                seeks: BTreeMap::new(),
                unsettled: false,
                publication,
                subscribed: BTreeSet::new(),
                troubles: Troubles::default(),
                paused: false,
                announcing: false,
                fatal: false,
                course: Course::Running,
            }
            .run();
        })
        .map_err(|error| SourceError::Client(format!("consumer thread: {error}")))?;
    Ok(SourceHandle {
        commands: handle,
        thread: join.thread().clone(),
        join,
    })
}

impl Consumer {
    fn run(mut self) {
        if let Topics::List(topics) = &self.plan.topics {
            let topics = topics.iter().cloned().collect();
            self.subscribe(topics);
        }
        loop {
            let now = Instant::now();
            let quiet = self.serve_client(now);
            // Right behind the client's events, before anything is assigned: see `hold_positions`.
            let more = self.fetch(now);
            self.deliver_overdue(now);
            if !more {
                self.deliver_to_idle();
            }
            self.serve_engine(now);
            self.serve_answers(now);
            self.publish_and_release(now);
            if self.proceed(now) {
                break;
            }
            if quiet && !more {
                self.rest();
            }
        }
        self.tell(SourceEvent::Closed);
    }

    /// What the client has to say. False when there may be more.
    fn serve_client(&mut self, now: Instant) -> bool {
        let mut quiet = false;
        for _ in 0..EVENTS_PER_TURN {
            let before = self.client.context().calls();
            let (polled, record) = match self.client.poll(Duration::ZERO) {
                None => (false, false),
                Some(polled) => (true, polled.is_ok()),
            };
            if record {
                // Every partition is forwarded before it is assigned. Were this to happen, a record would be lost.
                self.fatal(SourceError::Fatal(
                    "a record came outside of the data queue".to_owned(),
                ));
            }
            if !polled && self.client.context().calls() == before {
                quiet = true;
                break;
            }
        }
        while let Some(noted) = self.client.context().take() {
            match noted {
                Noted::Assigned(partitions, protocol) => {
                    self.troubles.joined();
                    self.assigned(partitions, protocol);
                }
                Noted::Revoked {
                    partitions,
                    protocol,
                    lost,
                } => self.revoked(partitions, protocol, lost),
                Noted::Error(code, reason) => self.client_reports(code, &reason, now),
                Noted::Statistics(json) => self.tell(SourceEvent::Statistics(json)),
            }
        }
        self.watch_for_loss(now);
        if let Some(error) = self.troubles.hopeless(now, self.subscribed.len()) {
            self.fatal(error);
        }
        quiet
    }

    fn serve_engine(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(SourceCommand::Start(starts)) => self.start(starts),
                Ok(SourceCommand::Release(partitions)) => {
                    self.releasing.extend(partitions);
                    self.release_by.get_or_insert(now + PUBLISHED);
                }
                Ok(SourceCommand::Seek(tp, at, epoch)) => self.seek(tp, at, epoch),
                Ok(SourceCommand::Announce(offsets)) => {
                    for (tp, at) in offsets {
                        if let Some(partition) = self.partitions.get_mut(&tp) {
                            partition.announce = Some(at.0);
                        }
                    }
                    self.announce();
                }
                Ok(SourceCommand::CommitOffsets(offsets)) => self.publication.asked(offsets),
                Ok(SourceCommand::Close) => self.close(now + self.plan.drain_timeout),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    // Nobody can release anything.
                    self.close(now);
                    if let Course::Draining(deadline) = &mut self.course {
                        *deadline = now;
                    }
                    break;
                }
            }
        }
        self.seek_if_possible();
    }

    fn serve_answers(&mut self, now: Instant) {
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::Offsets(located) => self.located(located),
                Answer::Topics(topics) => self.subscribe(topics),
                Answer::Trouble(error) => self.trouble(error, now),
                Answer::Published(offsets, result) => {
                    self.publication.answered(&offsets, result.is_ok(), now);
                    if let Err(error) = result {
                        self.trouble(error, now);
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, topics: BTreeSet<TopicName>) {
        // An empty subscription would be an error; the old one stands until a topic matches again.
        if topics.is_empty() || topics == self.subscribed || self.course != Course::Running {
            return;
        }
        let names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
        match self.client.subscribe(&names) {
            Ok(()) => {
                tracing::info!(topics = names.join(", "), "subscribed");
                self.subscribed = topics;
            }
            Err(error) => self.fatal(SourceError::Fatal(error.to_string())),
        }
    }

    fn deliver_overdue(&mut self, now: Instant) {
        let sink = &*self.sink;
        self.partitions.overdue(now, |batch| sink.push(batch));
    }

    fn rest(&self) {
        let mut rest = REST;
        match self.course {
            Course::Leaving(_) => rest = SHORT_REST,
            Course::Parting { until, .. } => {
                rest = rest.min(until.saturating_duration_since(Instant::now()));
            }
            Course::Running | Course::Draining(_) if self.paused || self.unsettled => {
                rest = SHORT_REST;
            }
            Course::Running | Course::Draining(_) => {}
        }
        if let Some(due) = self.partitions.next_due() {
            rest = rest.min(due.saturating_duration_since(Instant::now()));
        }
        if !rest.is_zero() {
            thread::park_timeout(rest);
        }
    }

    /// Group offsets first, releases behind them: offsets of a member that has given up are refused.
    fn publish_and_release(&mut self, now: Instant) {
        let held = |tp: &TopicPartition| self.partitions.get(tp).is_some();
        self.publication.go_on(now, held);
        if !self.publication.is_under_way() || self.release_by.is_some_and(|by| now >= by) {
            self.release_by = None;
            let releasing = std::mem::take(&mut self.releasing);
            self.release(&releasing);
        }
    }

    fn client_reports(&mut self, code: Code, reason: &str, now: Instant) {
        if let Some((code, reason)) = self.client.client().fatal_error() {
            self.fatal(SourceError::Fatal(format!("{code}: {reason}")));
            return;
        }
        match meaning(code, reason) {
            error @ SourceError::Fatal(_) => self.fatal(error),
            error => self.trouble(error, now),
        }
    }

    fn trouble(&mut self, error: SourceError, now: Instant) {
        if let Some(error) = self.troubles.report(error, now) {
            self.tell(SourceEvent::Trouble(error));
        }
    }

    fn fatal(&mut self, error: SourceError) {
        // The first says why; those that follow from it add nothing.
        if !self.fatal {
            self.fatal = true;
            self.tell(SourceEvent::Fatal(error));
        }
    }

    /// An engine that is gone shows as a closed command channel.
    fn tell(&self, event: SourceEvent) {
        let _ = self.events.send(event);
    }
}
