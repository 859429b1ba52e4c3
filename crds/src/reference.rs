//! A kind's reference page, made from its schema: every field with type, default and meaning. Pure.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

pub(crate) fn reference_page(definition: &CustomResourceDefinition) -> String {
    let names = &definition.spec.names;
    let mut page = String::new();
    let _ = writeln!(
        page,
        "<!-- Generated from the types in crds/src by `tidewater-crds generate`; do not edit. -->\n# {}\n",
        names.kind
    );
    let root = definition
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref())
        .and_then(|schema| schema.open_api_v3_schema.as_ref());
    let Some(root) = root else { return page };
    let _ = writeln!(
        page,
        "{}\n",
        root.description.as_deref().unwrap_or_default()
    );
    let versions: Vec<&str> = definition
        .spec
        .versions
        .iter()
        .map(|version| version.name.as_str())
        .collect();
    let _ = writeln!(
        page,
        "`apiVersion: {}/{}`, short name `{}`, category `{}`. A field without a default may be left out unless it is \
         marked *required*. Unknown fields are refused.\n",
        definition.spec.group,
        versions.join(", "),
        names.short_names.as_deref().unwrap_or_default().join(", "),
        names.categories.as_deref().unwrap_or_default().join(", "),
    );
    for part in ["spec", "status"] {
        let Some(schema) = root.properties.as_ref().and_then(|p| p.get(part)) else {
            continue;
        };
        let _ = writeln!(page, "## {part}\n");
        table_head(&mut page);
        let mut sections = Vec::new();
        for (name, field, required) in fields(schema) {
            let path = format!("{part}.{name}");
            row(&mut page, &path, field, required);
            if !fields(inner(field)).is_empty() {
                sections.push((path, field));
            }
        }
        page.push('\n');
        rules(&mut page, schema, part);
        for (path, field) in sections {
            let _ = writeln!(page, "### {path}\n");
            table_head(&mut page);
            let mut collected = Vec::new();
            rows_below(&mut page, &path, field, &mut collected);
            page.push('\n');
            for (path, schema) in collected {
                rules(&mut page, schema, &path);
            }
        }
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn table_head(page: &mut String) {
    page.push_str("| field | type | default | meaning |\n|---|---|---|---|\n");
}

fn rows_below<'a>(
    page: &mut String,
    path: &str,
    schema: &'a JSONSchemaProps,
    seen: &mut Vec<(String, &'a JSONSchemaProps)>,
) {
    let path = format!("{path}{}", suffix(schema));
    let schema = inner(schema);
    seen.push((path.clone(), schema));
    for (name, field, required) in fields(schema) {
        let path = format!("{path}.{name}");
        row(page, &path, field, required);
        rows_below(page, &path, field, seen);
    }
}

fn row(page: &mut String, path: &str, schema: &JSONSchemaProps, required: bool) {
    let default = match &schema.default {
        Some(value) => format!("`{}`", flow(&value.0)),
        None if required => "*required*".to_owned(),
        None => String::new(),
    };
    let meaning = schema
        .description
        .as_deref()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|");
    let _ = writeln!(
        page,
        "| `{path}` | {} | {} | {meaning} |",
        type_name(schema),
        default.replace('|', "\\|"),
    );
}

fn rules(page: &mut String, schema: &JSONSchemaProps, path: &str) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        if let Some(message) = &rule.message {
            let _ = writeln!(page, "* `{path}`: {message}");
        }
    }
    if schema.x_kubernetes_validations.is_some() {
        page.push('\n');
    }
}

fn suffix(schema: &JSONSchemaProps) -> &'static str {
    match (&schema.items, &schema.additional_properties) {
        (Some(_), _) => "[]",
        (_, Some(JSONSchemaPropsOrBool::Schema(_))) => ".<key>",
        _ => "",
    }
}

/// The schema whose properties are the next rows: a list's items, a map's values, or itself.
fn inner(schema: &JSONSchemaProps) -> &JSONSchemaProps {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => items,
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => values,
        _ => schema,
    }
}

fn fields(schema: &JSONSchemaProps) -> Vec<(&str, &JSONSchemaProps, bool)> {
    let required = schema.required.as_deref().unwrap_or_default();
    schema
        .properties
        .iter()
        .flatten()
        .map(|(name, field)| (name.as_str(), field, required.contains(name)))
        .collect()
}

fn type_name(schema: &JSONSchemaProps) -> String {
    let plain = schema.type_.as_deref().unwrap_or("any");
    if schema.x_kubernetes_int_or_string == Some(true) {
        return "integer or string".to_owned();
    }
    if let Some(values) = &schema.enum_ {
        let values: Vec<String> = values.iter().map(|value| flow(&value.0)).collect();
        return values.join(", ");
    }
    match suffix(schema) {
        "[]" => format!("list of {}", type_name(inner(schema))),
        ".<key>" => format!("map to {}", type_name(inner(schema))),
        _ => match schema.pattern.as_deref() {
            Some(pattern) if pattern.contains("Ki|Mi") => "size".to_owned(),
            Some(pattern) if pattern.contains("ms|s|m") => "duration".to_owned(),
            _ => plain.to_owned(),
        },
    }
}

/// YAML in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(key, value)| format!("{key}: {}", flow(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
