//! A model ready to run: a valid program, one kernel for each of its names, and parameters that fit it. Immutable, and shared by any
//! number of [`State`](crate::State)s on any threads.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use crate::bind::{bind, check_limits, extent};
use crate::program::{Blocks, Entry, Port, Program};
use crate::{Manifest, PARAMETER_FILE, Parameters, RuntimeError, features};

/// Generated code: works on the items `begin..end` of a step.
///
/// `args` holds an address or a number for each of the step's arguments; `scratch` is 64-byte aligned memory of this worker alone.
pub type KernelFn = unsafe extern "C" fn(args: *const u64, begin: u64, end: u64, scratch: *mut u8);

/// A model. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
    /// What the kernels' code lives in.
    owner: Option<Arc<dyn Any + Send + Sync>>,
}

struct Inner {
    program: Program,
    kernels: Vec<KernelFn>,
    /// Keeps `addresses` valid.
    parameters: Parameters,
    addresses: Vec<u64>,
    /// The states of all entry points, each name once.
    states: Vec<Port>,
    /// How each of them grows, if it does.
    blocks: Vec<Option<Blocks>>,
    /// For each entry point, its states' places in `states`.
    entry_states: Vec<Vec<usize>>,
}

impl Model {
    /// Puts a model together.
    ///
    /// # Errors
    /// When the program is invalid, this CPU lacks a feature it needs, the number of kernels is not the program's, or a parameter is
    /// missing, of another size or unaligned.
    ///
    /// # Safety
    /// Each kernel must be what the program takes it for: called with the arguments of any step that names it, on any part of the step's
    /// items, it may read and write only the buffers those arguments point at and so many bytes of scratch memory as the step asks for.
    /// The code must stay loaded while the model lives (see [`Model::keeping`]).
    #[allow(unsafe_code)]
    pub unsafe fn new(
        program: Program,
        kernels: Vec<KernelFn>,
        parameters: Parameters,
    ) -> Result<Model, RuntimeError> {
        program.validate()?;
        features::check(program.features.iter().map(String::as_str))?;
        if kernels.len() != program.kernels.len() {
            let message =
                format!("it names {} kernels, the code has {}", program.kernels.len(), kernels.len());
            return Err(RuntimeError::Program(message));
        }
        let addresses = parameters.resolve(&program.parameters)?;
        let mut states: Vec<Port> = Vec::new();
        let mut blocks = Vec::new();
        let mut entry_states = Vec::new();
        for entry in &program.entries {
            let places = entry.states.iter().map(|state| {
                states.iter().position(|s| s.name == state.name).unwrap_or_else(|| {
                    states.push(state.clone());
                    blocks.push(entry.blocks(state).cloned());
                    states.len() - 1
                })
            });
            entry_states.push(places.collect());
        }
        let inner = Arc::new(Inner { program, kernels, parameters, addresses, states, blocks, entry_states });
        Ok(Model { inner, owner: None })
    }

    /// Opens the artifact in a directory whose code is already loaded: checks the manifest (version, CPU features, sizes of files, hash of
    /// the parameters) and maps the parameters.
    ///
    /// # Errors
    /// When a check fails.
    ///
    /// # Safety
    /// As for [`Model::new`].
    #[allow(unsafe_code)]
    pub unsafe fn open(
        directory: &Path,
        program: Program,
        kernels: Vec<KernelFn>,
    ) -> Result<Model, RuntimeError> {
        let manifest = Manifest::open(directory)?;
        let parameters = if program.parameters.is_empty() && !manifest.files.contains_key(PARAMETER_FILE) {
            Parameters::default()
        } else {
            manifest.open_parameters(directory)?
        };
        // SAFETY: as the caller promises.
        unsafe { Model::new(program, kernels, parameters) }
    }

    /// The same model, which keeps something alive as long as it lives: the library that holds its code.
    pub fn keeping(self, owner: Arc<dyn Any + Send + Sync>) -> Model {
        Model { owner: Some(owner), ..self }
    }

    /// Its program.
    pub fn program(&self) -> &Program {
        &self.inner.program
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.inner.parameters
    }

    /// The persistent buffers of all entry points, each name once.
    pub fn states(&self) -> &[Port] {
        &self.inner.states
    }

    /// The entry point of this name.
    ///
    /// # Errors
    /// [`RuntimeError::UnknownEntry`], naming those there are.
    pub fn entry(&self, name: &str) -> Result<&Entry, RuntimeError> {
        Ok(&self.program().entries[self.entry_index(name)?])
    }

    /// Shapes of the outputs that inputs of these shapes give.
    ///
    /// # Errors
    /// When there is no such entry point, it does not take these inputs, or a size overflows.
    pub fn output_shapes(&self, entry: &str, inputs: &[&[u64]]) -> Result<Vec<Vec<u64>>, RuntimeError> {
        let entry = self.entry(entry)?;
        let mut symbols = vec![None; self.program().symbols.len()];
        bind(self.program(), entry, inputs.iter().copied(), &mut symbols)?;
        let symbols: Vec<u64> = symbols.into_iter().map(Option::unwrap_or_default).collect();
        check_limits(entry, &symbols)?;
        entry.outputs.iter().map(|port| Ok(extent(port, &symbols)?.dims)).collect()
    }

    pub(crate) fn entry_index(&self, name: &str) -> Result<usize, RuntimeError> {
        let entries = &self.program().entries;
        entries.iter().position(|e| e.name == name).ok_or_else(|| RuntimeError::UnknownEntry {
            name: name.to_string(),
            known: entries.iter().map(|e| e.name.clone()).collect(),
        })
    }

    pub(crate) fn kernels(&self) -> &[KernelFn] {
        &self.inner.kernels
    }

    pub(crate) fn parameter_addresses(&self) -> &[u64] {
        &self.inner.addresses
    }

    /// How a state of [`Model::states`] grows.
    pub(crate) fn blocks(&self, state: usize) -> Option<&Blocks> {
        self.inner.blocks[state].as_ref()
    }

    pub(crate) fn entry_states(&self, entry: usize) -> &[usize] {
        &self.inner.entry_states[entry]
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries: Vec<&str> = self.program().entries.iter().map(|e| e.name.as_str()).collect();
        f.debug_struct("Model")
            .field("entries", &entries)
            .field("parameters", self.parameters())
            .field("keeps its code alive", &self.owner.is_some())
            .finish_non_exhaustive()
    }
}
