//! `spec.pod` → [`PodPlan`]. Pure, but for the count of cores.

use std::num::NonZero;

use tidewater_crds::PodSpec;

use super::problem::Checks;
use super::{BudgetOrigin, Container, PodPlan};

/// Below this, one fetch and one open file leave no room for anything else.
const LEAST_BUDGET: u64 = 16 << 20;
/// Without a limit.
const DEFAULT_BUDGET: u64 = 256 << 20;

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
        || std::thread::available_parallelism().map_or(1, NonZero::get),
        |workers| workers as usize,
    );
    PodPlan {
        memory_budget: usize::try_from(memory_budget).unwrap_or(usize::MAX),
        budget_origin,
        workers,
    }
}
