//! Field names to column indexes. Pure.

/// An open-addressed hash table, at most half full.
#[derive(Debug)]
pub(super) struct KeyTable {
    names: Vec<Box<[u8]>>,
    /// Index + 1 into `names`; 0 is free. Its length is a power of two.
    slots: Vec<u32>,
}

impl KeyTable {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<Box<[u8]>> = names.map(|n| n.as_bytes().into()).collect();
        let mut slots = vec![0; (names.len() * 2).next_power_of_two().max(2)];
        let mask = slots.len() - 1;
        for (index, name) in names.iter().enumerate() {
            let mut slot = hash(name) & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = index as u32 + 1;
        }
        Self { names, slots }
    }

    /// `guess` is tried first: records mostly hold their keys in the order of the columns.
    #[inline]
    pub(super) fn find(&self, key: &[u8], guess: usize) -> Option<usize> {
        if self.names.get(guess).is_some_and(|name| **name == *key) {
            return Some(guess);
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash(key) & mask;
        loop {
            let index = (self.slots[slot] as usize).checked_sub(1)?;
            if *self.names[index] == *key {
                return Some(index);
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// Eight bytes at a time, the last eight overlapping; collisions cost a comparison.
fn hash(key: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut hash = key.len() as u64;
    match key.last_chunk::<8>() {
        Some(last) => {
            let (words, _) = key.as_chunks::<8>();
            for word in words {
                hash = step(hash, u64::from_le_bytes(*word));
            }
            hash = step(hash, u64::from_le_bytes(*last));
        }
        None => {
            let word = key
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            hash = step(hash, word);
        }
    }
    (hash ^ (hash >> 32)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let names: Vec<String> = (0..100).map(|i| format!("column_{i}")).collect();
        let table = KeyTable::new(names.iter().map(String::as_str));
        for (index, name) in names.iter().enumerate() {
            assert_eq!(table.find(name.as_bytes(), 7), Some(index));
        }
        assert_eq!(table.find(b"column_100", 0), None);
        assert_eq!(KeyTable::new(std::iter::empty()).find(b"", 0), None);
    }
}
