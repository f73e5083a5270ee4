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
    /// What has not been read.
    rest: &'a [u8],
    /// Length of the frame.
    length: usize,
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

/// Plain text behind its opening quote, and what stands behind its closing one, looked at in whole words by `plain_bytes`;
/// `None` where the frame ends soon or the text is not plain.
#[inline(always)]
fn plain(text: &[u8], plain_bytes: impl Fn(u64) -> usize) -> Option<(&[u8], &[u8])> {
    let mut rest = text;
    loop {
        let plain = plain_bytes(swar::load(rest)?);
        rest = &rest[plain..];
        if plain < 8 {
            break;
        }
    }
    let end = text.len() - rest.len();
    Some((&text[..end], rest.strip_prefix(b"\"")?))
}

/// Behind the bracket that ends a row, from the quote that ends a text of it, past more texts if they are plain: some
/// venues lengthen their rows.
#[inline(always)]
fn row_end(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match rest {
            [b'"', b']', rest @ ..] => return Some(rest),
            [b'"', b',', b'"', text @ ..] => {
                let (_, behind) = plain(text, swar::ascii_text)?;
                rest = &text[text.len() - behind.len() - 1..];
            }
            _ => return None,
        }
    }
}

/// A decimal of a usual form behind its opening quote, and what stands behind its closing one.
#[inline(always)]
fn quoted(text: &[u8]) -> Option<(Decimal, &[u8])> {
    let (decimal, rest) = Decimal::parse_short(text)?;
    Some((decimal, rest.strip_prefix(b"\"")?))
}

/// A whole number of one to sixteen digits and what stands behind it, at least one byte; `None` for any other.
#[inline(always)]
fn short_int(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = swar::digits(swar::load(text)?);
    let count = swar::before(swar::others(digits));
    if count < 8 {
        return if count == 0 { None } else { Some((swar::first(digits, count) as i64, &text[count..])) };
    }
    let text = &text[8..];
    let more = swar::digits(swar::load(text)?);
    let count = swar::before(swar::others(more));
    if count == 8 {
        let rest = &text[8..];
        let ends = rest.first().is_some_and(|byte| !byte.is_ascii_digit());
        return ends.then(|| ((swar::number(digits) * POW10[8] as u64 + swar::number(more)) as i64, rest));
    }
    let value = swar::number(digits) * POW10[count] as u64 + swar::first(more, count);
    Some((value as i64, &text[count..]))
}

/// Whether `byte` may stand behind a number: `12x` is no number.
#[inline]
fn ends_number(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t')
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    /// The bytes between an earlier place and this one.
    pub(crate) fn since(&self, before: &Self) -> &'a [u8] {
        &before.rest[..before.rest.len() - self.rest.len()]
    }

    /// Offset into the frame.
    pub fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    #[cold]
    fn fail<T>(&self, kind: ScanErrorKind) -> Result<T> {
        Err(ScanError { kind, at: self.offset() })
    }

    #[cold]
    fn expected<T>(&self, what: &'static str) -> Result<T> {
        self.fail(if self.rest.is_empty() { ScanErrorKind::End } else { ScanErrorKind::Expected(what) })
    }

    #[cold]
    fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.rest {
            [byte, ..] if *byte > b' ' => Some(*byte),
            _ => {
                self.space();
                self.rest.first().copied()
            }
        }
    }

    /// Passes over `count` bytes that are known to be there.
    #[inline]
    fn pass(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    #[inline]
    fn take(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.pass(1);
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
        match self.plain_str() {
            Some(text) => Ok(text),
            None => self.any_str(),
        }
    }

    fn plain_str(&mut self) -> Option<&'a [u8]> {
        let [b'"', text @ ..] = self.rest else { return None };
        let (text, rest) = plain(text, swar::plain_text)?;
        self.rest = rest;
        Some(text)
    }

    /// [`Self::str`] byte by byte.
    fn any_str(&mut self) -> Result<&'a [u8]> {
        self.take(b'"', "a string")?;
        let text = self.rest;
        while let [byte, rest @ ..] = self.rest {
            match byte {
                b'"' => {
                    self.rest = rest;
                    return Ok(&text[..text.len() - rest.len() - 1]);
                }
                b'\\' => return self.fail(ScanErrorKind::Escaped),
                0..=0x1f => return self.expected("no control character"),
                _ => self.rest = rest,
            }
        }
        self.fail(ScanErrorKind::End)
    }

    /// A string's content as it stands, escapes and all: for messages to show, not to compare.
    pub fn raw_str(&mut self) -> Result<&'a [u8]> {
        self.take(b'"', "a string")?;
        let text = self.rest;
        self.string_tail()?;
        Ok(&text[..text.len() - self.rest.len() - 1])
    }

    /// The bytes of the next value, whatever it is.
    pub fn raw(&mut self) -> Result<&'a [u8]> {
        self.space();
        let text = self.rest;
        self.skip()?;
        Ok(&text[..text.len() - self.rest.len()])
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
        let text = self.rest;
        while let Some(word) = swar::load(self.rest) {
            let digits = swar::before(swar::others(swar::digits(word)));
            self.pass(digits);
            if digits < 8 {
                break;
            }
        }
        while let [b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
        Ok(&text[..text.len() - self.rest.len()])
    }

    /// A decimal, printed as a number or as a string.
    #[inline]
    pub fn decimal(&mut self) -> Result<Decimal> {
        if let [b'"', text @ ..] = self.rest
            && let Some((decimal, rest)) = quoted(text)
        {
            self.rest = rest;
            return Ok(decimal);
        }
        self.any_decimal()
    }

    fn any_decimal(&mut self) -> Result<Decimal> {
        let quoted = self.peek() == Some(b'"');
        let start = usize::from(quoted);
        let (decimal, length) = match Decimal::parse_prefix(self.rest.get(start..).unwrap_or_default()) {
            Ok(parsed) => parsed,
            Err(error) => return self.fail(ScanErrorKind::Number(error)),
        };
        self.pass(start + length);
        self.finish(quoted)?;
        Ok(decimal)
    }

    /// A decimal or `null`.
    pub fn decimal_or_null(&mut self) -> Result<Option<Decimal>> {
        if self.null()? { Ok(None) } else { self.decimal().map(Some) }
    }

    /// A whole number, printed as a number or as a string.
    #[inline]
    pub fn int(&mut self) -> Result<i64> {
        match self.short_int() {
            Some(value) => Ok(value),
            None => self.any_int(),
        }
    }

    fn short_int(&mut self) -> Option<i64> {
        if let [b'"', text @ ..] = self.rest {
            let (value, rest) = short_int(text)?;
            self.rest = rest.strip_prefix(b"\"")?;
            return Some(value);
        }
        let (value, rest) = short_int(self.rest)?;
        if !ends_number(*rest.first()?) {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    /// [`Self::int`] byte by byte.
    fn any_int(&mut self) -> Result<i64> {
        let quoted = self.peek() == Some(b'"');
        let mut text = self.rest.get(usize::from(quoted)..).unwrap_or_default();
        let negative = text.first() == Some(&b'-');
        text = text.get(usize::from(negative)..).unwrap_or_default();
        let mut value = None;
        while let [digit @ b'0'..=b'9', rest @ ..] = text {
            let tens = value.unwrap_or(0_i64).checked_mul(10);
            value = tens.and_then(|tens| tens.checked_add(i64::from(digit - b'0')));
            if value.is_none() {
                return self.fail(ScanErrorKind::Number(DecimalError::Overflow));
            }
            text = rest;
        }
        let Some(value) = value else { return self.expected("a whole number") };
        self.rest = text;
        self.finish(quoted)?;
        Ok(if negative { -value } else { value })
    }

    /// Passes over what must stand behind a number.
    fn finish(&mut self, quoted: bool) -> Result<()> {
        match self.rest {
            [b'"', rest @ ..] if quoted => Ok(self.rest = rest),
            _ if quoted => self.expected("the end of a number"),
            _ => self.delimited(),
        }
    }

    #[inline]
    fn delimited(&self) -> Result<()> {
        match self.rest {
            [end, ..] if !ends_number(*end) => self.expected("the end of a number"),
            _ => Ok(()),
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
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                self.delimited()
            }
            None => self.expected("true, false or null"),
        }
    }

    /// From inside a string to behind its closing quote.
    #[inline]
    fn string_tail(&mut self) -> Result<()> {
        match plain(self.rest, swar::plain_text) {
            Some((_, rest)) => Ok(self.rest = rest),
            None => self.any_string_tail(),
        }
    }

    /// [`Self::string_tail`] byte by byte.
    fn any_string_tail(&mut self) -> Result<()> {
        loop {
            match self.rest {
                [b'"', rest @ ..] => return Ok(self.rest = rest),
                // What stands behind a backslash is part of the text, even a quote.
                [b'\\', _, rest @ ..] | [b' '..=b'!' | b'#'..=b'[' | b']'..=0xff, rest @ ..] => self.rest = rest,
                [0..=0x1f, ..] => return self.expected("no control character"),
                [] | [b'\\'] => {
                    self.rest = &[];
                    return self.fail(ScanErrorKind::End);
                }
            }
        }
    }

    /// Skips the next value, checking its structure.
    #[inline]
    pub fn skip(&mut self) -> Result<()> {
        match self.rest {
            [b'"', rest @ ..] => {
                self.rest = rest;
                self.string_tail()
            }
            [b'0'..=b'9', ..] => match short_int(self.rest) {
                Some((_, rest @ [end, ..])) if ends_number(*end) => Ok(self.rest = rest),
                _ => self.skip_any(),
            },
            _ => self.skip_any(),
        }
    }

    fn skip_any(&mut self) -> Result<()> {
        match self.kind()? {
            Kind::String => {
                self.pass(1);
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
        self.delimited()
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
                    self.pass(1);
                    if depth == 64 {
                        return self.fail(ScanErrorKind::Depth);
                    }
                    depth += 1;
                    kinds = kinds << 1 | u64::from(object);
                    let closing = if object { b'}' } else { b']' };
                    if self.peek() == Some(closing) {
                        self.pass(1);
                        depth -= 1;
                        kinds >>= 1;
                    } else {
                        if object {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                _ => self.skip()?,
            }
            // A value has ended.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = kinds & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.pass(1);
                        if object {
                            self.skip_key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => self.pass(1),
                    Some(b']') if !object => self.pass(1),
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

    /// Enters an object whose kind stands under `key`, and gives that string, `None` where it has none. Where the kind
    /// stands first, as it mostly does, reading goes on behind it, else from the start of the object.
    #[inline]
    pub fn tagged(&mut self, key: &[u8]) -> Result<(Object, Option<&'a [u8]>)> {
        let start = *self;
        let mut object = self.object()?;
        if object.key(self)? == Some(key) {
            return Ok((object, Some(self.str()?)));
        }
        *self = start;
        let kind = match self.find(key)? {
            Some(mut found) => Some(found.str()?),
            None => None,
        };
        Ok((self.object()?, kind))
    }

    /// Passes over exactly `text`. With [`Self::plain`], [`Self::digits`] and [`Self::plain_decimal`] it reads frames
    /// in the one spelling in which a venue sends nearly all of them, and which costs a fraction of reading key by key.
    /// Each gives `None` where something else stands; where the cursor is then, does not matter: the frame is read anew.
    #[inline(always)]
    pub fn literal<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// ASCII text without escapes from behind its opening quote to behind its closing one; see [`Self::literal`].
    #[inline(always)]
    pub fn plain(&mut self) -> Option<&'a [u8]> {
        let (text, rest) = plain(self.rest, swar::ascii_text)?;
        self.rest = rest;
        Some(text)
    }

    /// A whole number of up to sixteen digits; see [`Self::literal`], which the caller has check what stands behind.
    #[inline(always)]
    pub fn digits(&mut self) -> Option<i64> {
        let Some((value, rest)) = short_int(self.rest) else { return self.last_digits() };
        self.rest = rest;
        Some(value)
    }

    /// [`Self::digits`] where the frame ends soon.
    #[inline(never)]
    fn last_digits(&mut self) -> Option<i64> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(count).filter(|_| (1..=16).contains(&count))?;
        self.rest = rest;
        Some(digits.iter().fold(0, |value, digit| 10 * value + i64::from(digit - b'0')))
    }

    /// A decimal from behind its opening quote to behind its closing one; see [`Self::literal`].
    #[inline(always)]
    pub fn plain_decimal(&mut self) -> Option<Decimal> {
        let (decimal, rest) = quoted(self.rest)?;
        self.rest = rest;
        Some(decimal)
    }

    /// A decimal without quotes; see [`Self::literal`], which the caller has check what stands behind.
    #[inline(always)]
    pub fn bare_decimal(&mut self) -> Option<Decimal> {
        match Decimal::parse_short(self.rest) {
            Some((decimal, rest)) if !matches!(rest, [b'e' | b'E', ..]) => {
                self.rest = rest;
                Some(decimal)
            }
            _ => self.long_decimal(),
        }
    }

    /// [`Self::bare_decimal`] in any form.
    #[inline(never)]
    fn long_decimal(&mut self) -> Option<Decimal> {
        let (decimal, length) = Decimal::parse_prefix(self.rest).ok()?;
        self.pass(length);
        Some(decimal)
    }

    /// What is left before `text`, with which the frame must end; see [`Self::literal`].
    #[inline(always)]
    pub fn before_end<const N: usize>(&mut self, text: &[u8; N]) -> Option<&'a [u8]> {
        std::mem::take(&mut self.rest).strip_suffix(text)
    }

    /// Checks that nothing is left; see [`Self::literal`].
    #[inline(always)]
    pub fn done(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { self.expected("the end of the frame") }
    }
}

impl Object {
    /// The next key, or `None` behind the closing brace. The caller then reads or skips its value.
    #[inline(always)]
    pub fn key<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>> {
        let text = match cursor.rest {
            [b',', b'"', text @ ..] if !self.first => text,
            [b'"', text @ ..] if self.first => text,
            [b'}', rest @ ..] => {
                cursor.rest = rest;
                return Ok(None);
            }
            _ => return self.any_key(cursor),
        };
        // Most keys are shorter than a word.
        if let Some(word) = swar::load(text)
            && let (key, [b'"', b':', rest @ ..]) = text.split_at(swar::plain_text(word))
        {
            cursor.rest = rest;
            self.first = false;
            return Ok(Some(key));
        }
        self.any_key(cursor)
    }

    /// Skips what is left of the object.
    pub fn rest(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        while self.key(cursor)?.is_some() {
            cursor.skip()?;
        }
        Ok(())
    }

    /// [`Self::key`] for long keys, among white space, and where the frame ends soon.
    fn any_key<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>> {
        match cursor.peek() {
            Some(b'}') => {
                cursor.pass(1);
                return Ok(None);
            }
            Some(b',') if !self.first => cursor.pass(1),
            _ if self.first => {}
            _ => return cursor.expected("a comma or the end of an object"),
        }
        self.first = false;
        cursor.peek();
        let key = cursor.str()?;
        cursor.take(b':', "a colon")?;
        Ok(Some(key))
    }
}

impl Array {
    /// Whether another element follows; `false` behind the closing bracket.
    #[inline]
    pub fn next(&mut self, cursor: &mut Cursor<'_>) -> Result<bool> {
        match cursor.peek() {
            Some(b']') => {
                cursor.pass(1);
                return Ok(false);
            }
            Some(b',') if !self.first => {
                cursor.pass(1);
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

    /// Hands on elements `["price","size"]`, perhaps longer, as long as they have no white space, usual forms and nothing
    /// but ASCII, as most levels have, and `take` wants more. The cursor then stands behind the last one handed on.
    #[inline(always)]
    pub(crate) fn quoted_pairs(&mut self, cursor: &mut Cursor<'_>, mut take: impl FnMut(Decimal, Decimal) -> bool) {
        let mut here = cursor.rest;
        let mut ahead = if self.first { here.strip_prefix(b"[\"") } else { here.strip_prefix(b",[\"") };
        while let Some(pair) = ahead
            && let Some((price, rest)) = Decimal::parse_short(pair)
            && let Some(rest) = rest.strip_prefix(b"\",\"")
            && let Some((size, rest)) = Decimal::parse_short(rest)
            && let Some(rest) = row_end(rest)
        {
            here = rest;
            self.first = false;
            if !take(price, size) {
                break;
            }
            ahead = here.strip_prefix(b",[\"");
        }
        cursor.rest = here;
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

    /// The first of bits `0..count` that was not marked.
    #[inline]
    pub fn first_missing(self, count: usize) -> Option<usize> {
        let bit = self.0.trailing_ones() as usize;
        (bit < count).then_some(bit)
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
        fn digits_end_where_they_end(value in 0..10_000_000_000_000_000_i64, shift in 0..16_u32, behind in "[,}\"]{0,12}") {
            let value = value / 10_i64.pow(shift);
            let text = format!("{value}{behind}");
            let mut cursor = Cursor::new(text.as_bytes());
            prop_assert_eq!(cursor.digits(), Some(value));
            prop_assert_eq!(cursor.rest, behind.as_bytes());
            prop_assert_eq!(Cursor::new(format!("12345678{value:09}").as_bytes()).digits(), None);
            prop_assert_eq!(Cursor::new(behind.as_bytes()).digits(), None);
        }

        #[test]
        fn skips_every_json(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(skip(text.as_bytes()), Ok(()));
        }

        /// White space and the end of the frame turn every reader to its slow path.
        #[test]
        fn both_paths_read_the_same(
            entries in prop::collection::vec(
                ("[a-zA-Z_]{1,12}", -i64::MAX..=i64::MAX, 0..19_u32, "[ -!#-\\[\\]-~]{0,20}", "[0-9]{1,9}([.][0-9]{1,9})?"), 0..5,
            ),
            gap in "[ \t\n]{0,2}",
        ) {
            let text: Vec<String> = entries.iter().map(|(key, int, shift, text, decimal)| {
                let int = int / 10_i64.pow(*shift);
                let fields = [
                    format!("\"{key}\""), ":".into(), int.to_string(), ",".into(),
                    "\"t\"".into(), ":".into(), format!("\"{text}\""), ",".into(),
                    "\"s\"".into(), ":".into(), format!("\"{int}\""), ",".into(),
                    "\"p\"".into(), ":".into(), "[".into(),
                    "[".into(), format!("\"{decimal}\""), ",".into(), format!("\"{decimal}\""), "]".into(), "]".into(),
                ];
                fields.join(&gap)
            }).collect();
            let text = format!("{gap}{{{gap}{}{gap}}}{gap}", text.join(&format!("{gap},{gap}")));
            let mut c = Cursor::new(text.as_bytes());
            let mut skipped = Cursor::new(text.as_bytes());
            prop_assert_eq!(skipped.skip().and_then(|()| skipped.end()), Ok(()));
            let mut o = c.object().unwrap();
            for (key, int, shift, text, decimal) in &entries {
                let int = int / 10_i64.pow(*shift);
                prop_assert_eq!(o.key(&mut c), Ok(Some(key.as_bytes())));
                prop_assert_eq!(c.int(), Ok(int));
                prop_assert_eq!(o.key(&mut c), Ok(Some(&b"t"[..])));
                prop_assert_eq!(c.str(), Ok(text.as_bytes()));
                prop_assert_eq!(o.key(&mut c), Ok(Some(&b"s"[..])));
                prop_assert_eq!(c.int(), Ok(int));
                prop_assert_eq!(o.key(&mut c), Ok(Some(&b"p"[..])));
                let expected = Decimal::parse(decimal.as_bytes()).unwrap();
                let mut pairs = c.array().unwrap();
                let mut quoted = Vec::new();
                pairs.quoted_pairs(&mut c, |price, size| {
                    quoted.push((price, size));
                    true
                });
                if quoted.is_empty() {
                    pairs.more(&mut c).unwrap();
                    let mut pair = c.array().unwrap();
                    for _ in 0..2 {
                        pair.more(&mut c).unwrap();
                        prop_assert_eq!(c.decimal(), Ok(expected));
                    }
                    pair.rest(&mut c).unwrap();
                } else {
                    prop_assert_eq!(quoted, [(expected, expected)]);
                }
                prop_assert_eq!(pairs.next(&mut c), Ok(false));
            }
            prop_assert_eq!(o.key(&mut c), Ok(None));
            c.end().unwrap();
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
