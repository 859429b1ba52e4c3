//! What a table needs in order to be what a resource says, and what of it cannot be done. Pure.
//!
//! What the resource leaves open the table keeps, unless this sink declared it before: for that, and so that two sinks of
//! one table do not undo each other's declarations, each keeps a record of what it declared in a property of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use iceberg::TableRequirement;
use iceberg::spec::{
    FormatVersion, NullOrder, PartitionSpec, PartitionSpecRef, Schema as IcebergSchema, SchemaRef,
    SortDirection, SortOrder, TableMetadata, TableMetadataBuildResult, Transform,
    UnboundPartitionField, UnboundPartitionSpec,
};
use serde::{Deserialize, Serialize};

use crate::catalog::{Base, CatalogError};
use crate::errors::OneLine;
use crate::plan::{Destination, IcebergPlan, Plan, SinkId, ValueSchema};
use crate::schema::evolution::{self, plan_evolution};
use crate::schema::iceberg::{partition_spec, sort_order};
use crate::schema::{Schema, arrow as arrow_schema};

/// The sink that made the table; only that one ever drops it.
pub const CREATED_BY: &str = "tidewater.created-by";
/// Ids of partition fields start here.
const FIRST_PARTITION_ID: i32 = 1000;
/// Metadata that are this much older than what they replace are refused by readers and writers alike.
const SKEW_MS: i64 = 60_000;

/// What a resource says of its table.
#[derive(Clone, Debug)]
pub struct Declaration {
    pub sink: SinkId,
    pub plan: IcebergPlan,
    /// Columns known before any record; `None`: the table gets them as records bring them.
    pub columns: Option<Schema>,
}

impl Declaration {
    /// `None`: the destination is no table.
    pub fn of(plan: &Plan) -> Option<Self> {
        let Destination::Iceberg(table) = &plan.destination else {
            return None;
        };
        let columns = match &plan.decode.value {
            ValueSchema::Declared { schema, .. } => {
                let mut fields = schema.fields.clone();
                fields.extend(arrow_schema::metadata_schema(&plan.decode.metadata).fields);
                Some(Schema { fields })
            }
            ValueSchema::Inferred { .. } => None,
        };
        Some(Self {
            sink: plan.sink.clone(),
            plan: table.clone(),
            columns,
        })
    }

    /// Properties of a table made for it, beyond the plan's.
    pub(in crate::commit::iceberg) fn marks(
        sink: &SinkId,
        plan: &IcebergPlan,
    ) -> BTreeMap<String, String> {
        let mut marks = BTreeMap::from([(CREATED_BY.to_owned(), sink.0.clone())]);
        let record = Record::of(plan);
        if record != Record::default() {
            marks.insert(record_key(&sink.0), record.text());
        }
        marks
    }
}

/// What a sink declared of the table, as its property tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    partition_by: bool,
    sort_order: bool,
    properties: BTreeSet<String>,
}

impl Record {
    fn of(plan: &IcebergPlan) -> Self {
        Self {
            partition_by: !plan.partition_by.is_empty(),
            sort_order: !plan.sort_order.is_empty(),
            properties: plan.properties.keys().cloned().collect(),
        }
    }

    /// One that somebody else wrote into says nothing.
    fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

const RECORD: &str = ".declared";

fn record_key(sink: &str) -> String {
    format!("tidewater.{sink}{RECORD}")
}

/// One change of a table's metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Upgrade {
        from: FormatVersion,
        to: FormatVersion,
    },
    Columns {
        schema: Box<IcebergSchema>,
        changes: Vec<evolution::Change>,
    },
    Partition {
        fields: Vec<UnboundPartitionField>,
        from: String,
        to: String,
    },
    Sort {
        order: SortOrder,
        from: String,
        to: String,
    },
    Set {
        key: String,
        value: String,
        from: Option<String>,
    },
    Remove {
        key: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgrade { from, to } => {
                write!(f, "upgrade format version {} to {}", *from as u8, *to as u8)
            }
            Self::Columns { changes, .. } => {
                for (i, change) in changes.iter().enumerate() {
                    write!(f, "{}{change}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::Partition { from, to, .. } => write!(f, "partition by {to} instead of {from}"),
            Self::Sort { from, to, .. } => write!(f, "sort by {to} instead of {from}"),
            Self::Set { key, value, from } => {
                write!(f, "set property \"{key}\" to \"{value}\"")?;
                match from {
                    Some(from) => write!(f, " instead of \"{from}\""),
                    None => Ok(()),
                }
            }
            Self::Remove { key } => write!(f, "remove property \"{key}\""),
        }
    }
}

/// What is between a table and what a resource says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub steps: Vec<Step>,
    /// Why the table cannot become what it shall be, one sentence each. While there is any, no step is taken.
    pub refused: Vec<String>,
    /// Our record in the table as it is to be, where it differs.
    record: Option<(String, Option<String>)>,
}

impl Changes {
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty() && self.record.is_none()
    }

    /// For people: the reasons first, then what would be done.
    pub fn plan(&self) -> String {
        let steps = self.steps.iter().map(ToString::to_string);
        let lines: Vec<String> = self.refused.iter().cloned().chain(steps).collect();
        lines.join("; ")
    }
}

/// Compares a table with a declaration.
pub fn plan_changes(table: &TableMetadata, wanted: &Declaration) -> Changes {
    let mut draft = Draft {
        table,
        wanted,
        ours: Record::default(),
        others: BTreeMap::new(),
        schema: table.current_schema().clone(),
        version: table.format_version(),
        changes: Changes::default(),
    };
    draft.records();
    draft.version();
    draft.columns();
    draft.partitions();
    draft.sorting();
    draft.properties();
    draft.location();
    draft.record();
    draft.changes
}

struct Draft<'a> {
    table: &'a TableMetadata,
    wanted: &'a Declaration,
    ours: Record,
    /// Of other sinks.
    others: BTreeMap<String, Record>,
    /// As it will be.
    schema: SchemaRef,
    version: FormatVersion,
    changes: Changes,
}

impl Draft<'_> {
    fn refuse(&mut self, why: impl Into<String>) {
        self.changes.refused.push(why.into());
    }

    fn records(&mut self) {
        for (key, text) in self.table.properties() {
            let sink = key
                .strip_prefix("tidewater.")
                .and_then(|rest| rest.strip_suffix(RECORD));
            match sink {
                Some(sink) if sink == self.wanted.sink.0 => self.ours = Record::read(text),
                Some(sink) => drop(self.others.insert(sink.to_owned(), Record::read(text))),
                None => {}
            }
        }
    }

    /// The other sink that declares it.
    fn declared_by(&self, by: impl Fn(&Record) -> bool) -> Option<&str> {
        let mut others = self.others.iter();
        others
            .find(|(_, record)| by(record))
            .map(|(sink, _)| sink.as_str())
    }

    fn refuse_others(&mut self, what: &str, sink: &str) {
        let key = record_key(sink);
        let why = format!(
            "{what} is declared by sink \"{sink}\": let one of the two say it, or, if that sink is gone, remove the \
             table's property \"{key}\""
        );
        self.refuse(why);
    }

    /// 2 is what is wanted of a new table by default: it asks nothing of one that is there.
    fn version(&mut self) {
        let to = match self.wanted.plan.format_version {
            3.. => FormatVersion::V3,
            _ => return,
        };
        let from = self.version;
        if from < to {
            self.changes.steps.push(Step::Upgrade { from, to });
            self.version = to;
        }
    }

    fn columns(&mut self) {
        let Some(columns) = &self.wanted.columns else {
            return;
        };
        let planned = plan_evolution(
            &self.schema,
            self.table.last_column_id(),
            columns,
            self.wanted.plan.evolution,
        );
        match planned {
            Ok(None) => {}
            Ok(Some(new)) => {
                self.schema = SchemaRef::new(new.schema.clone());
                self.changes.steps.push(Step::Columns {
                    schema: Box::new(new.schema),
                    changes: new.changes,
                });
            }
            Err(incompatible) => self.refuse(incompatible.to_string()),
        }
    }

    fn partitions(&mut self) {
        let plan = &self.wanted.plan;
        if plan.partition_by.is_empty() && !self.ours.partition_by {
            return;
        }
        let spec = match partition_spec(&self.schema, &plan.partition_by) {
            Ok(spec) => spec,
            Err(error) => return self.refuse(format!("partitionBy: {}", OneLine(&error))),
        };
        let named: Vec<bool> = plan
            .partition_by
            .iter()
            .map(|field| field.name.is_some())
            .collect();
        let have = self.table.default_partition_spec();
        if same_partitions(have, &spec, &named) {
            return;
        }
        if let Some(sink) = self
            .declared_by(|record| record.partition_by)
            .map(str::to_owned)
        {
            return self.refuse_others("the partitioning", &sink);
        }
        if self.version == FormatVersion::V1 {
            return self.refuse(
                "partitionBy: partitions of a table of format version 1 are not changed: upgrade the table to version 2, or \
                 set formatVersion: 3",
            );
        }
        let step = Step::Partition {
            fields: numbered(self.table, &spec),
            from: partition_text(&self.schema, have),
            to: partition_text(&self.schema, &spec),
        };
        self.changes.steps.push(step);
    }

    fn sorting(&mut self) {
        let plan = &self.wanted.plan;
        if plan.sort_order.is_empty() && !self.ours.sort_order {
            return;
        }
        let order = match sort_order(&self.schema, &plan.sort_order) {
            Ok(order) => order,
            Err(error) => return self.refuse(format!("sortOrder: {}", OneLine(&error))),
        };
        let have = self.table.default_sort_order();
        if order.fields == have.fields {
            return;
        }
        if let Some(sink) = self
            .declared_by(|record| record.sort_order)
            .map(str::to_owned)
        {
            return self.refuse_others("the sort order", &sink);
        }
        let step = Step::Sort {
            from: sort_text(&self.schema, have),
            to: sort_text(&self.schema, &order),
            order,
        };
        self.changes.steps.push(step);
    }

    fn properties(&mut self) {
        let wanted = &self.wanted.plan.properties;
        for (key, value) in wanted {
            let from = self.table.properties().get(key).cloned();
            if from.as_ref() == Some(value) {
                continue;
            }
            let others = self.declared_by(|record| record.properties.contains(key));
            if let Some(sink) = others.map(str::to_owned) {
                self.refuse_others(&format!("property \"{key}\""), &sink);
                continue;
            }
            let (key, value) = (key.clone(), value.clone());
            self.changes.steps.push(Step::Set { key, value, from });
        }
        let stale: Vec<String> = self
            .ours
            .properties
            .iter()
            .filter(|key| !wanted.contains_key(*key) && self.table.properties().contains_key(*key))
            .filter(|key| {
                self.declared_by(|record| record.properties.contains(*key))
                    .is_none()
            })
            .cloned()
            .collect();
        let removed = stale.into_iter().map(|key| Step::Remove { key });
        self.changes.steps.extend(removed);
    }

    fn location(&mut self) {
        let have = self.table.location().trim_end_matches('/');
        if let Some(location) = &self.wanted.plan.location
            && location.trim_end_matches('/') != have
        {
            self.refuse(format!(
                "location: the table lives in \"{have}\", and a table is not moved: leave spec.location out, or say the same"
            ));
        }
    }

    fn record(&mut self) {
        let record = Record::of(&self.wanted.plan);
        if record == self.ours {
            return;
        }
        let text = (record != Record::default()).then(|| record.text());
        self.changes.record = Some((record_key(&self.wanted.sink.0), text));
    }
}

/// `named`: which of the wanted fields have a name of the user's choice. Fields that are void take no part.
fn same_partitions(have: &PartitionSpec, wanted: &PartitionSpec, named: &[bool]) -> bool {
    let void = |transform: Transform| transform == Transform::Void;
    let keep_void = wanted.fields().iter().any(|field| void(field.transform));
    let have: Vec<_> = have
        .fields()
        .iter()
        .filter(|field| keep_void || !void(field.transform))
        .collect();
    have.len() == wanted.fields().len()
        && have
            .iter()
            .zip(wanted.fields())
            .enumerate()
            .all(|(i, (have, wanted))| {
                have.source_id == wanted.source_id
                    && have.transform == wanted.transform
                    && (!named.get(i).copied().unwrap_or_default() || have.name == wanted.name)
            })
}

/// With the id that the table gave the same field before, or else a fresh one. Said outright: a catalog that numbers by
/// itself may give one that is taken.
fn numbered(table: &TableMetadata, spec: &PartitionSpec) -> Vec<UnboundPartitionField> {
    let mut last = table.last_partition_id().max(FIRST_PARTITION_ID - 1);
    let known = |source_id: i32, transform: Transform| {
        table
            .partition_specs_iter()
            .flat_map(|spec| spec.fields())
            .find(|field| field.source_id == source_id && field.transform == transform)
            .map(|field| field.field_id)
    };
    let numbered = spec.fields().iter().map(|field| {
        let id = known(field.source_id, field.transform).unwrap_or_else(|| {
            last += 1;
            last
        });
        UnboundPartitionField {
            source_id: field.source_id,
            field_id: Some(id),
            name: field.name.clone(),
            transform: field.transform,
        }
    });
    numbered.collect()
}

fn applied(schema: &IcebergSchema, source_id: i32, transform: Transform) -> String {
    let column = schema.name_by_field_id(source_id).unwrap_or("?");
    match transform {
        Transform::Identity => column.to_owned(),
        Transform::Bucket(n) => format!("bucket({n}, {column})"),
        Transform::Truncate(n) => format!("truncate({n}, {column})"),
        other => format!("{other}({column})"),
    }
}

fn listed(fields: &[String]) -> String {
    if fields.is_empty() {
        "nothing".to_owned()
    } else {
        fields.join(", ")
    }
}

fn partition_text(schema: &IcebergSchema, spec: &PartitionSpec) -> String {
    let fields = spec.fields().iter();
    let fields: Vec<_> = fields
        .map(|field| applied(schema, field.source_id, field.transform))
        .collect();
    listed(&fields)
}

fn sort_text(schema: &IcebergSchema, order: &SortOrder) -> String {
    let fields = order.fields.iter();
    let fields: Vec<_> = fields
        .map(|field| {
            let what = applied(schema, field.source_id, field.transform);
            let direction = match field.direction {
                SortDirection::Ascending => "asc",
                SortDirection::Descending => "desc",
            };
            let nulls = match field.null_order {
                NullOrder::First => "first",
                NullOrder::Last => "last",
            };
            format!("{what} {direction} nulls {nulls}")
        })
        .collect();
    listed(&fields)
}

fn known_spec(table: &TableMetadata, fields: &[UnboundPartitionField]) -> Option<i32> {
    let same = |spec: &&PartitionSpecRef| {
        let fields = fields
            .iter()
            .map(|field| (field.source_id, field.transform, field.name.as_str()));
        let have = spec.fields().iter();
        have.map(|field| (field.source_id, field.transform, field.name.as_str()))
            .eq(fields)
    };
    let known = table.partition_specs_iter().find(same);
    known.map(|spec| spec.spec_id())
}

fn known_order(table: &TableMetadata, order: &SortOrder) -> Option<i64> {
    let mut known = table.sort_orders_iter();
    known
        .find(|known| known.fields == order.fields)
        .map(|known| known.order_id)
}

/// The metadata with all steps taken, unpublished.
///
/// # Errors
/// What does not make valid metadata.
pub(super) fn build(
    table: &TableMetadata,
    location: Option<String>,
    changes: &Changes,
) -> Result<TableMetadataBuildResult, iceberg::Error> {
    let mut builder = table.clone().into_builder(location);
    let mut set = std::collections::HashMap::new();
    let mut remove = Vec::new();
    for step in &changes.steps {
        builder = match step {
            Step::Upgrade { to, .. } => builder.upgrade_format_version(*to)?,
            Step::Columns { schema, .. } => builder.add_current_schema(schema.as_ref().clone())?,
            // What the table had before is named, not added: catalogs refuse to make an addition of it.
            Step::Partition { fields, .. } => match known_spec(table, fields) {
                Some(id) => builder.set_default_partition_spec(id)?,
                None => {
                    let spec = UnboundPartitionSpec::builder();
                    let spec = spec.add_partition_fields(fields.clone())?.build();
                    builder.add_default_partition_spec(spec)?
                }
            },
            Step::Sort { order, .. } => match known_order(table, order) {
                Some(id) => builder.set_default_sort_order(id)?,
                None => builder
                    .add_sort_order(order.clone())?
                    .set_default_sort_order(-1)?,
            },
            Step::Set { key, value, .. } => {
                set.insert(key.clone(), value.clone());
                builder
            }
            Step::Remove { key } => {
                remove.push(key.clone());
                builder
            }
        };
    }
    match &changes.record {
        Some((key, Some(text))) => drop(set.insert(key.clone(), text.clone())),
        Some((key, None)) => remove.push(key.clone()),
        None => {}
    }
    if !set.is_empty() {
        builder = builder.set_properties(set)?;
    }
    if !remove.is_empty() {
        builder = builder.remove_properties(&remove)?;
    }
    builder.build()
}

/// What must still hold when the steps are published. Rows may come meanwhile.
pub(super) fn requirements(table: &TableMetadata) -> Vec<TableRequirement> {
    vec![
        TableRequirement::UuidMatch { uuid: table.uuid() },
        TableRequirement::CurrentSchemaIdMatch {
            current_schema_id: table.current_schema_id(),
        },
        TableRequirement::LastAssignedFieldIdMatch {
            last_assigned_field_id: table.last_column_id(),
        },
        TableRequirement::DefaultSpecIdMatch {
            default_spec_id: table.default_partition_spec_id(),
        },
        TableRequirement::LastAssignedPartitionIdMatch {
            last_assigned_partition_id: table.last_partition_id(),
        },
        TableRequirement::DefaultSortOrderIdMatch {
            default_sort_order_id: table.default_sort_order_id(),
        },
    ]
}

/// Publishing has to wait while our clock is that far behind whoever changed the table last.
pub(super) fn too_early(base: &Base, now_ms: i64) -> Option<CatalogError> {
    let ahead = base.metadata.last_updated_ms() - now_ms;
    (ahead > SKEW_MS).then(|| CatalogError::Unavailable {
        operation: "change table metadata",
        source: format!(
            "the clock of its last writer is {} s ahead of ours",
            ahead / 1000
        )
        .into(),
    })
}

/// Why the table is not dropped for `sink`; `None`: it made it, and nobody else of ours wrote to it.
pub(super) fn kept(table: &TableMetadata, sink: &SinkId) -> Option<String> {
    match table.properties().get(CREATED_BY) {
        None => return Some("it was there before".to_owned()),
        Some(by) if *by != sink.0 => return Some(format!("sink \"{by}\" made it")),
        Some(_) => {}
    }
    let own = format!("tidewater.{sink}.offsets");
    let other = table.properties().keys().find_map(|key| {
        let sink = key.strip_prefix("tidewater.")?.strip_suffix(".offsets")?;
        (*key != own).then_some(sink)
    });
    other.map(|other| format!("sink \"{other}\" writes to it too"))
}
