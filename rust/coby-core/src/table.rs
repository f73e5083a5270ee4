//! What is kept per instrument, for those that have something: venues list thousands of which few are looked at.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::instrument::InstrumentId;

/// Entries by instrument, made when they are first written to, and walked in the order of their ids.
///
/// Serialised as pairs of id and entry in that order.
#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    /// A pointer per instrument that came before the last one with an entry.
    slots: Vec<Option<Box<T>>>,
    /// The instruments that have an entry, ascending.
    ids: Vec<InstrumentId>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), ids: Vec::new() }
    }
}

impl<T> Table<T> {
    /// The instruments that have an entry, ascending.
    pub fn ids(&self) -> &[InstrumentId] {
        &self.ids
    }

    /// An instrument's entry.
    #[inline]
    pub fn get(&self, id: InstrumentId) -> Option<&T> {
        self.slots.get(id.index())?.as_deref()
    }

    /// An instrument's entry, to change it.
    #[inline]
    pub fn get_mut(&mut self, id: InstrumentId) -> Option<&mut T> {
        self.slots.get_mut(id.index())?.as_deref_mut()
    }

    /// An instrument's entry, made by `new` if it has none.
    #[inline]
    pub fn entry(&mut self, id: InstrumentId, new: impl FnOnce() -> T) -> &mut T {
        if self.get(id).is_none() {
            self.make(id);
        }
        // `make` has made the slot.
        self.slots[id.index()].get_or_insert_with(|| Box::new(new()))
    }

    /// Makes the slot of an entry that is about to be put in.
    #[cold]
    fn make(&mut self, id: InstrumentId) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        if let Err(place) = self.ids.binary_search(&id) {
            self.ids.insert(place, id);
        }
    }

    /// All entries, to change them, in the order of their ids.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (InstrumentId, &mut T)> {
        let slots = (0..).map(InstrumentId).zip(&mut self.slots);
        slots.filter_map(|(id, slot)| Some((id, slot.as_deref_mut()?)))
    }

    /// All entries, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (InstrumentId, &T)> {
        self.ids.iter().filter_map(|id| Some((*id, self.get(*id)?)))
    }
}

impl<T: Default> Table<T> {
    /// An instrument's entry, made if it has none.
    #[inline]
    pub fn at(&mut self, id: InstrumentId) -> &mut T {
        self.entry(id, T::default)
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().collect::<Vec<_>>())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Self::default();
        for (id, entry) in Vec::<(InstrumentId, T)>::deserialize(deserializer)? {
            table.entry(id, || entry);
        }
        Ok(table)
    }
}
