//! One side of a book: a sorted run at the touch, and sorted blocks behind it, so that an insertion anywhere moves little.

use super::run::{Entry, Run};

/// The run at the touch holds a whole side of a truncated book. A longer one gives its worse half to the blocks.
const TOUCH: usize = 1_024;

/// A block that grows beyond this is split in two.
const BLOCK: usize = 256;

/// Neighbours that together have at most this many entries become one. Half of [`BLOCK`], so that a level which comes
/// and goes cannot split and join the same block over and over.
const JOIN: usize = BLOCK / 2;

/// Levels in ascending order of key: blocks, none of them empty, then the run at the touch, whose last entry is the best.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    touch: Run,
    /// Where keys begin to belong to `touch`: everywhere while there are no blocks.
    floor: i64,
    /// A lower bound per block, above every key of the block before it.
    floors: Vec<i64>,
    blocks: Vec<Run>,
    /// Entries in `blocks`.
    deep: usize,
}

impl Ladder {
    pub fn new(keep_digits: bool) -> Self {
        let touch = Run::new(keep_digits);
        Self { touch, floor: i64::MIN, floors: Vec::new(), blocks: Vec::new(), deep: 0 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.deep + self.touch.len()
    }

    /// All runs, worst first.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.blocks.iter().chain(std::iter::once(&self.touch))
    }

    /// Sets a level; returns the old size.
    #[inline(always)]
    pub fn set(&mut self, entry: Entry) -> i64 {
        if entry.key < self.floor {
            return self.set_deep(entry);
        }
        match self.touch.replace_near(entry) {
            Ok(old) => old,
            Err(at) => self.come_or_go(at, entry),
        }
    }

    /// Sets levels of an empty side, none of them with a size of 0, their keys ascending.
    pub fn fill(&mut self, entries: impl ExactSizeIterator<Item = Entry> + Clone) {
        if entries.len() <= TOUCH {
            self.touch.extend(entries);
        } else {
            for entry in entries {
                self.set(entry);
            }
        }
    }

    /// The best `count` levels, best first.
    pub fn top(&self, count: usize) -> impl Iterator<Item = Entry> + '_ {
        let touch = self.touch.iter().take(count);
        let deep = self.blocks.iter().rev().flat_map(Run::iter).take(count.saturating_sub(self.touch.len()));
        touch.chain(deep)
    }

    /// A level at the touch is new, or gone, or neither.
    fn come_or_go(&mut self, at: usize, entry: Entry) -> i64 {
        let old = self.touch.come_or_go(at, entry);
        if self.touch.len() > TOUCH {
            self.lower();
        } else if self.touch.len() <= JOIN && !self.blocks.is_empty() {
            self.raise();
        }
        old
    }

    /// Gives the worse half of a long run at the touch to the blocks.
    #[cold]
    fn lower(&mut self) {
        for _ in 0..TOUCH / 2 / JOIN {
            let block = self.touch.take_worst(JOIN);
            self.floors.push(self.floor);
            self.deep += block.len();
            self.blocks.push(block);
            self.floor = self.touch.first_key().unwrap_or(self.floor);
        }
    }

    /// Joins a short run at the touch with the best block.
    #[cold]
    fn raise(&mut self) {
        if let (Some(mut block), Some(floor)) = (self.blocks.pop(), self.floors.pop()) {
            self.deep -= block.len();
            block.append(&mut self.touch);
            self.touch = block;
            self.floor = if self.blocks.is_empty() { i64::MIN } else { floor };
        }
    }

    /// The block that `key`, below the floor of the touch, belongs to.
    fn block_of(&self, key: i64) -> usize {
        self.floors.partition_point(|floor| *floor <= key).saturating_sub(1)
    }

    fn set_deep(&mut self, entry: Entry) -> i64 {
        let at = self.block_of(entry.key);
        let Some(block) = self.blocks.get_mut(at) else { return 0 };
        let old = block.set_anywhere(entry);
        if old == 0 && entry.size != 0 {
            self.deep += 1;
            if block.len() > BLOCK {
                let worse = block.take_worst(BLOCK / 2);
                let floor = block.first_key().unwrap_or(entry.key);
                self.blocks.insert(at, worse);
                self.floors.insert(at + 1, floor);
            }
        } else if old != 0 && entry.size == 0 {
            self.deep -= 1;
            if block.len() <= JOIN {
                self.join(at);
            }
        }
        old
    }

    /// After a removal: drops the block when it is empty, or joins it with a small neighbour.
    fn join(&mut self, at: usize) {
        let len = self.blocks[at].len();
        if len == 0 {
            self.blocks.remove(at);
            self.floors.remove(at);
            if self.blocks.is_empty() {
                self.floor = i64::MIN;
            }
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
        let mut better = self.blocks.remove(worse + 1);
        self.floors.remove(worse + 1);
        self.blocks[worse].append(&mut better);
    }

    pub fn get(&self, key: i64) -> Option<Entry> {
        if key >= self.floor { self.touch.get(key) } else { self.blocks.get(self.block_of(key))?.get(key) }
    }

    #[inline]
    pub fn best(&self) -> Option<Entry> {
        self.touch.best()
    }

    pub fn clear(&mut self) {
        self.touch.clear();
        self.floor = i64::MIN;
        self.floors.clear();
        self.blocks.clear();
        self.deep = 0;
    }

    /// Removes the `count` worst, telling `removed` of each, worst first.
    pub fn remove_worst(&mut self, count: usize, removed: &mut impl FnMut(Entry)) {
        let mut left = count.min(self.len());
        while let Some(block) = self.blocks.first_mut().filter(|_| left > 0) {
            let here = left.min(block.len());
            block.remove_worst(here, removed);
            left -= here;
            self.deep -= here;
            if self.blocks[0].len() == 0 {
                self.join(0);
            }
        }
        self.touch.remove_worst(left, removed);
    }

    /// Replaces every key and size; `new_key` must keep the order of keys.
    pub fn map(&mut self, new_key: impl Fn(i64) -> i64, new_size: impl Fn(i64) -> i64) {
        self.touch.map(&new_key, &new_size);
        self.blocks.iter_mut().for_each(|block| block.map(&new_key, &new_size));
        // A floor need not be the key of a level, so it may not be scaled: it could overflow.
        let first = |run: &Run| run.first_key().unwrap_or(i64::MIN);
        self.floors = self.blocks.iter().map(first).collect();
        if !self.blocks.is_empty() {
            self.floor = first(&self.touch);
        }
    }
}
