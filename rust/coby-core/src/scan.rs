//! A pull cursor over JSON, for frames whose shape the caller knows.
//!
//! The cursor is `Copy`: where levels precede their symbol, keep a copy, skip, and parse later. It
//! never allocates and never recurses. Keys and identifiers must be free of escapes; an escaped one is
//! an error, never a silent mismatch.

use thiserror::Error;

use crate::decimal::{Decimal, DecimalError, POW10};
use crate::swar;

/// What was wrong, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} at byte {at}")]
pub struct ScanError {
    /// What was wrong.
    pub kind: ScanErrorKind,
    /// Offset into the frame.
    pub at: usize,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScanErrorKind {
    /// The frame ends inside a value.
    #[error("frame ends inside a value")]
    End,
    /// A byte that cannot stand here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A backslash in a key or an identifier.
    #[error("escaped text where plain text is required")]
    Escaped,
    /// More than 64 nested containers.
    #[error("nested deeper than 64")]
    Depth,
    /// A number that is none, or that does not fit.
    #[error(transparent)]
    Number(#[from] DecimalError),
    /// A key that must stand once stands twice.
    #[error("duplicate key")]
    Duplicate,
}

/// Result of a step of the cursor.
pub type Result<T> = std::result::Result<T, ScanError>;

/// What stands next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// A digit or `-`.
    Number,
    /// `true`, `false`
    Bool,
    /// `null`
    Null,
}

/// A position in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Token of an object that is being read.
#[derive(Debug)]
pub struct Object {
    first: bool,
}

/// Token of an array that is being read.
#[derive(Debug)]
pub struct Array {
    first: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset into the frame.
    pub fn offset(&self) -> usize {
        self.at
    }

    #[inline]
    fn fail<T>(&self, kind: ScanErrorKind) -> Result<T> {
        Err(ScanError { kind, at: self.at })
    }

    #[cold]
    fn expected<T>(&self, what: &'static str) -> Result<T> {
        let kind = if self.at < self.bytes.len() { ScanErrorKind::Expected(what) } else { ScanErrorKind::End };
        self.fail(kind)
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte > b' ' => Some(byte),
            _ => {
                self.space();
                self.bytes.get(self.at).copied()
            }
        }
    }

    #[inline]
    fn take(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.expected(what)
    }

    /// What stands next.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => self.expected("a value"),
        }
    }

    /// Enters an object.
    #[inline]
    pub fn object(&mut self) -> Result<Object> {
        self.take(b'{', "an object")?;
        Ok(Object { first: true })
    }

    /// Enters an array.
    #[inline]
    pub fn array(&mut self) -> Result<Array> {
        self.take(b'[', "an array")?;
        Ok(Array { first: true })
    }

    /// A string without escapes.
    #[inline]
    pub fn str(&mut self) -> Result<&'a [u8]> {
        self.take(b'"', "a string")?;
        let start = self.at;
        self.plain_text();
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    let text = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(text);
                }
                b'\\' => return self.fail(ScanErrorKind::Escaped),
                0..=0x1f => return self.expected("no control character"),
                _ => self.at += 1,
            }
        }
        self.fail(ScanErrorKind::End)
    }

    /// Passes over text up to a quote, an escape or a control character, while whole words are left.
    #[inline]
    fn plain_text(&mut self) {
        while let Some(word) = swar::load(self.bytes, self.at) {
            let plain = swar::plain_text(word);
            self.at += plain;
            if plain < 8 {
                return;
            }
        }
    }

    /// A string's content as it stands, escapes and all: for messages to show, not to compare.
    pub fn raw_str(&mut self) -> Result<&'a [u8]> {
        self.take(b'"', "a string")?;
        let start = self.at;
        self.string_tail()?;
        Ok(&self.bytes[start..self.at - 1])
    }

    /// The bytes of the next value, whatever it is.
    pub fn raw(&mut self) -> Result<&'a [u8]> {
        self.space();
        let start = self.at;
        self.skip()?;
        Ok(&self.bytes[start..self.at])
    }

    /// A string or `null`.
    #[inline]
    pub fn str_or_null(&mut self) -> Result<Option<&'a [u8]>> {
        if self.null()? { Ok(None) } else { self.str().map(Some) }
    }

    /// An identifier that some venues print as a string and others as a number.
    #[inline]
    pub fn text(&mut self) -> Result<&'a [u8]> {
        if self.peek() == Some(b'"') { self.str() } else { self.number_token() }
    }

    fn number_token(&mut self) -> Result<&'a [u8]> {
        if self.kind()? != Kind::Number {
            return self.expected("a string or a number");
        }
        let start = self.at;
        while let Some(word) = swar::load(self.bytes, self.at) {
            let digits = swar::leading_digits(word);
            self.at += digits;
            if digits < 8 {
                break;
            }
        }
        while let Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
        Ok(&self.bytes[start..self.at])
    }

    /// A decimal, printed as a number or as a string.
    #[inline]
    pub fn decimal(&mut self) -> Result<Decimal> {
        let quoted = self.peek() == Some(b'"');
        let start = self.at + usize::from(quoted);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let (decimal, length) = match Decimal::parse_prefix(rest) {
            Ok(parsed) => parsed,
            Err(error) => return self.fail(ScanErrorKind::Number(error)),
        };
        self.at = start + length;
        if quoted {
            if self.bytes.get(self.at) != Some(&b'"') {
                return self.expected("the end of a number");
            }
            self.at += 1;
            Ok(decimal)
        } else {
            self.delimited(decimal)
        }
    }

    /// `["price","size"]` without white space and in usual lengths, the form in which most levels come; `None`,
    /// without moving, for any other.
    #[inline]
    pub(crate) fn quoted_pair(&mut self) -> Option<(Decimal, Decimal)> {
        let text = self.bytes.get(self.at..)?.strip_prefix(b"[\"")?;
        let (price, length) = Decimal::parse_short(text)?;
        let text = text[length..].strip_prefix(b"\",\"")?;
        let (size, length) = Decimal::parse_short(text)?;
        let text = text[length..].strip_prefix(b"\"]")?;
        self.at = self.bytes.len() - text.len();
        Some((price, size))
    }

    /// A decimal or `null`.
    pub fn decimal_or_null(&mut self) -> Result<Option<Decimal>> {
        if self.null()? { Ok(None) } else { self.decimal().map(Some) }
    }

    /// A whole number, printed as a number or as a string.
    #[inline]
    pub fn int(&mut self) -> Result<i64> {
        let quoted = self.peek() == Some(b'"');
        let mut at = self.at + usize::from(quoted);
        let negative = self.bytes.get(at) == Some(&b'-');
        at += usize::from(negative);
        let start = at;
        let mut value: u64 = 0;
        // Two words at most: sixteen digits cannot overflow.
        while let Some(word) = swar::load(self.bytes, at).filter(|_| at - start <= 8) {
            let digits = swar::leading_digits(word);
            if digits > 0 {
                value = value * POW10[digits] as u64 + swar::value(word, digits);
                at += digits;
            }
            if digits < 8 {
                break;
            }
        }
        while let Some(digit) = self.bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            value = match value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit))) {
                Some(value) if i64::try_from(value).is_ok() => value,
                _ => return self.fail(ScanErrorKind::Number(DecimalError::Overflow)),
            };
            at += 1;
        }
        if at == start {
            return self.expected("a whole number");
        }
        self.at = at;
        let value = if negative { -(value as i64) } else { value as i64 };
        if quoted {
            if self.bytes.get(self.at) != Some(&b'"') {
                return self.expected("the end of a whole number");
            }
            self.at += 1;
            Ok(value)
        } else {
            self.delimited(value)
        }
    }

    /// A number must end at a delimiter: `12x` is no number.
    #[inline]
    fn delimited<T>(&self, value: T) -> Result<T> {
        match self.bytes.get(self.at) {
            None | Some(b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t') => Ok(value),
            Some(_) => self.expected("the end of a number"),
        }
    }

    /// `true` or `false`.
    pub fn bool(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b't') => self.word(b"true").map(|()| true),
            Some(b'f') => self.word(b"false").map(|()| false),
            _ => self.expected("true or false"),
        }
    }

    /// Consumes `null` if it stands next.
    #[inline]
    pub fn null(&mut self) -> Result<bool> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &[u8]) -> Result<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return self.delimited(());
        }
        self.expected("true, false or null")
    }

    /// From inside a string to behind its closing quote.
    fn string_tail(&mut self) -> Result<()> {
        self.plain_text();
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.at += 2,
                0..=0x1f => return self.expected("no control character"),
                _ => self.at += 1,
            }
        }
        self.at = self.bytes.len();
        self.fail(ScanErrorKind::End)
    }

    /// Skips the next value, checking its structure.
    #[inline]
    pub fn skip(&mut self) -> Result<()> {
        match self.kind()? {
            Kind::String => {
                self.at += 1;
                self.string_tail()
            }
            Kind::Number => self.skip_number(),
            Kind::Bool => self.bool().map(drop),
            Kind::Null => self.null().map(drop),
            Kind::Object | Kind::Array => self.skip_container(),
        }
    }

    fn skip_number(&mut self) -> Result<()> {
        let token = self.number_token()?;
        let digits = token.strip_prefix(b"-").unwrap_or(token);
        if !digits.first().is_some_and(u8::is_ascii_digit) || !digits.last().is_some_and(u8::is_ascii_digit) {
            return self.expected("a number");
        }
        self.delimited(())
    }

    fn skip_container(&mut self) -> Result<()> {
        // One bit a level: 1 for an object, 0 for an array.
        let mut kinds: u64 = 0;
        let mut depth = 0_u32;
        loop {
            // A value stands here.
            match self.kind()? {
                kind @ (Kind::Object | Kind::Array) => {
                    let object = kind == Kind::Object;
                    self.at += 1;
                    if depth == 64 {
                        return self.fail(ScanErrorKind::Depth);
                    }
                    depth += 1;
                    kinds = kinds << 1 | u64::from(object);
                    let closing = if object { b'}' } else { b']' };
                    if self.peek() == Some(closing) {
                        self.at += 1;
                        depth -= 1;
                        kinds >>= 1;
                    } else {
                        if object {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                Kind::String => {
                    self.at += 1;
                    self.string_tail()?;
                }
                Kind::Number => self.skip_number()?,
                Kind::Bool => drop(self.bool()?),
                Kind::Null => drop(self.null()?),
            }
            // A value has ended.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = kinds & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.skip_key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => self.at += 1,
                    Some(b']') if !object => self.at += 1,
                    _ => return self.expected("a comma or the end of a container"),
                }
                depth -= 1;
                kinds >>= 1;
            }
        }
    }

    fn skip_key(&mut self) -> Result<()> {
        self.take(b'"', "a key")?;
        self.string_tail()?;
        self.take(b':', "a colon")
    }

    /// The value of `key` in the object that stands next, without moving; `None` where it has none.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Result<Option<Cursor<'a>>> {
        let mut cursor = *self;
        let mut object = cursor.object()?;
        while let Some(found) = object.key(&mut cursor)? {
            if found == key {
                return Ok(Some(cursor));
            }
            cursor.skip()?;
        }
        Ok(None)
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { self.expected("the end of the frame") }
    }
}

impl Object {
    /// The next key, or `None` behind the closing brace. The caller then reads or skips its value.
    #[inline]
    pub fn key<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>> {
        match cursor.peek() {
            Some(b'}') => {
                cursor.at += 1;
                return Ok(None);
            }
            Some(b',') if !self.first => cursor.at += 1,
            _ if self.first => {}
            _ => return cursor.expected("a comma or the end of an object"),
        }
        self.first = false;
        let key = cursor.str()?;
        if cursor.bytes.get(cursor.at) == Some(&b':') {
            cursor.at += 1;
        } else {
            cursor.take(b':', "a colon")?;
        }
        Ok(Some(key))
    }
}

impl Array {
    /// Whether another element follows; `false` behind the closing bracket.
    #[inline]
    pub fn next(&mut self, cursor: &mut Cursor<'_>) -> Result<bool> {
        match cursor.peek() {
            Some(b']') => {
                cursor.at += 1;
                return Ok(false);
            }
            Some(b',') if !self.first => {
                cursor.at += 1;
                if cursor.peek() == Some(b']') {
                    return cursor.expected("a value");
                }
            }
            Some(_) if self.first => {}
            _ => return cursor.expected("a comma or the end of an array"),
        }
        self.first = false;
        Ok(true)
    }

    /// The next element must exist.
    #[inline]
    pub fn more(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        if self.next(cursor)? { Ok(()) } else { cursor.expected("another element") }
    }

    /// Skips what is left of the array: venues lengthen their rows.
    #[inline]
    pub fn rest(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        while self.next(cursor)? {
            cursor.skip()?;
        }
        Ok(())
    }
}

/// Marks keys that have been seen, so that a key that matters stands exactly once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen(u32);

impl Seen {
    /// Marks bit `key`; an error when it was marked before.
    #[inline]
    pub fn once(&mut self, key: u32, cursor: &Cursor<'_>) -> Result<()> {
        let bit = 1 << key;
        if self.0 & bit != 0 {
            return cursor.fail(ScanErrorKind::Duplicate);
        }
        self.0 |= bit;
        Ok(())
    }

    /// Whether bit `key` was marked.
    #[inline]
    pub fn has(self, key: u32) -> bool {
        self.0 & (1 << key) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skip(text: &[u8]) -> Result<()> {
        let mut cursor = Cursor::new(text);
        cursor.skip()?;
        cursor.end()
    }

    #[test]
    fn reads_a_known_shape() {
        let text = br#" { "s" : "BTC" , "n":-12, "p" : ["1.50", 2e-8], "x":{"y":[{}, [null,true]]}, "z": null } "#;
        let mut c = Cursor::new(text);
        let mut object = c.object().unwrap();
        assert_eq!(object.key(&mut c).unwrap(), Some(&b"s"[..]));
        assert_eq!(c.str().unwrap(), b"BTC");
        assert_eq!(object.key(&mut c).unwrap(), Some(&b"n"[..]));
        assert_eq!(c.int().unwrap(), -12);
        assert_eq!(object.key(&mut c).unwrap(), Some(&b"p"[..]));
        let mut array = c.array().unwrap();
        array.more(&mut c).unwrap();
        assert_eq!(c.decimal().unwrap(), Decimal::new(150, 2));
        array.more(&mut c).unwrap();
        assert_eq!(c.decimal().unwrap(), Decimal::new(2, 8));
        assert!(!array.next(&mut c).unwrap());
        assert_eq!(object.key(&mut c).unwrap(), Some(&b"x"[..]));
        c.skip().unwrap();
        assert_eq!(object.key(&mut c).unwrap(), Some(&b"z"[..]));
        assert!(c.null().unwrap());
        assert_eq!(object.key(&mut c).unwrap(), None);
        c.end().unwrap();
    }

    #[test]
    fn refuses_what_is_no_json() {
        for bad in [
            "",
            "{",
            "[",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "[}",
            "{]",
            "nul",
            "truex",
            "12x",
            "\"a",
            "-",
            "1.",
            "[1,,2]",
            "{\"a\" 1}",
            "\"\u{1}\"",
            "NaN",
            "[1]]",
        ] {
            assert!(skip(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(skip(&vec![b'['; 100_000]).unwrap_err().kind, ScanErrorKind::Depth);
        assert_eq!(
            Cursor::new(b"9223372036854775808").int().unwrap_err().kind,
            ScanErrorKind::Number(DecimalError::Overflow)
        );
        assert_eq!(Cursor::new(b"9223372036854775807").int().unwrap(), i64::MAX);
        assert_eq!(Cursor::new(b"\"a\\n\"").str().unwrap_err().kind, ScanErrorKind::Escaped);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e9..1e9_f64).prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(".{0,4}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn skips_every_json(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(skip(text.as_bytes()), Ok(()));
        }

        #[test]
        fn skipping_damaged_json_agrees_with_serde(value in json(), cut in 0..200_usize, byte: u8) {
            let mut text = serde_json::to_vec(&value).unwrap();
            let at = cut % text.len();
            text[at] = byte;
            // What we refuse is never JSON; what serde refuses and we pass over is inside text or a number.
            if skip(&text).is_err() && std::str::from_utf8(&text).is_ok() {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_err());
            }
        }
    }
}
