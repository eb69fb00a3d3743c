//! Runs modules for passes: calibration on compiled code instead of the interpreter.

use std::borrow::Cow;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{ElementType, Function, Module, TensorType};
use qcc_mlir::Target;
use qcc_params::{Parameters, Tensor};
use qcc_passes::{Executor, Prepared, SilentProgress};
use qcc_runtime::{InputView, OutputBuffer, State, StepTime};

use crate::load;
use crate::lower::argument_name;

/// Compiles modules for this machine and runs them.
#[derive(Clone, Copy, Debug)]
pub struct CpuExecutor {
    /// Threads to run on; 0 means one for each core.
    pub threads: usize,
}

impl Executor for CpuExecutor {
    fn prepare(&self, module: &Module, parameters: &Parameters) -> Result<Box<dyn Prepared + '_>, String> {
        Ok(Box::new(self.compiled(module, parameters)?))
    }
}

impl CpuExecutor {
    fn compiled(&self, module: &Module, parameters: &Parameters) -> Result<Run, String> {
        let function = module.entry().ok_or("the module has no function")?.clone();
        let interpreter = Interpreter::new(Precision::F32);
        let model = load(module, parameters, &interpreter, &Target::host(), &SilentProgress)
            .map_err(|e| e.to_string())?;
        let state = State::new(&model, self.threads).map_err(|e| e.to_string())?;
        Ok(Run { function, state })
    }

    /// Times of the steps of one run of the entry function, the mean of a few behind one that warms up.
    ///
    /// # Errors
    /// When the module cannot be compiled or the run fails.
    pub fn times(
        &self,
        module: &Module,
        parameters: &Parameters,
        inputs: &[Tensor],
    ) -> Result<Vec<StepTime>, String> {
        let mut run = self.compiled(module, parameters)?;
        run.run(inputs)?;
        run.state.set_profiling(true);
        for _ in 0..TIMED_RUNS {
            run.run(inputs)?;
        }
        run.state.profile(&run.function.name).map_err(|e| e.to_string())
    }
}

/// Runs that times are the mean of.
const TIMED_RUNS: usize = 3;

/// A compiled function with its state.
struct Run {
    function: Function,
    state: State,
}

impl Run {
    /// What stands for a state that holds packed codes: NaN in its shape. It cannot be handed on either, which is an error.
    fn packed(&self, argument: usize, ty: &TensorType, inputs: &[Tensor]) -> Option<Result<Tensor, String>> {
        let name = argument_name(&self.function, argument);
        if !self.state.is_packed(&name).ok()? {
            return None;
        }
        let mut dims = inputs[argument].dims.clone();
        *dims.get_mut(1)? = usize::try_from(self.state.held()).ok()?;
        let count = dims.iter().product();
        debug_assert_eq!(ty.element, ElementType::F32);
        Some(Tensor::f32(&dims, vec![f32::NAN; count]).map_err(|e| e.to_string()))
    }
}

impl Prepared for Run {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let function = &self.function;
        let (expected, got) = (function.arguments().len(), inputs.len());
        if expected != got {
            return Err(format!("{got} inputs where the function takes {expected}"));
        }
        let say = |e: qcc_runtime::RuntimeError| e.to_string();
        let state_of_argument = |i: usize| function.states.iter().find(|s| s.argument == i);
        self.state.reset();
        let mut plain: Vec<(Vec<u64>, Vec<u8>)> = Vec::new();
        for (i, tensor) in inputs.iter().enumerate() {
            let shape: Vec<u64> = tensor.dims.iter().map(|&d| d as u64).collect();
            let bytes = tensor.to_le_bytes();
            if state_of_argument(i).is_some() {
                self.state.write_state(&argument_name(function, i), &shape, &bytes).map_err(say)?;
            } else {
                plain.push((shape, bytes));
            }
        }
        let views: Vec<InputView<'_>> = plain.iter().map(|(shape, data)| InputView { shape, data }).collect();
        let shapes: Vec<&[u64]> = plain.iter().map(|(shape, _)| shape.as_slice()).collect();
        let shapes = self.state.output_shapes(&function.name, &shapes).map_err(say)?;
        let results: Vec<usize> =
            (0..function.results.len()).filter(|r| function.states.iter().all(|s| s.result != *r)).collect();
        let mut buffers: Vec<Vec<u8>> = results
            .iter()
            .zip(&shapes)
            .map(|(&r, shape)| {
                let bits = u64::from(function.ty(function.results[r]).element.bits().max(8));
                vec![0; (shape.iter().product::<u64>() * bits / 8) as usize]
            })
            .collect();
        let mut outputs: Vec<OutputBuffer<'_>> =
            buffers.iter_mut().map(|data| OutputBuffer { data }).collect();
        self.state.run(&function.name, &views, &mut outputs).map_err(say)?;
        let mut plain = buffers.iter().zip(&shapes);
        (0..function.results.len())
            .map(|r| {
                let mut ty = function.ty(function.results[r]).clone();
                let state = function.states.iter().find(|s| s.result == r);
                if let Some(unreadable) = state.and_then(|s| self.packed(s.argument, &ty, inputs)) {
                    return unreadable;
                }
                let (shape, bytes): (Vec<u64>, Cow<'_, [u8]>) =
                    match function.states.iter().find(|s| s.result == r) {
                        Some(s) => {
                            self.state.read_state(&argument_name(function, s.argument)).map_err(say)?
                        }
                        None => plain
                            .next()
                            .map(|(b, s)| (s.clone(), Cow::Borrowed(b.as_slice())))
                            .ok_or("a result is missing")?,
                    };
                ty.dims = shape.iter().map(|&d| (d as i64).into()).collect();
                Tensor::from_le_bytes(&ty, &bytes).map_err(|e| e.to_string())
            })
            .collect()
    }
}
