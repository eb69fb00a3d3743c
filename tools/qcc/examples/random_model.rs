//! A Hugging Face checkpoint of random weights, for measures that depend on sizes alone: compile time, memory, speed.
//!
//! `cargo run --release -p qcc --example random_model -- --config mamba-1.4b -o FOLDER [--seed N] [--dtype bf16] [--layers N]`
//!
//! Names, sizes and scales are those of real checkpoints, freshly initialized. A number depends on the seed, the tensor's name and its
//! place alone, so the same seed gives the same bytes on any number of threads, and fewer layers are a part of more. Tensors are written in
//! pieces: memory does not grow with the model.

use std::collections::BTreeMap;
use std::f64::consts::LN_10;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use half::{bf16, f16};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

type Outcome<T> = Result<T, String>;

/// Bytes of tensors in a file; a tensor is never cut.
const SHARD_BYTES: u64 = 2_000_000_000;
/// Elements that are made and written at once, and those of them that one thread makes.
const PIECE: u64 = 1 << 22;
const RUN: usize = 1 << 16;
/// Standard deviation of weights of linear layers and embeddings.
const SPREAD: f64 = 0.02;

/// Writes a Hugging Face checkpoint of random weights
#[derive(Parser)]
struct Args {
    /// Sizes
    #[arg(long, value_enum)]
    config: Preset,
    /// Folder to write; made if missing, and must be empty
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Element type of all tensors
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    dtype: Dtype,
    /// Layers, if not as many as the preset has
    #[arg(long)]
    layers: Option<u64>,
}

/// Whose sizes.
#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    #[value(name = "mamba-130m", help = "state-spaces/mamba-130m-hf")]
    Mamba130M,
    #[value(name = "mamba-1.4b", help = "state-spaces/mamba-1.4b-hf")]
    Mamba1B4,
    #[value(name = "tinyllama-1.1b", help = "TinyLlama/TinyLlama-1.1B")]
    TinyLlama,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    Bf16,
    F16,
    F32,
}

impl Dtype {
    fn bytes(self) -> u64 {
        match self {
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::F32 => 4,
        }
    }

    /// In the header of a file.
    fn stored(self) -> &'static str {
        match self {
            Dtype::Bf16 => "BF16",
            Dtype::F16 => "F16",
            Dtype::F32 => "F32",
        }
    }

    /// In `config.json`.
    fn torch(self) -> &'static str {
        match self {
            Dtype::Bf16 => "bfloat16",
            Dtype::F16 => "float16",
            Dtype::F32 => "float32",
        }
    }
}

/// How the elements of a tensor are distributed.
#[derive(Clone, Copy)]
enum Fill {
    /// Close to normal, about 0.
    Normal {
        deviation: f64,
    },
    /// Close to normal, about 1: gains.
    AboutOne,
    Uniform {
        bound: f64,
    },
    /// ln 1 … ln N along rows: the states of a channel decay at N rates.
    LogRange {
        states: u64,
    },
    /// Time steps of 0.001 to 0.1, uniform in their logarithm, before softplus.
    TimeStep,
}

struct Tensor {
    name: String,
    dims: Vec<u64>,
    fill: Fill,
}

impl Tensor {
    fn elements(&self) -> u64 {
        self.dims.iter().product()
    }
}

fn tensor(name: impl Into<String>, dims: &[u64], fill: Fill) -> Tensor {
    Tensor { name: name.into(), dims: dims.to_vec(), fill }
}

fn linear(name: String, outs: u64, ins: u64) -> Tensor {
    tensor(name, &[outs, ins], Fill::Normal { deviation: SPREAD })
}

/// What a checkpoint consists of.
struct Model {
    config: Value,
    tensors: Vec<Tensor>,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let layers = args.layers;
    let model = match args.config {
        Preset::Mamba130M => mamba(768, layers.unwrap_or(24), args.dtype),
        Preset::Mamba1B4 => mamba(2048, layers.unwrap_or(48), args.dtype),
        Preset::TinyLlama => tinyllama(layers.unwrap_or(22), args.dtype),
    };
    write(&model, &args)
}

fn mamba(hidden: u64, layers: u64, dtype: Dtype) -> Model {
    const STATES: u64 = 16;
    const TAPS: u64 = 4;
    let (inner, rank, vocabulary) = (2 * hidden, hidden / 16, 50288);
    let taps = Fill::Uniform { bound: 1.0 / (TAPS as f64).sqrt() };
    let time_step = Fill::Uniform { bound: 1.0 / (rank as f64).sqrt() };
    let mut tensors = vec![linear("backbone.embeddings.weight".into(), vocabulary, hidden)];
    for layer in 0..layers {
        let block = |part: &str| format!("backbone.layers.{layer}.{part}");
        tensors.extend([
            tensor(block("mixer.A_log"), &[inner, STATES], Fill::LogRange { states: STATES }),
            tensor(block("mixer.D"), &[inner], Fill::AboutOne),
            tensor(block("mixer.conv1d.bias"), &[inner], taps),
            tensor(block("mixer.conv1d.weight"), &[inner, 1, TAPS], taps),
            tensor(block("mixer.dt_proj.bias"), &[inner], Fill::TimeStep),
            tensor(block("mixer.dt_proj.weight"), &[inner, rank], time_step),
            linear(block("mixer.in_proj.weight"), 2 * inner, hidden),
            linear(block("mixer.out_proj.weight"), hidden, inner),
            linear(block("mixer.x_proj.weight"), rank + 2 * STATES, inner),
            tensor(block("norm.weight"), &[hidden], Fill::AboutOne),
        ]);
    }
    tensors.push(tensor("backbone.norm_f.weight", &[hidden], Fill::AboutOne));
    let config = json!({
        "architectures": ["MambaForCausalLM"],
        "model_type": "mamba",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "state_size": STATES,
        "conv_kernel": TAPS,
        "time_step_rank": rank,
        "expand": 2,
        "vocab_size": vocabulary,
        "use_bias": false,
        "use_conv_bias": true,
        "hidden_act": "silu",
        "layer_norm_epsilon": 1e-5,
        "rms_norm": true,
        "residual_in_fp32": true,
        "tie_word_embeddings": true,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "dtype": dtype.torch(),
        "torch_dtype": dtype.torch(),
    });
    Model { config, tensors }
}

fn tinyllama(layers: u64, dtype: Dtype) -> Model {
    const HIDDEN: u64 = 2048;
    const INNER: u64 = 5632;
    const VOCABULARY: u64 = 32000;
    const HEADS: u64 = 32;
    const KEY_HEADS: u64 = 4;
    const HEAD: u64 = HIDDEN / HEADS;
    let mut tensors = vec![
        linear("lm_head.weight".into(), VOCABULARY, HIDDEN),
        linear("model.embed_tokens.weight".into(), VOCABULARY, HIDDEN),
    ];
    for layer in 0..layers {
        let block = |part: &str| format!("model.layers.{layer}.{part}.weight");
        tensors.extend([
            tensor(block("input_layernorm"), &[HIDDEN], Fill::AboutOne),
            linear(block("mlp.down_proj"), HIDDEN, INNER),
            linear(block("mlp.gate_proj"), INNER, HIDDEN),
            linear(block("mlp.up_proj"), INNER, HIDDEN),
            tensor(block("post_attention_layernorm"), &[HIDDEN], Fill::AboutOne),
            linear(block("self_attn.k_proj"), KEY_HEADS * HEAD, HIDDEN),
            linear(block("self_attn.o_proj"), HIDDEN, HIDDEN),
            linear(block("self_attn.q_proj"), HIDDEN, HIDDEN),
            linear(block("self_attn.v_proj"), KEY_HEADS * HEAD, HIDDEN),
        ]);
    }
    tensors.push(tensor("model.norm.weight", &[HIDDEN], Fill::AboutOne));
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": HEAD,
        "vocab_size": VOCABULARY,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": dtype.torch(),
        "torch_dtype": dtype.torch(),
    });
    Model { config, tensors }
}

/// The folder: `config.json`, then one file, or several and their index.
fn write(model: &Model, args: &Args) -> Outcome<()> {
    let folder = &args.output;
    let cannot = |e: std::io::Error| format!("`{}`: {e}", folder.display());
    std::fs::create_dir_all(folder).map_err(cannot)?;
    if std::fs::read_dir(folder).map_err(cannot)?.next().is_some() {
        return Err(format!("`{}` is not empty; choose another folder or empty it", folder.display()));
    }
    put(&folder.join("config.json"), &model.config)?;
    let shards = shards(&model.tensors, args.dtype);
    let mut files = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_string(),
            all => format!("model-{:05}-of-{all:05}.safetensors", i + 1),
        };
        let path = folder.join(&name);
        write_shard(&path, shard, args).map_err(|e| format!("`{}`: {e}", path.display()))?;
        files.extend(shard.iter().map(|t| (t.name.clone(), Value::from(name.clone()))));
    }
    if shards.len() > 1 {
        let elements: u64 = model.tensors.iter().map(Tensor::elements).sum();
        let map: Map<String, Value> = files.into_iter().collect();
        let index = json!({ "metadata": { "total_size": elements * args.dtype.bytes() }, "weight_map": map });
        put(&folder.join("model.safetensors.index.json"), &index)?;
    }
    Ok(())
}

fn put(path: &Path, value: &Value) -> Outcome<()> {
    std::fs::write(path, format!("{value:#}\n")).map_err(|e| format!("`{}`: {e}", path.display()))
}

/// The tensors, in order, file by file.
fn shards(tensors: &[Tensor], dtype: Dtype) -> Vec<Vec<&Tensor>> {
    let (mut shards, mut held) = (vec![Vec::new()], 0);
    for tensor in tensors {
        let bytes = tensor.elements() * dtype.bytes();
        if held > 0 && held + bytes > SHARD_BYTES {
            shards.push(Vec::new());
            held = 0;
        }
        held += bytes;
        shards.last_mut().expect("invariant: there is a shard").push(tensor);
    }
    shards
}

fn write_shard(path: &Path, tensors: &[&Tensor], args: &Args) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(&header(tensors, args.dtype))?;
    let mut bytes = Vec::new();
    for tensor in tensors {
        let seed = seed(args.seed, &tensor.name);
        let elements = tensor.elements();
        for start in (0..elements).step_by(PIECE as usize) {
            let count = PIECE.min(elements - start);
            bytes.resize((count * args.dtype.bytes()) as usize, 0);
            match args.dtype {
                Dtype::Bf16 => {
                    fill(&mut bytes, tensor.fill, seed, start, |x| bf16::from_f32(x).to_le_bytes())
                }
                Dtype::F16 => fill(&mut bytes, tensor.fill, seed, start, |x| f16::from_f32(x).to_le_bytes()),
                Dtype::F32 => fill(&mut bytes, tensor.fill, seed, start, f32::to_le_bytes),
            }
            file.write_all(&bytes)?;
        }
    }
    file.flush()
}

/// Eight bytes of length, then JSON, padded so that the data begins at a multiple of eight.
fn header(tensors: &[&Tensor], dtype: Dtype) -> Vec<u8> {
    let mut described = Map::new();
    described.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.elements() * dtype.bytes();
        let entry = json!({ "dtype": dtype.stored(), "shape": tensor.dims, "data_offsets": [start, end] });
        described.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut text = Value::Object(described).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [(text.len() as u64).to_le_bytes().as_slice(), &text].concat()
}

/// A tensor has its own numbers, whatever else is in the model.
fn seed(seed: u64, name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    let start = hash.as_bytes().first_chunk().expect("invariant: a hash has 32 bytes");
    mixed(seed) ^ u64::from_le_bytes(*start)
}

/// The elements from `start` on, each stored by `store`.
fn fill<const SIZE: usize>(
    bytes: &mut [u8],
    how: Fill,
    seed: u64,
    start: u64,
    store: impl Fn(f32) -> [u8; SIZE] + Sync,
) {
    let run = |(i, run): (usize, &mut [u8])| {
        let first = start + (i * RUN) as u64;
        match how {
            Fill::Normal { deviation } => {
                let scale = (deviation / UNIT) as f32;
                put_each(run, first, |i| store(centered(seed, i) * scale));
            }
            Fill::AboutOne => {
                let scale = (0.1 / UNIT) as f32;
                put_each(run, first, |i| store(1.0 + centered(seed, i) * scale));
            }
            Fill::Uniform { bound } => {
                put_each(run, first, |i| store(((2.0 * uniform(seed, i) - 1.0) * bound) as f32));
            }
            Fill::LogRange { states } => {
                put_each(run, first, |i| store(((i % states + 1) as f64).ln() as f32))
            }
            Fill::TimeStep => put_each(run, first, |i| {
                let step = (LN_10 * (2.0 * uniform(seed, i) - 3.0)).exp();
                // The inverse of softplus.
                store((step + (-(-step).exp_m1()).ln()) as f32)
            }),
        }
    };
    bytes.par_chunks_mut(RUN * SIZE).enumerate().for_each(run);
}

fn put_each<const SIZE: usize>(bytes: &mut [u8], first: u64, element: impl Fn(u64) -> [u8; SIZE]) {
    for (i, bytes) in bytes.chunks_exact_mut(SIZE).enumerate() {
        bytes.copy_from_slice(&element(first + i as u64));
    }
}

/// The `i`-th number of a sequence (splitmix64: Steele, Lea and Flood, OOPSLA 2014).
fn random(seed: u64, i: u64) -> u64 {
    mixed(seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// From 0 on, below 1.
fn uniform(seed: u64, i: u64) -> f64 {
    (random(seed, i) >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard deviation of [`centered`]: that of four uniform numbers of 16 bits together, 65536 / √12 each.
const UNIT: f64 = 37_837.227;

/// A sum of four uniform numbers about 0: within √12 standard deviations, close to normal there.
fn centered(seed: u64, i: u64) -> f32 {
    let x = random(seed, i);
    let sum = (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48);
    sum as f32 - 2.0 * 65535.0
}
