//! A model that runs: its state, and buffers for its outputs that are kept from call to call.

use qcc_runtime::program::{Entry, Expr, Port};
use qcc_runtime::{AlignedBuffer, Element, InputView, Model, OutputBuffer, RuntimeError, State};

use qcc_cpu::next::NEXT;

use crate::Failure;

/// The entry point that every model has.
pub const ENTRY: &str = "main";

/// A model, its state, and the outputs of the last run.
pub struct Session {
    state: State,
    entry: Entry,
    /// The entry point for the last position alone, if there is one.
    next: Option<Entry>,
    /// Whether the last run was of that one.
    ran_next: bool,
    buffers: Vec<AlignedBuffer>,
    shapes: Vec<Vec<u64>>,
}

impl Session {
    /// A session at the start of its sequence. `threads`: 0 means one for each core.
    ///
    /// # Errors
    /// When the model has no entry point `main`, or threads cannot be started.
    pub fn new(model: &Model, threads: usize) -> Result<Session, RuntimeError> {
        let entry = model.entry(ENTRY)?.clone();
        let next = model.entry(NEXT).ok().cloned();
        let buffers = entry.outputs.iter().map(|_| AlignedBuffer::zeroed(0, "outputs"));
        let buffers = buffers.collect::<Result<_, _>>()?;
        let state = State::new(model, threads)?;
        Ok(Session { state, entry, next, ran_next: false, buffers, shapes: Vec::new() })
    }

    /// The entry point.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its state, to measure.
    pub fn state(&mut self) -> &mut State {
        &mut self.state
    }

    /// Starts a new sequence: persistent buffers are zero again.
    pub fn reset(&mut self) {
        self.state.reset();
    }

    /// Name of the entry point that [`Session::run_next`] runs.
    pub fn next_name(&self) -> &'static str {
        if self.next.is_some() { NEXT } else { ENTRY }
    }

    /// Runs the model; see [`Session::output`].
    ///
    /// # Errors
    /// When the inputs do not fit, or memory is short.
    pub fn run(&mut self, inputs: &[InputView<'_>]) -> Result<(), RuntimeError> {
        self.run_entry(ENTRY, inputs)
    }

    /// Runs the model for its last position alone, where it has an entry point for that, else for all.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_next(&mut self, inputs: &[InputView<'_>]) -> Result<(), RuntimeError> {
        self.run_entry(self.next_name(), inputs)
    }

    fn run_entry(&mut self, name: &'static str, inputs: &[InputView<'_>]) -> Result<(), RuntimeError> {
        self.ran_next = name == NEXT;
        let dims: Vec<&[u64]> = inputs.iter().map(|i| i.shape).collect();
        let _span = tracing::info_span!("run", inputs = ?dims).entered();
        self.shapes = self.state.output_shapes(name, &dims)?;
        let ports = &self.next.as_ref().filter(|_| self.ran_next).unwrap_or(&self.entry).outputs;
        for ((buffer, port), shape) in self.buffers.iter_mut().zip(ports).zip(&self.shapes) {
            let width = Element::named(&port.element).map_or(1, Element::bytes);
            let bytes = shape.iter().try_fold(width, |n, &d| n.checked_mul(d));
            let bytes = bytes.ok_or_else(|| RuntimeError::Overflow { symbols: shape.clone() })?;
            if (buffer.len() as u64) < bytes {
                *buffer = AlignedBuffer::zeroed(bytes, "outputs")?;
            }
        }
        let mut outputs: Vec<_> = self.buffers.iter_mut().map(|data| OutputBuffer { data }).collect();
        self.state.run(name, inputs, &mut outputs)
    }

    /// Shape and bytes of an output of the last run.
    pub fn output(&self, index: usize) -> (&[u64], &[u8]) {
        let shape = self.shapes[index].as_slice();
        let width = Element::named(&self.entry.outputs[index].element).map_or(1, Element::bytes);
        let bytes = shape.iter().product::<u64>() * width;
        (shape, &self.buffers[index][..bytes as usize])
    }

    /// Shape and numbers of an f32 output of the last run.
    ///
    /// # Errors
    /// When it has another element type.
    pub fn output_f32(&self, index: usize) -> Result<(&[u64], &[f32]), Failure> {
        let port = &self.entry.outputs[index];
        if port.element != "f32" {
            let (name, element) = (&port.name, &port.element);
            return Err(Failure::input(format!("output `{name}` holds {element}, not f32")));
        }
        let (shape, bytes) = self.output(index);
        Ok((shape, bytemuck::cast_slice(bytes)))
    }
}

/// The constant size of a dimension of a port, if it has that dimension and it is constant.
pub fn constant(port: &Port, axis: usize) -> Option<u64> {
    match port.dims.get(axis) {
        Some(Expr::Const(n)) => Some(*n),
        _ => None,
    }
}
