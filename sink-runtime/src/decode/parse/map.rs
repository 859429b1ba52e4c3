//! Maps of the general decoder. Pure.

use super::Parser;
use super::scalar::mismatch;
use crate::decode::column::{Bytes, Map};
use crate::decode::cursor::Cursor;
use crate::decode::misfit::Halt;

impl Parser {
    pub(super) fn map(&mut self, cursor: &mut Cursor<'_>, map: &mut Map) -> Result<(), Halt> {
        if cursor.peek() != b'{' {
            return Err(mismatch(cursor, "map"));
        }
        let first = map.keys.rows();
        let before = cursor.clone();
        self.entries(cursor, map, &[])?;
        let superseded = superseded(&map.keys, first);
        if superseded.contains(&true) {
            map.keys.truncate(first);
            map.value.truncate(first);
            *cursor = before;
            self.entries(cursor, map, &superseded)?;
        }
        map.offsets.push(map.value.len() as i32);
        Ok(())
    }

    /// The entries of a map, without those for which `skip` says true.
    fn entries(
        &mut self,
        cursor: &mut Cursor<'_>,
        map: &mut Map,
        skip: &[bool],
    ) -> Result<(), Halt> {
        cursor.enter()?;
        let mut more = !cursor.empty(b'}');
        let mut entry = 0;
        while more {
            let key = cursor.key(&mut self.scratch)?;
            if skip.get(entry) == Some(&true) {
                cursor.skip(&mut self.scratch)?;
            } else {
                map.keys.push(key.unwrap_or(&self.scratch));
                if let Err(halt) = self.value(cursor, &mut map.value) {
                    return Err(halt.within("value"));
                }
            }
            entry += 1;
            more = cursor.another(b'}')?;
        }
        Ok(())
    }
}

/// For each entry from `first` on, whether a later one has its key. Empty when none has.
pub(in crate::decode) fn superseded(keys: &Bytes<i32>, first: usize) -> Vec<bool> {
    let rows = keys.rows();
    // Few entries are compared pair by pair; many would take quadratic time.
    const FEW: usize = 16;
    if rows - first <= FEW {
        let duplicate = (first..rows)
            .any(|row| (row + 1..rows).any(|later| keys.value(row) == keys.value(later)));
        if !duplicate {
            return Vec::new();
        }
    }
    let mut last = std::collections::HashMap::with_capacity(rows - first);
    for row in first..rows {
        last.insert(keys.value(row), row);
    }
    (first..rows)
        .map(|row| last.get(keys.value(row)) != Some(&row))
        .collect()
}
