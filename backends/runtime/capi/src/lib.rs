//! The plain C interface of a compiled model; `include/qcc_model.h` is its description. Built as a static library that the linker puts
//! into `model.so` beside generated code, which defines the program (`qcc_program_data`, `qcc_program_size`) and the kernels
//! (`qcc_kernel_table`, in the program's order).
//!
//! No panic crosses the border and every pointer is checked for null; what else a pointer must be, the header says.

#![allow(unsafe_code)]

mod describe;
mod failure;
mod tensor;

use std::ffi::{CString, c_char};
use std::path::Path;

use qcc_runtime::program::{Port, Program};
use qcc_runtime::{InputView, KernelFn, Model, OutputBuffer, State};

use failure::{guarded, reference, text};
use tensor::Tensor;

unsafe extern "C" {
    static qcc_program_data: [u8; 0];
    static qcc_program_size: u64;
    static qcc_kernel_table: [KernelFn; 0];
}

/// `QCC_ABI_VERSION`.
const ABI_VERSION: i32 = 1;

/// A model, with its names as C strings.
pub struct ModelHandle {
    model: Model,
    symbols: Vec<CString>,
    entries: Vec<EntryNames>,
}

struct EntryNames {
    name: CString,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn qcc_abi_version() -> i32 {
    ABI_VERSION
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_model_open(directory: *const c_char) -> *mut ModelHandle {
    guarded(std::ptr::null_mut(), || {
        // SAFETY: the caller passes a C string.
        let directory = unsafe { text(directory, "directory") }?;
        // SAFETY: generated code defines the program and its size.
        let bytes = unsafe {
            let size = usize::try_from(qcc_program_size).map_err(|_| "the program's size overflows")?;
            std::slice::from_raw_parts((&raw const qcc_program_data).cast::<u8>(), size)
        };
        let program = Program::decode(bytes).map_err(|e| e.to_string())?;
        // SAFETY: generated code defines as many kernels as its program names.
        let kernels = unsafe {
            std::slice::from_raw_parts(
                (&raw const qcc_kernel_table).cast::<KernelFn>(),
                program.kernels.len(),
            )
        };
        // SAFETY: program and kernels were generated together, and this code is in the same library as the kernels.
        let model = unsafe { Model::open(Path::new(directory), program, kernels.to_vec()) }
            .map_err(|e| e.to_string())?;
        let names =
            |ports: &[Port]| ports.iter().map(|p| c_string(&p.name)).collect::<Result<Vec<_>, String>>();
        let program = model.program();
        let symbols = program.symbols.iter().map(|s| c_string(s)).collect::<Result<_, _>>()?;
        let entries = program.entries.iter().map(|e| {
            Ok(EntryNames {
                name: c_string(&e.name)?,
                inputs: names(&e.inputs)?,
                outputs: names(&e.outputs)?,
            })
        });
        let entries = entries.collect::<Result<_, String>>()?;
        Ok(Box::into_raw(Box::new(ModelHandle { symbols, entries, model })))
    })
}

/// # Safety
/// `owned` is null, or came from `Box::into_raw` and is not used again.
unsafe fn free<T>(owned: *mut T) {
    if !owned.is_null() {
        // SAFETY: as the caller promises.
        let owned = unsafe { Box::from_raw(owned) };
        guarded((), || {
            drop(owned);
            Ok(())
        });
    }
}

fn c_string(name: &str) -> Result<CString, String> {
    CString::new(name).map_err(|_| format!("the name `{name}` holds a zero byte"))
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_model_close(model: *mut ModelHandle) {
    // SAFETY: it came from `qcc_model_open`, and is closed once.
    unsafe { free(model) };
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_state_new(model: *const ModelHandle, threads: i32) -> *mut State {
    guarded(std::ptr::null_mut(), || {
        // SAFETY: the caller passes an open model.
        let model = unsafe { reference(model, "model") }?;
        let threads = usize::try_from(threads).map_err(|_| format!("{threads} threads: pass 0 or more"))?;
        Ok(Box::into_raw(Box::new(State::new(&model.model, threads).map_err(|e| e.to_string())?)))
    })
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_state_reset(state: *mut State) -> i32 {
    guarded(-1, || {
        // SAFETY: the caller passes a state that no one else uses.
        let state = unsafe { state.as_mut() }.ok_or("state is NULL")?;
        state.reset();
        Ok(0)
    })
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_state_tokens(state: *const State) -> i64 {
    guarded(-1, || {
        // SAFETY: the caller passes a state that no one else uses.
        let state = unsafe { reference(state, "state") }?;
        i64::try_from(state.held()).map_err(|e| e.to_string())
    })
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_state_limit(state: *mut State, tokens: i64) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { with_tokens(state, tokens, State::limit_tokens) }
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_state_reserve(state: *mut State, tokens: i64) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { with_tokens(state, tokens, State::reserve_tokens) }
}

/// Tells a state a number of tokens.
///
/// # Safety
/// `state` is NULL or a state that no one else uses.
unsafe fn with_tokens(state: *mut State, tokens: i64, tell: fn(&mut State, u64)) -> i32 {
    guarded(-1, || {
        // SAFETY: the caller passes a state that no one else uses.
        let state = unsafe { state.as_mut() }.ok_or("state is NULL")?;
        tell(state, u64::try_from(tokens).map_err(|_| format!("{tokens} tokens: pass 0 or more"))?);
        Ok(0)
    })
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_state_free(state: *mut State) {
    // SAFETY: it came from `qcc_state_new`, and is freed once.
    unsafe { free(state) };
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_run(
    state: *mut State,
    entry: *const c_char,
    inputs: *const Tensor,
    input_count: usize,
    outputs: *mut Tensor,
    output_count: usize,
) -> i32 {
    guarded(-1, || {
        // SAFETY: the caller passes a state that no one else uses, a C string, and arrays of so many tensors.
        let (state, entry, inputs, outputs) = unsafe {
            let state = state.as_mut().ok_or("state is NULL")?;
            (
                state,
                text(entry, "entry")?,
                tensor::array(inputs, input_count)?,
                tensor::array_mut(outputs, output_count)?,
            )
        };
        let ports = state.model().entry(entry).map_err(|e| e.to_string())?.clone();
        tensor::check_overlap(inputs, outputs)?;
        let mut shapes = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            // SAFETY: the caller's shapes have `rank` sizes.
            shapes.push(unsafe { input.shape() }.map_err(|e| format!("input {i}: {e}"))?);
        }
        let given: Vec<&[u64]> = shapes.iter().map(Vec::as_slice).collect();
        let expected = state.model().output_shapes(entry, &given).map_err(|e| e.to_string())?;
        for (i, (input, port)) in inputs.iter().zip(&ports.inputs).enumerate() {
            input.check_element(port).map_err(|e| format!("input {i}: {e}"))?;
        }
        for (i, ((output, port), dims)) in outputs.iter().zip(&ports.outputs).zip(&expected).enumerate() {
            output
                .check_element(port)
                .and_then(|()| output.check_rank(dims))
                .map_err(|e| format!("output {i}: {e}"))?;
        }
        let mut views = Vec::with_capacity(inputs.len());
        for (i, (input, shape)) in inputs.iter().zip(&given).enumerate() {
            // SAFETY: the caller's data has `bytes` bytes.
            let data = unsafe { input.data() }.map_err(|e| format!("input {i}: {e}"))?;
            views.push(InputView { shape, data });
        }
        let mut buffers = Vec::with_capacity(outputs.len());
        for (i, output) in outputs.iter_mut().enumerate() {
            // SAFETY: the caller's data has `bytes` bytes, which no other tensor has.
            let data = unsafe { output.data_mut() }.map_err(|e| format!("output {i}: {e}"))?;
            buffers.push(OutputBuffer { data });
        }
        state.run(entry, &views, &mut buffers).map_err(|e| e.to_string())?;
        drop(buffers);
        for ((output, port), dims) in outputs.iter_mut().zip(&ports.outputs).zip(&expected) {
            // SAFETY: the caller's shape has `rank` sizes, checked above to be the output's.
            unsafe { output.describe(port, dims) }?;
        }
        Ok(0)
    })
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_output_shapes(
    model: *const ModelHandle,
    entry: *const c_char,
    inputs: *const Tensor,
    input_count: usize,
    outputs: *mut Tensor,
    output_count: usize,
) -> i32 {
    guarded(-1, || {
        // SAFETY: the caller passes an open model, a C string, and arrays of so many tensors.
        let (model, entry, inputs, outputs) = unsafe {
            let model = &reference(model, "model")?.model;
            (
                model,
                text(entry, "entry")?,
                tensor::array(inputs, input_count)?,
                tensor::array_mut(outputs, output_count)?,
            )
        };
        let ports = &model.entry(entry).map_err(|e| e.to_string())?.outputs;
        if ports.len() != outputs.len() {
            return Err(format!("`{entry}` has {} outputs, not {}", ports.len(), outputs.len()));
        }
        let mut shapes = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            // SAFETY: the caller's shapes have `rank` sizes.
            shapes.push(unsafe { input.shape() }.map_err(|e| format!("input {i}: {e}"))?);
        }
        let given: Vec<&[u64]> = shapes.iter().map(Vec::as_slice).collect();
        let dims = model.output_shapes(entry, &given).map_err(|e| e.to_string())?;
        for ((output, port), dims) in outputs.iter_mut().zip(ports).zip(&dims) {
            // SAFETY: the caller's shape has room for the output's rank.
            unsafe { output.describe(port, dims) }?;
        }
        Ok(0)
    })
}
