//! Names of instruments as Arrow dictionaries.

use std::collections::HashMap;
use std::sync::Arc;

use coby_core::rows::{Column, Cut, Label, LabelField};

/// Key of a label that lacks the text.
const NONE: i32 = -1;

/// Up to so many labels make one dictionary for all cuts. Of more, a cut gets those that its rows have: venues list
/// thousands of instruments, and whoever writes a batch down writes its dictionary with it.
const SHARED: usize = 512;

/// One text of labels: the different ones, and which of them each label has.
#[derive(Default)]
pub struct Names {
    ends: Vec<u32>,
    bytes: Vec<u8>,
    /// By label, or in the order of `chosen`: the text's index, or [`NONE`].
    keys: Vec<i32>,
    /// The labels that are here, ascending, where these are not all.
    chosen: Option<Arc<[u32]>>,
    shape: Shape,
}

/// What saves looking up the key of every row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    /// Nothing.
    #[default]
    Any,
    /// All labels have the same text.
    One,
    /// Every label has a text of its own: its key is its own index.
    Own,
}

/// The keys of rows.
pub enum Keys<'a> {
    /// The rows' labels themselves.
    Labels(&'a [u32]),
    /// Keys, negative for none.
    Table(Vec<i32>),
}

/// The dictionaries of a set of labels.
pub struct Dictionaries {
    labels: Arc<Vec<Label>>,
    venue: Names,
    native: Names,
    symbol: Names,
}

impl Dictionaries {
    fn new(labels: Arc<Vec<Label>>, chosen: Option<&Arc<[u32]>>) -> Self {
        let names = |field| Names::new(&labels, chosen, field);
        let (venue, native, symbol) = (names(LabelField::Venue), names(LabelField::Native), names(LabelField::Symbol));
        Self { labels, venue, native, symbol }
    }

    /// The dictionaries of a cut's labels: those that `last` holds when the labels are the same, which they mostly are,
    /// else new ones that it will hold then.
    pub fn of(cut: &Cut, last: &mut Option<Arc<Self>>) -> Arc<Self> {
        let labels = &cut.labels;
        if labels.len() > SHARED {
            let chosen = chosen(cut);
            if chosen.len() * 2 < labels.len() {
                return Arc::new(Self::new(Arc::clone(labels), Some(&chosen)));
            }
        }
        match last {
            Some(dictionaries) if Arc::ptr_eq(&dictionaries.labels, labels) => Arc::clone(dictionaries),
            _ => Arc::clone(last.insert(Arc::new(Self::new(Arc::clone(labels), None)))),
        }
    }

    /// The texts of one field.
    pub fn names(&self, field: LabelField) -> &Names {
        match field {
            LabelField::Venue => &self.venue,
            LabelField::Native => &self.native,
            LabelField::Symbol => &self.symbol,
        }
    }
}

/// The labels that the rows of a cut have, ascending.
fn chosen(cut: &Cut) -> Arc<[u32]> {
    let mut chosen = Vec::new();
    for table in cut.tables() {
        let labels = table.columns().into_iter().find_map(|column| match column {
            Column::Label(labels, _) => Some(labels),
            _ => None,
        });
        chosen.extend_from_slice(labels.unwrap_or_default());
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into()
}

impl Names {
    fn new(labels: &[Label], chosen: Option<&Arc<[u32]>>, field: LabelField) -> Self {
        let mut names = Self { chosen: chosen.map(Arc::clone), ..Self::default() };
        let mut known = HashMap::new();
        let all = chosen.is_none().then(|| labels.iter()).into_iter().flatten();
        let some = chosen.into_iter().flat_map(|chosen| chosen.iter().filter_map(|label| labels.get(*label as usize)));
        for label in all.chain(some) {
            let key = field.of(label).map_or(NONE, |text| {
                *known.entry(text).or_insert_with(|| {
                    names.bytes.extend_from_slice(text.as_bytes());
                    names.ends.push(names.bytes.len() as u32);
                    names.ends.len() as i32 - 1
                })
            });
            names.keys.push(key);
        }
        if names.keys.iter().all(|key| *key == 0) {
            names.shape = Shape::One;
        } else if chosen.is_none() && names.ends.len() == names.keys.len() {
            names.shape = Shape::Own;
        }
        names
    }

    /// The different texts in the order of their first label, by their ends in the bytes.
    pub fn texts(&self) -> (&[u32], &[u8]) {
        (&self.ends, &self.bytes)
    }

    /// The keys of rows with these labels.
    pub fn keys<'a>(&self, labels: &'a [u32]) -> Keys<'a> {
        match self.shape {
            Shape::Own => Keys::Labels(labels),
            Shape::One => Keys::Table(vec![0; labels.len()]),
            Shape::Any => {
                let place = |label: &u32| match &self.chosen {
                    Some(chosen) => chosen.binary_search(label).ok(),
                    None => Some(*label as usize),
                };
                let key = |label| place(label).and_then(|place| self.keys.get(place)).copied().unwrap_or(NONE);
                Keys::Table(labels.iter().map(key).collect())
            }
        }
    }
}
