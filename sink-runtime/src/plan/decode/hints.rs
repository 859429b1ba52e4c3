//! `spec.value.infer.hints` → columns that are known before any record. Pure.

use tidewater_crds::ColumnSpec;

use super::{check_name, column_type, encoding};
use crate::plan::problem::Checks;
use crate::schema::{Field, Schema, Type};

pub(super) fn plan(checks: &mut Checks, specs: &[ColumnSpec]) -> Schema {
    let mut fields = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let path = format!("spec.value.infer.hints[{i}]");
        let name = format!("{path}.name");
        let Some((last, above)) = levels(&spec.name) else {
            let remedy = "give names separated by single dots, one that has a dot itself in backticks: `a.b`";
            checks.add(name, &spec.name, remedy);
            continue;
        };
        for level in above.iter().chain([&last]) {
            check_name(checks, &name, level);
        }
        let field = Field {
            ty: column_type(checks, &path, spec, above.len()),
            name: last,
            required: spec.required,
            doc: spec.doc.clone(),
            encoding: spec.encoding.map(encoding),
        };
        if let Err(remedy) = insert(&mut fields, &above, field) {
            checks.add(name, &spec.name, remedy);
        }
    }
    Schema { fields }
}

/// The last name, and those that lead to it. Dots separate them, except between backticks.
fn levels(path: &str) -> Option<(String, Vec<String>)> {
    let mut names = Vec::new();
    let mut rest = path;
    loop {
        let (name, after) = match rest.strip_prefix('`') {
            Some(quoted) => quoted.split_once('`')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if name.is_empty() {
            return None;
        }
        names.push(name.to_owned());
        if after.is_empty() {
            return names.pop().map(|last| (last, names));
        }
        rest = after.strip_prefix('.')?;
    }
}

fn insert(fields: &mut Vec<Field>, above: &[String], field: Field) -> Result<(), &'static str> {
    // Most engines do not tell names apart by case.
    let name = above.first().unwrap_or(&field.name);
    let lower = name.to_lowercase();
    let at = fields.iter().position(|f| f.name.to_lowercase() == lower);
    match (above.split_first(), at) {
        (None, None) => {
            fields.push(field);
            Ok(())
        }
        (None, Some(_)) => Err("there is a hint of that name already: remove one"),
        (Some((name, below)), None) => {
            let mut inner = Vec::new();
            insert(&mut inner, below, field)?;
            fields.push(Field::optional(name, Type::Struct(inner)));
            Ok(())
        }
        (Some((name, below)), Some(at)) => match &mut fields[at] {
            Field {
                name: known,
                ty: Type::Struct(inner),
                ..
            } if known == name => insert(inner, below, field),
            _ => Err(
                "leads into another hint that is no struct, or is spelled otherwise: correct one of them",
            ),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_a_field_by_its_levels() {
        for (text, names) in [
            ("a", vec!["a"]),
            ("meta.at", vec!["meta", "at"]),
            ("`http.method`", vec!["http.method"]),
            ("a.`b.c`.d", vec!["a", "b.c", "d"]),
        ] {
            let (last, mut above) = levels(text).unwrap();
            above.push(last);
            assert_eq!(above, names, "{text}");
        }
        for text in ["", ".", "a.", ".a", "a..b", "`a", "``", "`a`b"] {
            assert!(levels(text).is_none(), "{text}");
        }
    }
}
