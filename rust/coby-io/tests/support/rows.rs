//! Rows read back from cuts, by column name.

use coby_core::rows::{Column, Cut, Label, MISSING, Table};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    None,
}

impl Value {
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(value) => i64::try_from(*value).expect("fits"),
            other => panic!("{other:?} is no whole number"),
        }
    }

    pub fn float(&self) -> f64 {
        match self {
            Self::Float(value) => *value,
            other => panic!("{other:?} is no float"),
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Text(value) => value,
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn bool(&self) -> bool {
        match self {
            Self::Bool(value) => *value,
            other => panic!("{other:?} is no boolean"),
        }
    }
}

fn value(column: &Column<'_>, row: usize, labels: &[Label]) -> Value {
    match column {
        Column::U64(values) => Value::Int(values[row].into()),
        Column::U32(values) => Value::Int(values[row].into()),
        Column::MaybeI64(values) if values[row] == MISSING => Value::None,
        Column::I64(values) | Column::MaybeI64(values) => Value::Int(values[row].into()),
        Column::MaybeF64(values) if values[row].is_nan() => Value::None,
        Column::F64(values) | Column::MaybeF64(values) => Value::Float(values[row]),
        Column::Bool(values) => Value::Bool(values[row]),
        Column::Word(codes, words) => Value::Text(words[codes[row] as usize].into()),
        Column::Label(ids, field) => {
            field.of(&labels[ids[row] as usize]).map_or(Value::None, |text| Value::Text(text.into()))
        }
        Column::Text(ends, bytes) => {
            let start = if row == 0 { 0 } else { ends[row - 1] as usize };
            Value::Text(String::from_utf8(bytes[start..ends[row] as usize].into()).expect("text is UTF-8"))
        }
        Column::ListI64(..) | Column::ListU32(..) | Column::ListF64(..) => panic!("lists are not read here"),
    }
}

/// The named columns of every row of a table.
pub fn rows<const N: usize>(cut: &Cut, table: &dyn Table, names: [&str; N]) -> Vec<[Value; N]> {
    let (specs, columns) = (table.specs(), table.columns());
    let found = names.map(|name| {
        let index = specs.iter().position(|spec| spec.name == name).unwrap_or_else(|| panic!("no column {name}"));
        &columns[index]
    });
    (0..table.len()).map(|row| found.map(|column| value(column, row, &cut.labels))).collect()
}
