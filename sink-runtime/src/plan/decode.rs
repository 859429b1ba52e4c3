//! `spec.value`, `spec.schema`, `spec.metadataColumns` and what happens to records that do not fit → [`DecodePlan`].
//! Pure.

use std::collections::BTreeSet;

use tidewater_crds::{
    ColumnSpec, DeadLetterSpec, ElementSpec, InferSpec, MetadataColumnsSpec,
    OnConflict as ConflictSpec, OnError as ErrorSpec, SchemaSpec, SourceSpec,
    Tombstones as TombstonesSpec, UnknownFields as UnknownSpec, ValueEncoding,
};

use super::problem::Checks;
use super::source::{check_producer_properties, reads, topic_remedy};
use super::{
    DeadLetter, DecodePlan, Inference, MetadataColumns, OnConflict, OnError, Tombstones, Topics,
    UnknownFields, ValueSchema,
};
use crate::record::TopicName;
use crate::schema::{DEEPEST, Encoding, Field, Schema, Type, count, is_column_name};

mod hints;

/// The parts of a spec that say how records are decoded, from whichever kind holds them.
pub(super) struct DecodeSpec<'a> {
    /// Where `schema` and `infer` stand.
    pub schema_path: &'a str,
    pub schema: Option<&'a SchemaSpec>,
    pub infer: Option<&'a InferSpec>,
    pub on_error: Option<ErrorSpec>,
    pub tombstones: TombstonesSpec,
    pub metadata: Option<&'a MetadataColumnsSpec>,
    pub dead_letter: Option<&'a DeadLetterSpec>,
}

pub(super) fn plan(checks: &mut Checks, spec: &DecodeSpec<'_>) -> DecodePlan {
    let value = match (spec.schema, spec.infer) {
        (Some(schema), _) => ValueSchema::Declared {
            schema: Schema {
                fields: fields(
                    checks,
                    &format!("{}.fields", spec.schema_path),
                    &schema.fields,
                    0,
                ),
            },
            unknown: match schema.unknown_fields {
                UnknownSpec::Ignore => UnknownFields::Ignore,
                UnknownSpec::Reject => UnknownFields::Reject,
            },
        },
        (None, Some(infer)) => ValueSchema::Inferred(inference(checks, infer)),
        (None, None) => ValueSchema::Inferred(Inference::new(0, OnConflict::String)),
    };
    let metadata = metadata(checks, spec.metadata, &value);
    let tombstones = match spec.tombstones {
        TombstonesSpec::Skip => Tombstones::Skip,
        TombstonesSpec::DeadLetter => Tombstones::DeadLetter,
    };
    let on_error = match (spec.on_error, spec.dead_letter) {
        (Some(ErrorSpec::DeadLetter), _) | (None, Some(_)) => OnError::DeadLetter,
        (Some(ErrorSpec::Skip), _) => OnError::Skip,
        (Some(ErrorSpec::Fail) | None, _) => OnError::Fail,
    };
    let needed = on_error == OnError::DeadLetter || tombstones == Tombstones::DeadLetter;
    if needed && spec.dead_letter.is_none() {
        let field = if on_error == OnError::DeadLetter {
            "spec.onError"
        } else {
            "spec.tombstones"
        };
        checks.add(
            field,
            "DeadLetter",
            "needs spec.deadLetter: give it a topic or a prefix",
        );
    }
    if !needed && spec.dead_letter.is_some() {
        let remedy =
            "nothing would go there: set onError or tombstones to DeadLetter, or remove it";
        checks.add("spec.deadLetter", "", remedy);
    }
    DecodePlan {
        value,
        on_error,
        tombstones,
        metadata,
    }
}

fn inference(checks: &mut Checks, spec: &InferSpec) -> Inference {
    let on_conflict = match spec.on_conflict {
        ConflictSpec::String => OnConflict::String,
        ConflictSpec::Reject => OnConflict::Reject,
    };
    let hints = hints::plan(checks, &spec.hints);
    let (most, known) = (spec.max_columns as usize, count(&hints.fields));
    if known > most {
        let remedy = format!("the hints alone make {known} columns: give at least as many");
        checks.add("spec.value.infer.maxColumns", most, remedy);
    }
    Inference {
        max_columns: most,
        hints,
        ..Inference::new(spec.sample_records as usize, on_conflict)
    }
}

pub(super) fn dead_letter(
    checks: &mut Checks,
    spec: Option<&DeadLetterSpec>,
    source: &SourceSpec,
    topics: &Topics,
) -> Option<DeadLetter> {
    let to_a_topic = spec.is_some_and(|spec| spec.topic.is_some());
    check_producer_properties(checks, source, to_a_topic);
    let spec = spec?;
    let given = [
        ("topic", spec.topic.is_some()),
        ("prefix", spec.prefix.is_some()),
    ];
    checks.exactly_one("spec.deadLetter", &given);
    if let Some(topic) = &spec.topic {
        if let Some(remedy) = topic_remedy(topic) {
            checks.add("spec.deadLetter.topic", topic, remedy);
        } else if reads(topics, topic) {
            let remedy = "the source reads this topic: it would feed itself; choose another";
            checks.add("spec.deadLetter.topic", topic, remedy);
        }
        return Some(DeadLetter::Topic {
            topic: TopicName::new(topic.as_str()),
        });
    }
    let prefix = spec.prefix.clone().unwrap_or_default();
    super::store::check_prefix(checks, "spec.deadLetter.prefix", &prefix);
    Some(DeadLetter::Prefix { prefix })
}

fn metadata(
    checks: &mut Checks,
    spec: Option<&MetadataColumnsSpec>,
    value: &ValueSchema,
) -> MetadataColumns {
    let Some(spec) = spec else {
        return MetadataColumns::default();
    };
    let known = match value {
        ValueSchema::Declared { schema, .. } => schema,
        ValueSchema::Inferred(inference) => &inference.hints,
    };
    let names = known.fields.iter().map(|field| field.name.to_lowercase());
    let mut taken: BTreeSet<String> = names.collect();
    for (field, name) in [
        ("topic", &spec.topic),
        ("partition", &spec.partition),
        ("offset", &spec.offset),
        ("timestamp", &spec.timestamp),
        ("timestampType", &spec.timestamp_type),
        ("key", &spec.key),
        ("headers", &spec.headers),
    ] {
        let Some(name) = name else { continue };
        let field = format!("spec.metadataColumns.{field}");
        check_name(checks, &field, name);
        if !taken.insert(name.to_lowercase()) {
            checks.add(
                field,
                name,
                "there is a column of that name already: choose another",
            );
        }
    }
    MetadataColumns {
        topic: spec.topic.clone(),
        partition: spec.partition.clone(),
        offset: spec.offset.clone(),
        timestamp: spec.timestamp.clone(),
        timestamp_type: spec.timestamp_type.clone(),
        key: spec.key.clone(),
        headers: spec.headers.clone(),
    }
}

fn check_name(checks: &mut Checks, field: &str, name: &str) {
    if !is_column_name(name) {
        let remedy = "give a name without control characters, and without spaces at its ends";
        checks.add(field, name, remedy);
    }
}

fn fields(checks: &mut Checks, path: &str, specs: &[ColumnSpec], depth: usize) -> Vec<Field> {
    let mut names = BTreeSet::new();
    let mut fields = Vec::with_capacity(specs.len());
    for (i, spec) in specs.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let name = format!("{path}.name");
        check_name(checks, &name, &spec.name);
        // Glue and most engines do not tell names apart by case.
        if !names.insert(spec.name.to_lowercase()) {
            checks.add(
                name,
                &spec.name,
                "there is a column of that name already: choose another",
            );
        }
        fields.push(Field {
            name: spec.name.clone(),
            ty: column_type(checks, &path, spec, depth),
            required: spec.required,
            doc: spec.doc.clone(),
            encoding: spec.encoding.map(encoding),
        });
    }
    fields
}

/// The type of a column that stands `depth` levels deep.
fn column_type(checks: &mut Checks, path: &str, spec: &ColumnSpec, depth: usize) -> Type {
    let parts = Parts {
        type_: &spec.type_,
        encoding: spec.encoding,
        fields: spec.fields.as_deref(),
        element: spec.element.as_deref(),
        value: spec.value.as_deref(),
    };
    parts.resolve(checks, path, depth)
}

/// What a column and an element have in common.
struct Parts<'a> {
    type_: &'a str,
    encoding: Option<ValueEncoding>,
    fields: Option<&'a [ColumnSpec]>,
    element: Option<&'a ElementSpec>,
    value: Option<&'a ElementSpec>,
}

impl Parts<'_> {
    fn resolve(&self, checks: &mut Checks, path: &str, depth: usize) -> Type {
        if depth >= DEEPEST {
            checks.add(
                path,
                "",
                format!("nested too deep: at most {DEEPEST} levels"),
            );
            return Type::String;
        }
        for (part, given, goes_with) in [
            ("fields", self.fields.is_some(), "struct"),
            ("element", self.element.is_some(), "list"),
            ("value", self.value.is_some(), "map"),
        ] {
            if given != (self.type_ == goes_with) {
                let remedy = if given {
                    format!("goes with type: {goes_with} only: remove it")
                } else {
                    format!("required with type: {goes_with}: give it a value")
                };
                checks.add(format!("{path}.{part}"), "", remedy);
            }
        }
        let ty = match self.type_ {
            "struct" => {
                let nested = self.fields.unwrap_or_default();
                if nested.is_empty() && self.fields.is_some() {
                    checks.add(
                        format!("{path}.fields"),
                        "",
                        "a struct needs at least one field",
                    );
                }
                Type::Struct(fields(checks, &format!("{path}.fields"), nested, depth + 1))
            }
            "list" => Type::List(element(checks, path, "element", self.element, depth)),
            "map" => Type::Map(element(checks, path, "value", self.value, depth)),
            scalar => self.scalar(checks, path, scalar),
        };
        if let Some(encoding) = self.encoding {
            check_encoding(checks, path, &ty, encoding);
        }
        ty
    }

    fn scalar(&self, checks: &mut Checks, path: &str, name: &str) -> Type {
        match name {
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "date" => Type::Date,
            "time" => Type::Time,
            "timestamp" => Type::Timestamp,
            "timestamptz" => Type::Timestamptz,
            "string" => Type::String,
            "uuid" => Type::Uuid,
            "binary" => Type::Binary,
            other => decimal(other).unwrap_or_else(|| {
                let remedy = if other.starts_with("decimal") {
                    "give decimal(precision, scale) with a precision of 1 to 38 and a scale of 0 to the precision"
                } else {
                    "unknown type: use boolean, int, long, float, double, decimal(p,s), date, time, timestamp, timestamptz, string, uuid, binary, struct, list or map"
                };
                checks.add(format!("{path}.type"), other, remedy);
                Type::String
            }),
        }
    }
}

fn decimal(text: &str) -> Option<Type> {
    let inside = text.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = inside.split_once(',')?;
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: u8 = scale.trim().parse().ok()?;
    ((1..=38).contains(&precision) && scale <= precision)
        .then_some(Type::Decimal { precision, scale })
}

fn element(
    checks: &mut Checks,
    path: &str,
    part: &str,
    spec: Option<&ElementSpec>,
    depth: usize,
) -> Box<Field> {
    let Some(spec) = spec else {
        return Box::new(Field::optional(part, Type::String));
    };
    let parts = Parts {
        type_: &spec.type_,
        encoding: spec.encoding,
        fields: spec.fields.as_deref(),
        element: spec.element.as_deref(),
        value: spec.value.as_deref(),
    };
    Box::new(Field {
        name: part.to_owned(),
        ty: parts.resolve(checks, &format!("{path}.{part}"), depth + 1),
        required: spec.required,
        doc: spec.doc.clone(),
        encoding: spec.encoding.map(encoding),
    })
}

fn encoding(spec: ValueEncoding) -> Encoding {
    match spec {
        ValueEncoding::Iso8601 => Encoding::Iso8601,
        ValueEncoding::EpochSeconds => Encoding::EpochSeconds,
        ValueEncoding::EpochMillis => Encoding::EpochMillis,
        ValueEncoding::EpochMicros => Encoding::EpochMicros,
        ValueEncoding::EpochNanos => Encoding::EpochNanos,
        ValueEncoding::EpochDays => Encoding::EpochDays,
        ValueEncoding::Base64 => Encoding::Base64,
        ValueEncoding::Hex => Encoding::Hex,
        ValueEncoding::Utf8 => Encoding::Utf8,
    }
}

fn check_encoding(checks: &mut Checks, path: &str, ty: &Type, encoding: ValueEncoding) {
    use ValueEncoding::{
        Base64, EpochDays, EpochMicros, EpochMillis, EpochNanos, EpochSeconds, Hex, Iso8601, Utf8,
    };
    let fitting: &[ValueEncoding] = match ty {
        Type::Timestamp | Type::Timestamptz | Type::Time => {
            &[Iso8601, EpochSeconds, EpochMillis, EpochMicros, EpochNanos]
        }
        Type::Date => &[Iso8601, EpochDays],
        Type::Binary => &[Base64, Hex, Utf8],
        _ => &[],
    };
    if !fitting.contains(&encoding) {
        let remedy = if fitting.is_empty() {
            "this type has one encoding only: remove it".to_owned()
        } else {
            let names: Vec<String> = fitting.iter().map(|e| format!("{e:?}")).collect();
            format!("does not fit the type: use {}", names.join(", "))
        };
        checks.add(format!("{path}.encoding"), format!("{encoding:?}"), remedy);
    }
}
