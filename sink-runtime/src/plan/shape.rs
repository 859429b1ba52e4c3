//! A spec's shape against the schema of its kind, as the API server would judge it: unknown fields, types, bounds. What
//! does not fit is reported and set aside, so that the rest can still be judged. Pure.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::problem::Checks;

/// The schema of a kind's `spec`.
pub(super) struct Shape {
    schema: Value,
    /// Schemas of what stands below the first level of columns, where the definition takes any object.
    column: Value,
    element: Value,
}

impl Shape {
    pub(super) fn of(spec_schema: Value) -> Self {
        let fields = ["/properties/value/properties/schema", "/properties/schema"]
            .iter()
            .find_map(|at| spec_schema.pointer(&format!("{at}/properties/fields/items")));
        let column = fields.cloned().unwrap_or(Value::Null);
        let mut element = column.clone();
        if let Some(properties) = element["properties"].as_object_mut() {
            properties.remove("name");
        }
        element["required"] = json!(["type"]);
        Self {
            schema: spec_schema,
            column,
            element,
        }
    }

    /// Leaves in `spec` only what fits.
    pub(super) fn check(&self, checks: &mut Checks, spec: &mut Value) {
        if !self.fits(checks, &self.schema, "spec", spec) {
            *spec = placeholder(&self.schema);
        }
    }

    fn fits(&self, checks: &mut Checks, schema: &Value, path: &str, value: &mut Value) -> bool {
        if schema["x-kubernetes-int-or-string"] == json!(true) {
            return value.is_i64()
                || value.is_string()
                || wrong(checks, path, value, "give a text or a whole number");
        }
        if schema["x-kubernetes-preserve-unknown-fields"] == json!(true) {
            // Open in the definition are nested columns, which are judged here, and parts of Kubernetes' own API, which
            // the API server judges when it gets them.
            let columns = ["spec.value.", "spec.schema."];
            if !columns.iter().any(|columns| path.starts_with(columns)) {
                return value.is_object() || wrong(checks, path, value, "give a map of fields");
            }
            let nested = if path.ends_with(']') {
                &self.column
            } else {
                &self.element
            };
            return self.object(checks, nested, path, value);
        }
        match schema["type"].as_str() {
            Some("object") => self.object(checks, schema, path, value),
            Some("array") => self.array(checks, schema, path, value),
            Some("string") => string(checks, schema, path, value),
            Some("boolean") => {
                value.is_boolean() || wrong(checks, path, value, "give true or false")
            }
            Some("integer") => {
                (value.is_i64() || value.is_u64()) && within(checks, schema, path, value)
                    || !value.is_i64()
                        && !value.is_u64()
                        && wrong(checks, path, value, "give a whole number")
            }
            Some("number") => value.is_number() || wrong(checks, path, value, "give a number"),
            _ => true,
        }
    }

    fn object(&self, checks: &mut Checks, schema: &Value, path: &str, value: &mut Value) -> bool {
        let Some(object) = value.as_object_mut() else {
            // Not shown: people write passwords where a reference to a Secret belongs.
            checks.damage(path, "", "give a map of fields");
            return false;
        };
        // Null means left out, as it does to the API server.
        object.retain(|_, value| !value.is_null());
        if let Some(values) = schema.get("additionalProperties") {
            let keys: Vec<String> = object.keys().cloned().collect();
            for key in keys {
                let path = format!("{path}[\"{key}\"]");
                if let Some(value) = object.get_mut(&key)
                    && !self.fits(checks, values, &path, value)
                {
                    object.remove(&key);
                }
            }
            let most = schema["maxProperties"].as_u64().unwrap_or(u64::MAX);
            if object.len() as u64 > most {
                checks.add(path, object.len(), format!("give at most {most} entries"));
            }
            return true;
        }
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let keys: Vec<String> = object.keys().cloned().collect();
        for key in keys {
            let below = format!("{path}.{key}");
            let Some(property) = properties.get(&key) else {
                let remedy = match nearest(&key, properties.keys()) {
                    Some(name) => format!("unknown field; did you mean \"{name}\"?"),
                    None => "unknown field; remove it".to_owned(),
                };
                checks.damage(&below, "", remedy);
                object.remove(&key);
                continue;
            };
            if let Some(value) = object.get_mut(&key)
                && !self.fits(checks, property, &below, value)
            {
                object.remove(&key);
            }
        }
        for name in required {
            if !object.contains_key(name) {
                checks.damage(&format!("{path}.{name}"), "", "required: give it a value");
                object.insert(name.to_owned(), placeholder(&properties[name]));
            }
        }
        true
    }

    fn array(&self, checks: &mut Checks, schema: &Value, path: &str, value: &mut Value) -> bool {
        let Some(items) = value.as_array_mut() else {
            return wrong(checks, path, value, "give a list");
        };
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        let length = items.len() as u64;
        if length < least || length > most {
            let remedy = if length < least {
                format!("give at least {least}, or leave the field out")
            } else {
                format!("give at most {most}")
            };
            checks.damage(path, format!("{length} entries"), remedy);
            return false;
        }
        for (i, item) in items.iter_mut().enumerate() {
            // An item set aside keeps its place: the paths of those behind it must not move.
            if !self.fits(checks, &schema["items"], &format!("{path}[{i}]"), item) {
                *item = placeholder(&schema["items"]);
            }
        }
        true
    }
}

fn string(checks: &mut Checks, schema: &Value, path: &str, value: &Value) -> bool {
    let Some(text) = value.as_str() else {
        let remedy = if value.is_number() || value.is_boolean() {
            "give a text: put it in quotes"
        } else {
            "give a text"
        };
        return wrong(checks, path, value, remedy);
    };
    if let Some(values) = schema["enum"].as_array() {
        if values.iter().any(|known| known == text) {
            return true;
        }
        let names: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        checks.damage(path, text, format!("use one of {}", names.join(", ")));
        return false;
    }
    let length = text.chars().count() as u64;
    if length < schema["minLength"].as_u64().unwrap_or(0) {
        checks.damage(path, text, "too short: give it a value");
        return false;
    }
    if let Some(most) = schema["maxLength"].as_u64()
        && length > most
    {
        checks.damage(path, text, format!("too long: at most {most} characters"));
        return false;
    }
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    if Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text)) {
        checks.damage(path, text, meaning(pattern));
        return false;
    }
    true
}

/// What a pattern of the definitions asks for, in words.
fn meaning(pattern: &str) -> String {
    for (part, meaning) in [
        ("Ki|Mi", "give a size such as 512Ki, 128Mi or 2Gi"),
        ("ms|s|m", "give a duration such as 500ms, 30s, 5m or 1h30m"),
        (
            "boolean|int",
            "use one of the types boolean, int, long, float, double, decimal(p,s), date, time, timestamp, timestamptz, string, uuid, binary, struct, list, map",
        ),
        ("^https?", "give a URL that starts with http:// or https://"),
        ("^s3://", "give a location of the form s3://bucket/prefix"),
        ("^arn:", "give an ARN: arn:aws:iam::<account>:role/<name>"),
    ] {
        if pattern.contains(part) {
            return meaning.to_owned();
        }
    }
    format!("must match {pattern}")
}

fn within(checks: &mut Checks, schema: &Value, path: &str, value: &Value) -> bool {
    let number = value.as_f64().unwrap_or_default();
    let least = schema["minimum"].as_f64();
    let most = schema["maximum"].as_f64();
    if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
        let remedy = match (least, most) {
            (Some(least), Some(most)) => format!("give a number from {least} to {most}"),
            (Some(least), None) => format!("give a number of at least {least}"),
            (_, most) => format!("give a number of at most {}", most.unwrap_or_default()),
        };
        checks.damage(path, value, remedy);
        return false;
    }
    true
}

fn wrong(checks: &mut Checks, path: &str, value: &Value, remedy: &str) -> bool {
    let shown = match value {
        Value::Object(_) => "a map".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    checks.damage(path, shown, remedy);
    false
}

/// The least value that fits a schema, in place of one that is missing.
fn placeholder(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten();
            let names = required.filter_map(Value::as_str);
            names
                .map(|name| (name.to_owned(), placeholder(&schema["properties"][name])))
                .collect::<Map<_, _>>()
                .into()
        }
        Some("array") => json!([]),
        Some("boolean") => json!(false),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(0)),
        // Also the name of a column type.
        _ => json!("string"),
    }
}

/// The known name that a mistyped one is closest to, within two edits or by its letters' case.
fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let lower = key.to_lowercase();
    names
        .map(|name| (edits(&lower, &name.to_lowercase()), name))
        .filter(|(edits, name)| *edits <= 2 && *edits < name.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
