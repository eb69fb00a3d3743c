//! `qcc bench`: how fast a model is and how much memory it takes. Medians of repeated measurements after a warm-up.

use std::time::Instant;

use qcc_passes::Progress;
use qcc_runtime::program::Expr;
use qcc_runtime::{InputView, Model, StepTime};
use serde_json::{Map, Value, json};

use crate::cli::BenchArgs;
use crate::language::{LanguageModel, NextToken, takes_tokens};
use crate::model::{Runnable, threads};
use crate::roofline::{Reads, weight_bytes};
use crate::session::{ENTRY, Session, constant};
use crate::tensor::Tensor;
use crate::vision::{ImageModel, takes_images};
use crate::{Failure, Streams, memory, report, transforms};

/// Runs the command.
///
/// # Errors
/// When the model cannot be read or run.
pub fn run(args: &BenchArgs, streams: &mut Streams<'_>, progress: &dyn Progress) -> Result<(), Failure> {
    if args.calibrate_target.is_some() {
        return Err(Failure::not_yet("`--calibrate-target`"));
    }
    let model = Runnable::open(&args.model, progress)?;
    if args.roofline && !takes_tokens(&model.model) {
        return Err(Failure::not_yet("`--roofline` of models that do not generate text"));
    }
    let reads = args.roofline.then(|| Reads::new(args.threads)).transpose()?;
    let mut bench =
        Bench { args, progress, anonymous: None, steps: Vec::new(), reads, bandwidths: Vec::new() };
    let mut results = Map::new();
    if takes_tokens(&model.model) {
        let mut language = LanguageModel::new(&model.model, args.threads)?;
        let (prefill, decode) = bench.language(&mut language)?;
        let cache = cache_size(&model.model);
        if args.roofline {
            let weights = weight_bytes(model.model.program()) as f64;
            let held = args.prompt_len as f64 + args.gen_len as f64 / 2.0;
            let bytes = weights + cache.map_or(0.0, |(bytes, _)| bytes) * held * args.batch as f64;
            // Of each round by itself: what else the machine does changes.
            let shares = bench
                .bandwidths
                .iter()
                .map(|(gbs, seconds)| 100.0 * bytes * args.gen_len as f64 / (gbs * seconds));
            results.insert("decode_percent_of_bandwidth".into(), json!(median(shares.collect())));
            let bandwidths = bench.bandwidths.iter().map(|(bandwidth, _)| bandwidth / 1e9);
            results.insert("read_bandwidth_gb_per_s".into(), json!(median(bandwidths.collect())));
            results.insert("decode_bytes_per_token".into(), json!(bytes));
        }
        let tokens = args.batch as f64;
        results.insert("prefill_tokens_per_s".into(), json!(tokens * args.prompt_len as f64 / prefill));
        results.insert("decode_tokens_per_s".into(), json!(tokens * args.gen_len as f64 / decode));
        let (bytes, bits) = cache.unzip();
        results.insert("kv_bytes_per_token".into(), json!(bytes));
        results.insert("kv_bits_per_element".into(), json!(bits));
        results.insert("prompt_len".into(), json!(args.prompt_len));
        results.insert("gen_len".into(), json!(args.gen_len));
    } else if !takes_images(&model.model) {
        let mut session = Session::new(&model.model, args.threads)?;
        let seconds = bench.arrays(&mut session, &model.model)?;
        results.insert("latency_ms".into(), json!(seconds * 1e3));
        results.insert("items_per_s".into(), json!(args.batch as f64 / seconds));
        results.insert("prompt_len".into(), json!(args.prompt_len));
    } else {
        let preprocess = model.input().preprocess(None)?;
        let mut classifier = ImageModel::new(&model.model, preprocess, args.threads)?;
        let seconds = bench.images(&mut classifier)?;
        results.insert("latency_ms".into(), json!(seconds * 1e3));
        results.insert("items_per_s".into(), json!(args.batch as f64 / seconds));
    }
    results.insert("batch".into(), json!(args.batch));
    results.insert("repeat".into(), json!(args.repeat));
    results.insert("peak_rss_bytes".into(), json!(bench.peak_resident()));
    results.insert("peak_anonymous_bytes".into(), json!(bench.anonymous));
    results.insert("threads".into(), json!(threads(args.threads)));
    results.insert("target".into(), json!(model.target()));
    if args.kernels {
        results.insert("online_transform_share".into(), json!(transforms::share(&bench.steps)));
    }
    if args.json {
        if args.kernels {
            let steps = bench.steps.iter();
            let steps = steps.map(
                |s| json!({ "name": s.name, "kernel": s.kernel, "calls": s.calls, "seconds": s.seconds }),
            );
            results.insert("kernels".into(), steps.collect());
        }
        return report::json(streams, &Value::Object(results));
    }
    report::pairs(streams, results.into_iter().map(|(name, value)| (name.clone(), shown(&name, &value))))?;
    if args.kernels { show_kernels(streams, &bench.steps) } else { Ok(()) }
}

/// Bytes that a token of one sequence takes of keys and values, and bits an element; none where a model keeps none.
fn cache_size(model: &Model) -> Option<(f64, f64)> {
    let program = model.program();
    let entry = model.entry(ENTRY).ok()?;
    let growth = entry.growth.as_ref()?;
    // One sequence.
    let one = vec![1; program.symbols.len()];
    let (mut bytes, mut elements) = (0.0, 0.0);
    for blocks in &growth.states {
        let rows = blocks.rows.evaluate(&one).ok()? as f64;
        let features = constant(entry.states.get(blocks.state as usize)?, 3)? as f64;
        bytes += rows * blocks.bytes as f64 / blocks.tokens as f64;
        elements += rows * features;
    }
    Some((bytes, 8.0 * bytes / elements))
}

/// Tokens of a batch of sequences.
fn tokens(batch: usize, length: usize) -> Result<usize, Failure> {
    let fits = |n: &usize| u32::try_from(*n).is_ok();
    batch.checked_mul(length).filter(fits).ok_or_else(|| {
        Failure::input(format!(
            "{batch} sequences of {length} tokens do not fit memory; pass smaller numbers"
        ))
    })
}

fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Number(n) if name.ends_with("_bytes") => report::bytes(n.as_u64().unwrap_or(0)),
        Value::Number(n) if n.is_f64() => format!("{:.2}", n.as_f64().unwrap_or(f64::NAN)),
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A measurement in progress.
struct Bench<'a> {
    args: &'a BenchArgs,
    progress: &'a dyn Progress,
    /// The most anonymous memory seen. A session keeps what it takes, so looking after each run misses nothing.
    anonymous: Option<u64>,
    /// Times of the kernels.
    steps: Vec<StepTime>,
    /// Memory to measure the machine with.
    reads: Option<Reads>,
    /// The read bandwidth around a round, and the seconds it took to generate.
    bandwidths: Vec<(f64, f64)>,
}

impl Bench<'_> {
    /// Anonymous memory without that which the machine is measured with.
    fn look_at_memory(&mut self) {
        let own = self.reads.as_ref().map_or(0, Reads::bytes);
        self.anonymous = self.anonymous.max(memory::anonymous().map(|bytes| bytes.saturating_sub(own)));
    }

    /// The most resident memory of the process, without that too.
    fn peak_resident(&self) -> Option<u64> {
        let own = self.reads.as_ref().map_or(0, Reads::bytes);
        memory::peak_resident().map(|bytes| bytes.saturating_sub(own))
    }

    /// Median seconds of reading the prompt and of generating.
    fn language(&mut self, model: &mut LanguageModel) -> Result<(f64, f64), Failure> {
        let batch = self.args.batch;
        if let Some(fixed) = model.fixed_batch().filter(|n| *n != batch) {
            return Err(Failure::input(format!(
                "the model takes {fixed} sequences at a time; pass `--batch {fixed}`"
            )));
        }
        let vocabulary = model.vocabulary() as u32;
        // Any ids will do: the work does not depend on them.
        let ids =
            |n: usize| -> Vec<u32> { (0..n as u32).map(|i| i.wrapping_mul(7919) % vocabulary).collect() };
        let prompt = ids(tokens(batch, self.args.prompt_len)?);
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        for round in 0..=self.args.repeat {
            self.progress.report("measuring", round, self.args.repeat + 1);
            // The first round warms up; profiling starts after it.
            if round == 1 {
                model.session().state().set_profiling(self.args.kernels);
            }
            let before = self.reads.as_mut().map(Reads::bandwidth);
            model.reset();
            let start = Instant::now();
            model.logits(&prompt, batch)?;
            let read = start.elapsed().as_secs_f64();
            let start = Instant::now();
            for generated in 1..=self.args.gen_len {
                let unread = if model.remembers() { 1 } else { self.args.prompt_len + generated };
                model.logits(&ids(tokens(batch, unread)?), batch)?;
            }
            let generated = start.elapsed().as_secs_f64();
            if round > 0 {
                prefill.push(read);
                decode.push(generated);
                if let (Some(before), Some(reads)) = (before, &mut self.reads) {
                    self.bandwidths.push((before.max(reads.bandwidth()), generated));
                }
            }
            self.look_at_memory();
        }
        self.progress.report("measuring", self.args.repeat + 1, self.args.repeat + 1);
        self.steps = model.session().state().profile(ENTRY)?;
        Ok((median(prefill), median(decode)))
    }

    /// Median seconds of a batch of images.
    fn images(&mut self, model: &mut ImageModel) -> Result<f64, Failure> {
        let batch = self.args.batch;
        if let Some(fixed) = model.fixed_batch().filter(|n| *n != batch) {
            return Err(Failure::input(format!(
                "the model takes {fixed} images at a time; pass `--batch {fixed}`"
            )));
        }
        let elements = model.input().elements()?.checked_mul(batch);
        let elements = elements.ok_or_else(|| Failure::input("a batch of this size does not fit memory"))?;
        let data: Vec<f32> = (0..elements).map(|i| (i % 255) as f32 / 127.5 - 1.0).collect();
        self.rounds(model, ImageModel::session, |model| model.scores(&data, batch).map(|_| ()))
    }

    /// Median seconds of a run on arrays: their first axis is the batch, another one of any size has as many as a prompt. Integers are 1,
    /// which is in every table and hidden by no mask.
    fn arrays(&mut self, session: &mut Session, model: &Model) -> Result<f64, Failure> {
        let entry = model.entry(ENTRY)?;
        let args = self.args;
        let mut tensors = Vec::with_capacity(entry.inputs.len());
        for port in &entry.inputs {
            let of = |(axis, dim): (usize, &Expr)| match dim {
                Expr::Const(n) => *n,
                _ if axis == 0 => args.batch as u64,
                _ => args.prompt_len as u64,
            };
            let shape: Vec<u64> = port.dims.iter().enumerate().map(of).collect();
            tensors.push(Tensor::made_up(&port.element, shape).map_err(Failure::input)?);
        }
        let views: Vec<InputView<'_>> = tensors.iter().map(Tensor::view).collect();
        self.rounds(session, |session| session, |session| Ok(session.run(&views)?))
    }

    /// Median seconds of something, after a round that warms up.
    fn rounds<M>(
        &mut self,
        model: &mut M,
        session: impl Fn(&mut M) -> &mut Session,
        mut once: impl FnMut(&mut M) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let mut seconds = Vec::new();
        for round in 0..=self.args.repeat {
            self.progress.report("measuring", round, self.args.repeat + 1);
            if round == 1 {
                session(model).state().set_profiling(self.args.kernels);
            }
            let start = Instant::now();
            once(model)?;
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
            self.look_at_memory();
        }
        self.progress.report("measuring", self.args.repeat + 1, self.args.repeat + 1);
        self.steps = session(model).state().profile(ENTRY)?;
        Ok(median(seconds))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

fn show_kernels(streams: &mut Streams<'_>, steps: &[StepTime]) -> Result<(), Failure> {
    let total: f64 = steps.iter().map(|s| s.seconds).sum();
    let mut steps: Vec<&StepTime> = steps.iter().collect();
    steps.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let rows = steps.into_iter().map(|s| {
        let share = 100.0 * s.seconds / total.max(f64::MIN_POSITIVE);
        vec![
            s.name.clone(),
            s.kernel.clone(),
            s.calls.to_string(),
            format!("{:.3}", s.seconds * 1e3),
            format!("{share:.1} %"),
        ]
    });
    report::table(streams, &["operation", "kernel", "calls", "ms", "share"], rows, &[2, 3, 4])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(super::median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(super::median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
