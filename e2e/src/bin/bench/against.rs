//! Two builds of the program beside each other: each runs every round on the same topic, and who is first changes, so that
//! what the machine does meanwhile meets both.

use std::path::PathBuf;

use anyhow::Result;

use crate::report::Figures;

/// The run of each build whose CPU seconds are the median of its rounds. The ratio of the medians is told, and that of the
/// least: what else the machine does only adds to them.
pub(crate) async fn rounds(
    rounds: u32,
    [other, own]: [PathBuf; 2],
    run: impl AsyncFn(PathBuf) -> Result<Figures>,
) -> Result<Vec<Figures>> {
    let (mut of_other, mut of_own) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut turn = [(&other, &mut of_other), (&own, &mut of_own)];
        if round % 2 == 1 {
            turn.reverse();
        }
        for (program, found) in turn {
            found.push(Box::pin(run(program.clone())).await?);
        }
    }
    let least = least(&of_own) / least(&of_other);
    let (mut other, own) = (median(of_other), median(of_own));
    if let Some(figures) = &mut other {
        figures.case += " (other)";
    }
    let both: Vec<Figures> = other.into_iter().chain(own).collect();
    if let [other, own] = both.as_slice() {
        let ratio = own.cpu_s_per_million / other.cpu_s_per_million;
        eprintln!(
            "bench: {}: {ratio:.3} times the CPU of the other build by medians of {rounds}, {least:.3} by the least",
            own.case
        );
    }
    Ok(both)
}

fn least(all: &[Figures]) -> f64 {
    let cpu = all.iter().map(|figures| figures.cpu_s_per_million);
    cpu.fold(f64::INFINITY, f64::min)
}

fn median(mut all: Vec<Figures>) -> Option<Figures> {
    all.sort_by(|a, b| a.cpu_s_per_million.total_cmp(&b.cpu_s_per_million));
    let middle = all.len().checked_sub(1)? / 2;
    Some(all.swap_remove(middle))
}
