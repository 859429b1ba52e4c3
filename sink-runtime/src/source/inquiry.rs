//! A thread that asks the brokers on behalf of the consumer thread, which must not block: start positions, log bounds,
//! topics. It repeats until answered or told to stop; each call is bounded. Made when the source starts, joined when
//! it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::facts::{Facts, Lookup, whole_name};
use super::{SourceError, StartAt};
use crate::plan::{SourcePlan, Topics};
use crate::record::{AssignmentEpoch, Offset, TopicName, TopicPartition};

/// Bounds how long the end of the source waits for a call to come back.
const CALL: Duration = Duration::from_secs(3);

/// Between two attempts at a question that was not answered.
const RETRY: Duration = Duration::from_millis(500);

/// Between two looks for topics that do not exist yet, at the most.
const MISSING: Duration = Duration::from_secs(30);

/// librdkafka's own default, and its least value.
const REFRESH: Duration = Duration::from_secs(300);
const REFRESH_LEAST: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub(super) enum Question {
    Start(TopicPartition, StartAt, AssignmentEpoch),
    Bounds(TopicPartition, AssignmentEpoch),
    /// Nobody waits for an answer about the partition any more.
    Forget(TopicPartition),
}

impl Question {
    fn tp(&self) -> &TopicPartition {
        match self {
            Self::Start(tp, _, _) | Self::Bounds(tp, _) | Self::Forget(tp) => tp,
        }
    }
}

#[derive(Debug)]
pub(super) enum Answer {
    Offsets(Vec<Located>),
    /// The topics that match now, for a plan with a pattern.
    Topics(BTreeSet<TopicName>),
    Trouble(SourceError),
    /// An attempt to send these group offsets has ended.
    Published(Vec<(TopicPartition, Offset)>, Result<(), SourceError>),
}

#[derive(Debug)]
pub(super) enum Located {
    Start {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        at: Offset,
        from_log_start: bool,
    },
    Bounds {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        log_start: Offset,
        log_end: Offset,
    },
}

/// The thread's handle; dropping it stops and joins.
pub(super) struct Inquiry {
    questions: Option<Sender<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl Inquiry {
    /// `answer` is called on the thread.
    pub(super) fn start(
        plan: &SourcePlan,
        answer: impl Fn(Answer) + Send + 'static,
    ) -> Result<Self, SourceError> {
        let facts = Facts::connect(plan, CALL)?;
        // Bounded by the partitions of this process: at most one open question each.
        let (questions, asked) = unbounded();
        let watch = Watch::new(plan)?;
        let thread = thread::Builder::new()
            .name("kafka-inquiry".to_owned())
            .spawn(move || run(&facts, watch, &asked, &answer))
            .map_err(|error| SourceError::Client(format!("inquiry thread: {error}")))?;
        Ok(Self {
            questions: Some(questions),
            thread: Some(thread),
        })
    }

    pub(super) fn ask(&self, question: Question) {
        if let Some(questions) = &self.questions {
            // Fails only when the thread is gone, which the end of the source makes so.
            let _ = questions.send(question);
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the kafka inquiry thread panicked");
        }
    }
}

/// When to look for topics, and which.
struct Watch {
    topics: Topics,
    refresh: Duration,
    due: Option<Instant>,
}

impl Watch {
    fn new(plan: &SourcePlan) -> Result<Self, SourceError> {
        if let Topics::Pattern(pattern) = &plan.topics {
            whole_name(pattern)?;
        }
        let refresh = plan
            .properties
            .get("topic.metadata.refresh.interval.ms")
            .and_then(|value| value.expose().parse().ok())
            .map_or(REFRESH, Duration::from_millis)
            .max(REFRESH_LEAST);
        Ok(Self {
            topics: plan.topics.clone(),
            refresh,
            due: Some(Instant::now()),
        })
    }

    /// Looks, and sets when to look again. New partitions of known topics are the group's own business.
    fn look(&mut self, facts: &Facts, answer: &impl Fn(Answer)) {
        let (again, problems) = match &self.topics {
            Topics::Pattern(pattern) => match facts.matching_topics(pattern) {
                Ok(mut found) => {
                    // One without a leader for now stays subscribed: it would only come and go.
                    found.retain(|_, partitions| {
                        !matches!(
                            partitions,
                            Err(SourceError::NoSuchTopic(_) | SourceError::Denied(_))
                        )
                    });
                    let none = found.is_empty();
                    answer(Answer::Topics(found.into_keys().collect()));
                    let missing = none.then(|| SourceError::NoSuchTopic(pattern.clone()));
                    let again = if none {
                        self.refresh.min(MISSING)
                    } else {
                        self.refresh
                    };
                    (Some(again), missing.into_iter().collect())
                }
                Err(error) => (Some(RETRY), vec![error]),
            },
            Topics::List(list) => {
                let mut problems = Vec::new();
                for topic in list {
                    match facts.partitions(topic) {
                        Ok(_) => {}
                        Err(error @ (SourceError::NoSuchTopic(_) | SourceError::Denied(_))) => {
                            problems.push(error);
                        }
                        Err(error) => {
                            // Most likely the brokers: asking for the others would only take time.
                            problems.push(error);
                            break;
                        }
                    }
                }
                let again = (!problems.is_empty()).then(|| self.refresh.min(MISSING));
                (again, problems)
            }
        };
        for problem in problems {
            answer(Answer::Trouble(problem));
        }
        self.due = again.map(|pause| Instant::now() + pause);
    }
}

fn run(facts: &Facts, mut watch: Watch, asked: &Receiver<Question>, answer: &impl Fn(Answer)) {
    let mut open: Vec<Question> = Vec::new();
    loop {
        let now = Instant::now();
        if watch.due.is_some_and(|due| due <= now) {
            watch.look(facts, answer);
        }
        let pause = match (&watch.due, open.is_empty()) {
            (_, false) => RETRY,
            (Some(due), true) => due.saturating_duration_since(now),
            (None, true) => REFRESH,
        };
        match asked.recv_timeout(pause) {
            Ok(first) => {
                for question in std::iter::once(first).chain(asked.try_iter()) {
                    if let Question::Forget(tp) = &question {
                        open.retain(|other| other.tp() != tp);
                    } else {
                        open.push(question);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !open.is_empty() {
            open = resolve(facts, &open, answer);
        }
    }
}

/// Asks all in one go, and returns those to be asked again.
fn resolve(facts: &Facts, questions: &[Question], answer: &impl Fn(Answer)) -> Vec<Question> {
    let found = look_up(facts, questions, answer);
    let offset = |tp: &TopicPartition, lookup| found.get(&(tp, rank(lookup))).copied();
    let (start, end) = (
        |tp| offset(tp, Lookup::Start).flatten(),
        |tp| offset(tp, Lookup::End).flatten(),
    );
    let mut again = Vec::new();
    let mut answers = Vec::new();
    for question in questions {
        let answered = match question {
            Question::Start(tp, at, epoch) => {
                let at_offset = match at {
                    StartAt::Offset(offset) => Some(*offset),
                    StartAt::Earliest => start(tp),
                    StartAt::Latest => end(tp),
                    StartAt::Timestamp(at) => match offset(tp, Lookup::Timestamp(*at)) {
                        Some(None) => end(tp),
                        found => found.flatten(),
                    },
                };
                at_offset.map(|offset| Located::Start {
                    tp: tp.clone(),
                    epoch: *epoch,
                    at: offset,
                    from_log_start: *at == StartAt::Earliest,
                })
            }
            Question::Bounds(tp, epoch) => {
                start(tp)
                    .zip(end(tp))
                    .map(|(log_start, log_end)| Located::Bounds {
                        tp: tp.clone(),
                        epoch: *epoch,
                        log_start,
                        log_end,
                    })
            }
            Question::Forget(_) => continue,
        };
        match answered {
            Some(answered) => answers.push(answered),
            None => again.push(question.clone()),
        }
    }
    if !answers.is_empty() {
        answer(Answer::Offsets(answers));
    }
    again
}

/// What the brokers said, by partition and kind of lookup. `None`: no record is as young. Absent: they did not say.
fn look_up<'q>(
    facts: &Facts,
    questions: &'q [Question],
    answer: &impl Fn(Answer),
) -> BTreeMap<(&'q TopicPartition, u8), Option<Offset>> {
    let lookups = |question: &Question| match question {
        // The end as well: it stands in where no record is as young.
        Question::Start(_, StartAt::Timestamp(at), _) => vec![Lookup::Timestamp(*at), Lookup::End],
        Question::Start(_, StartAt::Latest, _) => vec![Lookup::End],
        Question::Start(..) => vec![Lookup::Start],
        Question::Bounds(..) => vec![Lookup::Start, Lookup::End],
        Question::Forget(_) => vec![],
    };
    let mut found = BTreeMap::new();
    // A request names a partition once: what is asked of one partition in several ways goes in several requests. The
    // end comes last, so that no record between two answers is missed.
    for kind in [
        rank(Lookup::Start),
        rank(Lookup::Timestamp(0)),
        rank(Lookup::End),
    ] {
        let mut asked: BTreeMap<&TopicPartition, Lookup> = BTreeMap::new();
        for question in questions {
            for lookup in lookups(question) {
                if rank(lookup) == kind {
                    asked.insert(question.tp(), lookup);
                }
            }
        }
        let asked: Vec<_> = asked
            .into_iter()
            .map(|(tp, lookup)| (tp, (tp.clone(), lookup)))
            .collect();
        let request: Vec<_> = asked.iter().map(|(_, asked)| asked.clone()).collect();
        for ((tp, _), offset) in asked.iter().zip(facts.locate(&request, CALL)) {
            match offset {
                Ok(offset) => {
                    found.insert((*tp, kind), offset);
                }
                Err(error) => {
                    answer(Answer::Trouble(error));
                }
            }
        }
    }
    found
}

fn rank(lookup: Lookup) -> u8 {
    match lookup {
        Lookup::Start => 0,
        Lookup::End => 1,
        Lookup::Timestamp(_) => 2,
    }
}
