//! One file in a manifest.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, Datum, FormatVersion, Literal, PrimitiveLiteral, PrimitiveType,
};

use super::avro::{self, Value};
use super::form::id;
use super::{ManifestError, value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Existing = 0,
    Added = 1,
    Deleted = 2,
}

/// Numbers by column id, in order.
type ByColumn<T> = Option<Vec<(i32, T)>>;

/// As the manifest has it: `None` is inherited from the list. Bounds stay the bytes they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) status: Status,
    pub(crate) snapshot_id: Option<i64>,
    pub(crate) sequence_number: Option<i64>,
    pub(crate) file_sequence_number: Option<i64>,
    pub(crate) content: i32,
    pub(crate) file_path: String,
    pub(super) file_format: String,
    pub(super) partition: Vec<Option<PrimitiveLiteral>>,
    pub(crate) record_count: i64,
    pub(super) file_size: i64,
    /// Column sizes, values, nulls, NaNs.
    pub(super) counts: [ByColumn<i64>; 4],
    /// Lower, upper.
    pub(super) bounds: [ByColumn<Vec<u8>>; 2],
    pub(super) key_metadata: Option<Vec<u8>>,
    pub(super) split_offsets: Option<Vec<i64>>,
    pub(super) equality_ids: Option<Vec<i64>>,
    pub(super) sort_order_id: Option<i64>,
    pub(crate) first_row_id: Option<i64>,
}

impl Entry {
    /// A file that the snapshot adds.
    ///
    /// # Errors
    /// A file of deletes, a value that cannot be a bound.
    pub(crate) fn added(file: &DataFile, snapshot_id: i64) -> Result<Self, ManifestError> {
        let path = || file.file_path().to_owned();
        if file.content_type() != DataContentType::Data {
            return Err(ManifestError::NotData { file: path() });
        }
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let counts = |map: &HashMap<i32, u64>| by_column(map, |n| Ok(count(*n)));
        let unsound: Vec<i32> = unsound_bounds(file).collect();
        let bounds = |map: &HashMap<i32, Datum>| {
            let sound = map.iter().filter(|(column, _)| !unsound.contains(column));
            by_column(sound, |bound| {
                let bytes = bound.to_bytes().map_err(|_| ManifestError::Incomplete {
                    file: path(),
                    what: "a bound that can be written",
                })?;
                Ok(bytes.into_vec())
            })
        };
        let values = file.partition().fields().iter();
        let partition = values.map(|value| match value {
            None => Ok(None),
            Some(Literal::Primitive(value)) => Ok(Some(value.clone())),
            Some(_) => Err(ManifestError::Incomplete {
                file: path(),
                what: "a partition value of a plain type",
            }),
        });
        Ok(Self {
            status: Status::Added,
            snapshot_id: Some(snapshot_id),
            sequence_number: None,
            file_sequence_number: None,
            content: DataContentType::Data as i32,
            file_path: path(),
            file_format: file.file_format().to_string().to_ascii_uppercase(),
            partition: partition.collect::<Result<_, _>>()?,
            record_count: count(file.record_count()),
            file_size: count(file.file_size_in_bytes()),
            counts: [
                counts(file.column_sizes())?,
                counts(file.value_counts())?,
                counts(file.null_value_counts())?,
                counts(file.nan_value_counts())?,
            ],
            bounds: [bounds(file.lower_bounds())?, bounds(file.upper_bounds())?],
            key_metadata: file.key_metadata().map(Into::into),
            split_offsets: file.split_offsets().map(Into::into),
            equality_ids: None,
            sort_order_id: file.sort_order_id().map(i64::from),
            first_row_id: file.first_row_id(),
        })
    }

    /// With partition values as these fields have them: a file may have been begun before its column was widened.
    pub(super) fn widened(mut self, fields: &[(i32, &str, &PrimitiveType)]) -> Self {
        for ((_, _, ty), value) in fields.iter().zip(&mut self.partition) {
            let wider = match (ty, &*value) {
                (PrimitiveType::Long, Some(PrimitiveLiteral::Int(v))) => {
                    PrimitiveLiteral::Long(i64::from(*v))
                }
                (PrimitiveType::Double, Some(PrimitiveLiteral::Float(v))) => {
                    PrimitiveLiteral::Double(f64::from(v.0).into())
                }
                _ => continue,
            };
            *value = Some(wider);
        }
        self
    }

    pub(super) fn check(
        &self,
        fields: &[(i32, &str, &PrimitiveType)],
    ) -> Result<(), ManifestError> {
        let file = || self.file_path.clone();
        if self.partition.len() != fields.len() {
            return Err(ManifestError::Tuple {
                file: file(),
                found: self.partition.len(),
                wanted: fields.len(),
            });
        }
        for ((_, name, ty), value) in fields.iter().zip(&self.partition) {
            if value.as_ref().is_some_and(|v| !value::fits(ty, v)) {
                return Err(ManifestError::Value {
                    field: (*name).to_owned(),
                    ty: ty.to_string(),
                    file: file(),
                });
            }
        }
        let settled = self.sequence_number.is_some() && self.file_sequence_number.is_some();
        if self.status != Status::Added && !settled {
            return Err(ManifestError::Incomplete {
                file: file(),
                what: "its sequence numbers",
            });
        }
        if self.snapshot_id.is_none() {
            return Err(ManifestError::Incomplete {
                file: file(),
                what: "its snapshot",
            });
        }
        Ok(())
    }

    /// What [`Entry::check`] let pass. Order of fields as in `form::schema`.
    pub(super) fn encode(
        &self,
        version: FormatVersion,
        fields: &[(i32, &str, &PrimitiveType)],
        out: &mut Vec<u8>,
    ) {
        let long = |out: &mut Vec<u8>, v: i64| avro::long(out, v);
        avro::long(out, self.status as i64);
        if version == FormatVersion::V1 {
            avro::long(out, self.snapshot_id.unwrap_or_default());
        } else {
            avro::optional(out, self.snapshot_id, long);
            avro::optional(out, self.sequence_number, long);
            avro::optional(out, self.file_sequence_number, long);
            avro::long(out, i64::from(self.content));
        }
        avro::bytes(out, self.file_path.as_bytes());
        avro::bytes(out, self.file_format.as_bytes());
        for ((_, _, ty), value) in fields.iter().zip(&self.partition) {
            avro::optional(out, value.as_ref(), |out, v| value::encode(ty, v, out));
        }
        avro::long(out, self.record_count);
        avro::long(out, self.file_size);
        if version == FormatVersion::V1 {
            // Of no meaning by now, and required.
            avro::long(out, 0);
        }
        for map in &self.counts {
            columns(out, map.as_deref(), |out, n| avro::long(out, *n));
        }
        for map in &self.bounds {
            columns(out, map.as_deref(), |out, bound| avro::bytes(out, bound));
        }
        avro::optional(out, self.key_metadata.as_deref(), avro::bytes);
        for list in [&self.split_offsets, &self.equality_ids] {
            avro::optional(out, list.as_deref(), |out, list| {
                avro::array(out, list, |out, n| avro::long(out, *n));
            });
        }
        avro::optional(out, self.sort_order_id, long);
        if version >= FormatVersion::V3 {
            avro::optional(out, self.first_row_id, long);
        }
    }

    pub(super) fn decode(
        value: Value,
        fields: &[(i32, &str, &PrimitiveType)],
    ) -> Result<Self, ManifestError> {
        let mut entry = Record::of(value)?;
        let mut file = Record::of(entry.take(id::DATA_FILE))?;
        let mut tuple = Record::of(file.take(id::PARTITION))?;
        let path = file.text(id::FILE_PATH)?;
        let partition = fields.iter().map(|(id, name, ty)| match tuple.take(*id) {
            Value::Null => Ok(None),
            found => match value::literal(&found, ty) {
                Some(literal) => Ok(Some(literal)),
                None => Err(ManifestError::Value {
                    field: (*name).to_owned(),
                    ty: ty.to_string(),
                    file: path.clone(),
                }),
            },
        });
        let partition = partition.collect::<Result<_, _>>()?;
        let missing = |what| {
            let file = path.clone();
            move || ManifestError::Incomplete { file, what }
        };
        let mut counts = [const { None }; 4];
        for (place, (id, key, value, _)) in counts.iter_mut().zip(id::COUNTS) {
            *place = file.columns(id, key, value, |found| match found {
                Value::Long(n) => Some(n),
                _ => None,
            })?;
        }
        let mut bounds = [const { None }; 2];
        for (place, (id, key, value, _)) in bounds.iter_mut().zip(id::BOUNDS) {
            *place = file.columns(id, key, value, |found| match found {
                Value::Bytes(bytes) => Some(bytes),
                _ => None,
            })?;
        }
        Ok(Self {
            status: match entry.long(id::STATUS)? {
                Some(0) => Status::Existing,
                Some(1) => Status::Added,
                Some(2) => Status::Deleted,
                _ => return Err(missing("its status")()),
            },
            snapshot_id: entry.long(id::SNAPSHOT_ID)?,
            sequence_number: entry.long(id::SEQUENCE_NUMBER)?,
            file_sequence_number: entry.long(id::FILE_SEQUENCE_NUMBER)?,
            content: i32::try_from(file.long(id::CONTENT)?.unwrap_or_default())
                .map_err(|_| ManifestError::Malformed("content of no kind"))?,
            file_format: file.text(id::FILE_FORMAT)?,
            record_count: file
                .long(id::RECORD_COUNT)?
                .ok_or_else(missing("its rows' number"))?,
            file_size: file.long(id::FILE_SIZE)?.ok_or_else(missing("its size"))?,
            file_path: path,
            partition,
            counts,
            bounds,
            key_metadata: file.bytes(id::KEY_METADATA)?,
            split_offsets: file.longs(id::SPLIT_OFFSETS)?,
            equality_ids: file.longs(id::EQUALITY_IDS)?,
            sort_order_id: file.long(id::SORT_ORDER_ID)?,
            first_row_id: file.long(id::FIRST_ROW_ID)?,
        })
    }
}

/// Columns of uuids whose bounds some reader would take for a range without its values.
fn unsound_bounds(file: &DataFile) -> impl Iterator<Item = i32> {
    file.lower_bounds().iter().filter_map(|(column, low)| {
        let high = file.upper_bounds().get(column)?;
        match (low.literal(), high.literal()) {
            (PrimitiveLiteral::UInt128(low), PrimitiveLiteral::UInt128(high)) => {
                (!value::uuid_bounds_hold(*low, *high)).then_some(*column)
            }
            _ => None,
        }
    })
}

/// `None` for none at all, as the reference implementation has it.
fn by_column<'a, V: 'a, T>(
    map: impl IntoIterator<Item = (&'a i32, &'a V)>,
    value: impl Fn(&V) -> Result<T, ManifestError>,
) -> Result<ByColumn<T>, ManifestError> {
    let entries = map.into_iter().map(|(column, v)| Ok((*column, value(v)?)));
    let mut entries = entries.collect::<Result<Vec<_>, ManifestError>>()?;
    entries.sort_by_key(|(column, _)| *column);
    Ok((!entries.is_empty()).then_some(entries))
}

fn columns<T>(
    out: &mut Vec<u8>,
    map: Option<&[(i32, T)]>,
    mut write: impl FnMut(&mut Vec<u8>, &T),
) {
    avro::optional(out, map, |out, entries| {
        avro::array(out, entries, |out, (column, value)| {
            avro::long(out, i64::from(*column));
            write(out, value);
        });
    });
}

/// A record whose fields are taken by their ids.
struct Record(Vec<(Option<i32>, Value)>);

impl Record {
    fn of(value: Value) -> Result<Self, ManifestError> {
        match value {
            Value::Record(fields) => Ok(Self(fields)),
            _ => Err(ManifestError::Malformed("an entry without its parts")),
        }
    }

    /// Null where there is none.
    fn take(&mut self, id: i32) -> Value {
        let field = self.0.iter_mut().find(|(field, _)| *field == Some(id));
        field.map_or(Value::Null, |(_, value)| {
            std::mem::replace(value, Value::Null)
        })
    }

    fn long(&mut self, id: i32) -> Result<Option<i64>, ManifestError> {
        match self.take(id) {
            Value::Null => Ok(None),
            Value::Long(n) => Ok(Some(n)),
            _ => Err(other_type(id)),
        }
    }

    fn text(&mut self, id: i32) -> Result<String, ManifestError> {
        match self.take(id) {
            Value::Text(text) => Ok(text),
            _ => Err(other_type(id)),
        }
    }

    fn bytes(&mut self, id: i32) -> Result<Option<Vec<u8>>, ManifestError> {
        match self.take(id) {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            _ => Err(other_type(id)),
        }
    }

    fn longs(&mut self, id: i32) -> Result<Option<Vec<i64>>, ManifestError> {
        let Value::Array(items) = self.take(id) else {
            return Ok(None);
        };
        let items = items.into_iter().map(|item| match item {
            Value::Long(n) => Ok(n),
            _ => Err(other_type(id)),
        });
        items.collect::<Result<_, _>>().map(Some)
    }

    fn columns<T>(
        &mut self,
        id: i32,
        key: i32,
        value: i32,
        read: impl Fn(Value) -> Option<T>,
    ) -> Result<ByColumn<T>, ManifestError> {
        let Value::Array(items) = self.take(id) else {
            return Ok(None);
        };
        let items = items.into_iter().map(|item| {
            let mut pair = Self::of(item)?;
            let column = pair.long(key)?.and_then(|n| i32::try_from(n).ok());
            column
                .zip(read(pair.take(value)))
                .ok_or_else(|| other_type(id))
        });
        items.collect::<Result<_, _>>().map(Some)
    }
}

fn other_type(id: i32) -> ManifestError {
    ManifestError::Foreign(format!("field {id} is of another type"))
}
