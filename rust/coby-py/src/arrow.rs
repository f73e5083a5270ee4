//! Cuts as Arrow record batches: the columns are lent, not copied.

use std::sync::{Arc, LazyLock};

use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType, Field, Fields};
use coby_core::rows::{self, Column, MISSING, Table};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::errors::{Error, Result, contained};
use crate::ffi::{Lender, lend};
use crate::labels::{Dictionaries, NONE, Names};

/// Rows of the positions `first_pos..=last_pos`, never splitting a record.
#[pyclass(frozen, module = "coby._core")]
pub struct Cut {
    cut: Arc<rows::Cut>,
    dictionaries: Arc<Dictionaries>,
}

impl Cut {
    /// Wraps a cut; `last` holds the dictionaries of the cut before.
    pub fn new(cut: rows::Cut, last: &mut Option<Arc<Dictionaries>>) -> Self {
        let dictionaries = Dictionaries::of(&cut.labels, last);
        Self { cut: Arc::new(cut), dictionaries }
    }
}

#[pymethods]
impl Cut {
    #[getter]
    fn first_pos(&self) -> u64 {
        self.cut.first_pos
    }

    #[getter]
    fn last_pos(&self) -> u64 {
        self.cut.last_pos
    }

    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        for table in self.cut.tables().into_iter().filter(|table| !table.is_empty()) {
            counts.set_item(table.name(), table.len())?;
        }
        Ok(counts)
    }

    fn batch(&self, kind: &str) -> Result<RecordBatch> {
        let found = self.cut.tables().iter().position(|table| table.name() == kind);
        let kind = found
            .ok_or_else(|| Error::Argument { argument: "kind", message: format!("no kind of rows is {kind:?}") })?;
        Ok(RecordBatch { cut: Arc::clone(&self.cut), dictionaries: Arc::clone(&self.dictionaries), kind })
    }

    fn __repr__(&self) -> String {
        format!("<Cut {}..={}: {} rows>", self.cut.first_pos, self.cut.last_pos, self.cut.len())
    }
}

/// Exports itself through the Arrow `PyCapsule` interface (`pyarrow.record_batch(batch)`).
#[pyclass(frozen, module = "coby._core")]
pub struct RecordBatch {
    cut: Arc<rows::Cut>,
    dictionaries: Arc<Dictionaries>,
    kind: usize,
}

/// The two halves of an exported array.
type Capsules<'py> = (Bound<'py, PyCapsule>, Bound<'py, PyCapsule>);

#[pymethods]
impl RecordBatch {
    fn __len__(&self) -> usize {
        self.cut.tables()[self.kind].len()
    }

    /// The schema that is asked for is a wish that the interface lets a producer leave unfulfilled.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> Result<Capsules<'py>> {
        let _ = requested_schema;
        let (schema, array) = contained(|| self.export().map_err(|error| Error::Internal(error.to_string())))?;
        let schema = PyCapsule::new_with_value(py, schema, c"arrow_schema")?;
        Ok((schema, PyCapsule::new_with_value(py, array, c"arrow_array")?))
    }

    fn __repr__(&self) -> String {
        let table = self.cut.tables()[self.kind];
        format!("<RecordBatch {}: {} rows>", table.name(), table.len())
    }
}

impl RecordBatch {
    fn export(&self) -> std::result::Result<(FFI_ArrowSchema, FFI_ArrowArray), ArrowError> {
        let data_type = DataType::Struct(FIELDS[self.kind].clone());
        let schema = FFI_ArrowSchema::try_from(&data_type)?;
        let array = lend(&self.cut, |cut, lender| {
            let table = cut.tables()[self.kind];
            let build = Build { lender, rows: table.len(), dictionaries: &self.dictionaries };
            let columns = table.columns().into_iter().zip(&FIELDS[self.kind]);
            let columns: std::result::Result<Vec<_>, _> =
                columns.map(|(column, field)| build.array(column, field.data_type().clone())).collect();
            ArrayData::builder(data_type).len(table.len()).child_data(columns?).build()
        })?;
        Ok((schema, FFI_ArrowArray::new(&array)))
    }
}

/// The fields of each kind of rows.
static FIELDS: LazyLock<Vec<Fields>> = LazyLock::new(|| {
    let fields = |table: &dyn Table| {
        let field =
            |(spec, column): (rows::ColumnSpec, &Column<'_>)| Field::new(spec.name, data_type(column), spec.nullable);
        table.specs().into_iter().zip(&table.columns()).map(field).collect()
    };
    rows::Cut::default().tables().map(fields).into()
});

fn data_type(column: &Column<'_>) -> DataType {
    let dictionary = |keys| DataType::Dictionary(Box::new(keys), Box::new(DataType::Utf8));
    match column {
        Column::U64(_) => DataType::UInt64,
        Column::U32(_) => DataType::UInt32,
        Column::I64(_) | Column::MaybeI64(_) => DataType::Int64,
        Column::F64(_) | Column::MaybeF64(_) => DataType::Float64,
        Column::Bool(_) => DataType::Boolean,
        // Signed keys: pandas takes no others.
        Column::Word(..) => dictionary(DataType::Int8),
        Column::Label(..) => dictionary(DataType::Int32),
        Column::Text(..) => DataType::Utf8,
        Column::ListI64(..) => list(DataType::Int64),
        Column::ListU32(..) => list(DataType::UInt32),
        Column::ListF64(..) => list(DataType::Float64),
    }
}

fn list(item: DataType) -> DataType {
    // Named and nullable as pyarrow's `list_` has it, so that the types compare equal.
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

type Built = std::result::Result<ArrayData, ArrowError>;

/// Builds the arrays of one table.
struct Build<'owner, 'a> {
    lender: Lender<'owner>,
    rows: usize,
    dictionaries: &'a Dictionaries,
}

impl<'owner> Build<'owner, '_> {
    fn array(&self, column: Column<'owner>, data_type: DataType) -> Built {
        let array = ArrayData::builder(data_type).len(self.rows);
        match column {
            Column::U64(values) => array.add_buffer(self.lender.buffer(values)),
            Column::U32(values) => array.add_buffer(self.lender.buffer(values)),
            Column::I64(values) => array.add_buffer(self.lender.buffer(values)),
            Column::F64(values) => array.add_buffer(self.lender.buffer(values)),
            Column::MaybeI64(values) => {
                array.add_buffer(self.lender.buffer(values)).nulls(nulls(values, |value| *value == MISSING))
            }
            Column::MaybeF64(values) => {
                array.add_buffer(self.lender.buffer(values)).nulls(nulls(values, |value| value.is_nan()))
            }
            Column::Bool(values) => array.add_buffer(BooleanBuffer::from(values).into_inner()),
            Column::Word(codes, words) => array.add_buffer(self.lender.buffer(codes)).add_child_data(text_array(words)),
            Column::Label(labels, field) => {
                let Names { texts, keys, complete } = self.dictionaries.names(field);
                let keys: Vec<i32> = labels.iter().map(|label| keys[*label as usize]).collect();
                let nulls = if *complete { None } else { nulls(&keys, |key| *key == NONE) };
                array.add_buffer(Buffer::from_vec(keys)).nulls(nulls).add_child_data(texts.clone())
            }
            Column::Text(ends, bytes) => array.add_buffer(offsets(ends)).add_buffer(self.lender.buffer(bytes)),
            Column::ListI64(ends, values) => {
                array.add_buffer(offsets(ends)).add_child_data(self.items(values, DataType::Int64)?)
            }
            Column::ListU32(ends, values) => {
                array.add_buffer(offsets(ends)).add_child_data(self.items(values, DataType::UInt32)?)
            }
            Column::ListF64(ends, values) => {
                array.add_buffer(offsets(ends)).add_child_data(self.items(values, DataType::Float64)?)
            }
        }
        .build()
    }

    fn items<T: ArrowNativeType>(&self, values: &'owner [T], data_type: DataType) -> Built {
        ArrayData::builder(data_type).len(values.len()).add_buffer(self.lender.buffer(values)).build()
    }
}

/// Where values are, unless they are everywhere.
fn nulls<T>(values: &[T], missing: impl Fn(&T) -> bool) -> Option<NullBuffer> {
    // Counting first is cheap, and mostly none is missing.
    let count = values.iter().filter(|value| missing(value)).count();
    (count > 0).then(|| BooleanBuffer::collect_bool(values.len(), |row| !missing(&values[row])).into())
}

/// Arrow's offsets begin with the first start. An end beyond `i32` turns negative, which the array's validation refuses.
fn offsets(ends: &[u32]) -> Buffer {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend(ends.iter().map(|end| *end as i32));
    Buffer::from_vec(offsets)
}

/// An array of texts.
pub fn text_array(texts: &[&str]) -> ArrayData {
    let ends: Vec<u32> = texts
        .iter()
        .scan(0, |end, text| {
            *end += text.len() as u32;
            Some(*end)
        })
        .collect();
    let bytes = Buffer::from_vec(texts.concat().into_bytes());
    let array = ArrayData::builder(DataType::Utf8).len(texts.len()).add_buffer(offsets(&ends)).add_buffer(bytes);
    // The texts are UTF-8 and the offsets are theirs; only names beyond 2 GiB could be refused.
    array.build().unwrap_or_else(|_| ArrayData::new_empty(&DataType::Utf8))
}
