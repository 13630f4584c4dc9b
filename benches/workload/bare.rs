//! Plain ONNX Runtime with the session settings of a model: the upper bound for anything that runs a model.

use aimpoint::inference::Runtime;
use ort::{session::Session, value::TensorRef};

/// A session for a model.
pub(crate) fn open(runtime: &Runtime, bytes: &[u8]) -> ort::Result<Session> {
    Session::builder(runtime.environment())?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_memory_pattern(false)?
        .commit_from_memory(bytes)
}

/// Runs it on rows of this width and reads the values of its last output, as a user of the scores would.
pub(crate) fn run(
    session: &mut Session,
    values: &[f32],
    width: usize,
    read: impl FnOnce(&[f32]) -> f32,
) -> ort::Result<f32> {
    let input = TensorRef::from_array_view(([(values.len() / width) as i64, width as i64], values))?;
    let outputs = session.run(ort::inputs![input])?;
    Ok(read(outputs[outputs.len() - 1].try_extract_tensor::<f32>()?.1))
}
