//! Arguments of `qcc compile`, those of features to come included: using one of these says so instead of "unknown argument".

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Plugins;

/// Arguments of `qcc compile`.
#[derive(Debug, Default, Args)]
pub struct CompileArgs {
    /// A Hugging Face checkpoint folder or an .onnx file.
    pub model: PathBuf,
    /// The artifact to write (a directory; an artifact that is there is replaced).
    #[arg(short, long, value_name = "OUT.qcc")]
    pub output: PathBuf,
    /// A recipe by name, or a TOML file; without one the model stays f32.
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub recipe: Option<String>,
    /// Format of weights, e.g. `int4:block=32`; `qcc formats` lists all.
    #[arg(long, value_name = "FMT")]
    pub weights: Option<String>,
    /// Format of activations, e.g. `int8:token:dynamic`.
    #[arg(long, value_name = "FMT")]
    pub activations: Option<String>,
    /// Format of the attention's keys and values.
    #[arg(long, value_name = "FMT")]
    pub kv_cache: Option<String>,
    /// Format of the output head's weight.
    #[arg(long, value_name = "FMT")]
    pub head: Option<String>,
    /// Function-preserving transforms, with options of their passes if need be, e.g. `rotate-residual{basis=hadamard},smooth`.
    #[arg(long, value_name = "LIST|none|auto")]
    pub transforms: Option<String>,
    /// How weights are rounded.
    #[arg(long, value_name = "METHOD")]
    pub rounding: Option<String>,
    /// Correct biases for the mean error of quantized weights.
    #[arg(long)]
    pub bias_correction: bool,
    /// A text or a folder of images to measure activations on.
    #[arg(long, value_name = "FILE|DIR")]
    pub calibration: Option<PathBuf>,
    /// Windows or images to calibrate on [default: 16 windows or 64 images].
    #[arg(long, value_name = "N", requires = "calibration", value_parser = super::positive)]
    pub samples: Option<usize>,
    /// Tokens of a window [default: 256].
    #[arg(long, value_name = "N", requires = "calibration", value_parser = super::positive)]
    pub seq_len: Option<usize>,
    /// How images become inputs: a name or a TOML file with `scale`, `mean`, `std`.
    #[arg(long, value_name = "imagenet|tf|unit|FILE.toml")]
    pub preprocess: Option<String>,
    /// Write a report.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Treat warnings as errors.
    #[arg(long)]
    pub strict: bool,
    /// Say which transform was applied where, and why not.
    #[arg(long)]
    pub explain: bool,
    /// Run the model before and after each function-preserving pass and compare.
    #[arg(long)]
    pub verify_each: bool,
    /// The machine to compile for; `qcc targets` lists all.
    #[arg(long, default_value = "host")]
    pub target: String,
    /// Threads to compile with; 0 means one for each core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = super::thread_count)]
    pub threads: usize,
    /// Also write an intermediate form beside the artifact.
    #[arg(long, value_enum, value_name = "FORM")]
    pub emit: Vec<Emit>,
    /// Run these passes instead of the recipe's.
    #[arg(long, value_name = "STR", conflicts_with_all = ["recipe", "weights", "activations", "kv_cache", "transforms", "head", "rounding", "bias_correction"])]
    pub pass_pipeline: Option<String>,
    /// Plugins.
    #[command(flatten)]
    pub plugins: Plugins,
    /// Choose formats by layer to lose at most this many percent.
    #[arg(long, value_name = "PCT")]
    pub target_loss: Option<f64>,
    /// Show the plans of transforms that were chosen among: latency, error and loss of each.
    #[arg(long)]
    pub pareto: bool,
    /// More rewrite rules for transforms, each proved by example first.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Speeds of the target machine (TOML), by which transforms are priced.
    #[arg(long, value_name = "FILE")]
    pub target_description: Option<PathBuf>,
    /// Where statistics, evaluated weights and object code of kernels are cached.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Intermediate forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Emit {
    /// The IR after all passes.
    Mlir,
    /// LLVM IR of every kernel.
    LlvmIr,
    /// Assembly of every kernel.
    Asm,
    /// Object code of every kernel.
    Obj,
    /// The shared library.
    So,
    /// NVIDIA's assembly.
    Ptx,
}
