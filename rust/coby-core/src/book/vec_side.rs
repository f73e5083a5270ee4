//! One sorted run of levels: a whole side of a truncated book, or one block of a deep one.

use crate::level::Digits;

/// One level as it is stored: see [`super::key`] for what a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: i64,
    pub size: i64,
    pub digits: Digits,
}

/// Levels in ascending order of key, so the best is last and changes near the touch move little.
///
/// Keys, sizes and digits stand apart: a search then reads nothing but keys.
#[derive(Clone, Debug)]
pub(super) struct VecSide {
    keys: Vec<i64>,
    sizes: Vec<i64>,
    digits: Option<Vec<Digits>>,
}

impl VecSide {
    pub fn new(keep_digits: bool) -> Self {
        Self { keys: Vec::new(), sizes: Vec::new(), digits: keep_digits.then(Vec::new) }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn first_key(&self) -> Option<i64> {
        self.keys.first().copied()
    }

    /// Where `key` stands or would stand, by steps that double from the best: most changes are near the touch.
    #[inline]
    fn gallop(&self, key: i64) -> usize {
        let keys = self.keys.as_slice();
        let mut end = keys.len();
        let mut step = 1;
        while step <= end {
            let probe = end - step;
            if keys[probe] < key {
                return probe + 1 + keys[probe + 1..end].partition_point(|k| *k < key);
            }
            end = probe;
            step *= 2;
        }
        keys[..end].partition_point(|k| *k < key)
    }

    /// [`Self::gallop`] for a run in which no place is likelier than another.
    #[inline]
    fn bisect(&self, key: i64) -> usize {
        self.keys.partition_point(|k| *k < key)
    }

    /// Sets a level, searching from the best; returns the old size.
    #[inline]
    pub fn set_near(&mut self, entry: Entry) -> i64 {
        let at = self.gallop(entry.key);
        self.set_at(at, entry)
    }

    /// Sets a level, searching the whole run; returns the old size.
    #[inline]
    pub fn set_anywhere(&mut self, entry: Entry) -> i64 {
        let at = self.bisect(entry.key);
        self.set_at(at, entry)
    }

    #[inline]
    fn set_at(&mut self, at: usize, entry: Entry) -> i64 {
        if self.keys.get(at) == Some(&entry.key) {
            if entry.size == 0 {
                self.keys.remove(at);
                if let Some(digits) = &mut self.digits {
                    digits.remove(at);
                }
                return self.sizes.remove(at);
            }
            if let Some(digits) = &mut self.digits {
                digits[at] = entry.digits;
            }
            return std::mem::replace(&mut self.sizes[at], entry.size);
        }
        if entry.size != 0 {
            self.keys.insert(at, entry.key);
            self.sizes.insert(at, entry.size);
            if let Some(digits) = &mut self.digits {
                digits.insert(at, entry.digits);
            }
        }
        0
    }

    fn entry(&self, at: usize) -> Option<Entry> {
        Some(Entry {
            key: *self.keys.get(at)?,
            size: *self.sizes.get(at)?,
            digits: self.digits.as_ref().and_then(|d| d.get(at)).copied().unwrap_or_default(),
        })
    }

    pub fn get(&self, key: i64) -> Option<Entry> {
        self.entry(self.bisect(key)).filter(|entry| entry.key == key)
    }

    #[inline]
    pub fn best(&self) -> Option<Entry> {
        self.entry(self.len().checked_sub(1)?)
    }

    /// All entries, best first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Entry> + ExactSizeIterator + '_ {
        (0..self.len()).rev().map(|at| Entry {
            key: self.keys[at],
            size: self.sizes[at],
            digits: self.digits.as_ref().map_or(Digits::default(), |d| d[at]),
        })
    }

    pub fn clear(&mut self) {
        self.keys.clear();
        self.sizes.clear();
        if let Some(digits) = &mut self.digits {
            digits.clear();
        }
    }

    /// Removes the `count` worst, telling `removed` of each, worst first.
    pub fn remove_worst(&mut self, count: usize, removed: &mut impl FnMut(Entry)) {
        let count = count.min(self.len());
        self.iter().rev().take(count).for_each(removed);
        self.keys.drain(..count);
        self.sizes.drain(..count);
        if let Some(digits) = &mut self.digits {
            digits.drain(..count);
        }
    }

    /// Cuts the run at `at` and returns its better part.
    pub fn split_off(&mut self, at: usize) -> Self {
        Self {
            keys: self.keys.split_off(at),
            sizes: self.sizes.split_off(at),
            digits: self.digits.as_mut().map(|d| d.split_off(at)),
        }
    }

    /// Appends a run whose keys are all greater.
    pub fn append(&mut self, mut better: Self) {
        self.keys.append(&mut better.keys);
        self.sizes.append(&mut better.sizes);
        if let (Some(digits), Some(more)) = (&mut self.digits, &mut better.digits) {
            digits.append(more);
        }
    }

    /// Replaces every key and size; `new_key` must keep the order of keys.
    pub fn map(&mut self, new_key: impl Fn(i64) -> i64, new_size: impl Fn(i64) -> i64) {
        self.keys.iter_mut().for_each(|k| *k = new_key(*k));
        self.sizes.iter_mut().for_each(|s| *s = new_size(*s));
    }
}
