//! What a table's metadata say of its columns. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use iceberg::spec::{Schema as IcebergSchema, SchemaRef, TableMetadata};

use super::reconcile::{Partitions, SchemaMoved, reconcile};

/// The columns of a table, and those it had. Of a table that files are written for, the columns that the next commit adds
/// are among them, with predicted ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumns {
    pub schema: SchemaRef,
    /// The highest id ever given out, dropped columns included.
    pub last_column_id: i32,
    /// Empty where the table's history is not known.
    pub former: Arc<FormerColumns>,
    /// Names that no new column may have, for partition fields have them: those of all specs that the table has.
    pub partition_fields: Arc<BTreeSet<String>>,
}

impl TableColumns {
    /// As the table has them now.
    pub fn of(table: &TableMetadata) -> Self {
        Self {
            schema: table.current_schema().clone(),
            last_column_id: table.last_column_id(),
            former: Arc::new(FormerColumns::of(table)),
            partition_fields: Arc::new(partition_fields(table)),
        }
    }

    /// These columns after a planned change.
    #[must_use]
    pub fn evolved(&self, schema: IcebergSchema) -> Self {
        Self {
            last_column_id: self.last_column_id.max(schema.highest_field_id()),
            schema: Arc::new(schema),
            former: Arc::clone(&self.former),
            partition_fields: Arc::clone(&self.partition_fields),
        }
    }

    /// These columns, predicted or read before, over the table's as they are by now. Ids of theirs that files were written
    /// with stay.
    ///
    /// # Errors
    /// [`SchemaMoved`] where such files are wrong by now.
    pub fn over(&self, table: &Self, partition_sources: &[i32]) -> Result<Self, SchemaMoved> {
        let (have, last) = (&table.schema, table.last_column_id);
        let partitions = Partitions {
            sources: partition_sources,
            names: &table.partition_fields,
        };
        let planned = reconcile(have, last, &self.schema, partitions)?;
        Ok(match planned {
            Some(new) => table.evolved(new.schema),
            None => table.clone(),
        })
    }

    /// Whether a schema of these columns says the same, whatever its id, and the next new column gets the same id.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.last_column_id == other.last_column_id
            && (Arc::ptr_eq(&self.schema, &other.schema)
                || self.schema.as_struct() == other.schema.as_struct())
    }
}

/// Names of the partition fields of all specs that a table has, but for those that its columns have or had.
pub fn partition_fields(table: &TableMetadata) -> BTreeSet<String> {
    let is_new = |name: &&String| {
        let mut schemas = table.schemas_iter();
        schemas.all(|schema| schema.field_by_name(name).is_none())
    };
    let specs = table.partition_specs_iter();
    let names = specs.flat_map(|spec| spec.fields().iter().map(|field| &field.name));
    names.filter(is_new).cloned().collect()
}

/// Full names that columns of a table had in an earlier schema and none has now. Engines expire old schemas; what only those
/// knew is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormerColumns(BTreeMap<String, Fate>);

/// What became of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its full name now.
    Renamed(String),
    Dropped,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renamed(now) => write!(f, "a column of that name that was renamed to \"{now}\""),
            Self::Dropped => f.write_str("a column of that name that was dropped"),
        }
    }
}

impl FormerColumns {
    fn of(table: &TableMetadata) -> Self {
        let mut past: Vec<&SchemaRef> = table.schemas_iter().collect();
        past.sort_by_key(|schema| schema.schema_id());
        Self::between(past.into_iter().map(Arc::as_ref), table.current_schema())
    }

    /// Of a table whose schemas were `past`, the oldest first, and is `now`.
    pub(super) fn between<'a>(
        past: impl IntoIterator<Item = &'a IcebergSchema>,
        now: &IcebergSchema,
    ) -> Self {
        let mut former = BTreeMap::new();
        for schema in past {
            for (id, name) in schema.field_id_to_name_map() {
                if now.field_by_name(name).is_some() {
                    continue;
                }
                let fate = now
                    .name_by_field_id(*id)
                    .map_or(Fate::Dropped, |name| Fate::Renamed(name.to_owned()));
                former.insert(name.clone(), fate);
            }
        }
        Self(former)
    }

    /// What became of the column that had this full name.
    pub fn fate(&self, column: &str) -> Option<&Fate> {
        self.0.get(column)
    }
}
