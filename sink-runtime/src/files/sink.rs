//! Where an encoder writes: bytes in memory, cut into parts of one size as they come, so that a part can leave as
//! soon as it is full and frees its own memory.

use std::io::{self, Write};

use bytes::Bytes;

#[derive(Debug)]
pub(super) struct PartSink {
    part_size: usize,
    full: Vec<Bytes>,
    current: Vec<u8>,
    written: u64,
}

impl PartSink {
    pub(super) fn new(part_size: usize) -> Self {
        Self {
            part_size: part_size.max(1),
            full: Vec::new(),
            current: Vec::new(),
            written: 0,
        }
    }

    /// Bytes ever written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn memory(&self) -> usize {
        self.full.iter().map(Bytes::len).sum::<usize>() + self.current.capacity()
    }

    /// Full parts.
    pub(super) fn drain(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.full)
    }

    /// Everything not drained; the last part may be short.
    pub(super) fn into_rest(mut self) -> Vec<Bytes> {
        if !self.current.is_empty() {
            self.full.push(Bytes::from(self.current));
        }
        self.full
    }
}

impl Write for PartSink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut left = buf;
        while !left.is_empty() {
            let room = self.part_size - self.current.len();
            let (now, later) = left.split_at(room.min(left.len()));
            if self.current.capacity() - self.current.len() < now.len() {
                // Doubling, but never past one part.
                let wanted = (self.current.len() * 2)
                    .max(self.current.len() + now.len())
                    .min(self.part_size);
                self.current.reserve_exact(wanted - self.current.len());
            }
            self.current.extend_from_slice(now);
            if self.current.len() == self.part_size {
                self.full
                    .push(Bytes::from(std::mem::take(&mut self.current)));
            }
            left = later;
        }
        self.written += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn parts_are_of_one_size_and_lose_no_byte() {
        let mut sink = PartSink::new(10);
        let mut all = Vec::new();
        let mut parts = Vec::new();
        for n in 0..30u8 {
            let piece = vec![n; usize::from(n) % 17];
            sink.write_all(&piece).unwrap();
            all.extend_from_slice(&piece);
            assert!(sink.memory() <= 40, "parts leave as they fill");
            parts.extend(sink.drain());
        }
        assert!(parts.iter().all(|p| p.len() == 10));
        assert_eq!(sink.written(), all.len() as u64);
        parts.extend(sink.into_rest());
        assert_eq!(parts.concat(), all);
    }
}
