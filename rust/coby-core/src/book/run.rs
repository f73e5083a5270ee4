//! One sorted run of levels.

use crate::level::Digits;

/// How many of sixteen ascending keys are below `key`.
#[inline]
fn below(keys: &[i64; 16], key: i64) -> usize {
    let at = |at: usize| usize::from(keys[at] < key);
    let fours = 4 * (at(3) + at(7) + at(11));
    fours + at(fours) + at(fours + 1) + at(fours + 2) + at(fours + 3)
}

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
pub(super) struct Run {
    keys: Vec<i64>,
    sizes: Vec<i64>,
    digits: Option<Vec<Digits>>,
}

impl Run {
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

    /// Where `key` stands or would stand. Most changes are among the best few levels: those are looked through first, in
    /// steps that do not depend on what they find, so that the searches of several changes overlap.
    #[inline]
    fn near(&self, key: i64) -> usize {
        let Some((worse, best)) = self.keys.split_last_chunk::<16>() else { return self.anywhere(key) };
        if best[0] <= key {
            return worse.len() + below(best, key);
        }
        let Some((worst, next)) = worse.split_last_chunk::<64>() else { return self.anywhere(key) };
        if next[0] <= key {
            let (parts, _) = next.as_chunks::<16>();
            let part: usize = parts[..3].iter().map(|part| usize::from(part[15] < key)).sum();
            return worst.len() + 16 * part + below(&parts[part], key);
        }
        worst.partition_point(|k| *k < key)
    }

    /// [`Self::near`] for a run in which no place is likelier than another.
    #[inline]
    fn anywhere(&self, key: i64) -> usize {
        self.keys.partition_point(|k| *k < key)
    }

    /// Replaces the size of a level that is there and likely to be near the best; returns the old size, or the place of
    /// a level that is not there or has to go.
    #[inline(always)]
    pub fn replace_near(&mut self, entry: Entry) -> Result<i64, usize> {
        self.replace_at(self.near(entry.key), entry)
    }

    /// Sets a level; returns the old size.
    pub fn set_anywhere(&mut self, entry: Entry) -> i64 {
        match self.replace_at(self.anywhere(entry.key), entry) {
            Ok(old) => old,
            Err(at) => self.come_or_go(at, entry),
        }
    }

    #[inline(always)]
    fn replace_at(&mut self, at: usize, entry: Entry) -> Result<i64, usize> {
        if entry.size != 0
            && self.keys.get(at) == Some(&entry.key)
            && let Some(size) = self.sizes.get_mut(at)
        {
            let old = std::mem::replace(size, entry.size);
            if let Some(digits) = &mut self.digits
                && let Some(digits) = digits.get_mut(at)
            {
                *digits = entry.digits;
            }
            return Ok(old);
        }
        Err(at)
    }

    /// A level is new, or gone, or neither.
    pub fn come_or_go(&mut self, at: usize, entry: Entry) -> i64 {
        if entry.size != 0 {
            self.keys.insert(at, entry.key);
            self.sizes.insert(at, entry.size);
            if let Some(digits) = &mut self.digits {
                digits.insert(at, entry.digits);
            }
            return 0;
        }
        if self.keys.get(at) != Some(&entry.key) {
            return 0;
        }
        self.keys.remove(at);
        if let Some(digits) = &mut self.digits {
            digits.remove(at);
        }
        self.sizes.remove(at)
    }

    fn entry(&self, at: usize) -> Option<Entry> {
        Some(Entry {
            key: *self.keys.get(at)?,
            size: *self.sizes.get(at)?,
            digits: self.digits.as_ref().and_then(|d| d.get(at)).copied().unwrap_or_default(),
        })
    }

    pub fn get(&self, key: i64) -> Option<Entry> {
        self.entry(self.anywhere(key)).filter(|entry| entry.key == key)
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

    /// Takes entries whose keys ascend and are greater than all that are there.
    pub fn extend(&mut self, entries: impl ExactSizeIterator<Item = Entry> + Clone) {
        self.keys.extend(entries.clone().map(|entry| entry.key));
        self.sizes.extend(entries.clone().map(|entry| entry.size));
        if let Some(digits) = &mut self.digits {
            digits.extend(entries.map(|entry| entry.digits));
        }
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

    /// Takes the worst `count` out, as a run of their own.
    pub fn take_worst(&mut self, count: usize) -> Self {
        Self {
            keys: self.keys.drain(..count).collect(),
            sizes: self.sizes.drain(..count).collect(),
            digits: self.digits.as_mut().map(|digits| digits.drain(..count).collect()),
        }
    }

    /// Appends a run whose keys are all greater.
    pub fn append(&mut self, better: &mut Self) {
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
