//! What passes may use: the parameter table, op semantics, something that runs modules, sample inputs, and a place for warnings.
//! The command line injects the implementations (interpreter or CPU backend, text or image readers).

use std::sync::Arc;

use qcc_interpreter::{Interpreter, Session};
use qcc_ir::{Function, Module};
use qcc_params::{OpEvaluator, Parameters, Tensor};

use crate::assign::Choices;
use crate::calibrate::{Statistics, StatisticsCache};
use crate::equivalence::rules::Rule;
use crate::transform::{Explanation, Target};

/// Runs modules.
pub trait Executor {
    /// Gets a module ready to run, once for many inputs.
    ///
    /// # Errors
    /// When the module cannot be run, with the reason.
    fn prepare(&self, module: &Module, parameters: &Parameters) -> Result<Box<dyn Prepared + '_>, String>;
}

/// A module that is ready to run.
pub trait Prepared {
    /// Results of the entry function, states included as explicit inputs and outputs.
    ///
    /// # Errors
    /// When the inputs do not fit or the run fails.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String>;
}

impl Executor for Interpreter {
    fn prepare(&self, module: &Module, parameters: &Parameters) -> Result<Box<dyn Prepared + '_>, String> {
        let function = module.entry().ok_or("the module has no function")?.clone();
        Ok(Box::new(Interpreted { function, session: self.session(parameters.clone()) }))
    }
}

/// A function and the weights evaluated for it.
struct Interpreted {
    function: Function,
    session: Session<Parameters>,
}

impl Prepared for Interpreted {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        self.session.run(&self.function, inputs).map_err(|e| e.to_string())
    }
}

/// Calibration inputs.
pub trait Samples {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Inputs of `function` for the `index`-th sample, one tensor an argument.
    ///
    /// # Errors
    /// When the sample cannot be read or does not fit the function.
    fn inputs(&self, index: usize, function: &Function) -> Result<Vec<Tensor>, String>;
}

/// Told of the progress of long steps, from any thread.
pub trait Progress: Sync {
    /// Step `what` has done `done` of `total`.
    fn report(&self, what: &str, done: usize, total: usize);
}

/// Ignores progress.
pub struct SilentProgress;

impl Progress for SilentProgress {
    fn report(&self, _: &str, _: usize, _: usize) {}
}

/// Something the user should know; an error under `--strict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The pass that warns.
    pub pass: String,
    /// What, where and what to do.
    pub message: String,
}

/// Everything a pass may use besides the module.
pub struct Context<'a> {
    /// The weights.
    pub parameters: Parameters,
    /// Op semantics, for constant folding and proofs.
    pub evaluator: &'a dyn OpEvaluator,
    /// Runs modules for calibration.
    pub executor: Option<&'a dyn Executor>,
    /// Runs modules in f64, for `--verify-each`.
    pub reference: Option<&'a dyn Executor>,
    /// Calibration inputs.
    pub samples: Option<&'a dyn Samples>,
    /// Inputs that nothing is calibrated on, to compare with.
    pub held_out: Option<&'a dyn Samples>,
    /// Rewrite rules besides those of this build, each proved.
    pub rules: Vec<Arc<Rule>>,
    /// The machine to compile for, as far as costs go.
    pub target: Target,
    /// What searches for transforms found.
    pub explanations: Vec<Explanation>,
    /// What `calibrate` measured, for `quantize`.
    pub statistics: Statistics,
    /// What was found out about formats of single layers.
    pub choices: Choices,
    /// Where `calibrate` keeps what it observed.
    pub statistics_cache: Option<StatisticsCache>,
    /// Warnings so far.
    pub warnings: Vec<Warning>,
    /// Told of progress.
    pub progress: &'a dyn Progress,
}

impl<'a> Context<'a> {
    /// A context without executor and samples.
    pub fn new(parameters: Parameters, evaluator: &'a dyn OpEvaluator) -> Context<'a> {
        Context {
            parameters,
            evaluator,
            executor: None,
            reference: None,
            samples: None,
            held_out: None,
            rules: Vec::new(),
            target: Target::default(),
            explanations: Vec::new(),
            statistics: Statistics::default(),
            choices: Choices::default(),
            statistics_cache: None,
            warnings: Vec::new(),
            progress: &SilentProgress,
        }
    }

    /// Adds a warning.
    pub fn warn(&mut self, pass: &str, message: impl Into<String>) {
        let message = message.into();
        tracing::warn!("{pass}: {message}");
        self.warnings.push(Warning { pass: pass.to_string(), message });
    }
}
