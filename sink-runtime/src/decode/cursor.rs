//! Strict JSON (RFC 8259) lexing of one record. Pure.
//! The caller has proved the record to be UTF-8; everything else is checked here: grammar, escapes, surrogate pairs,
//! depth. Strings are scanned eight bytes at a time.

/// Objects and arrays within each other, the record itself included.
pub(super) const MAX_DEPTH: u32 = 128;

/// The record is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    /// Ends where the record ends; the record may start behind its beginning.
    pub(super) data: &'a [u8],
    pub(super) pos: usize,
    pub(super) depth: u32,
}

/// A number as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    pub(super) text: &'a [u8],
    /// Without fraction and exponent.
    pub(super) plain: bool,
}

const LONE_SURROGATE: &str =
    "lone surrogate, half of a character: the producer must not cut texts between the two";

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of the first byte that ends a run of plain string bytes (quote, backslash, control character) is set;
/// bits above it mean nothing. 0: no such byte.
#[inline(always)]
pub(super) fn string_stop(word: u64) -> u64 {
    let quote = word ^ (LOW * b'"' as u64);
    let escape = word ^ (LOW * b'\\' as u64);
    ((quote.wrapping_sub(LOW) & !quote)
        | (escape.wrapping_sub(LOW) & !escape)
        | (word.wrapping_sub(LOW * 0x20) & !word))
        & HIGH
}

impl<'a> Cursor<'a> {
    pub(super) fn new(data: &'a [u8], pos: usize) -> Self {
        Self {
            data,
            pos,
            depth: 0,
        }
    }

    #[cold]
    pub(super) fn syntax(&self, what: &'static str) -> Syntax {
        Syntax { at: self.pos, what }
    }

    /// 0, which no token starts with, at the end.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.data.get(self.pos).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn whitespace(&mut self) {
        while let b' ' | b'\t' | b'\n' | b'\r' = self.peek() {
            self.pos += 1;
        }
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Syntax> {
        if self.peek() != byte {
            return Err(self.syntax(what));
        }
        self.pos += 1;
        Ok(())
    }

    /// Into an object or array.
    pub(super) fn enter(&mut self) -> Result<(), Syntax> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.syntax("nested too deep"));
        }
        self.pos += 1;
        self.whitespace();
        Ok(())
    }

    /// After a member or element: whether another one follows. The closing byte is consumed.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Result<bool, Syntax> {
        self.whitespace();
        let byte = self.peek();
        if byte == b',' {
            self.pos += 1;
            self.whitespace();
            return Ok(true);
        }
        if byte == close {
            self.pos += 1;
            self.depth -= 1;
            return Ok(false);
        }
        Err(self.syntax("expected a comma or the end of the object or array"))
    }

    /// After [`Self::enter`]: whether it is empty. The closing byte is consumed.
    #[inline]
    pub(super) fn empty(&mut self, close: u8) -> bool {
        if self.peek() != close {
            return false;
        }
        self.pos += 1;
        self.depth -= 1;
        true
    }

    /// A member's key and its colon. Without escapes the key is a slice of the record; else it is left in `scratch`.
    #[inline]
    pub(super) fn key(&mut self, scratch: &mut Vec<u8>) -> Result<Option<&'a [u8]>, Syntax> {
        if self.peek() != b'"' {
            return Err(self.syntax("expected a key"));
        }
        let key = self.string(scratch)?;
        self.whitespace();
        self.expect(b':', "expected a colon")?;
        self.whitespace();
        Ok(key)
    }

    pub(super) fn literal(&mut self, word: &'static [u8]) -> Result<(), Syntax> {
        if !self.data[self.pos..].starts_with(word) {
            return Err(self.syntax("expected a value"));
        }
        self.pos += word.len();
        Ok(())
    }

    /// From the opening quote past the closing one. Without escapes the text is a slice of the record; else it is
    /// left in `scratch`.
    #[inline]
    pub(super) fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Option<&'a [u8]>, Syntax> {
        self.pos += 1;
        let start = self.pos;
        self.plain_run();
        match self.peek() {
            b'"' => {
                self.pos += 1;
                Ok(Some(&self.data[start..self.pos - 1]))
            }
            _ => {
                scratch.clear();
                scratch.extend_from_slice(&self.data[start..self.pos]);
                self.escaped_string(scratch)?;
                Ok(None)
            }
        }
    }

    /// To the next quote, backslash or control character, or the end.
    #[inline]
    fn plain_run(&mut self) {
        while let Some(chunk) = self.data[self.pos..].first_chunk::<8>() {
            let stop = string_stop(u64::from_le_bytes(*chunk));
            if stop != 0 {
                self.pos += (stop.trailing_zeros() / 8) as usize;
                return;
            }
            self.pos += 8;
        }
        while let Some(byte) = self.data.get(self.pos) {
            if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
                return;
            }
            self.pos += 1;
        }
    }

    #[cold]
    fn escaped_string(&mut self, scratch: &mut Vec<u8>) -> Result<(), Syntax> {
        loop {
            let Some(byte) = self.data.get(self.pos) else {
                return Err(self.syntax("string without end"));
            };
            match byte {
                b'"' => {
                    self.pos += 1;
                    return Ok(());
                }
                b'\\' => self.escape(scratch)?,
                0..=0x1f => return Err(self.syntax("control character in a string")),
                _ => {
                    let start = self.pos;
                    self.plain_run();
                    scratch.extend_from_slice(&self.data[start..self.pos]);
                }
            }
        }
    }

    fn escape(&mut self, scratch: &mut Vec<u8>) -> Result<(), Syntax> {
        self.pos += 1;
        let byte = match self.peek() {
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.pos += 1;
                let c = self.unicode_escape()?;
                let mut utf8 = [0; 4];
                scratch.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
                return Ok(());
            }
            _ => return Err(self.syntax("unknown escape")),
        };
        scratch.push(byte);
        self.pos += 1;
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<char, Syntax> {
        let first = self.hex4()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        if first >= 0xdc00 || !self.data[self.pos..].starts_with(b"\\u") {
            return Err(self.syntax(LONE_SURROGATE));
        }
        self.pos += 2;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(self.syntax(LONE_SURROGATE));
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            .ok_or_else(|| self.syntax(LONE_SURROGATE))
    }

    fn hex4(&mut self) -> Result<u32, Syntax> {
        let mut value = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()).to_digit(16) else {
                return Err(self.syntax("escape without four hex digits"));
            };
            value = value * 16 + digit;
            self.pos += 1;
        }
        Ok(value)
    }

    pub(super) fn number(&mut self) -> Result<Number<'a>, Syntax> {
        let start = self.pos;
        let mut plain = true;
        if self.peek() == b'-' {
            self.pos += 1;
        }
        if self.peek() == b'0' {
            self.pos += 1;
            if self.peek().is_ascii_digit() {
                return Err(self.syntax("number with a leading zero"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            plain = false;
            self.pos += 1;
            self.digits()?;
        }
        if let b'e' | b'E' = self.peek() {
            plain = false;
            self.pos += 1;
            if let b'+' | b'-' = self.peek() {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(Number {
            text: &self.data[start..self.pos],
            plain,
        })
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        if !self.peek().is_ascii_digit() {
            return Err(self.syntax("expected a digit"));
        }
        while self.peek().is_ascii_digit() {
            self.pos += 1;
        }
        Ok(())
    }

    /// Checks any value. Whether a scalar other than null is in it.
    pub(super) fn skip(&mut self, scratch: &mut Vec<u8>) -> Result<bool, Syntax> {
        match self.peek() {
            b'"' => self.string(scratch).map(|_| true),
            b'-' | b'0'..=b'9' => self.number().map(|_| true),
            b't' => self.literal(b"true").map(|()| true),
            b'f' => self.literal(b"false").map(|()| true),
            b'n' => self.literal(b"null").map(|()| false),
            b'{' => {
                self.enter()?;
                let mut scalars = false;
                if !self.empty(b'}') {
                    loop {
                        self.key(scratch)?;
                        scalars |= self.skip(scratch)?;
                        if !self.another(b'}')? {
                            break;
                        }
                    }
                }
                Ok(scalars)
            }
            b'[' => {
                self.enter()?;
                let mut scalars = false;
                if !self.empty(b']') {
                    loop {
                        scalars |= self.skip(scratch)?;
                        if !self.another(b']')? {
                            break;
                        }
                    }
                }
                Ok(scalars)
            }
            _ => Err(self.syntax("expected a value")),
        }
    }

    /// Only whitespace is left.
    pub(super) fn end(&mut self) -> Result<(), Syntax> {
        self.whitespace();
        if self.pos < self.data.len() {
            return Err(self.syntax("bytes after the record"));
        }
        Ok(())
    }
}

/// Kind of the value that starts with `byte`.
pub(super) fn kind(byte: u8) -> &'static str {
    match byte {
        b'"' => "string",
        b'{' => "object",
        b'[' => "array",
        b't' | b'f' => "boolean",
        b'n' => "null",
        _ => "number",
    }
}
