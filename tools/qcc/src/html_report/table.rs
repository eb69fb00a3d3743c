//! The table of all layers.

use serde::Serialize;

use super::{Layer, MISSING, differs};

/// Rows of the same cells as there are columns.
#[derive(Debug, Serialize)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

/// A property of layers.
#[derive(Clone, Copy, Debug, Serialize)]
struct Column {
    label: &'static str,
    unit: &'static str,
    hint: &'static str,
    /// Whether its values are numbers.
    number: bool,
    #[serde(skip)]
    cell: fn(&Layer) -> Cell,
}

/// A layer.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    changed: bool,
    cells: Vec<Cell>,
}

/// A property of a layer.
#[derive(Debug, Serialize)]
struct Cell {
    text: String,
    /// What it is sorted by; nothing if it is missing.
    sort: Option<String>,
    /// What was asked for, if the layer got something else.
    requested: Option<String>,
    note: Option<String>,
}

/// What is known of layers besides their names.
const COLUMNS: [Column; 10] = [
    Column::text("Operation", "", |l| Cell::text(&l.op)),
    Column::text("Shape", "of the weight", |l| Cell::text(&l.shape)),
    Column::text("Weights", ASKED, |l| Cell::format(&l.requested_weights, &l.weights, l.note.as_ref())),
    Column::text("Activations", ASKED, |l| Cell::format(&l.requested_activations, &l.activations, None)),
    Column::number("Bits", "/weight", "with scales and zero points", |l| Cell::number(l.bits_per_weight, 2)),
    Column::number("Size", "", "of weight, scales and zero points", |l| Cell::bytes(l.bytes)),
    Column::number("Weight SQNR", "dB", "of the weight", |l| Cell::sqnr(l.weight_sqnr_db)),
    Column::number("Output SQNR", "dB", "where only this layer is quantized", |l| {
        Cell::sqnr(l.output_sqnr_db)
    }),
    Column::number("Depth SQNR", "dB", "in the quantized model, errors before it included", |l| {
        Cell::sqnr(l.depth_sqnr_db)
    }),
    Column::number("Time", "ms", "of one run", |l| Cell::number(l.seconds.map(|seconds| seconds * 1e3), 3)),
];

const ASKED: &str = "format; struck out: the one asked for";

impl Column {
    const fn text(label: &'static str, hint: &'static str, cell: fn(&Layer) -> Cell) -> Column {
        Column { label, unit: "", hint, number: false, cell }
    }

    const fn number(
        label: &'static str,
        unit: &'static str,
        hint: &'static str,
        cell: fn(&Layer) -> Cell,
    ) -> Column {
        Column { label, unit, hint, number: true, cell }
    }
}

impl Cell {
    fn text(text: &str) -> Cell {
        let known = !text.is_empty();
        let (text, sort) = (if known { text } else { MISSING }.into(), known.then(|| text.into()));
        Cell { text, sort, requested: None, note: None }
    }

    fn format(requested: &str, format: &str, note: Option<&String>) -> Cell {
        let changed = differs(requested, format);
        Cell { requested: changed.then(|| requested.into()), note: note.cloned(), ..Cell::text(format) }
    }

    fn bytes(bytes: u64) -> Cell {
        Cell { sort: Some(bytes.to_string()), ..Cell::text(&crate::report::bytes(bytes)) }
    }

    fn number(value: Option<f64>, places: usize) -> Cell {
        match value.filter(|value| value.is_finite()) {
            Some(value) => Cell { sort: Some(value.to_string()), ..Cell::text(&format!("{value:.places$}")) },
            None => Cell::text(""),
        }
    }

    fn sqnr(value: Option<f64>) -> Cell {
        match value {
            Some(f64::INFINITY) => Cell { sort: Some("Infinity".into()), ..Cell::text("exact") },
            value => Cell::number(value, 1),
        }
    }

    fn is_missing(&self) -> bool {
        self.sort.is_none() && self.requested.is_none() && self.note.is_none()
    }
}

/// The table, without columns that are empty in all rows.
pub fn table(layers: &[Layer]) -> Table {
    let filled = |column: &Column| layers.iter().any(|l| !(column.cell)(l).is_missing());
    let columns: Vec<Column> = COLUMNS.into_iter().filter(filled).collect();
    let row = |l: &Layer| Row {
        name: l.name.clone(),
        changed: l.changed(),
        cells: columns.iter().map(|column| (column.cell)(l)).collect(),
    };
    Table { rows: layers.iter().map(row).collect(), columns }
}
