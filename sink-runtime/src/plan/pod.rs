//! What a process may use: `spec.pod` → [`PodPlan`]. Pure, but for the count of cores.

use std::fmt;
use std::num::NonZero;

use tidewater_crds::PodSpec;

use super::problem::Checks;

/// Below this, one fetch and one open file leave no room for anything else.
const LEAST_BUDGET: u64 = 16 << 20;
/// Without a limit.
const DEFAULT_BUDGET: u64 = 256 << 20;
/// Workers of a process that is told nothing and sees many cores: each more costs memory and smaller files, and decodes
/// no faster than Kafka delivers.
const MOST_DEFAULT_WORKERS: usize = 8;

#[derive(Clone, Debug)]
pub struct PodPlan {
    /// Bytes.
    pub memory_budget: usize,
    pub budget_origin: BudgetOrigin,
    pub workers: usize,
}

/// Where a memory budget comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetOrigin {
    Spec,
    /// Three quarters of the container's memory limit in bytes, shared by so many sinks.
    Container {
        limit: u64,
        sinks: u64,
    },
    Default,
}

impl fmt::Display for BudgetOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec => f.write_str("spec.pod.memoryBudget"),
            Self::Container { limit, sinks: 1 } => {
                write!(f, "3/4 of the container's limit of {limit} bytes")
            }
            Self::Container { limit, sinks } => write!(
                f,
                "3/4 of the container's limit of {limit} bytes, shared by {sinks} sinks"
            ),
            Self::Default => f.write_str("the default: the container has no memory limit"),
        }
    }
}

/// What the process that runs the plans may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Bytes; `None` without a limit.
    pub memory_limit: Option<u64>,
    /// Sinks that share it.
    pub(super) sinks: u64,
}

impl Container {
    pub fn new(memory_limit: Option<u64>) -> Self {
        Self {
            memory_limit,
            sinks: 1,
        }
    }
}

pub(super) fn plan(checks: &mut Checks, spec: &PodSpec, container: Container) -> PodPlan {
    let path = "spec.pod.memoryBudget";
    let (memory_budget, budget_origin) = match (spec.memory_budget, container.memory_limit) {
        (Some(given), _) => {
            if given.as_u64() < LEAST_BUDGET {
                checks.add(path, given, "give at least 16Mi");
            }
            (given.as_u64(), BudgetOrigin::Spec)
        }
        (None, Some(limit)) => {
            let sinks = container.sinks.max(1);
            // A quarter is for code, threads, connections and what allocators hold back.
            let share = limit / 4 * 3 / sinks;
            if share < LEAST_BUDGET {
                let remedy = format!(
                    "a share of three quarters of the container's memory limit ({limit} bytes, {sinks} sinks) is less than 16Mi: raise the limit"
                );
                checks.add(path, share, remedy);
            }
            (share, BudgetOrigin::Container { limit, sinks })
        }
        (None, None) => (DEFAULT_BUDGET, BudgetOrigin::Default),
    };
    let workers = spec.workers.map_or_else(
        || default_workers(std::thread::available_parallelism().map_or(1, NonZero::get)),
        |workers| workers as usize,
    );
    PodPlan {
        memory_budget: usize::try_from(memory_budget).unwrap_or(usize::MAX),
        budget_origin,
        workers,
    }
}

fn default_workers(cores: usize) -> usize {
    cores.min(MOST_DEFAULT_WORKERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_worker_for_each_core_up_to_eight() {
        assert_eq!([1, 4, 8, 9, 64].map(default_workers), [1, 4, 8, 8, 8]);
    }
}
