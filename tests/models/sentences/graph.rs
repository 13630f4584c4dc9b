//! Small ONNX files: a table of token vectors, and what else a test wants to be wrong.

/// ONNX's numbers of element types.
pub(super) const FLOAT: u64 = 1;
pub(super) const INT64: u64 = 7;

/// A model whose output has the row of the table for each token.
#[derive(Clone)]
pub(super) struct Net {
    table: Vec<Vec<f32>>,
    pub(super) inputs: Vec<(&'static str, u64)>,
    pub(super) output_rank: usize,
    /// Another type than float32 is that of the tokens themselves.
    pub(super) output_type: u64,
}

impl Net {
    pub(super) fn tokens(table: &[Vec<f32>]) -> Self {
        let inputs = vec![("input_ids", INT64), ("attention_mask", INT64)];
        Self { table: table.to_vec(), inputs, output_rank: 3, output_type: FLOAT }
    }

    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut graph = Vec::new();
        let node = |op: &str, inputs: &[&str], output: &str| {
            let mut node = Vec::new();
            for input in inputs {
                text(1, input, &mut node);
            }
            text(2, output, &mut node);
            text(4, op, &mut node);
            node
        };
        let rows = node("Gather", &["table", "input_ids"], "rows");
        let last = match (self.output_type, self.output_rank) {
            (INT64, _) => node("Identity", &["input_ids"], "out"),
            // All in one row.
            (_, 1) => node("ReduceMean", &["rows"], "mean"),
            _ => node("Identity", &["rows"], "out"),
        };
        content(1, &rows, &mut graph);
        content(1, &last, &mut graph);
        if self.output_rank == 1 {
            content(1, &node("Flatten", &["mean"], "flat"), &mut graph);
            content(1, &node("Squeeze", &["flat"], "out"), &mut graph);
        }
        text(2, "tokens", &mut graph);
        let mut table = Vec::new();
        number(1, self.table.len() as u64, &mut table);
        number(1, self.table[0].len() as u64, &mut table);
        number(2, FLOAT, &mut table);
        text(8, "table", &mut table);
        let raw: Vec<u8> = self.table.iter().flatten().flat_map(|it| it.to_le_bytes()).collect();
        content(9, &raw, &mut table);
        content(5, &table, &mut graph);
        for (name, kind) in &self.inputs {
            content(11, &value(name, *kind, 2), &mut graph);
        }
        let rank = if self.output_type == INT64 { 2 } else { self.output_rank };
        content(12, &value("out", self.output_type, rank), &mut graph);
        let mut operators = Vec::new();
        number(2, 13, &mut operators);
        let mut model = Vec::new();
        number(1, 8, &mut model);
        content(7, &graph, &mut model);
        content(8, &operators, &mut model);
        model
    }
}

/// A named tensor of a rank.
fn value(name: &str, kind: u64, rank: usize) -> Vec<u8> {
    let mut shape = Vec::new();
    for axis in 0..rank {
        let mut dimension = Vec::new();
        text(2, &format!("{name}_{axis}"), &mut dimension);
        content(1, &dimension, &mut shape);
    }
    let (mut tensor, mut wrapped, mut value) = (Vec::new(), Vec::new(), Vec::new());
    number(1, kind, &mut tensor);
    content(2, &shape, &mut tensor);
    content(1, &tensor, &mut wrapped);
    text(1, name, &mut value);
    content(2, &wrapped, &mut value);
    value
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(tag: u64, value: u64, out: &mut Vec<u8>) {
    varint(tag << 3, out);
    varint(value, out);
}

fn content(tag: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(tag << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn text(tag: u64, value: &str, out: &mut Vec<u8>) {
    content(tag, value.as_bytes(), out);
}
