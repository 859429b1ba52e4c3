//! As much of Avro as manifests need: object container files, written with `deflate`, read with the codecs that other
//! engines use, under bounds: a length in a file is never believed beyond the bytes that are there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde_json::Value as Json;

use super::ManifestError;

const MAGIC: &[u8] = b"Obj\x01";
/// What the reference implementation takes.
const BLOCK: usize = 64 << 10;
/// A block that unpacks to more is not a manifest's.
const LARGEST_BLOCK: u64 = 64 << 20;
/// A manifest's schema has five levels.
const DEEPEST: usize = 16;

pub(super) fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    long(out, i64::try_from(value.len()).unwrap_or(i64::MAX));
    out.extend(value);
}

/// A union with null in front.
pub(super) fn optional<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    write: impl FnOnce(&mut Vec<u8>, T),
) {
    match value {
        None => long(out, 0),
        Some(value) => {
            long(out, 1);
            write(out, value);
        }
    }
}

pub(super) fn array<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        long(out, i64::try_from(items.len()).unwrap_or(i64::MAX));
        for item in items {
            write(out, item);
        }
    }
    long(out, 0);
}

#[derive(Debug)]
pub(super) struct ContainerWriter {
    file: Vec<u8>,
    sync: [u8; 16],
    block: Vec<u8>,
    items: i64,
}

impl ContainerWriter {
    pub(super) fn new(schema: &[u8], metadata: &[(&str, Vec<u8>)]) -> Self {
        let mut file = MAGIC.to_vec();
        let own = [("avro.schema", schema), ("avro.codec", b"deflate")];
        let others = metadata.iter().map(|(key, value)| (*key, value.as_slice()));
        let all: Vec<(&str, &[u8])> = own.into_iter().chain(others).collect();
        array(&mut file, &all, |out, (key, value)| {
            bytes(out, key.as_bytes());
            bytes(out, value);
        });
        let sync = uuid::Uuid::new_v4().into_bytes();
        file.extend(sync);
        Self {
            file,
            sync,
            block: Vec::new(),
            items: 0,
        }
    }

    pub(super) fn item(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), ManifestError> {
        write(&mut self.block);
        self.items += 1;
        if self.block.len() >= BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ManifestError> {
        if self.items == 0 {
            return Ok(());
        }
        let level = flate2::Compression::default();
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), level);
        packed
            .write_all(&self.block)
            .map_err(ManifestError::Codec)?;
        let packed = packed.finish().map_err(ManifestError::Codec)?;
        long(&mut self.file, self.items);
        bytes(&mut self.file, &packed);
        self.file.extend(self.sync);
        self.block.clear();
        self.items = 0;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, ManifestError> {
        self.flush()?;
        Ok(self.file)
    }
}

/// A schema without its names: fields go by their Iceberg ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Array(Box<Schema>),
    Union(Vec<Schema>),
    Record(Vec<(Option<i32>, Schema)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Long(i64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Value>),
    Record(Vec<(Option<i32>, Value)>),
}

impl Schema {
    fn parse(json: &Json) -> Result<Self, ManifestError> {
        Self::level(json, &mut BTreeMap::new(), DEEPEST)
    }

    /// `fixed`: those defined so far. A record that is referred to would be one inside of itself, or many.
    fn level(
        json: &Json,
        fixed: &mut BTreeMap<String, usize>,
        left: usize,
    ) -> Result<Self, ManifestError> {
        let left = left
            .checked_sub(1)
            .ok_or(ManifestError::Malformed("its schema is too deep"))?;
        let foreign = |what: &str| ManifestError::Foreign(format!("Avro type {what}"));
        match json {
            Json::String(name) => Ok(match name.as_str() {
                "null" => Self::Null,
                "boolean" => Self::Boolean,
                "int" => Self::Int,
                "long" => Self::Long,
                "float" => Self::Float,
                "double" => Self::Double,
                "bytes" => Self::Bytes,
                "string" => Self::String,
                name => Self::Fixed(*fixed.get(last(name)).ok_or_else(|| foreign(name))?),
            }),
            Json::Array(branches) => {
                let branches = branches.iter().map(|b| Self::level(b, fixed, left));
                Ok(Self::Union(branches.collect::<Result<_, _>>()?))
            }
            Json::Object(object) => {
                let ty = object.get("type").unwrap_or(&Json::Null);
                let name = object.get("name").and_then(Json::as_str);
                match ty.as_str() {
                    Some("record") => {
                        let fields = object.get("fields").and_then(Json::as_array);
                        let fields = fields
                            .ok_or(ManifestError::Malformed("a record without fields"))?
                            .iter()
                            .map(|field| {
                                let id = field.get("field-id").and_then(Json::as_i64);
                                let ty = field.get("type").unwrap_or(&Json::Null);
                                Ok((
                                    id.and_then(|id| i32::try_from(id).ok()),
                                    Self::level(ty, fixed, left)?,
                                ))
                            });
                        Ok(Self::Record(fields.collect::<Result<_, _>>()?))
                    }
                    Some("array") => {
                        let items = object.get("items").unwrap_or(&Json::Null);
                        Ok(Self::Array(Box::new(Self::level(items, fixed, left)?)))
                    }
                    Some("fixed") => {
                        let size = object.get("size").and_then(Json::as_u64);
                        let size = size
                            .and_then(|size| usize::try_from(size).ok())
                            .ok_or(ManifestError::Malformed("a fixed type without size"))?;
                        if let Some(name) = name {
                            fixed.insert(last(name).to_owned(), size);
                        }
                        Ok(Self::Fixed(size))
                    }
                    Some(other @ ("map" | "enum")) => Err(foreign(other)),
                    _ => Self::level(ty, fixed, left),
                }
            }
            _ => Err(ManifestError::Malformed("its schema is none")),
        }
    }
}

/// A name without its namespace.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A container file that is read block by block.
#[derive(Debug)]
pub(super) struct Container<'a> {
    schema: Schema,
    codec: Codec,
    sync: &'a [u8],
    rest: Cursor<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Codec {
    Null,
    Deflate,
    Zstandard,
}

impl<'a> Container<'a> {
    pub(super) fn open(file: &'a [u8]) -> Result<Self, ManifestError> {
        let mut rest = Cursor(file);
        if rest.take(MAGIC.len())? != MAGIC {
            return Err(ManifestError::Malformed("no Avro file"));
        }
        let (mut schema, mut codec) = (None, Codec::Null);
        loop {
            let pairs = rest.block_length()?;
            if pairs == 0 {
                break;
            }
            for _ in 0..pairs {
                let (key, value) = (rest.bytes()?, rest.bytes()?);
                match key {
                    b"avro.schema" => {
                        let json = serde_json::from_slice(value).map_err(ManifestError::Text)?;
                        schema = Some(Schema::parse(&json)?);
                    }
                    b"avro.codec" => {
                        codec = match value {
                            b"null" => Codec::Null,
                            b"deflate" => Codec::Deflate,
                            b"zstandard" => Codec::Zstandard,
                            other => {
                                let name = String::from_utf8_lossy(other);
                                return Err(ManifestError::Foreign(format!("codec {name}")));
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(Self {
            schema: schema.ok_or(ManifestError::Malformed("it has no schema"))?,
            codec,
            sync: rest.take(16)?,
            rest,
        })
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(super) fn each<E: From<ManifestError>>(
        mut self,
        mut each: impl FnMut(Value) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.rest.0.is_empty() {
            let items = self.rest.long()?;
            let packed = self.rest.bytes()?;
            let block = self.codec.unpack(packed)?;
            let mut block = Cursor(&block);
            for _ in 0..items {
                if block.0.is_empty() {
                    return Err(ManifestError::Malformed("a block ends too early").into());
                }
                each(block.value(&self.schema)?)?;
            }
            if self.rest.take(16)? != self.sync {
                return Err(ManifestError::Malformed("a block without its end").into());
            }
        }
        Ok(())
    }
}

impl Codec {
    fn unpack(self, packed: &[u8]) -> Result<Cow<'_, [u8]>, ManifestError> {
        let mut reader: Box<dyn Read + '_> = match self {
            Self::Null => return Ok(Cow::Borrowed(packed)),
            Self::Deflate => Box::new(flate2::read::DeflateDecoder::new(packed)),
            Self::Zstandard => {
                Box::new(zstd::stream::read::Decoder::new(packed).map_err(ManifestError::Codec)?)
            }
        };
        let mut block = Vec::new();
        let limit = LARGEST_BLOCK + 1;
        let taken = reader.by_ref().take(limit).read_to_end(&mut block);
        if taken.map_err(ManifestError::Codec)? as u64 == limit {
            return Err(ManifestError::Malformed("a block is too large"));
        }
        Ok(Cow::Owned(block))
    }
}

#[derive(Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ManifestError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(ManifestError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        let taken = self.take(N)?;
        taken
            .try_into()
            .map_err(|_| ManifestError::Malformed("it ends too early"))
    }

    fn long(&mut self) -> Result<i64, ManifestError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(ManifestError::Malformed("a number without end"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], ManifestError> {
        let length = usize::try_from(self.long()?);
        self.take(length.map_err(|_| ManifestError::Malformed("a negative length"))?)
    }

    /// How many items follow; a negative number goes with the block's size. Each item has a byte at least, so that a
    /// number beyond the bytes that are left is a lie.
    fn block_length(&mut self) -> Result<usize, ManifestError> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        usize::try_from(count.unsigned_abs())
            .ok()
            .filter(|count| *count <= self.0.len())
            .ok_or(ManifestError::Malformed("more items than bytes"))
    }

    fn value(&mut self, schema: &Schema) -> Result<Value, ManifestError> {
        Ok(match schema {
            Schema::Null => Value::Null,
            Schema::Boolean => Value::Boolean(self.array::<1>()? != [0]),
            Schema::Int | Schema::Long => Value::Long(self.long()?),
            Schema::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            Schema::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            Schema::Bytes => Value::Bytes(self.bytes()?.into()),
            Schema::String => {
                let text = std::str::from_utf8(self.bytes()?);
                let text = text.map_err(|_| ManifestError::Malformed("a text that is none"))?;
                Value::Text(text.to_owned())
            }
            Schema::Fixed(size) => Value::Bytes(self.take(*size)?.into()),
            Schema::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok();
                let branch = branch.and_then(|branch| branches.get(branch));
                self.value(branch.ok_or(ManifestError::Malformed("no such branch of a union"))?)?
            }
            Schema::Array(items) => {
                let mut values = Vec::new();
                loop {
                    let count = self.block_length()?;
                    if count == 0 {
                        break Value::Array(values);
                    }
                    for _ in 0..count {
                        let before = self.0.len();
                        values.push(self.value(items)?);
                        if self.0.len() == before {
                            return Err(ManifestError::Malformed("an item without bytes"));
                        }
                    }
                }
            }
            Schema::Record(fields) => {
                let fields = fields
                    .iter()
                    .map(|(id, schema)| Ok((*id, self.value(schema)?)));
                Value::Record(fields.collect::<Result<_, ManifestError>>()?)
            }
        })
    }
}
