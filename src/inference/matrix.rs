//! The input of a model.

/// The rows a model scores: `rows` × `width` floats, row by row, missing values NaN.
#[derive(Clone, Debug, Default)]
pub struct FeatureMatrix {
    width: usize,
    values: Vec<f32>,
}

impl FeatureMatrix {
    /// An empty matrix of this width.
    pub fn new(width: usize) -> Self {
        Self { width, values: Vec::new() }
    }

    /// How many features a row has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// Adds a row.
    ///
    /// # Panics
    /// The row has another width.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.width, "a row has a value for each feature");
        self.values.extend_from_slice(row);
    }

    /// Resizes to `rows` rows of NaN, reusing the memory, and returns the values to be filled.
    pub fn reset(&mut self, rows: usize) -> &mut [f32] {
        self.values.clear();
        self.values.resize(rows * self.width, f32::NAN);
        &mut self.values
    }
}
