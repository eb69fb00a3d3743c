//! `qcc bench`: how fast a model is and how much memory it takes. Medians of repeated measurements after a warm-up.

mod calibrate;
mod roofline;

use std::time::Instant;

use qcc_passes::Progress;
use qcc_runtime::program::{Arg, Expr, Port, Program};
use qcc_runtime::{Element, InputView, Model, StepTime};
use serde_json::{Map, Value, json};

use crate::cli::BenchArgs;
use crate::language::{LanguageModel, NextToken, takes_tokens};
use crate::model::{Runnable, threads};
use crate::session::{ENTRY, Session, constant};
use crate::tensor::Tensor;
use crate::vision::{ImageModel, takes_images};
use crate::{Failure, Streams, memory, report, transforms};
use roofline::{Limits, Roofline};

/// Runs the command.
///
/// # Errors
/// When the model cannot be read or run.
pub fn run(args: &BenchArgs, streams: &mut Streams<'_>, progress: &dyn Progress) -> Result<(), Failure> {
    let opened = Instant::now();
    let model = args.model.as_deref().map(|path| Runnable::open(path, progress)).transpose()?;
    let opening = opened.elapsed();
    if let Some(path) = &args.calibrate_target {
        calibrate::calibrate(path)?;
    }
    // The arguments ask for one or the other.
    let Some(model) = model else { return Ok(()) };
    let weights = weight_bytes(model.model.program());
    let roofline = args.roofline.then(|| Roofline::new(args.threads, weights)).transpose()?;
    let mut bench = Bench { args, progress, anonymous: None, phases: [const { Phase::new() }; 2], roofline };
    let mut results = Map::new();
    if takes_tokens(&model.model) {
        let started = Instant::now();
        let mut language = LanguageModel::new(&model.model, args.threads)?;
        if language.remembers() && language.fixed_batch().is_none_or(|n| n == args.batch) {
            // A token of each sequence, after nothing but opening the model.
            tokens(args.batch, args.prompt_len)?;
            language.next_logits(&vec![0; tokens(args.batch, 1)?], args.batch)?;
            let seconds = (opening + started.elapsed()).as_secs_f64();
            results.insert("first_token_seconds".into(), json!(seconds));
        }
        let (prefill, decode) = bench.language(&mut language)?;
        let cache = cache_size(&model.model);
        if args.roofline {
            let held = args.prompt_len as f64 + args.gen_len as f64 / 2.0;
            let of_sequence =
                cache.map_or(0.0, |(bytes, _)| bytes) * held + kept_bytes(model.model.program());
            let bytes = weights as f64 + of_sequence * args.batch as f64;
            // Of each round by itself: what else the machine does changes.
            let [read, written] = &bench.phases;
            let share = |r: &Round| 100.0 * bytes * args.gen_len as f64 / (r.limits.bandwidth * r.seconds);
            results.insert("decode_percent_of_bandwidth".into(), json!(median(written.of(share))));
            results.insert("decode_bytes_per_token".into(), json!(bytes));
            results.insert("prefill_percent_of_peak".into(), json!(median(read.of(Round::percent_of_peak))));
            results.insert(
                "prefill_percent_of_int8_peak".into(),
                json!(median(read.of(Round::percent_of_int8))),
            );
            results
                .insert("decode_percent_of_peak".into(), json!(median(written.of(Round::percent_of_peak))));
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
    if let Some(roofline) = &bench.roofline {
        let best = roofline.best();
        results.insert("peak_int8_gop_per_s".into(), json!(best.int8 / 1e9));
        results.insert("peak_f32_gflop_per_s".into(), json!(best.float / 1e9));
        results.insert("peak_bf16_gflop_per_s".into(), json!(best.bf16 / 1e9));
        results.insert("read_bandwidth_gb_per_s".into(), json!(best.bandwidth / 1e9));
        if !takes_tokens(&model.model) {
            let only = &bench.phases[0];
            results.insert("percent_of_peak".into(), json!(median(only.of(Round::percent_of_peak))));
        }
    }
    results.insert("batch".into(), json!(args.batch));
    results.insert("repeat".into(), json!(args.repeat));
    results.insert("peak_rss_bytes".into(), json!(bench.peak_resident()));
    results.insert("peak_anonymous_bytes".into(), json!(bench.anonymous));
    results.insert("threads".into(), json!(threads(args.threads)));
    results.insert("target".into(), json!(model.target()));
    if args.kernels {
        results.insert("online_transform_share".into(), json!(transforms::share(&bench.steps())));
    }
    if args.json {
        if args.kernels {
            results.insert("kernels".into(), bench.counted().iter().map(|s| bench.described(s)).collect());
        }
        return report::json(streams, &Value::Object(results));
    }
    report::pairs(streams, results.into_iter().map(|(name, value)| (name.clone(), shown(&name, &value))))?;
    if args.kernels { bench.show_kernels(streams) } else { Ok(()) }
}

/// Bytes of weights that a call reads whatever its inputs: all, but for tables of which it looks rows up.
fn weight_bytes(program: &Program) -> u64 {
    let Some(entry) = program.entries.iter().find(|entry| entry.name == ENTRY) else { return 0 };
    let mut is_read = vec![false; program.parameters.len()];
    // What looks up rows can be asked for one that is not there.
    for step in entry.steps.iter().filter(|step| !step.args.contains(&Arg::Fault)) {
        for arg in &step.args {
            if let Arg::Parameter { index, .. } = arg {
                is_read[*index as usize] = true;
            }
        }
    }
    program.parameters.iter().zip(is_read).filter(|(_, is_read)| *is_read).map(|(p, _)| p.bytes).sum()
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

/// Bytes of the states of one sequence that do not grow, each read and written for every token.
fn kept_bytes(program: &Program) -> f64 {
    let Some(entry) = program.entries.iter().find(|entry| entry.name == ENTRY) else { return 0.0 };
    let one = vec![1; program.symbols.len()];
    let grows = |index: usize| entry.growth.iter().flat_map(|g| &g.states).any(|b| b.state as usize == index);
    let size = |port: &Port| {
        let width = Element::named(&port.element)?.bytes();
        port.dims.iter().try_fold(width as f64, |n, dim| Some(n * dim.evaluate(&one).ok()? as f64))
    };
    let kept = entry.states.iter().enumerate().filter(|(index, _)| !grows(*index));
    2.0 * kept.filter_map(|(_, port)| size(port)).sum::<f64>()
}

/// Tokens of a batch of sequences.
fn tokens(batch: usize, length: usize) -> Result<usize, Failure> {
    let fits = |n: &usize| u32::try_from(*n).is_ok() && Vec::<i64>::new().try_reserve_exact(*n).is_ok();
    batch.checked_mul(length).filter(fits).ok_or_else(|| {
        Failure::input(format!(
            "{batch} sequences of {length} tokens do not fit memory; pass smaller numbers"
        ))
    })
}

fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Number(n) if name.ends_with("_bytes") => report::bytes(n.as_u64().unwrap_or(0)),
        Value::Number(n) if name.ends_with("_seconds") => format!("{:.3}", n.as_f64().unwrap_or(f64::NAN)),
        Value::Number(n) if n.is_f64() => format!("{:.2}", n.as_f64().unwrap_or(f64::NAN)),
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One measurement of a phase.
struct Round {
    seconds: f64,
    /// What the machine did around it, if it was measured.
    limits: Limits,
    steps: Vec<StepTime>,
}

impl Round {
    /// How much of its time the arithmetic of all steps would take at least.
    fn percent_of_peak(&self) -> f64 {
        100.0 * self.limits.arithmetic(&self.steps) / self.seconds
    }

    /// The same of what is computed with codes.
    fn percent_of_int8(&self) -> f64 {
        let operations: f64 = self.steps.iter().map(|s| s.integer_operations).sum();
        100.0 * operations / self.limits.int8 / self.seconds
    }
}

/// Reading or generating, or all that a model does where there is but one.
struct Phase {
    rounds: Vec<Round>,
}

impl Phase {
    const fn new() -> Phase {
        Phase { rounds: Vec::new() }
    }

    fn of(&self, value: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(value).collect()
    }
}

/// A step over all rounds.
struct Shown {
    step: StepTime,
    /// Seconds that it takes at least.
    least: f64,
}

/// A measurement in progress.
struct Bench<'a> {
    args: &'a BenchArgs,
    progress: &'a dyn Progress,
    /// The most anonymous memory seen. A session keeps what it takes, so looking after each run misses nothing.
    anonymous: Option<u64>,
    /// Reading and generating.
    phases: [Phase; 2],
    roofline: Option<Roofline>,
}

impl Bench<'_> {
    /// Anonymous memory without that which the machine is measured with.
    fn look_at_memory(&mut self) {
        let own = self.roofline.as_ref().map_or(0, Roofline::bytes);
        self.anonymous = self.anonymous.max(memory::anonymous().map(|bytes| bytes.saturating_sub(own)));
    }

    /// The most resident memory of the process, without that too.
    fn peak_resident(&self) -> Option<u64> {
        let own = self.roofline.as_ref().map_or(0, Roofline::bytes);
        memory::peak_resident().map(|bytes| bytes.saturating_sub(own))
    }

    fn look(&mut self) -> Result<Limits, Failure> {
        self.roofline.as_mut().map_or(Ok(Limits::default()), Roofline::look)
    }

    /// Measures one phase of a round.
    fn timed<M>(
        &self,
        model: &mut M,
        session: &impl Fn(&mut M) -> &mut Session,
        entry_of: impl Fn(&Session) -> &'static str,
        once: impl FnOnce(&mut M) -> Result<(), Failure>,
    ) -> Result<Round, Failure> {
        let counts = self.args.kernels || self.roofline.is_some();
        session(model).state().set_profiling(counts);
        let start = Instant::now();
        once(model)?;
        let seconds = start.elapsed().as_secs_f64();
        let entry = entry_of(session(model));
        let steps = session(model).state().profile(entry)?;
        Ok(Round { seconds, limits: Limits::default(), steps })
    }

    /// Keeps a round behind the one that warms up, with what the machine did before and after it.
    fn keep(
        &mut self,
        round: usize,
        before: Limits,
        phases: impl IntoIterator<Item = Round>,
    ) -> Result<(), Failure> {
        if round > 0 {
            let limits = before.max(self.look()?);
            for (phase, round) in self.phases.iter_mut().zip(phases) {
                phase.rounds.push(Round { limits, ..round });
            }
        }
        self.look_at_memory();
        Ok(())
    }

    /// Times of the steps, all rounds and phases together.
    fn steps(&self) -> Vec<StepTime> {
        self.counted().into_iter().map(|shown| shown.step).collect()
    }

    fn counted(&self) -> Vec<Shown> {
        let in_memory = self.roofline.as_ref().is_some_and(Roofline::weights_in_memory);
        let mut all: Vec<Shown> = Vec::new();
        for round in self.phases.iter().flat_map(|phase| &phase.rounds) {
            for (i, step) in round.steps.iter().enumerate() {
                let least = round.limits.step(step, in_memory);
                match all.get_mut(i) {
                    None => all.push(Shown { step: step.clone(), least }),
                    Some(shown) => {
                        shown.least += least;
                        shown.step.calls += step.calls;
                        shown.step.seconds += step.seconds;
                        shown.step.integer_operations += step.integer_operations;
                        shown.step.float_operations += step.float_operations;
                        shown.step.bf16_operations += step.bf16_operations;
                    }
                }
            }
        }
        all
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
        for round in 0..=self.args.repeat {
            self.progress.report("measuring", round, self.args.repeat + 1);
            // The first round warms up.
            let before = self.look()?;
            model.reset();
            let read = self.timed(model, &LanguageModel::session, Session::next_name, |model| {
                model.next_logits(&prompt, batch)?;
                Ok(())
            })?;
            let written = self.timed(model, &LanguageModel::session, Session::next_name, |model| {
                for generated in 1..=self.args.gen_len {
                    let unread = if model.remembers() { 1 } else { self.args.prompt_len + generated };
                    model.next_logits(&ids(tokens(batch, unread)?), batch)?;
                }
                Ok(())
            })?;
            self.keep(round, before, [read, written])?;
        }
        self.progress.report("measuring", self.args.repeat + 1, self.args.repeat + 1);
        let [read, written] = &self.phases;
        Ok((median(read.of(|r| r.seconds)), median(written.of(|r| r.seconds))))
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
        let before = self.look()?;
        for round in 0..=self.args.repeat {
            self.progress.report("measuring", round, self.args.repeat + 1);
            let start = Instant::now();
            once(model)?;
            let seconds = start.elapsed().as_secs_f64();
            if round > 0 {
                self.phases[0].rounds.push(Round { seconds, limits: before, steps: Vec::new() });
            }
            self.look_at_memory();
        }
        let limits = before.max(self.look()?);
        // Rounds may be shorter than measuring the machine, and than reading clocks for each step: both are done apart.
        if self.args.kernels || self.roofline.is_some() {
            let rounds = if self.args.kernels { self.args.repeat } else { 1 };
            for of in 0..self.args.repeat {
                let steps = if of < rounds {
                    self.timed(model, &session, |_| ENTRY, &mut once)?.steps
                } else {
                    Vec::new()
                };
                self.phases[0].rounds[of].steps = steps;
                self.phases[0].rounds[of].limits = limits;
            }
            if rounds == 1 {
                let steps = self.phases[0].rounds[0].steps.clone();
                self.phases[0].rounds.iter_mut().for_each(|round| round.steps.clone_from(&steps));
            }
        }
        self.progress.report("measuring", self.args.repeat + 1, self.args.repeat + 1);
        Ok(median(self.phases[0].of(|r| r.seconds)))
    }

    fn described(&self, Shown { step, least }: &Shown) -> Value {
        let mut shown =
            json!({ "name": step.name, "kernel": step.kernel, "calls": step.calls, "seconds": step.seconds });
        if self.roofline.is_some() {
            shown["percent_of_limit"] = json!(100.0 * least / step.seconds.max(f64::MIN_POSITIVE));
        }
        shown
    }

    fn show_kernels(&self, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let mut steps = self.counted();
        let total: f64 = steps.iter().map(|s| s.step.seconds).sum();
        steps.sort_by(|a, b| b.step.seconds.total_cmp(&a.step.seconds));
        let rows = steps.into_iter().map(|Shown { step, least }| {
            let share = 100.0 * step.seconds / total.max(f64::MIN_POSITIVE);
            let mut row = vec![
                step.name.clone(),
                step.kernel.clone(),
                step.calls.to_string(),
                format!("{:.3}", step.seconds * 1e3),
                format!("{share:.1} %"),
            ];
            if self.roofline.is_some() {
                // What neither computes nor reads weights has no limit of its own.
                let reached = 100.0 * least / step.seconds.max(f64::MIN_POSITIVE);
                row.push(if least > 0.0 { format!("{reached:.0} %") } else { "-".into() });
            }
            row
        });
        let mut header = vec!["operation", "kernel", "calls", "ms", "share"];
        header.extend(self.roofline.is_some().then_some("of limit"));
        report::table(streams, &header, rows, &[2, 3, 4, 5])
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

#[cfg(test)]
mod tests {
    use qcc_runtime::program::{
        Arg, Blocks, Entry, Expr, Growth, ParameterSlot, Port, Program, SCHEMA, Step, Work,
    };

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(super::median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(super::median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    /// A program of one entry point.
    fn program(steps: Vec<Step>, states: Vec<Port>, growth: Option<Growth>) -> Program {
        let entry = Entry {
            name: super::ENTRY.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            states,
            growth,
            limits: Vec::new(),
            slots: Vec::new(),
            steps,
        };
        let parameter = |name: &str, bytes| ParameterSlot { name: name.into(), bytes };
        Program {
            schema: SCHEMA,
            symbols: vec!["B".into(), "P".into(), "P.capacity".into()],
            parameters: vec![parameter("table", 1000), parameter("layer", 100), parameter("tied", 10)],
            kernels: vec!["kernel".into()],
            features: Vec::new(),
            entries: vec![entry],
        }
    }

    /// A table that is looked up, a weight that two layers read, one table that is looked up and is the head as well.
    #[test]
    fn tables_of_rows_are_not_read_for_a_token() {
        let step = |args: Vec<Arg>| Step {
            name: "layer".into(),
            kernel: 0,
            args,
            items: Expr::Const(1),
            grain: 1,
            scratch: Expr::Const(0),
            work: Work::default(),
            beside: false,
        };
        let weight = |index| Arg::Parameter { index, offset: 0 };
        let steps = vec![
            step(vec![weight(0), Arg::Fault]),
            step(vec![weight(1)]),
            step(vec![weight(1)]),
            step(vec![weight(2), Arg::Fault]),
            step(vec![weight(2)]),
        ];
        assert_eq!(super::weight_bytes(&program(steps, Vec::new(), None)), 110);
    }

    /// A recurrent state, beside keys that grow.
    #[test]
    fn states_that_do_not_grow_are_read_and_written_for_a_token() {
        let port =
            |element: &str, dims: Vec<Expr>| Port { name: "state".into(), element: element.into(), dims };
        let states = vec![
            port("f16", vec![Expr::Symbol(0), Expr::Symbol(1), Expr::Const(2), Expr::Const(64)]),
            port("f32", vec![Expr::Symbol(0), Expr::Const(8), Expr::Const(4)]),
        ];
        let keys = Blocks { state: 0, rows: Expr::Const(2), tokens: 1, bytes: 128, packed: false };
        let growth = Growth { held: 1, capacity: 2, added: Expr::Const(1), step: 64, states: vec![keys] };
        assert_eq!(super::kept_bytes(&program(Vec::new(), states, Some(growth))), 2.0 * 4.0 * 32.0);
    }
}
