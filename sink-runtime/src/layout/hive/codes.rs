//! Small integers for values: rows are grouped by code, and texts are made once per distinct value. Pure.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// A text per directory level; `None` for null.
pub(super) type Parts = Option<Vec<String>>;

/// Hashes fixed-size integers by one multiplication; the values are data, the tables are cleared when they grow large.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mix(u64);

impl Mix {
    fn add(&mut self, n: u64) {
        let mixed = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The table takes its group from the top bits and its slot from the bottom ones: both must depend on all.
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }

    fn write_i64(&mut self, n: i64) {
        self.add(n.cast_unsigned());
    }
}

pub(super) type Table<K> = HashMap<K, u32, BuildHasherDefault<Mix>>;

/// Codes of the values of one column.
#[derive(Debug)]
pub(super) struct Codes<K> {
    known: Table<K>,
    last: Option<(K, u32)>,
}

impl<K> Default for Codes<K> {
    fn default() -> Self {
        Self {
            known: Table::default(),
            last: None,
        }
    }
}

impl<K: Copy + Eq + Hash> Codes<K> {
    #[inline]
    pub(super) fn code(&mut self, value: K, intern: impl FnOnce(K) -> u32) -> u32 {
        match self.last {
            Some((last, code)) if last == value => code,
            _ => {
                let code = *self.known.entry(value).or_insert_with(|| intern(value));
                self.last = Some((value, code));
                code
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.last = None;
    }
}

/// Codes of strings.
#[derive(Debug, Default)]
pub(super) struct StringCodes {
    /// String -> its place in `texts`.
    known: HashMap<Arc<str>, usize>,
    texts: Vec<(Arc<str>, u32)>,
    /// Place of the last row's string.
    last: usize,
}

impl StringCodes {
    #[inline]
    pub(super) fn code(&mut self, value: &str, intern: impl FnOnce(&str) -> u32) -> u32 {
        if let Some((text, code)) = self.texts.get(self.last)
            && **text == *value
        {
            return *code;
        }
        self.last = match self.known.get(value) {
            Some(place) => *place,
            None => {
                let text: Arc<str> = value.into();
                self.texts.push((Arc::clone(&text), intern(value)));
                self.known.insert(text, self.texts.len() - 1);
                self.texts.len() - 1
            }
        };
        self.texts[self.last].1
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.texts.clear();
        self.last = 0;
    }
}
