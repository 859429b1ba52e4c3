//! What a run left behind: its files, and the rows that a reader of another make finds in them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tidewater_e2e::{FIRST_CREATED_MILLIS, FIRST_ORDER_ID, Lab, MILLIS_BETWEEN_ORDERS};

use crate::case::{Case, Destination, PREFIX};

/// A file's path or key, and its size.
pub(crate) type File = (String, u64);

const DATA: &str = ".parquet";
const METADATA: &str = ".metadata.json";

/// The data files of a destination.
pub(crate) async fn data_files(lab: &Lab, destination: &Destination) -> Result<Vec<File>> {
    let mut files = match destination {
        Destination::Folder(path) | Destination::LocalTable(path) => on_disk(path)?,
        Destination::Bucket(bucket) => in_bucket(lab, bucket, PREFIX).await?,
        Destination::RestTable { namespace } => {
            let location = lab.endpoints().warehouse.trim_start_matches("s3://");
            let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
            let marker = format!("/{namespace}/");
            let mut all = in_bucket(lab, bucket, prefix).await?;
            all.retain(|(key, _)| key.contains(&marker));
            all
        }
    };
    files.retain(|(name, _)| name.ends_with(DATA));
    Ok(files)
}

fn on_disk(folder: &Path) -> Result<Vec<File>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                found.push((entry.path().display().to_string(), metadata.len()));
            }
        }
    }
    Ok(found)
}

async fn in_bucket(lab: &Lab, bucket: &str, prefix: &str) -> Result<Vec<File>> {
    let mut pages = lab
        .s3_client()
        .list_objects_v2()
        .bucket(bucket)
        .prefix(prefix)
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        for object in page?.contents() {
            let size = u64::try_from(object.size().unwrap_or(0))?;
            found.push((object.key().unwrap_or_default().to_owned(), size));
        }
    }
    Ok(found)
}

/// Fails unless the destination holds each of the `records` orders once, with typed times. Answers the number of rows.
pub(crate) async fn check(
    lab: &Lab,
    case: Case,
    destination: &Destination,
    files: &[File],
    records: u64,
) -> Result<u64> {
    let relation = relation(destination, files)?;
    let sql = format!(
        "SELECT count(*), count(DISTINCT order_id), min(order_id), max(order_id), \
         epoch_ms(min(created_at)), epoch_ms(max(created_at)), \
         any_value(typeof(created_at)), any_value(typeof(updated_at)) FROM {relation}"
    );
    let found = lab.duckdb().await?.query(&sql).await?;
    let found = found.into_iter().next().context("no row")?;
    let last = records - 1;
    let zoned = "TIMESTAMP WITH TIME ZONE";
    let wanted = json!([
        records,
        records,
        FIRST_ORDER_ID,
        FIRST_ORDER_ID + last,
        FIRST_CREATED_MILLIS,
        FIRST_CREATED_MILLIS + last * MILLIS_BETWEEN_ORDERS,
        zoned,
        zoned,
    ]);
    if Value::from(found.clone()) != wanted {
        bail!("wrong rows: found {}, not {wanted}", Value::from(found));
    }
    if case == Case::ManyPaths {
        let paths: BTreeSet<&Path> = files
            .iter()
            .filter_map(|(name, _)| Path::new(name).parent())
            .collect();
        let countries = case.workload().countries();
        ensure!(
            paths.len() == countries,
            "{} paths, not {countries}",
            paths.len()
        );
    }
    Ok(records)
}

/// What DuckDB selects from.
fn relation(destination: &Destination, files: &[File]) -> Result<String> {
    Ok(match destination {
        Destination::Folder(path) => format!(
            "read_parquet('{}/**/*{DATA}', hive_partitioning = false)",
            path.display()
        ),
        Destination::Bucket(bucket) => {
            // By name: versitygw lists keys as they are, even when asked to encode them, and DuckDB decodes them: a
            // plus sign would become a space.
            let names: Vec<String> = files
                .iter()
                .map(|(key, _)| format!("'s3://{bucket}/{key}'"))
                .collect();
            ensure!(!names.is_empty(), "no data file");
            format!("read_parquet([{}])", names.join(", "))
        }
        Destination::LocalTable(path) => {
            // Their names begin with a version of fixed width.
            let newest = on_disk(path)?
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| name.ends_with(METADATA))
                .max()
                .context("no metadata file")?;
            format!("iceberg_scan('{newest}')")
        }
        Destination::RestTable { namespace } => format!("ice.{namespace}.orders"),
    })
}
