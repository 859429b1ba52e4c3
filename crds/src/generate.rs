//! The files that are made from the types (the definitions' YAML, the chart's templates of them, the reference pages)
//! and from the chart's values (their schema and page). Pure; `main` writes them.

use std::collections::BTreeMap;

use kube::core::CustomResourceExt;
use serde_json::Value;

use crate::chart;
use crate::reference::reference_page;
use crate::{IcebergTable, KafkaS3Sink, definition};

/// One generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Below the workspace's root.
    pub path: &'static str,
    pub text: String,
}

/// All generated files.
///
/// # Errors
/// When a definition cannot be written as YAML, which is a defect of the types.
pub fn generated() -> Result<Vec<Generated>, Box<dyn std::error::Error>> {
    let sink = yaml::<KafkaS3Sink>("crds/kafkas3sinks.yaml")?;
    let table = yaml::<IcebergTable>("crds/icebergtables.yaml")?;
    Ok(vec![
        template("charts/tidewater/templates/crds/kafkas3sinks.yaml", &sink),
        template("charts/tidewater/templates/crds/icebergtables.yaml", &table),
        sink,
        table,
        page::<KafkaS3Sink>("docs/reference/kafkas3sink.md"),
        page::<IcebergTable>("docs/reference/icebergtable.md"),
        Generated {
            path: "charts/tidewater/values.schema.json",
            text: chart::values_schema(VALUES)?,
        },
        Generated {
            path: "docs/reference/values.md",
            text: chart::values_page(VALUES)?,
        },
    ])
}

const VALUES: &str = include_str!("../../charts/tidewater/values.yaml");

fn template(path: &'static str, definition: &Generated) -> Generated {
    Generated {
        path,
        text: chart::template(&definition.text),
    }
}

fn yaml<K: CustomResourceExt>(path: &'static str) -> Result<Generated, Box<dyn std::error::Error>> {
    let definition = sorted(serde_json::to_value(definition::<K>())?);
    Ok(Generated {
        path,
        text: format!(
            "# Generated from the types in crds/src by `tidewater-crds generate`; do not edit.\n{}",
            serde_yaml_ng::to_string(&definition)?
        ),
    })
}

fn page<K: CustomResourceExt>(path: &'static str) -> Generated {
    Generated {
        path,
        text: reference_page(&definition::<K>()),
    }
}

/// Whether `serde_json` keeps insertion order depends on what else is built; the files must not.
fn sorted(value: Value) -> serde_yaml_ng::Value {
    match value {
        Value::Object(map) => {
            let entries: BTreeMap<String, Value> = map.into_iter().collect();
            entries
                .into_iter()
                .map(|(key, value)| (serde_yaml_ng::Value::String(key), sorted(value)))
                .collect::<serde_yaml_ng::Mapping>()
                .into()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect::<Vec<_>>().into(),
        Value::String(text) => text.into(),
        Value::Bool(flag) => flag.into(),
        Value::Null => serde_yaml_ng::Value::Null,
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), _, _) => n.into(),
            (_, Some(n), _) => n.into(),
            // Bounds of integers arrive as floating point: "0.0" would be a needless surprise to a reader.
            (_, _, Some(n)) if n.fract() == 0.0 && n.abs() < 9e15 => (n as i64).into(),
            (_, _, n) => n.unwrap_or_default().into(),
        },
    }
}
