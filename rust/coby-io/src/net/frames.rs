//! Frames that a socket brought at once, side by side.
//!
//! They are copied out of the socket's buffer: a buffer that frames still hold cannot be read into again, so each read
//! would need a new one. The copy is of bytes that were just written, and a burst is then one input, whose buffer comes
//! back from the engine.

/// Frames of one connection with one receive time.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where each ends, and whether it is text.
    ends: Vec<(usize, bool)>,
}

impl Frames {
    /// Adds a frame.
    pub fn push(&mut self, text: bool, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push((self.bytes.len(), text));
    }

    /// Whether each is text, and what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (bool, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(end, text)| {
            let frame = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            (*text, frame)
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Their bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes for which there is room.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets them; their room is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let some: [(bool, &[u8]); 4] = [(true, b"{}"), (false, b""), (false, b"\x00\xff"), (true, b"[1]")];
        let mut frames = Frames::default();
        for round in 0..2 {
            for (text, frame) in some {
                frames.push(text, frame);
            }
            assert_eq!((frames.len(), frames.size()), (4, 7), "round {round}");
            assert!(frames.iter().eq(some));
            frames.clear();
            assert!(frames.is_empty() && frames.iter().next().is_none());
        }
    }
}
