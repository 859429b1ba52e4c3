//! `tidewater status`: where the destination stands against the topic.

use std::process::ExitCode;

use super::{CliError, show, verify};
use crate::plan::Plan;

pub(super) async fn status(plans: Vec<Plan>) -> Result<ExitCode, CliError> {
    for plan in &plans {
        println!(
            "{}: {} -> {}",
            plan.sink,
            show::source(plan),
            show::destination(plan)
        );
        let mut total = Some(0);
        for (tp, (next, marks)) in verify::standing(plan).await? {
            let lag = marks.map(|(start, end)| {
                (end.0 - next.map_or(start.0, |next| next.0.max(start.0))).max(0)
            });
            total = total.zip(lag).map(|(total, lag)| total + lag);
            let show = |offset: Option<i64>| {
                offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string())
            };
            println!(
                "  {tp}: committed {}, log [{}, {}), lag {}",
                show(next.map(|next| next.0)),
                show(marks.map(|marks| marks.0.0)),
                show(marks.map(|marks| marks.1.0)),
                show(lag)
            );
        }
        println!(
            "{}: lag {}",
            plan.sink,
            total.map_or_else(|| "unknown".to_owned(), |total| total.to_string())
        );
    }
    Ok(ExitCode::SUCCESS)
}
