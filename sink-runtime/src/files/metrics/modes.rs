//! How much of a column's metrics a table wants in its manifests: the properties `write.metadata.metrics.*`, with the
//! reference implementation's defaults. Pure.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::{NestedFieldRef, Schema, SortOrder, Transform, Type};

pub const DEFAULT: &str = "write.metadata.metrics.default";
pub const COLUMN: &str = "write.metadata.metrics.column.";
pub const MOST_COLUMNS: &str = "write.metadata.metrics.max-inferred-column-defaults";

/// Leaf columns that have metrics where nothing is said: in wider tables the others would swell every manifest.
const USUAL_COLUMNS: usize = 100;
/// Code points of a string bound, bytes of a binary one.
const USUAL_LENGTH: usize = 16;

/// What is kept of one column's metrics, beside its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    None,
    /// Values, nulls and NaN, without bounds.
    Counts,
    /// Bounds of so many code points or bytes at the most.
    Truncate(usize),
    /// Bounds as long as the file's own.
    Full,
}

impl Mode {
    const USUAL: Self = Self::Truncate(USUAL_LENGTH);

    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        match text.as_str() {
            "none" => Some(Self::None),
            "counts" => Some(Self::Counts),
            "full" => Some(Self::Full),
            other => {
                let length = other.strip_prefix("truncate(")?.strip_suffix(')')?;
                let length = length.trim().parse().ok().filter(|length| *length > 0)?;
                Some(Self::Truncate(length))
            }
        }
    }
}

/// The modes of a table's columns, by field id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modes {
    default: Mode,
    columns: HashMap<i32, Mode>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            default: Mode::USUAL,
            columns: HashMap::new(),
        }
    }
}

impl Modes {
    /// What cannot be read is as if it were not said.
    pub fn of(properties: &BTreeMap<String, String>, schema: &Schema, order: &SortOrder) -> Self {
        let said = |key: &str| properties.get(key).and_then(|text| Mode::parse(text));
        let mut modes = Self::default();
        if let Some(mode) = said(DEFAULT) {
            modes.default = mode;
        } else {
            let most = properties.get(MOST_COLUMNS);
            let most = most
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(USUAL_COLUMNS);
            let mut leaves = Vec::new();
            gather(schema.as_struct().fields(), 0, &mut leaves);
            if leaves.len() > most {
                // Those that are not inside others first; otherwise as they stand.
                leaves.sort_by_key(|(depth, _)| *depth);
                let first = leaves.into_iter().take(most);
                modes.columns = first.map(|(_, id)| (id, Mode::USUAL)).collect();
                modes.default = Mode::None;
            }
        }
        // Rows are looked up by what they are sorted by.
        let sorted = match modes.default {
            Mode::None | Mode::Counts => Mode::USUAL,
            mode => mode,
        };
        let keeps_order = |transform| {
            !matches!(
                transform,
                Transform::Bucket(_) | Transform::Void | Transform::Unknown
            )
        };
        for field in order.fields.iter().filter(|f| keeps_order(f.transform)) {
            modes.columns.insert(field.source_id, sorted);
        }
        for key in properties.keys() {
            let column = key.strip_prefix(COLUMN);
            let id = column.and_then(|column| schema.field_id_by_name(column));
            if let (Some(id), Some(mode)) = (id, said(key)) {
                modes.columns.insert(id, mode);
            }
        }
        modes
    }

    pub fn column(&self, id: i32) -> Mode {
        self.columns.get(&id).copied().unwrap_or(self.default)
    }
}

/// Leaf columns with how deep they are in others.
fn gather(fields: &[NestedFieldRef], depth: usize, leaves: &mut Vec<(usize, i32)>) {
    for field in fields {
        match field.field_type.as_ref() {
            Type::Primitive(_) => leaves.push((depth, field.id)),
            Type::Struct(inner) => gather(inner.fields(), depth + 1, leaves),
            Type::List(list) => {
                gather(std::slice::from_ref(&list.element_field), depth + 1, leaves)
            }
            Type::Map(map) => {
                let parts = [map.key_field.clone(), map.value_field.clone()];
                gather(&parts, depth + 1, leaves);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use iceberg::spec::{
        NestedField, NullOrder, PrimitiveType, SortDirection, SortField, StructType,
    };

    use super::*;

    fn leaf(id: i32, name: &str) -> NestedFieldRef {
        NestedField::optional(id, name, Type::Primitive(PrimitiveType::String)).into()
    }

    fn schema(fields: Vec<NestedFieldRef>) -> Schema {
        Schema::builder().with_fields(fields).build().unwrap()
    }

    fn sorted_by(id: i32, transform: Transform) -> SortOrder {
        let field = SortField {
            source_id: id,
            transform,
            direction: SortDirection::Ascending,
            null_order: NullOrder::First,
        };
        let mut order = SortOrder::unsorted_order();
        order.fields.push(field);
        order
    }

    fn modes(said: &[(&str, &str)], schema: &Schema, order: &SortOrder) -> Vec<Mode> {
        let own = |(key, value): &(&str, &str)| {
            (format!("write.metadata.metrics.{key}"), (*value).to_owned())
        };
        let modes = Modes::of(&said.iter().map(own).collect(), schema, order);
        let mut leaves = Vec::new();
        gather(schema.as_struct().fields(), 0, &mut leaves);
        leaves.iter().map(|(_, id)| modes.column(*id)).collect()
    }

    #[test]
    fn every_column_has_the_mode_that_the_properties_give_it() {
        let unsorted = SortOrder::unsorted_order();
        let inner = Type::Struct(StructType::new(vec![leaf(5, "x"), leaf(6, "y")]));
        let fields = vec![
            leaf(1, "a"),
            NestedField::optional(2, "s", inner).into(),
            leaf(3, "b"),
        ];
        let schema = schema(fields);
        let usual = Mode::USUAL;
        for (said, wanted) in [
            (&[][..], [usual; 4]),
            (&[("default", "none")], [Mode::None; 4]),
            (&[("default", "FULL")], [Mode::Full; 4]),
            (&[("default", "nonsense")], [usual; 4]),
            (
                &[("default", "counts"), ("column.s.y", "truncate(3)")],
                [Mode::Counts, Mode::Counts, Mode::Truncate(3), Mode::Counts],
            ),
            (
                &[("max-inferred-column-defaults", "2")],
                [usual, Mode::None, Mode::None, usual],
            ),
            (
                &[("max-inferred-column-defaults", "2"), ("default", "counts")],
                [Mode::Counts; 4],
            ),
            (&[("column.nobody", "none")], [usual; 4]),
        ] {
            assert_eq!(modes(said, &schema, &unsorted), wanted, "{said:?}");
        }
        let by_b = sorted_by(3, Transform::Identity);
        let none = [("default", "none")];
        assert_eq!(modes(&none, &schema, &by_b)[3], usual);
        let by_start = sorted_by(3, Transform::Truncate(4));
        assert_eq!(modes(&none, &schema, &by_start)[3], usual);
        let by_bucket = sorted_by(3, Transform::Bucket(4));
        assert_eq!(modes(&none, &schema, &by_bucket)[3], Mode::None);
        let both = [("default", "none"), ("column.b", "counts")];
        assert_eq!(modes(&both, &schema, &by_b)[3], Mode::Counts);
    }

    #[test]
    fn wide_tables_have_metrics_of_their_first_hundred_columns() {
        let fields = (1..=101).map(|id| leaf(id, &format!("c{id}")));
        let unsorted = SortOrder::unsorted_order();
        let modes = modes(&[], &schema(fields.collect()), &unsorted);
        assert!(modes[..100].iter().all(|mode| *mode == Mode::USUAL));
        assert_eq!(modes[100], Mode::None);
    }

    #[test]
    fn modes_are_read_as_the_reference_implementation_writes_them() {
        for (text, mode) in [
            ("none", Some(Mode::None)),
            ("Counts", Some(Mode::Counts)),
            ("truncate(8)", Some(Mode::Truncate(8))),
            ("truncate(0)", None),
            ("truncate(-1)", None),
            ("truncate", None),
            ("", None),
        ] {
            assert_eq!(Mode::parse(text), mode, "{text}");
        }
    }
}
