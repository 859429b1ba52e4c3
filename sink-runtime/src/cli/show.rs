//! `tidewater validate`: what a valid file would run.

use std::process::ExitCode;

use crate::plan::{Destination, Plan, Topics};

pub(super) fn validate(plans: &[Plan]) -> ExitCode {
    for plan in plans {
        println!(
            "{}: valid: {} -> {}",
            plan.sink,
            source(plan),
            destination(plan)
        );
    }
    ExitCode::SUCCESS
}

pub(super) fn source(plan: &Plan) -> String {
    match &plan.source.topics {
        Topics::List(topics) => topics
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
        Topics::Pattern(pattern) => format!("/{pattern}/"),
    }
}

pub(super) fn destination(plan: &Plan) -> String {
    use crate::plan::StorePlan;
    match &plan.destination {
        Destination::Dataset(dataset) => match &dataset.store {
            StorePlan::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.prefix),
            StorePlan::Local { path } => path.display().to_string(),
        },
        Destination::Iceberg(table) => format!("{}.{}", table.namespace.join("."), table.table),
    }
}
