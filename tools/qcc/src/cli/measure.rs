//! Arguments of the commands that run or look at a model.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args};

/// Arguments of `qcc run`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["prompt", "prompt_tokens", "input", "image"]))]
pub struct RunArgs {
    /// An artifact, a checkpoint folder or an .onnx file.
    pub model: PathBuf,
    /// Text to continue.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Token ids to continue.
    #[arg(long, value_name = "1,2,…", value_delimiter = ',')]
    pub prompt_tokens: Vec<u32>,
    /// Tokens to generate at most.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub max_tokens: usize,
    /// 0 takes the most probable token always; more is more random.
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Choose among the K most probable tokens; 0 means all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Choose among the most probable tokens that together have probability P.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Seed of the random choices.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// End where the text contains this.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Ask a chat model: the prompt is what the user says, put into the model's chat template.
    #[arg(long, requires = "prompt")]
    pub chat: bool,
    /// An input of the model.
    #[arg(long, value_name = "NAME=FILE.npy", num_args = 1..)]
    pub input: Vec<NamedFile>,
    /// Folder for the outputs, one .npy each; without one their shapes and ranges are shown.
    #[arg(long, value_name = "DIR", requires = "input")]
    pub output: Option<PathBuf>,
    /// Images to classify.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub image: Vec<PathBuf>,
    /// Classes to show for each image.
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,
    /// How images become inputs [default: the artifact's, else imagenet].
    #[arg(long, value_name = "imagenet|tf|unit|FILE.toml")]
    pub preprocess: Option<String>,
    /// Threads to run on; 0 means one for each core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = super::thread_count)]
    pub threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `qcc eval`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["perplexity", "perplexity_tokens", "top1", "compare"]))]
pub struct EvalArgs {
    /// An artifact, a checkpoint folder or an .onnx file.
    pub model: PathBuf,
    /// Perplexity on a text.
    #[arg(long, value_name = "FILE.txt")]
    pub perplexity: Option<PathBuf>,
    /// Perplexity on token ids.
    #[arg(long, value_name = "FILE.npy")]
    pub perplexity_tokens: Option<PathBuf>,
    /// Accuracy on a folder of images.
    #[arg(long, value_name = "DIR", requires = "labels")]
    pub top1: Option<PathBuf>,
    /// Lines of `image-file-name class-index`.
    #[arg(long, value_name = "FILE", requires = "top1")]
    pub labels: Option<PathBuf>,
    /// Closeness to another model on the same inputs.
    #[arg(long, value_name = "MODEL")]
    pub compare: Option<PathBuf>,
    /// Inputs to compare on: a text, token ids (.npy), a folder of images, or arrays by name [default: random ones].
    #[arg(long, value_name = "FILE|DIR|NAME=FILE.npy", num_args = 1.., requires = "compare")]
    pub inputs: Vec<String>,
    /// Tokens of a window.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = super::positive)]
    pub seq_len: usize,
    /// Take the first N windows or images only.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// How images become inputs [default: the artifact's, else imagenet].
    #[arg(long, value_name = "imagenet|tf|unit|FILE.toml", conflicts_with_all = ["perplexity", "perplexity_tokens"])]
    pub preprocess: Option<String>,
    /// Added to each label; 1 for models with a background class [default: the artifact's, else 0].
    #[arg(long, value_name = "N", requires = "top1")]
    pub label_offset: Option<u32>,
    /// Threads to run on; 0 means one for each core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = super::thread_count)]
    pub threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `qcc bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// An artifact, a checkpoint folder or an .onnx file.
    #[arg(required_unless_present = "calibrate_target")]
    pub model: Option<PathBuf>,
    /// Tokens of the prompt; of models that take other arrays, sizes of inputs that may be any (but for the batch).
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = super::positive)]
    pub prompt_len: usize,
    /// Tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::positive)]
    pub gen_len: usize,
    /// Sequences or images at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::positive)]
    pub batch: usize,
    /// Threads to run on; 0 means one for each core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = super::thread_count)]
    pub threads: usize,
    /// Measurements, of which the median is shown.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = super::positive)]
    pub repeat: usize,
    /// Compare with what the machine could do, measured in the same run: its products a second of int8 and f32, and its read bandwidth (takes
    /// 1 GiB of memory). With `--kernels`, each kernel too.
    #[arg(long)]
    pub roofline: bool,
    /// Show the time of each kernel.
    #[arg(long)]
    pub kernels: bool,
    /// Measure this machine and write its description, for `compile --target-description`; needs no model.
    #[arg(long, value_name = "FILE")]
    pub calibrate_target: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `qcc inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// An artifact, a checkpoint folder, an .onnx file or IR text (.mlir).
    pub model: PathBuf,
    /// Show every layer.
    #[arg(long)]
    pub layers: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A file for a tensor of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The tensor.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedFile, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(NamedFile { name: name.to_string(), path: path.into() })
            }
            _ => Err("write NAME=FILE.npy".into()),
        }
    }
}
