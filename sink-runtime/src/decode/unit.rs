//! Times that look as if their numbers counted another unit: seconds taken for milliseconds, or milliseconds for
//! microseconds, are a moment in the first months of 1970. A guess, for a warning: such times are taken. Pure.

use arrow::array::types::TimestampMicrosecondType;
use arrow::array::{AsArray, RecordBatch};

/// 1970-04-26, in microseconds: as many milliseconds as there are seconds until the year 2286.
const SPRING: i64 = 10_000_000_000_000;

/// Columns of times whose first value in the batch, of those that are there, is such a moment. Zero is most often none.
pub fn odd_times(batch: &RecordBatch) -> impl Iterator<Item = &str> {
    let schema = batch.schema_ref().fields().iter();
    let columns = schema.zip(batch.columns());
    columns.filter_map(|(field, column)| {
        let times = column.as_primitive_opt::<TimestampMicrosecondType>()?;
        let first = times.iter().flatten().next()?;
        (1..SPRING).contains(&first).then(|| field.name().as_str())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn seconds_for_milliseconds_and_these_for_microseconds_are_noticed_and_no_other_time_is() {
        let times = |first: i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(vec![
                None,
                Some(first),
                Some(1),
            ]))
        };
        let seconds = 1_700_000_000;
        let batch = RecordBatch::try_from_iter([
            ("right", times(seconds * 1_000_000)),
            ("seconds", times(seconds * 1_000)),
            ("millis", times(seconds * 1_000)),
            ("seconds as micros", times(seconds)),
            ("zero", times(0)),
            ("before", times(-seconds)),
            ("1971", times(31_536_000_000_000)),
            (
                "number",
                Arc::new(Int64Array::from(vec![5, 5, 5])) as ArrayRef,
            ),
        ]);
        let odd: Vec<_> = odd_times(&batch.unwrap()).map(str::to_owned).collect();
        assert_eq!(odd, ["seconds", "millis", "seconds as micros"]);
        let none: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None::<i64>; 3]));
        let batch = RecordBatch::try_from_iter([("null", none)]).unwrap();
        assert_eq!(odd_times(&batch).count(), 0);
    }
}
