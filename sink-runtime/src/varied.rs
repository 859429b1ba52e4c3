//! Property tests that say how varied they were: one that never meets the rare cases proves nothing about them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// What all cases have met, and how often.
#[derive(Debug, Default)]
pub(crate) struct Varied(RefCell<BTreeMap<&'static str, u64>>);

impl Varied {
    pub(crate) fn met(&self, what: &'static str) {
        *self.0.borrow_mut().entry(what).or_default() += 1;
    }

    fn count(&self, what: &str) -> u64 {
        self.0.borrow().get(what).copied().unwrap_or(0)
    }

    /// Each was met so often, at least.
    pub(crate) fn assert_varied(&self, whats: &[&str], least: u64) {
        for what in whats {
            assert!(self.count(what) >= least, "{what}: {self:?}");
        }
    }

    /// Of all these together so many in a hundred were the first.
    pub(crate) fn assert_share(&self, whats: &[&str], percent: u64) {
        let all: u64 = whats.iter().map(|what| self.count(what)).sum();
        let first = whats.first().map_or(0, |what| self.count(what));
        assert!(first * 100 >= all * percent, "{whats:?}: {self:?}");
    }
}

/// Runs the test on the same cases every time.
pub(crate) fn explore<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value, &Varied) -> Result<(), TestCaseError>,
) -> Varied {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let varied = Varied::default();
    let run = TestRunner::new_with_rng(config, rng).run(strategy, |value| test(value, &varied));
    assert!(
        run.is_ok(),
        "{}",
        run.err()
            .map_or_else(String::new, |error| error.to_string())
    );
    varied
}
