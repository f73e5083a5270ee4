//! A deep side: sorted blocks in order, so that an insertion anywhere moves at most one block.

use super::vec_side::{Entry, VecSide};

/// A block that grows beyond this is split in two.
const BLOCK: usize = 256;

/// Neighbours that together have at most this many entries become one block. Half of [`BLOCK`], so
/// that a level which comes and goes cannot split and join the same block over and over.
const JOIN: usize = BLOCK / 2;

/// Blocks in ascending order of key, none of them empty; the best is the last entry of the last one.
#[derive(Clone, Debug)]
pub(super) struct BlockSide {
    /// A lower bound per block, above every key of the block before it.
    floors: Vec<i64>,
    blocks: Vec<VecSide>,
    len: usize,
    keep_digits: bool,
}

impl BlockSide {
    pub fn new(keep_digits: bool) -> Self {
        Self { floors: Vec::new(), blocks: Vec::new(), len: 0, keep_digits }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// All blocks, worst first.
    pub fn blocks(&self) -> &[VecSide] {
        &self.blocks
    }

    /// The block that `key` belongs to; 0 when there is none.
    #[inline]
    fn block_of(&self, key: i64) -> usize {
        match self.floors.last() {
            Some(floor) if *floor > key => self.floors.partition_point(|floor| *floor <= key).saturating_sub(1),
            _ => self.floors.len().saturating_sub(1),
        }
    }

    /// Sets a level; returns the old size.
    #[inline]
    pub fn set(&mut self, entry: Entry) -> i64 {
        let at = self.block_of(entry.key);
        let last = at + 1 == self.blocks.len();
        let Some(block) = self.blocks.get_mut(at) else {
            return self.set_first(entry);
        };
        let old = if last { block.set_near(entry) } else { block.set_anywhere(entry) };
        if old == 0 {
            if entry.size != 0 {
                self.len += 1;
                if block.len() > BLOCK {
                    self.split(at);
                }
            }
        } else if entry.size == 0 {
            self.len -= 1;
            if block.len() <= JOIN {
                self.join(at);
            }
        }
        old
    }

    #[cold]
    fn set_first(&mut self, entry: Entry) -> i64 {
        if entry.size != 0 {
            let mut block = VecSide::new(self.keep_digits);
            block.set_near(entry);
            self.floors.push(entry.key);
            self.blocks.push(block);
            self.len = 1;
        }
        0
    }

    #[cold]
    fn split(&mut self, at: usize) {
        let better = self.blocks[at].split_off(BLOCK / 2);
        if let Some(floor) = better.first_key() {
            self.floors.insert(at + 1, floor);
            self.blocks.insert(at + 1, better);
        }
    }

    /// After a removal: drops the block when it is empty, or joins it with a small neighbour.
    fn join(&mut self, at: usize) {
        let len = self.blocks[at].len();
        if len == 0 {
            self.floors.remove(at);
            self.blocks.remove(at);
            return;
        }
        let fits = |other: usize| self.blocks.get(other).is_some_and(|block| len + block.len() <= JOIN);
        let worse = if fits(at + 1) {
            at
        } else if at > 0 && fits(at - 1) {
            at - 1
        } else {
            return;
        };
        let better = self.blocks.remove(worse + 1);
        self.floors.remove(worse + 1);
        self.blocks[worse].append(better);
    }

    pub fn get(&self, key: i64) -> Option<Entry> {
        self.blocks.get(self.block_of(key))?.get(key)
    }

    #[inline]
    pub fn best(&self) -> Option<Entry> {
        self.blocks.last()?.best()
    }

    pub fn clear(&mut self) {
        self.floors.clear();
        self.blocks.clear();
        self.len = 0;
    }

    /// Removes the `count` worst, telling `removed` of each, worst first.
    pub fn remove_worst(&mut self, count: usize, removed: &mut impl FnMut(Entry)) {
        let mut left = count.min(self.len);
        self.len -= left;
        let mut emptied = 0;
        for block in &mut self.blocks {
            let here = left.min(block.len());
            block.remove_worst(here, removed);
            emptied += usize::from(block.len() == 0);
            left -= here;
            if left == 0 {
                break;
            }
        }
        self.floors.drain(..emptied);
        self.blocks.drain(..emptied);
    }

    /// Replaces every key and size; `new_key` must keep the order of keys.
    pub fn map(&mut self, new_key: impl Fn(i64) -> i64, new_size: impl Fn(i64) -> i64) {
        for (block, floor) in self.blocks.iter_mut().zip(&mut self.floors) {
            block.map(&new_key, &new_size);
            // A floor need not be the key of a level, so it may not be scaled: it could overflow.
            if let Some(first) = block.first_key() {
                *floor = first;
            }
        }
    }
}
