//! Whatever is found, a status says it in the words of the table of conditions.

use std::collections::BTreeSet;

use super::*;
use crate::conditions::{State, all};

/// (condition, status, reason) that a status may show. What is `False` makes `Ready` `False` for the same reason.
fn allowed() -> BTreeSet<(String, String, String)> {
    let of = |concern: Concern, state: State, reason: &str| {
        let words = [concern.name(), state.name(), reason];
        words.map(str::to_owned).into()
    };
    let rows = all().map(|row| of(row.concern, row.state, row.reason));
    let refused = all().filter(|row| row.state == State::False);
    let of_ready = refused.map(|row| of(Concern::Ready, State::False, row.reason));
    rows.chain(of_ready).collect()
}

/// Worlds that differ from the one at work in one thing each.
fn worlds() -> Vec<World> {
    let with = |change: &dyn Fn(&mut World)| {
        let mut world = world();
        change(&mut world);
        world
    };
    let mut worlds = vec![
        with(&|w| w.paused = true),
        with(&|w| w.reconciliation_paused = true),
        with(&|w| w.waiting = Some("something")),
        with(&|w| w.held = true),
        with(&|w| w.deployment = None),
        with(&|w| w.deployment().ready = 0),
        with(&|w| w.deployment().wanted = 0),
        with(&|w| w.deployment().observed = false),
        with(&|w| w.deployment().failure = Some("quota".into())),
        with(&|w| w.seen = Seen::default()),
        with(&|w| w.seen.lag = None),
        with(&|w| w.seen.commit = None),
        with(&|w| w.commit().connected = 0),
        with(&|w| w.commit().consecutive_failures = 2),
        with(&|w| w.commit().last_commit_time = Some(at(5000))),
        with(&|w| w.commit().last_commit_time = None),
        with(&|w| w.checked = checked(&json!({"replicas": 0}))),
        with(&|w| w.checked = checked(&json!({"replicas": 30}))),
    ];
    for (unable, limited) in [(true, false), (false, true)] {
        let said = |said: bool| said.then(|| "said".to_owned());
        let autoscaler = AutoscalerFacts {
            unable: said(unable),
            limited: said(limited),
        };
        worlds.push(with(&|w| w.autoscaler = Some(autoscaler.clone())));
    }
    for row in all() {
        let finding = row.found();
        if row.concern == Concern::TableSynced {
            worlds.push(with(&|w| w.table = Some(row.found())));
        }
        if row.concern == Concern::ConfigValid && row.state == State::False {
            worlds.push(with(&|w| w.verdict = Some(row.found())));
        }
        let trouble = Trouble::told(finding.reason(), "said");
        worlds.push(with(&|w| w.seen.lag = Some(Err(trouble.clone()))));
        worlds.push(with(&|w| w.commit().trouble = Some(trouble.clone())));
    }
    worlds
}

#[test]
fn no_status_has_a_reason_that_is_not_in_the_table() {
    let allowed = allowed();
    let mut seen = BTreeSet::new();
    for mut world in worlds() {
        for deployed in [true, false] {
            if !deployed {
                world.deployment = None;
            }
            for condition in world.status().conditions {
                let found = (condition.type_, condition.status, condition.reason);
                assert!(allowed.contains(&found), "{found:?}");
                seen.insert(found);
            }
        }
    }
    // The worlds are worth looking at.
    assert!(seen.len() > 60, "{}", seen.len());
}
