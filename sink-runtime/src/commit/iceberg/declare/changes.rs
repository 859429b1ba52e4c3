//! What a table needs in order to be what a resource says, and what of it cannot be done. Pure.
//!
//! What the resource leaves open the table keeps, unless this sink brought it there before: for that, and so that two sinks of
//! one table do not undo each other's declarations, each keeps a record of what it declared in a property of the table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use iceberg::spec::{
    FormatVersion, Schema as IcebergSchema, SchemaRef, SortOrder, TableMetadata,
    UnboundPartitionField,
};
use serde::{Deserialize, Serialize};

use super::layout::{numbered, partition_text, same_partitions, sort_text};
use crate::errors::OneLine;
use crate::plan::{Destination, IcebergPlan, Plan, SinkId, ValueSchema};
use crate::schema::evolution::{self, TableColumns, plan_evolution};
use crate::schema::iceberg::{partition_spec, sort_order};
use crate::schema::{Schema, arrow as arrow_schema};

/// The sink that made the table; only that one ever drops it.
pub const CREATED_BY: &str = "tidewater.created-by";

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
            ValueSchema::Inferred(_) => None,
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
        let record = Record::of(plan, &HashMap::new(), &Record::default());
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
    /// Those of the properties that were not so before this sink said it, with what it set them to: only these are its to
    /// remove.
    set: BTreeMap<String, String>,
}

impl Record {
    /// Of a table that `have` tells the properties of, after what `before` says.
    fn of(plan: &IcebergPlan, have: &HashMap<String, String>, before: &Self) -> Self {
        let mut set = plan.properties.clone();
        set.retain(|key, value| have.get(key) != Some(value) || before.set.get(key) == Some(value));
        Self {
            partition_by: !plan.partition_by.is_empty(),
            sort_order: !plan.sort_order.is_empty(),
            properties: plan.properties.keys().cloned().collect(),
            set,
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
    pub(super) record: Option<(String, Option<String>)>,
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
        let have = TableColumns::of(self.table);
        let planned = plan_evolution(&have, columns, self.wanted.plan.evolution);
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
        let others = self
            .declared_by(|record| record.partition_by)
            .map(str::to_owned);
        // What another sink declares too is left to it; our record goes.
        if plan.partition_by.is_empty() && (!self.ours.partition_by || others.is_some()) {
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
        if let Some(sink) = others {
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
        let others = self
            .declared_by(|record| record.sort_order)
            .map(str::to_owned);
        // What another sink declares too is left to it; our record goes.
        if plan.sort_order.is_empty() && (!self.ours.sort_order || others.is_some()) {
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
        if let Some(sink) = others {
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
            .set
            .iter()
            .filter(|&(key, value)| {
                !wanted.contains_key(key) && self.table.properties().get(key) == Some(value)
            })
            .map(|(key, _)| key)
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
        let record = Record::of(&self.wanted.plan, self.table.properties(), &self.ours);
        if record == self.ours {
            return;
        }
        let text = (record != Record::default()).then(|| record.text());
        self.changes.record = Some((record_key(&self.wanted.sink.0), text));
    }
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
