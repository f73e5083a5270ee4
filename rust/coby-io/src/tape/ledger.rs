//! Which positions are accounted for: delivered, or reported as a hole.

use coby_core::record::Pos;

use super::error::Damage;
use super::format::BlockHeader;
use super::reader::Hole;

/// What to do with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its records come next.
    Next,
    /// First this hole, then its records.
    After(Hole),
    /// Its records were delivered before, or lie in a hole already reported.
    Repeated,
}

/// Follows the chain of blocks from position to position.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// The smallest position not accounted for.
    expected: Pos,
    /// Damage met since the last good block, not yet known to have cost records.
    damage: Option<Damage>,
}

impl Ledger {
    /// Positions below `expected` are of no interest.
    pub fn new(expected: Pos) -> Self {
        Self { expected: expected.max(1), damage: None }
    }

    pub fn expected(&self) -> Pos {
        self.expected
    }

    /// A good block.
    pub fn block(&mut self, block: &BlockHeader) -> Verdict {
        if block.first_pos < self.expected {
            return Verdict::Repeated;
        }
        let damage = self.damage.take();
        let hole = self.hole_to(block.previous, damage.unwrap_or(Damage::Missing));
        self.expected = block.last_pos.saturating_add(1);
        hole.map_or(Verdict::Next, Verdict::After)
    }

    /// Bytes that could not be read; `block` is their header where that at least is intact, and then the
    /// hole is known at once.
    pub fn damage(&mut self, damage: Damage, block: Option<&BlockHeader>) -> Option<Hole> {
        match block {
            Some(block) if block.first_pos >= self.expected => {
                self.damage = None;
                if block.previous < self.expected {
                    self.expected = block.first_pos;
                }
                self.hole_to(block.last_pos, damage)
            }
            // A damaged repetition costs nothing.
            Some(_) => None,
            None => {
                self.damage.get_or_insert(damage);
                None
            }
        }
    }

    /// A segment ends whose manifest promises records up to `last_pos`.
    pub fn end(&mut self, last_pos: Pos) -> Option<Hole> {
        let damage = self.damage.unwrap_or(Damage::Missing);
        let hole = self.hole_to(last_pos, damage);
        if hole.is_some() {
            self.damage = None;
        }
        hole
    }

    fn hole_to(&mut self, to_pos: Pos, reason: Damage) -> Option<Hole> {
        let from_pos = self.expected;
        (to_pos >= from_pos).then(|| {
            self.expected = to_pos.saturating_add(1);
            Hole { from_pos, to_pos, reason }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(previous: Pos, first_pos: Pos, last_pos: Pos) -> BlockHeader {
        BlockHeader {
            codec: 0,
            stored: 0,
            raw: 0,
            payload_crc: 0,
            records: 1,
            segment: 0,
            previous,
            first_pos,
            last_pos,
            first_recv: 0,
            last_recv: 0,
        }
    }

    fn hole(from_pos: Pos, to_pos: Pos, reason: Damage) -> Hole {
        Hole { from_pos, to_pos, reason }
    }

    #[test]
    fn an_unbroken_chain_has_no_holes_even_across_runs() {
        let mut ledger = Ledger::new(1);
        assert_eq!(ledger.block(&block(0, 1, 5)), Verdict::Next);
        assert_eq!(ledger.block(&block(5, 1 << 40, (1 << 40) + 1)), Verdict::Next);
        assert_eq!(ledger.end((1 << 40) + 1), None);
    }

    #[test]
    fn a_missing_block_is_a_hole_of_exactly_its_positions() {
        let mut ledger = Ledger::new(1);
        ledger.block(&block(0, 1, 5));
        assert_eq!(ledger.block(&block(9, 10, 12)), Verdict::After(hole(6, 9, Damage::Missing)));
        assert_eq!(ledger.damage(Damage::Header, None), None);
        assert_eq!(ledger.block(&block(20, 21, 22)), Verdict::After(hole(13, 20, Damage::Header)));
        assert_eq!(ledger.end(30), Some(hole(23, 30, Damage::Missing)));
        assert_eq!(ledger.end(30), None);
    }

    #[test]
    fn a_block_with_an_intact_header_is_a_hole_at_once() {
        let mut ledger = Ledger::new(1);
        ledger.block(&block(0, 1, 5));
        assert_eq!(ledger.damage(Damage::Checksum, Some(&block(5, 6, 9))), Some(hole(6, 9, Damage::Checksum)));
        assert_eq!(ledger.block(&block(9, 10, 12)), Verdict::Next);
        // The jump to a later run is not part of the hole.
        assert_eq!(ledger.damage(Damage::Checksum, Some(&block(12, 100, 110))), Some(hole(100, 110, Damage::Checksum)));
        // But what is missing before it is.
        assert_eq!(
            ledger.damage(Damage::Checksum, Some(&block(115, 116, 118))),
            Some(hole(111, 118, Damage::Checksum))
        );
    }

    #[test]
    fn junk_and_repetitions_between_good_blocks_cost_nothing() {
        let mut ledger = Ledger::new(1);
        ledger.block(&block(0, 1, 5));
        ledger.damage(Damage::Header, None);
        assert_eq!(ledger.block(&block(0, 1, 5)), Verdict::Repeated);
        assert_eq!(ledger.damage(Damage::Checksum, Some(&block(0, 1, 5))), None);
        assert_eq!(ledger.block(&block(5, 6, 7)), Verdict::Next);
    }
}
