//! The client's errors: what they are, which are worth an event now, and which end the process. Pure; takes the clock
//! as argument. Remembers a bounded number of errors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::SourceError;
use crate::errors::{Class, Classified, class};

/// An error that goes on is reported once in this time.
const REPEAT: Duration = Duration::from_secs(30);

/// How long the cluster may refuse us with nothing arriving before that counts as revoked access. Longer than a
/// rolling restart or the propagation of a new ACL makes brokers disagree.
const PATIENCE: Duration = Duration::from_secs(30);

/// Distinct errors remembered; past it the oldest is forgotten, and may be reported again early.
const REMEMBERED: usize = 64;

impl Classified for SourceError {
    fn class(&self) -> Class {
        match self {
            Self::Client(_) => class::INVALID_SPEC,
            Self::Unreachable(_) | Self::Lookup { .. } => class::BROKER_UNREACHABLE,
            Self::Authentication(_) => class::SOURCE_AUTH,
            Self::Denied(_) => class::SOURCE_DENIED,
            Self::NoSuchTopic(_) => class::TOPIC_MISSING,
            Self::Fatal(_) | Self::Unreadable { .. } => class::SOURCE_FATAL,
            Self::CommitOffsets(_) | Self::Other(_) => class::BROKER_UNREACHABLE,
        }
    }
}

/// What an error code of the client means. `reason` is the client's own sentence.
pub(super) fn meaning(code: Code, reason: &str) -> SourceError {
    let reason = reason.to_owned();
    match code {
        Code::Fatal | Code::FencedInstanceId => SourceError::Fatal(reason),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL => SourceError::Authentication(reason),
        Code::TopicAuthorizationFailed => SourceError::Denied(
            topic_named_in(&reason).map_or(reason, |topic| denied_topic(&topic)),
        ),
        Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            SourceError::Denied(reason)
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            SourceError::NoSuchTopic(topic_named_in(&reason).unwrap_or(reason))
        }
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::NetworkException => SourceError::Unreachable(reason),
        _ => SourceError::Other(reason),
    }
}

/// An error of a client call rather than of an event.
pub(super) fn call_failed(what: &'static str, error: &KafkaError) -> SourceError {
    match error.rdkafka_error_code() {
        Some(
            code @ (Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed),
        ) => meaning(code, &format!("{what}: {code}")),
        Some(code) => SourceError::Lookup {
            what,
            message: code.to_string(),
        },
        None => SourceError::Lookup {
            what,
            message: error.to_string(),
        },
    }
}

const OF_TOPIC: &str = "topic ";

/// How a topic that may not be read is named, here and in [`Troubles::arrived`].
pub(super) fn denied_topic(topic: &str) -> String {
    format!("{OF_TOPIC}\"{topic}\"")
}

/// librdkafka names the topic in a sentence: "Subscribed topic not available: orders: Broker: Unknown topic …".
fn topic_named_in(reason: &str) -> Option<String> {
    let (_, rest) = reason.split_once("not available: ")?;
    let (topic, _) = rest.split_once(':')?;
    Some(topic.to_owned())
}

/// Errors so far, as far as they matter to what is said next.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    reported: BTreeMap<String, Instant>,
    /// First and latest refusal since something last worked.
    refused: Option<(Instant, Instant, String)>,
    /// Denials that nothing contradicted yet: the client says them once.
    denied: BTreeMap<String, Instant>,
}

impl Troubles {
    /// The error, if it is time to say it.
    pub(super) fn report(&mut self, error: SourceError, now: Instant) -> Option<SourceError> {
        match &error {
            SourceError::Authentication(reason) => {
                let first = self.refused.as_ref().map_or(now, |(first, _, _)| *first);
                self.refused = Some((first, now, reason.clone()));
            }
            SourceError::Denied(reason) if self.denied.len() < REMEMBERED => {
                self.denied.entry(reason.clone()).or_insert(now);
            }
            _ => {}
        }
        let name = match &error {
            // These sentences carry addresses and durations that change; one of a kind is enough.
            SourceError::Unreachable(_) => "unreachable".to_owned(),
            SourceError::Authentication(_) => "authentication".to_owned(),
            SourceError::CommitOffsets(_) => "commit offsets".to_owned(),
            other => other.to_string(),
        };
        if let Some(last) = self.reported.get(&name)
            && now.duration_since(*last) < REPEAT
        {
            return None;
        }
        if self.reported.len() >= REMEMBERED
            && let Some(oldest) = self
                .reported
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(name, _)| name.clone())
        {
            self.reported.remove(&oldest);
        }
        self.reported.insert(name, now);
        Some(error)
    }

    /// Something of the topic arrived: we are let in.
    pub(super) fn arrived(&mut self, topic: &str) {
        if self.refused.is_some() {
            self.refused = None;
        }
        if !self.denied.is_empty() {
            self.denied.remove(&denied_topic(topic));
        }
    }

    /// The group let us in.
    pub(super) fn joined(&mut self) {
        self.refused = None;
        self.denied.retain(|reason, _| reason.starts_with(OF_TOPIC));
    }

    /// Access that was refused too long, if any; said once. One of several `topics` that may not be read costs itself
    /// only: then all must be refused.
    pub(super) fn hopeless(&mut self, now: Instant, topics: usize) -> Option<SourceError> {
        if let Some((first, latest, _)) = &self.refused
            && latest.duration_since(*first) >= PATIENCE
        {
            let (_, _, reason) = self.refused.take()?;
            return Some(SourceError::Authentication(reason));
        }
        let of_topic = |reason: &str| reason.starts_with(OF_TOPIC);
        let refused = self.denied.keys().filter(|reason| of_topic(reason)).count();
        let all = refused >= topics.clamp(1, REMEMBERED);
        let reason = self
            .denied
            .iter()
            .find(|(reason, since)| {
                now.duration_since(**since) >= PATIENCE && (all || !of_topic(reason))
            })
            .map(|(reason, _)| reason.clone())?;
        self.denied.remove(&reason);
        Some(SourceError::Denied(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(text: &str) -> SourceError {
        SourceError::Unreachable(text.to_owned())
    }

    #[test]
    fn an_error_that_goes_on_is_reported_once_in_a_while() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        assert!(troubles.report(unreachable("after 1 ms"), now).is_some());
        assert!(troubles.report(unreachable("after 2 ms"), now).is_none());
        assert!(troubles.report(unreachable("x"), now + REPEAT).is_some());
        for number in 0..1000 {
            troubles.report(SourceError::Other(number.to_string()), now);
        }
        assert!(troubles.reported.len() <= REMEMBERED);
    }

    #[test]
    fn refused_credentials_are_fatal_when_repeated_with_nothing_arriving_in_between() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        let refused = || SourceError::Authentication("no".to_owned());
        troubles.report(refused(), now);
        assert!(
            troubles.hopeless(now + 2 * PATIENCE, 1).is_none(),
            "one only"
        );
        troubles.arrived("orders");
        troubles.report(refused(), now + PATIENCE);
        assert!(troubles.hopeless(now + PATIENCE, 1).is_none());
        troubles.report(refused(), now + 2 * PATIENCE);
        assert!(matches!(
            troubles.hopeless(now + 2 * PATIENCE, 1),
            Some(SourceError::Authentication(_))
        ));
        assert!(
            troubles.hopeless(now + 2 * PATIENCE, 1).is_none(),
            "said once"
        );
    }

    #[test]
    fn denied_access_is_fatal_unless_something_of_the_topic_arrives() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        let denied = || SourceError::Denied(denied_topic("orders"));
        troubles.report(denied(), now);
        troubles.arrived("orders");
        assert!(troubles.hopeless(now + 2 * PATIENCE, 1).is_none());
        troubles.report(denied(), now);
        assert!(troubles.hopeless(now, 1).is_none());
        assert!(troubles.hopeless(now + PATIENCE, 1).is_some());
    }

    #[test]
    fn one_topic_of_several_that_may_not_be_read_leaves_the_others_be() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        let denied = |topic| SourceError::Denied(denied_topic(topic));
        troubles.report(denied("orders"), now);
        assert!(troubles.hopeless(now + PATIENCE, 2).is_none());
        troubles.report(denied("returns"), now + PATIENCE);
        let found = troubles.hopeless(now + PATIENCE, 2);
        assert!(matches!(found, Some(SourceError::Denied(_))), "all of them");
        // The group is one for all.
        troubles.report(SourceError::Denied("no such group".to_owned()), now);
        assert!(troubles.hopeless(now + PATIENCE, 9).is_some());
    }

    #[test]
    fn a_missing_topic_is_called_by_its_name() {
        let error = meaning(
            Code::UnknownTopicOrPartition,
            "Subscribed topic not available: orders: Broker: Unknown topic or partition",
        );
        assert_eq!(error.to_string(), "topic \"orders\" does not exist");
    }
}
