//! Cuts as Arrow record batches: the columns are lent, not copied.

use std::ffi::{CStr, CString};
use std::sync::{Arc, LazyLock};

use coby_core::rows::{self, Column, LabelField, MISSING, Table};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::errors::{Error, Result, contained};
use crate::ffi::{ArrowArray, ArrowSchema, Invalid, Lender, Validity, lend};
use crate::labels::{Dictionaries, Keys};

/// What exported arrays keep alive.
struct Rows {
    cut: rows::Cut,
    dictionaries: Arc<Dictionaries>,
}

/// Rows of the positions `first_pos..=last_pos`, never splitting a record.
#[pyclass(frozen, module = "coby._core")]
pub struct Cut {
    rows: Arc<Rows>,
}

impl Cut {
    /// Wraps a cut; `last` holds the dictionaries of the cut before.
    pub fn new(cut: rows::Cut, last: &mut Option<Arc<Dictionaries>>) -> Self {
        let dictionaries = Dictionaries::of(&cut, last);
        Self { rows: Arc::new(Rows { cut, dictionaries }) }
    }
}

#[pymethods]
impl Cut {
    #[getter]
    fn first_pos(&self) -> u64 {
        self.rows.cut.first_pos
    }

    #[getter]
    fn last_pos(&self) -> u64 {
        self.rows.cut.last_pos
    }

    #[getter]
    fn follows(&self) -> u64 {
        self.rows.cut.follows
    }

    #[getter]
    fn untaped(&self) -> bool {
        self.rows.cut.untaped
    }

    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        for table in self.rows.cut.tables().into_iter().filter(|table| !table.is_empty()) {
            counts.set_item(table.name(), table.len())?;
        }
        Ok(counts)
    }

    fn batch(&self, kind: &str) -> Result<RecordBatch> {
        let found = self.rows.cut.tables().iter().position(|table| table.name() == kind);
        let unknown = || Error::Argument { argument: "kind", message: format!("no kind of rows is {kind:?}") };
        Ok(RecordBatch { rows: Arc::clone(&self.rows), kind: found.ok_or_else(unknown)? })
    }

    fn __repr__(&self) -> String {
        let cut = &self.rows.cut;
        format!("<Cut {}..={}: {} rows>", cut.first_pos, cut.last_pos, cut.len())
    }
}

/// Exports itself through the Arrow `PyCapsule` interface (`pyarrow.record_batch(batch)`).
#[pyclass(frozen, module = "coby._core")]
pub struct RecordBatch {
    rows: Arc<Rows>,
    kind: usize,
}

/// The two halves of an exported array.
type Capsules<'py> = (Bound<'py, PyCapsule>, Bound<'py, PyCapsule>);

#[pymethods]
impl RecordBatch {
    fn __len__(&self) -> usize {
        self.rows.cut.tables()[self.kind].len()
    }

    /// The schema that is asked for is a wish that the interface lets a producer leave unfulfilled.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> Result<Capsules<'py>> {
        let _ = requested_schema;
        let array = contained(|| self.array().map_err(|error| Error::Internal(error.to_string())))?;
        let schema = PyCapsule::new_with_value(py, schema(self.kind), c"arrow_schema")?;
        Ok((schema, PyCapsule::new_with_value(py, array, c"arrow_array")?))
    }

    fn __repr__(&self) -> String {
        let table = self.rows.cut.tables()[self.kind];
        format!("<RecordBatch {}: {} rows>", table.name(), table.len())
    }
}

impl RecordBatch {
    fn array(&self) -> std::result::Result<ArrowArray, Invalid> {
        lend(&self.rows, |Rows { cut, dictionaries }, lender| {
            let table = cut.tables()[self.kind];
            let columns: std::result::Result<Vec<_>, _> =
                table.columns().into_iter().map(|column| array(lender, column, dictionaries)).collect();
            lender.rows(table.len(), columns?)
        })
    }
}

/// A column's array.
fn array<'owner>(
    lender: &Lender<'owner>,
    column: Column<'owner>,
    dictionaries: &'owner Dictionaries,
) -> std::result::Result<ArrowArray, Invalid> {
    match column {
        Column::U64(values) => Ok(lender.numbers(values, None)),
        Column::U32(values) => Ok(lender.numbers(values, None)),
        Column::I64(values) => Ok(lender.numbers(values, None)),
        Column::F64(values) => Ok(lender.numbers(values, None)),
        Column::MaybeI64(values) => Ok(lender.numbers(values, Validity::of(values, |value| *value == MISSING))),
        Column::MaybeF64(values) => Ok(lender.numbers(values, Validity::of(values, |value| value.is_nan()))),
        Column::Bool(values) => Ok(lender.booleans(values)),
        Column::Word(codes, words) => lender.codes(codes, lender.words(words)?),
        Column::Label(labels, field) => {
            let names = dictionaries.names(field);
            let (ends, bytes) = names.texts();
            let texts = lender.texts(ends, bytes)?;
            match names.keys(labels) {
                Keys::Labels(labels) => lender.indices(labels, texts),
                Keys::Table(keys) => lender.keys(keys, field == LabelField::Symbol, texts),
            }
        }
        Column::Text(ends, bytes) => lender.texts(ends, bytes),
        Column::ListI64(ends, items) => lender.lists(ends, items),
        Column::ListU32(ends, items) => lender.lists(ends, items),
        Column::ListF64(ends, items) => lender.lists(ends, items),
    }
}

/// A field's name, Arrow format and, where its type has one, the format of its items or of its dictionary.
struct FieldSpec {
    name: CString,
    nullable: bool,
    format: &'static CStr,
    items: Option<&'static CStr>,
    dictionary: bool,
}

/// The fields of each kind of rows.
static FIELDS: LazyLock<Vec<Vec<FieldSpec>>> = LazyLock::new(|| {
    let field = |(spec, column): (rows::ColumnSpec, &Column<'_>)| {
        let (format, items) = format(column);
        let dictionary = matches!(column, Column::Word(..) | Column::Label(..));
        // Names of columns are identifiers: there is no NUL in them.
        let name = CString::new(spec.name).unwrap_or_default();
        FieldSpec { name, nullable: spec.nullable, format, items, dictionary }
    };
    let tables = rows::Cut::default();
    let fields = |table: &dyn Table| table.specs().into_iter().zip(&table.columns()).map(field).collect();
    tables.tables().map(fields).into()
});

/// Format strings of the Arrow C data interface.
fn format(column: &Column<'_>) -> (&'static CStr, Option<&'static CStr>) {
    match column {
        Column::U64(_) => (c"L", None),
        Column::U32(_) => (c"I", None),
        Column::I64(_) | Column::MaybeI64(_) => (c"l", None),
        Column::F64(_) | Column::MaybeF64(_) => (c"g", None),
        Column::Bool(_) => (c"b", None),
        // The format of the keys: signed, since pandas takes no others.
        Column::Word(..) => (c"c", None),
        Column::Label(..) => (c"i", None),
        Column::Text(..) => (c"u", None),
        Column::ListI64(..) => (c"+l", Some(c"l")),
        Column::ListU32(..) => (c"+l", Some(c"I")),
        Column::ListF64(..) => (c"+l", Some(c"g")),
    }
}

fn schema(kind: usize) -> ArrowSchema {
    let leaf = |format, name| ArrowSchema::new(format, name, true, Vec::new(), None);
    let field = |field: &'static FieldSpec| {
        // Items are named and nullable as in pyarrow's `list_`, so that the types compare equal.
        let items = field.items.map(|format| leaf(format, c"item")).into_iter().collect();
        let dictionary = field.dictionary.then(|| leaf(c"u", c""));
        ArrowSchema::new(field.format, &field.name, field.nullable, items, dictionary)
    };
    ArrowSchema::new(c"+s", c"", false, FIELDS[kind].iter().map(field).collect(), None)
}
