//! Names of instruments as Arrow dictionaries.

use std::collections::HashMap;
use std::sync::Arc;

use coby_core::rows::{Label, LabelField};

use crate::arrow::text_array;
use arrow_data::ArrayData;

/// Key of a label that lacks the text.
pub const NONE: i32 = -1;

/// One text of all labels: the different ones, and which of them each label has.
pub struct Names {
    /// The different texts in the order of their first label.
    pub texts: ArrayData,
    /// By label: the text's index, or [`NONE`].
    pub keys: Vec<i32>,
    /// Whether every label has one.
    pub complete: bool,
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
        let mut texts = Vec::new();
        let mut known = HashMap::new();
        let keys: Vec<i32> = labels
            .iter()
            .map(|label| {
                let Some(text) = field.of(label) else { return NONE };
                *known.entry(text).or_insert_with(|| {
                    texts.push(text);
                    texts.len() as i32 - 1
                })
            })
            .collect();
        let complete = !keys.contains(&NONE);
        Self { texts: text_array(&texts), keys, complete }
    }
}
