//! Gzip (RFC 1952) for venues that compress every frame: one decompressor and one output for a whole connection.

use coby_core::venue::{Class, VenueError, VenueErrorKind};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// What a frame may inflate to.
pub const LARGEST: usize = 64 << 20;
/// The output to begin with.
const USUAL: usize = 64 << 10;
/// An output that a frame has made larger than this is given back.
const KEPT: usize = 1 << 20;
/// The whole output lies in one piece; Adler-32 belongs to another format.
const FLAGS: u32 = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | inflate_flags::TINFL_FLAG_IGNORE_ADLER32;

/// Inflates frames one after the other; nothing of a frame outlives the next one.
#[derive(Default)]
pub struct Inflater {
    state: Option<Box<DecompressorOxide>>,
    out: Vec<u8>,
}

impl Inflater {
    /// What is in the gzip member that `bytes` begin with.
    pub fn inflate(&mut self, bytes: &[u8]) -> Result<&[u8], VenueError> {
        let fail = |why| VenueError::new(Class::Resync, VenueErrorKind::Compression(why));
        let mut rest = behind_header(bytes).ok_or_else(|| fail("not gzip"))?;
        if self.out.len() > KEPT {
            self.out = Vec::new();
        }
        self.out.resize(self.out.len().max(USUAL), 0);
        let state = self.state.get_or_insert_default();
        state.init();
        let mut end = 0;
        loop {
            let (status, read, written) = decompress(state, rest, &mut self.out, end, FLAGS);
            rest = &rest[read..];
            end += written;
            match status {
                // One byte beyond what is allowed tells that there is more.
                TINFLStatus::HasMoreOutput if end <= LARGEST => {
                    self.out.resize((2 * self.out.len()).min(LARGEST + 1), 0);
                }
                TINFLStatus::Done | TINFLStatus::HasMoreOutput => break,
                _ => return Err(fail("not gzip")),
            }
        }
        if end > LARGEST {
            return Err(fail("larger than 64 MiB"));
        }
        let out = &self.out[..end];
        let trailer = [crc32fast::hash(out), end as u32].map(u32::to_le_bytes);
        if rest.starts_with(trailer.as_flattened()) { Ok(out) } else { Err(fail("not gzip")) }
    }
}

/// What stands behind a member's header; `None` where there is none.
fn behind_header(bytes: &[u8]) -> Option<&[u8]> {
    const CHECK: u8 = 0x02;
    const EXTRA: u8 = 0x04;
    const NAME: u8 = 0x08;
    const COMMENT: u8 = 0x10;
    const RESERVED: u8 = 0xe0;
    // Time, compressor and system do not matter.
    let ([0x1f, 0x8b, 8, flags, ..], mut rest) = bytes.split_first_chunk::<10>()? else { return None };
    if *flags == 0 {
        return Some(rest);
    }
    if flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (length, extra) = rest.split_first_chunk()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & CHECK != 0 {
        let header = &bytes[..bytes.len() - rest.len()];
        rest = rest.strip_prefix(&(crc32fast::hash(header) as u16).to_le_bytes())?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::bufread::GzDecoder;
    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8], level: u32, builder: GzBuilder) -> Vec<u8> {
        let mut encoder = builder.write(Vec::new(), Compression::new(level));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        /// One decompressor for all frames means what a new one for each means, whatever was before.
        #[test]
        fn frames_are_read_as_another_decoder_reads_them(
            frames in prop::collection::vec((
                prop::collection::vec(prop_oneof![Just(b'a'), Just(b'7'), any::<u8>()], 0..4_000),
                (1_usize..60, 0_u32..10),
                (any::<Option<[u8; 3]>>(), any::<bool>(), any::<bool>()),
                any::<Option<(prop::sample::Index, u8)>>(),
                any::<[u8; 3]>(),
            ), 1..6),
        ) {
            let mut inflater = Inflater::default();
            for (text, (times, level), (extra, name, comment), damage, behind) in frames {
                let mut builder = GzBuilder::new();
                if let Some(extra) = extra { builder = builder.extra(extra) }
                if name { builder = builder.filename("name") }
                if comment { builder = builder.comment("") }
                let mut frame = gzip(&text.repeat(times), level, builder);
                frame.extend(behind);
                if let Some((at, byte)) = damage {
                    let at = at.index(frame.len());
                    frame[at] = byte;
                }
                let mut expected = Vec::new();
                let read = GzDecoder::new(&frame[..]).read_to_end(&mut expected);
                match inflater.inflate(&frame) {
                    Ok(out) => {
                        prop_assert!(read.is_ok());
                        prop_assert_eq!(out, expected);
                    }
                    Err(_) => prop_assert!(read.is_err()),
                }
            }
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>, flags: u8) {
            let mut inflater = Inflater::default();
            let header = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0];
            for bytes in [bytes.clone(), [&header[..], &bytes].concat()] {
                let expected = GzDecoder::new(&bytes[..]).read_to_end(&mut Vec::new());
                prop_assert_eq!(inflater.inflate(&bytes).is_ok(), expected.is_ok());
            }
        }
    }

    #[test]
    fn frames_of_unbounded_size_are_refused() {
        let mut inflater = Inflater::default();
        let bomb = |size: usize| gzip(&vec![b' '; size], 1, GzBuilder::new());
        let error = inflater.inflate(&bomb(LARGEST + 1)).unwrap_err();
        assert_eq!(error.kind, VenueErrorKind::Compression("larger than 64 MiB"));
        assert_eq!(inflater.inflate(&bomb(LARGEST)).map(<[u8]>::len), Ok(LARGEST));
        assert_eq!(inflater.inflate(&gzip(b"{}", 6, GzBuilder::new())), Ok(&b"{}"[..]));
        // What the bomb took has been given back.
        assert!(inflater.out.capacity() <= KEPT);
    }

    #[test]
    fn a_frame_that_ends_soon_is_refused() {
        let mut inflater = Inflater::default();
        let whole = gzip(b"{\"ping\":1492420473027}", 6, GzBuilder::new().filename("a").extra(*b"bc"));
        for end in 0..whole.len() {
            assert!(inflater.inflate(&whole[..end]).is_err(), "{end}");
        }
        assert!(inflater.inflate(&whole).is_ok());
    }
}
