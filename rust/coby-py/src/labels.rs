//! Names of instruments as Arrow dictionaries.

use std::collections::HashMap;
use std::sync::Arc;

use coby_core::rows::{Label, LabelField};

/// Key of a label that lacks the text.
const NONE: i32 = -1;

/// One text of all labels: the different ones, and which of them each label has.
#[derive(Default)]
pub struct Names {
    ends: Vec<u32>,
    bytes: Vec<u8>,
    /// By label: the text's index, or [`NONE`].
    keys: Vec<i32>,
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
    fn new(labels: Arc<Vec<Label>>) -> Self {
        let names = |field| Names::new(&labels, field);
        let (venue, native, symbol) = (names(LabelField::Venue), names(LabelField::Native), names(LabelField::Symbol));
        Self { labels, venue, native, symbol }
    }

    /// The dictionaries of `labels`: those that `last` holds when the labels are the same, else new ones that it will
    /// hold then. Labels change rarely, and there may be thousands.
    pub fn of(labels: &Arc<Vec<Label>>, last: &mut Option<Arc<Self>>) -> Arc<Self> {
        match last {
            Some(dictionaries) if Arc::ptr_eq(&dictionaries.labels, labels) => Arc::clone(dictionaries),
            _ => Arc::clone(last.insert(Arc::new(Self::new(Arc::clone(labels))))),
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

impl Names {
    fn new(labels: &[Label], field: LabelField) -> Self {
        let mut names = Self::default();
        let mut known = HashMap::new();
        for label in labels {
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
        } else if names.ends.len() == names.keys.len() {
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
            Shape::Any => Keys::Table(labels.iter().map(|label| self.keys[*label as usize]).collect()),
        }
    }
}
