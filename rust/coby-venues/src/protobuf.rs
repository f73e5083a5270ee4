//! Protocol buffers, as far as a venue sends them: a pull reader over the fields of one message.
//!
//! The wire format is <https://protobuf.dev/programming-guides/encoding>. A reader borrows from the frame, so
//! nothing is copied and no length that a frame claims is believed beyond its end.

use coby_core::venue::VenueError;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A whole number.
    Varint(u64),
    /// A string, bytes or another message.
    Bytes(&'a [u8]),
    /// Eight or four bytes, which no field of ours has.
    Fixed,
}

/// The fields of a message that are still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the message that `bytes` are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value, `None` behind the last.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, VenueError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(VenueError::unexpected("wire type of a field")),
        };
        if tag >> 3 == 0 {
            return Err(VenueError::unexpected("field number 0"));
        }
        Ok(Some((tag >> 3, value)))
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], VenueError> {
        let cut = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = cut.ok_or_else(|| VenueError::unexpected("end of the message"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Seven bits a byte, the lowest first; ten bytes at most.
    #[inline]
    fn varint(&mut self) -> Result<u64, VenueError> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(VenueError::unexpected("length of a whole number"))
    }
}

impl<'a> Value<'a> {
    /// The bytes of a string or message.
    #[inline]
    pub fn bytes(self) -> Result<&'a [u8], VenueError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(VenueError::unexpected("type of a field")),
        }
    }

    /// A signed whole number.
    #[inline]
    pub fn int(self) -> Result<i64, VenueError> {
        match self {
            Self::Varint(value) => Ok(value as i64),
            _ => Err(VenueError::unexpected("type of a field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value > 0x7f {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(fields in prop::collection::vec((1_u64..1 << 29, any::<u64>(), any::<Option<Vec<u8>>>()), 0..8)) {
            let mut bytes = Vec::new();
            for (number, value, text) in &fields {
                varint(number << 3 | if text.is_some() { 2 } else { 0 }, &mut bytes);
                match text {
                    Some(text) => {
                        varint(text.len() as u64, &mut bytes);
                        bytes.extend(text);
                    }
                    None => varint(*value, &mut bytes),
                }
            }
            let mut read = Fields::new(&bytes);
            for (number, value, text) in &fields {
                let expected = text.as_deref().map_or(Value::Varint(*value), Value::Bytes);
                prop_assert_eq!(read.field().unwrap(), Some((*number, expected)));
            }
            prop_assert_eq!(read.field().unwrap(), None);
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let mut read = Fields::new(&bytes);
            while let Ok(Some(_)) = read.field() {}
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &b"\x0a\x05abc"[..],
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08",
            b"\x08\x80",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x0b",
            b"\x0e",
            b"\x00\x00",
            b"\x09\x00",
            b"\x0d\x00",
        ] {
            assert!(Fields::new(bad).field().is_err(), "{bad:?}");
        }
        let mut fixed = Fields::new(b"\x09\x00\x00\x00\x00\x00\x00\x00\x00\x0d\x00\x00\x00\x00");
        assert_eq!(fixed.field().unwrap(), Some((1, Value::Fixed)));
        assert_eq!(fixed.field().unwrap(), Some((1, Value::Fixed)));
        assert!(Value::Fixed.int().is_err() && Value::Varint(1).bytes().is_err());
        let mut largest = Fields::new(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        assert_eq!(largest.field().unwrap(), Some((1, Value::Varint(u64::MAX))));
    }
}
