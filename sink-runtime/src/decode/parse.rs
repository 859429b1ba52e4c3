//! The general decoder: strict JSON of any shape, straight into columns. Pure.
//! What it leaves behind in the columns after an error is for the caller to cut off.
//! Of duplicate keys the last wins, and every one must fit. A record that is not JSON is `Malformed` even where an
//! earlier field does not fit.

use self::scalar::{a_number, binary, boolean, double, float, integer, mismatch};
use super::column::{Column, Data, Fields, List};
use super::cursor::{Cursor, kind};
use super::misfit::{Halt, missing, refuse};
use super::temporal::{self, Ticks, Wire};
use super::{RejectClass, number};

pub(super) mod map;
pub(super) mod scalar;

/// What becomes of fields that no column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Ignore,
    /// Refused, unless there is nothing in it but null, `{}` and `[]`: those tell no type.
    RefuseTyped,
    Refuse,
}

/// The keys of an object as they came, for the predictor to learn from.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pub(super) steps: Vec<Step>,
    /// Where the last value ended.
    pub(super) end: usize,
    /// Shapes with duplicate keys are not worth learning.
    pub(super) duplicates: bool,
}

impl Trail {
    pub(super) fn begin(&mut self, start: usize) {
        self.steps.clear();
        self.end = start;
        self.duplicates = false;
    }
}

/// From the end of one value to the start of the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) column: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Parser {
    scratch: Vec<u8>,
    /// Counts objects: each has its own stamp on the columns it wrote.
    instance: u64,
    pub(super) unknown: Unknown,
}

impl Parser {
    pub(super) fn new(unknown: Unknown) -> Self {
        Self {
            scratch: Vec::new(),
            instance: 0,
            unknown,
        }
    }

    pub(super) fn next_instance(&mut self) -> u64 {
        self.instance += 1;
        self.instance
    }

    /// One record as row `row` of the columns. `data` ends where the record ends.
    pub(super) fn record(
        &mut self,
        data: &[u8],
        start: usize,
        fields: &mut Fields,
        row: usize,
        trail: Option<&mut Trail>,
    ) -> Result<(), Halt> {
        let mut cursor = Cursor::new(data, start);
        match self.record_at(&mut cursor, fields, row, trail) {
            Err(Halt::Misfit(misfit)) => {
                let mut whole = Cursor::new(data, start);
                whole.whitespace();
                whole.skip(&mut self.scratch)?;
                whole.end()?;
                Err(Halt::Misfit(misfit))
            }
            other => other,
        }
    }

    fn record_at(
        &mut self,
        cursor: &mut Cursor<'_>,
        fields: &mut Fields,
        row: usize,
        mut trail: Option<&mut Trail>,
    ) -> Result<(), Halt> {
        if let Some(trail) = &mut trail {
            trail.begin(cursor.pos);
        }
        cursor.whitespace();
        match cursor.peek() {
            b'{' => self.object(cursor, fields, row, trail)?,
            0 if cursor.pos >= cursor.data.len() => return Err(cursor.syntax("empty").into()),
            byte => {
                return Err(Halt::misfit(
                    RejectClass::NotARecord,
                    format!("expected an object, found {}", kind(byte)),
                ));
            }
        }
        cursor.end().map_err(Halt::Syntax)
    }

    /// The object at the cursor as row `row` of the columns.
    pub(super) fn object(
        &mut self,
        cursor: &mut Cursor<'_>,
        fields: &mut Fields,
        row: usize,
        mut trail: Option<&mut Trail>,
    ) -> Result<(), Halt> {
        cursor.enter()?;
        let stamp = self.next_instance();
        let mut written = 0;
        let mut guess = 0;
        let mut more = !cursor.empty(b'}');
        while more {
            let key = cursor.key(&mut self.scratch)?;
            let found = fields.keys.find(key.unwrap_or(&self.scratch), guess);
            if let Some(trail) = &mut trail {
                trail.steps.push(Step {
                    start: trail.end,
                    end: cursor.pos,
                    column: found,
                });
            }
            if let Some(index) = found {
                let column = &mut fields.columns[index];
                if column.stamp == stamp {
                    column.truncate(row);
                    if let Some(trail) = &mut trail {
                        trail.duplicates = true;
                    }
                } else {
                    column.stamp = stamp;
                    written += 1;
                }
                guess = index + 1;
                if let Err(halt) = self.value(cursor, column) {
                    return Err(halt.within(&column.name));
                }
            } else {
                self.unknown(cursor, key)?;
            }
            if let Some(trail) = &mut trail {
                trail.end = cursor.pos;
            }
            more = cursor.another(b'}')?;
        }
        if written < fields.columns.len() {
            fill_missing(fields, stamp)?;
        }
        Ok(())
    }

    /// `key`: as [`Cursor::key`] gave it.
    fn unknown(&mut self, cursor: &mut Cursor<'_>, key: Option<&[u8]>) -> Result<(), Halt> {
        match self.unknown {
            Unknown::Ignore => {
                cursor.skip(&mut self.scratch)?;
                Ok(())
            }
            Unknown::Refuse => Err(refuse(key.unwrap_or(&self.scratch), kind(cursor.peek()))),
            Unknown::RefuseTyped => {
                // The key is needed only when the value turns out to have a type: scratch may go meanwhile.
                let escaped = key.is_none().then(|| self.scratch.clone());
                let found = kind(cursor.peek());
                if cursor.skip(&mut self.scratch)? {
                    let key = key.or(escaped.as_deref()).unwrap_or_default();
                    return Err(refuse(key, found));
                }
                Ok(())
            }
        }
    }

    /// The value of a key that no column has, where the shape is already known.
    pub(super) fn unknown_value(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Halt> {
        self.unknown(cursor, Some(b""))
    }

    /// One value of any kind into the column.
    pub(super) fn value(
        &mut self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
    ) -> Result<(), Halt> {
        let byte = cursor.peek();
        if byte == b'n' {
            cursor.literal(b"null")?;
            if column.required {
                return Err(missing("null in a required field"));
            }
            column.push_absent();
            return Ok(());
        }
        match &mut column.data {
            Data::Boolean(values) => values.push(boolean(cursor)?),
            Data::Int(values) => {
                let value = integer(cursor, "int")?;
                values.push(i32::try_from(value).map_err(|_| Halt::out_of_range("int"))?);
            }
            Data::Long(values) => values.push(integer(cursor, "long")?),
            Data::Float(values) => values.push(float(cursor)?),
            Data::Double(values, rounding) => values.push(double(cursor, *rounding)?),
            Data::Decimal(decimals) => {
                let (precision, scale) = (decimals.precision, decimals.scale);
                let expected = || format!("decimal({precision}, {scale})");
                let text = if byte == b'"' {
                    let plain = cursor.string(&mut self.scratch)?;
                    let text = plain.unwrap_or(&self.scratch);
                    if !number::is_decimal(text) {
                        return Err(Halt::mismatch(&expected(), "another string"));
                    }
                    text
                } else {
                    a_number(cursor, "decimal")?.text
                };
                let value = number::decimal(text, precision, scale)
                    .ok_or_else(|| Halt::out_of_range(&expected()))?;
                decimals.values.push(value);
            }
            Data::Date(values, wire) => {
                let (text, number) = (temporal::date, Ticks::days_of);
                values.push(self.temporal(cursor, *wire, "date", text, Ticks::days, number)?);
            }
            Data::Time(values, wire) => {
                let (text, number) = (temporal::time, Ticks::time_of);
                values.push(self.temporal(cursor, *wire, "time", text, Ticks::time, number)?);
            }
            Data::Timestamp(values, wire) => {
                let (text, number) = (temporal::timestamp, Ticks::instant_of);
                let integer = Ticks::instant;
                values.push(self.temporal(cursor, *wire, "timestamp", text, integer, number)?);
            }
            Data::Timestamptz(values, wire) => {
                let (text, number) = (temporal::timestamp, Ticks::instant_of);
                let integer = Ticks::instant;
                values.push(self.temporal(cursor, *wire, "timestamptz", text, integer, number)?);
            }
            Data::String(bytes) => bytes.push(self.text(cursor, "string")?),
            Data::Text(bytes) if byte == b'"' => bytes.push(self.text(cursor, "string")?),
            Data::Text(bytes) => {
                let start = cursor.pos;
                cursor.skip(&mut self.scratch)?;
                bytes.push(&cursor.data[start..cursor.pos]);
            }
            Data::Uuid(values) => {
                let text = self.text(cursor, "uuid")?;
                let uuid = uuid::Uuid::try_parse_ascii(text)
                    .map_err(|_| Halt::mismatch("uuid", "another string"))?;
                values.extend_from_slice(uuid.as_bytes());
            }
            Data::Binary(bytes, wire) => {
                let text = self.text(cursor, "binary")?;
                binary(text, *wire, bytes)?;
            }
            Data::Struct(fields) => {
                if byte != b'{' {
                    return Err(mismatch(cursor, "struct"));
                }
                self.object(cursor, fields, column.validity.len(), None)?;
            }
            Data::List(list) => self.list(cursor, list)?,
            Data::Map(map) => self.map(cursor, map)?,
        }
        column.validity.append_non_null();
        Ok(())
    }

    #[inline]
    fn text<'s, 'a: 's>(
        &'s mut self,
        cursor: &mut Cursor<'a>,
        expected: &'static str,
    ) -> Result<&'s [u8], Halt> {
        if cursor.peek() != b'"' {
            return Err(mismatch(cursor, expected));
        }
        let plain = cursor.string(&mut self.scratch)?;
        Ok(plain.unwrap_or(&self.scratch))
    }

    /// `from_number`: where it is no integer, or does not fit 64 bits.
    fn temporal<T>(
        &mut self,
        cursor: &mut Cursor<'_>,
        wire: Wire,
        expected: &'static str,
        from_text: fn(&[u8]) -> Option<T>,
        from_integer: fn(Ticks, i64) -> Option<T>,
        from_number: fn(Ticks, &[u8]) -> Option<T>,
    ) -> Result<T, Halt> {
        match (cursor.peek(), wire.ticks) {
            (b'"', _) if wire.iso => {
                let plain = cursor.string(&mut self.scratch)?;
                from_text(plain.unwrap_or(&self.scratch))
                    .ok_or_else(|| Halt::mismatch(expected, "another string"))
            }
            (b'-' | b'0'..=b'9', Some(ticks)) => {
                let found = cursor.number()?;
                if found.plain
                    && let Some(integer) = number::integer(found.text)
                    && let Some(value) = from_integer(ticks, integer)
                {
                    return Ok(value);
                }
                uncommon(ticks, found.text, expected, from_number)
            }
            _ => Err(mismatch(cursor, expected)),
        }
    }

    fn list(&mut self, cursor: &mut Cursor<'_>, list: &mut List) -> Result<(), Halt> {
        if cursor.peek() != b'[' {
            return Err(mismatch(cursor, "list"));
        }
        cursor.enter()?;
        let mut more = !cursor.empty(b']');
        while more {
            if let Err(halt) = self.value(cursor, &mut list.element) {
                return Err(halt.within("element"));
            }
            more = cursor.another(b']')?;
        }
        list.offsets.push(list.element.len() as i32);
        Ok(())
    }
}

/// Nulls for the columns that the object with this stamp did not name.
pub(super) fn fill_missing(fields: &mut Fields, stamp: u64) -> Result<(), Halt> {
    for column in &mut fields.columns {
        if column.stamp != stamp {
            if column.required {
                return Err(missing("a required field is missing").within(&column.name));
            }
            column.push_absent();
        }
    }
    Ok(())
}

/// A number in a place for a time that is no integer of 64 bits, or out of range. Out of the way: the function that is in
/// the way of every value must stay small.
#[cold]
#[inline(never)]
fn uncommon<T>(
    ticks: Ticks,
    text: &[u8],
    expected: &'static str,
    from_number: fn(Ticks, &[u8]) -> Option<T>,
) -> Result<T, Halt> {
    from_number(ticks, text).ok_or_else(|| {
        if ticks == Ticks::Days && temporal::within_a_day(text) {
            return Halt::mismatch("date in whole days", "a fraction of a day");
        }
        Halt::out_of_range(expected)
    })
}
