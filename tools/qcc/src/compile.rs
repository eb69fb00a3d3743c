//! `qcc compile`: from a model to an artifact by a recipe.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use qcc_cpu::CpuExecutor;
use qcc_cpu::artifact::{ArtifactExtras, Written, write};
use qcc_cpu::estimate::{Bound, estimates};
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Module;
use qcc_passes::assign::Choices;
use qcc_passes::instrument::{Instrumentation, Timing};
use qcc_passes::transform::{Explanation, difference};
use qcc_passes::{Context, Outcome, Pipeline, Progress, Warning};
use serde_json::{Map, Value, json};

use crate::cli::CompileArgs;
use crate::input::Remembered;
use crate::layers::{Layer, Sizes, Totals, layers, totals};
use crate::quality::{self, Facts, Quality, Snapshot};
use crate::recipe::{self, Cache, Settings};
use crate::samples::Calibration;
use crate::source::Kind;
use crate::{
    Failure, Streams, costs, emit, explain, html_report, memory, report, samples, source, targets,
    transforms, weights,
};

/// Transforms that keep the function change outputs by rounding in f32 alone: by less than this, relative to the largest.
const LARGEST_CHANGE: f64 = 1e-4;

/// Runs the command.
///
/// # Errors
/// When the model, recipe or calibration data cannot be used, under `--strict` when there is a warning, or when the artifact cannot be
/// written. Nothing is left behind then, and an artifact that was there stays as it was.
pub fn run(
    args: &CompileArgs,
    streams: &mut Streams<'_>,
    progress: &dyn Progress,
    quiet: bool,
) -> Result<(), Failure> {
    let start = Instant::now();
    let settings = Settings::new(args)?;
    let pipeline_text = args.pass_pipeline.clone().unwrap_or_else(|| settings.pipeline());
    let registry = args.plugins.registry()?;
    let pipeline = Pipeline::parse(&pipeline_text, &registry)?;
    let target = targets::named(&args.target)?;
    qcc_cpu::artifact::check_target(&target)?;
    check_folder(&args.output)?;
    if let Some(report) = &args.report {
        check_folder(report)?;
        if report.is_dir() || *report == args.output {
            return Err(Failure::file(report, "the report is a file; this is a directory or the artifact"));
        }
    }
    emit::check(&args.emit, &args.output)?;
    if args.pass_pipeline.is_none()
        && args.calibration.is_none()
        && let Some(what) = settings.needs_data()
    {
        return Err(Failure::input(format!(
            "{what} and needs data for it: pass `--calibration FILE.txt` for a language model or `--calibration FOLDER` of images"
        )));
    }

    let kind = source::kind(&args.model)?;
    let imported = source::import(&args.model)?;
    let mut module = imported.module;
    // Before minutes of work: a layer that is not there.
    for pass in args.pass_pipeline.is_none().then_some(&settings.overrides).into_iter().flatten() {
        let function =
            module.entry().ok_or_else(|| Failure::file(&args.model, "the model has no function"))?;
        recipe::picking(pass)
            .and_then(|o| o.picked(function))
            .map_err(|e| Failure::input(format!("`[[override]]`: {e}")))?;
    }
    let of_types = Sizes::of_types();
    let before = totals(&module, &layers(&module, &of_types), &of_types);
    let rules = costs::rules(args.rules.as_deref(), &registry)?;
    let costs = costs::target(args.target_description.as_deref())?;
    let samples = calibration_samples(args, &settings, &module)?;

    let evaluator = Interpreter::new(Precision::F32);
    let reference = Interpreter::new(Precision::F64);
    let executor = CpuExecutor { threads: args.threads };
    let cache = weights::cache(args.cache_dir.as_deref());
    let mut parameters = imported.parameters;
    parameters.set_cache(cache.clone());
    let mut context = Context::new(parameters, &evaluator);
    for warning in &imported.warnings {
        context.warn("import", warning);
    }
    let looks =
        |name: &str| ["calibrate", "search-formats", "protect"].contains(&name) || recipe::needs_data(name);
    let rounding_looks = match &args.pass_pipeline {
        Some(text) => {
            ["rounding=gptq", "rounding=decoupleq", "bias-correction=true"].iter().any(|o| text.contains(o))
        }
        None => settings.rounding.is_some() || settings.bias_correction,
    };
    let cache_looks = match &args.pass_pipeline {
        Some(text) => text.contains("quantize-kv-cache") && text.contains(":channel"),
        None => settings.cache.is_some_and(Cache::is_measured),
    };
    let looked_at = rounding_looks || cache_looks || args.report.is_some() || pipeline.names().any(looks);
    if args.calibration.is_some() && !looked_at {
        context.warn("calibrate", "the calibration data is not used: nothing is measured beforehand");
    }
    if !args.plugins.is_empty() && args.pass_pipeline.is_none() {
        context
            .warn("plugins", "the recipe runs no pass of a plugin; say where they go with `--pass-pipeline`");
    }
    warn_of_idle_options(args, &settings, &pipeline, &mut context);
    if args.preprocess.is_some() && kind == Kind::Checkpoint {
        context.warn("input", "`--preprocess` says how images become inputs; this model takes tokens");
    }
    context.executor = Some(&executor);
    context.reference = args.verify_each.then_some(&reference as _);
    context.samples = samples.as_ref().map(|s| &*s.samples);
    context.held_out = samples.as_ref().and_then(|s| s.held_out.as_deref());
    context.rules = rules;
    context.target = costs.target;
    if context.samples.is_some() && context.held_out.is_none() && pipeline.names().any(|n| n == "transform") {
        context.warn(
            "transform",
            "no data is left that is not calibrated on: plans are compared on the calibration samples",
        );
    }
    context.progress = progress;
    context.statistics_cache = Some(weights::statistics(args.cache_dir.as_deref()));
    let mut instrumentation = Instrumentation { verify_each: args.verify_each, ..Instrumentation::default() };
    let original = (module.clone(), context.parameters.clone());
    let (exact, rounding) = pipeline.split_at_rounding();
    let mut outcomes = exact.run(&mut module, &mut context, &mut instrumentation)?;
    let transformed = outcomes.iter().any(|(name, outcome)| !keeps_operations(name) && outcome.changed());
    let change = match transformed {
        true => Some(
            difference(&original, &module, &context)
                .map_err(|e| Failure::input(format!("the transformed model does not run: {e}")))?,
        ),
        false => None,
    };
    drop(original);
    if let Some(change) = change.filter(|change| change.is_nan() || *change > LARGEST_CHANGE) {
        let message = format!(
            "outputs of the transformed model in f32 differ by {change:.1e} (relative) from the model's"
        );
        context.warn("transforms", message);
    }
    let reported = args.report.is_some() && rounding.names().any(|name| name == "quantize");
    let snapshot = |module: &Module, context: &Context<'_>| Snapshot {
        module: module.clone(),
        parameters: context.parameters.clone(),
    };
    let float = reported.then(|| snapshot(&module, &context));
    let (quantize, lower) = rounding.split_behind("quantize");
    outcomes.extend(quantize.run(&mut module, &mut context, &mut instrumentation)?);
    let quantized = reported.then(|| snapshot(&module, &context));
    outcomes.extend(lower.run(&mut module, &mut context, &mut instrumentation)?);
    warn_of_idle_transforms(&settings, &outcomes, &mut context);
    warn_of_slow_layers(&module, &mut context);
    let chat = match kind {
        Kind::Checkpoint => source::chat_template(&args.model).unwrap_or_else(|e| {
            context.warn("chat", format!("the artifact has no chat template: {e}"));
            None
        }),
        _ => None,
    };
    if args.strict && !context.warnings.is_empty() {
        return Err(strict(&context.warnings));
    }

    let emitted = emit::make(&args.emit, &module, &context.parameters, &target, &args.output, progress)?;
    let sizes = Sizes::compiled(&module);
    let mut layers = layers(&module, &sizes);
    let quality = match (&float, &quantized) {
        (Some(float), Some(quantized)) => {
            let samples = context.held_out.or(context.samples);
            quality::measure(float, quantized, args.threads, samples, progress)
                .map_err(|e| Failure::input(format!("the layers cannot be compared for the report: {e}")))?
        }
        _ => Quality::default(),
    };
    quality.remember(&mut layers);
    let mut manifest = manifest(
        args,
        kind,
        &settings,
        &pipeline_text,
        &layers,
        &source::hash(&imported.files)?,
        &costs.hash,
    );
    if let Some(template) = chat {
        manifest.insert("chat_template".into(), json!(template));
    }
    let extras = ArtifactExtras {
        tokenizer: if kind == Kind::Checkpoint { source::tokenizer(&args.model) } else { None },
        manifest,
        kernels: Some(weights::kernels(args.cache_dir.as_deref())),
    };
    let written = {
        let _span = tracing::info_span!("write").entered();
        write(&module, &context.parameters, &evaluator, &target, &extras, &args.output, progress)?
    };
    emitted.write(&args.output)?;
    weights::finish(&cache, args.cache_dir.is_some());
    if let Some(kernels) = &extras.kernels {
        weights::finish_kernels(kernels, args.cache_dir.is_some());
    }

    let summary = Summary {
        out: &args.output,
        seconds: start.elapsed().as_secs_f64(),
        written,
        f32_bytes: before.parameters.saturating_mul(4),
        totals: totals(&module, &layers, &sizes),
        online_transforms: transforms::online(&module),
        timings: &instrumentation.timings,
        warnings: &context.warnings,
        explanations: &context.explanations,
        choices: &context.choices,
        change,
    };
    if let Some(file) = &args.report {
        let facts = Facts {
            title: source::name(&args.model),
            summary: summary.rows().into_iter().map(|(what, value)| (what.to_string(), value)).collect(),
            requested: (settings.weights.as_deref(), settings.activations.as_deref()),
            layers: &layers,
            times: times(&executor, &module, &context)?,
            choices: &context.choices,
            warnings: &context.warnings,
        };
        emit::put(file, html_report::render(&facts.page(quality)).as_bytes())?;
    }
    if args.json {
        return report::json(streams, &summary.describe());
    }
    if !quiet {
        summary.show(streams)?;
    }
    if !quiet || args.explain {
        explain::show_choices(&context.choices, args.explain, streams)?;
    }
    for explanation in &context.explanations {
        if args.explain {
            explain::show(explanation, streams)?;
        }
        if args.pareto {
            explain::pareto(explanation, streams)?;
        }
    }
    Ok(())
}

/// Whether the folder for what is written is there: better said before minutes of work.
fn check_folder(out: &Path) -> Result<(), Failure> {
    let folder =
        out.parent().filter(|p| !p.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_path_buf);
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::file(
        &folder,
        format!("there is no such folder for `{}`; make it or choose another", out.display()),
    ))
}

fn calibration_samples(
    args: &CompileArgs,
    settings: &Settings,
    module: &Module,
) -> Result<Option<Calibration>, Failure> {
    let Some(data) = &args.calibration else { return Ok(None) };
    let function = module.entry().ok_or_else(|| Failure::file(&args.model, "the model has no function"))?;
    samples::read(data, function, settings, &args.model).map(Some)
}

/// Passes that clean up, measure, or write beside operations what shall become of them.
fn keeps_operations(pass: &str) -> bool {
    ["canonicalize", "calibrate", "override", "search-formats", "protect"].contains(&pass)
}

/// Passes that take rules of the user's.
fn takes_rules(pass: &str) -> bool {
    takes_costs(pass) || pass == "equalize"
}

/// Passes that read the target description.
fn takes_costs(pass: &str) -> bool {
    recipe::by_format(pass) || ["smooth-window", "smooth-state", "rotate-state"].contains(&pass)
}

/// What was asked for and changes nothing.
/// Warns of layers that are estimated to take longer than in f32.
fn warn_of_slow_layers(module: &Module, context: &mut Context<'_>) {
    /// By more than estimates are worth.
    const SLOWER: f64 = 1.05;
    let Some(function) = module.entry() else { return };
    let mut slow = estimates(function, &context.target);
    slow.retain(|layer| layer.slowdown() > SLOWER);
    slow.sort_by(|a, b| b.slowdown().total_cmp(&a.slowdown()));
    let Some(worst) = slow.first() else { return };
    let more = match slow.len() {
        1 => String::new(),
        2 => " and another layer".into(),
        n => format!(" and {} other layers", n - 1),
    };
    let reason = match worst.bound {
        Bound::Memory => "reading its weights",
        Bound::Arithmetic | Bound::Decoding => "expanding its weights at each call",
    };
    let message = format!(
        "`{}`{more} will be slower than in f32: {} is estimated at {:.1} × its time, for {reason}; choose another format, keep it with `[[override]]` and `weights = \"f32\"`, or describe the machine (`--target-description`)",
        worst.name,
        crate::layers::format(worst.element, false),
        worst.slowdown()
    );
    context.warn("slow", message);
}

fn warn_of_idle_options(
    args: &CompileArgs,
    settings: &Settings,
    pipeline: &Pipeline,
    context: &mut Context<'_>,
) {
    let has = |uses: fn(&str) -> bool| pipeline.names().any(uses);
    if args.rules.is_some() && !has(takes_rules) {
        context.warn(
            "rules",
            "no pass uses `--rules`: transforms do (`--transforms`), and `rewrite{rules=FILE}`",
        );
    }
    if args.pareto && !has(|name| name == "transform") {
        context.warn("pareto", "there are no trade-offs: only `--transforms auto` chooses among plans");
    }
    if settings.auto_is_idle && args.pass_pipeline.is_none() {
        context.warn(
            "transforms",
            "`auto` chooses what makes rounding lose less, and no weight is rounded; say `--weights` too",
        );
    }
}

/// A transform that was asked for by name and found nothing to do is no silent no-op.
fn warn_of_idle_transforms(settings: &Settings, outcomes: &[(String, Outcome)], context: &mut Context<'_>) {
    if !settings.transforms_named {
        return;
    }
    for (name, outcome) in outcomes {
        if settings.transforms.iter().any(|t| t.name == name) && !outcome.changed() {
            context.warn(name, "nothing in this model matched");
        }
    }
}

fn strict(warnings: &[Warning]) -> Failure {
    let all: Vec<String> = warnings.iter().map(|w| format!("  {}: {}", w.pass, w.message)).collect();
    Failure::input(format!("`--strict` makes warnings errors:\n{}", all.join("\n")))
}

/// Seconds of each operation of the compiled model in one run over a sample, by name; none without samples.
fn times(
    executor: &CpuExecutor,
    module: &Module,
    context: &Context<'_>,
) -> Result<HashMap<String, f64>, Failure> {
    let (Some(samples), Some(function)) = (context.held_out.or(context.samples), module.entry()) else {
        return Ok(HashMap::new());
    };
    let fail = |e: String| Failure::input(format!("the compiled model does not run on a sample: {e}"));
    let inputs = samples.inputs(0, function).map_err(fail)?;
    let mut times: HashMap<String, f64> = HashMap::new();
    for step in executor.times(module, &context.parameters, &inputs).map_err(fail)? {
        // Whatever became of an operation has its name.
        *times.entry(step.name).or_default() += step.seconds / step.calls.max(1) as f64;
    }
    Ok(times)
}

/// What an artifact remembers: nothing that depends on where files lie or when it was made.
fn manifest(
    args: &CompileArgs,
    kind: Kind,
    settings: &Settings,
    pipeline: &str,
    layers: &[Layer],
    hash: &str,
    costs: &str,
) -> Map<String, Value> {
    let mut manifest = Map::new();
    manifest.insert("qcc".into(), json!(env!("CARGO_PKG_VERSION")));
    let format = if kind == Kind::Onnx { "onnx" } else { "huggingface" };
    manifest.insert("source".into(), json!({ "format": format, "blake3": hash }));
    manifest.insert("recipe".into(), settings.describe(pipeline));
    manifest.insert("target_description".into(), json!(costs));
    if settings.input != Remembered::default() {
        manifest.insert("input".into(), json!(settings.input));
    }
    let end_tokens = if kind == Kind::Checkpoint { source::end_tokens(&args.model) } else { Vec::new() };
    if !end_tokens.is_empty() {
        manifest.insert("end_tokens".into(), json!(end_tokens));
    }
    manifest.insert("layers".into(), layers.iter().map(|l| l.describe()).collect());
    manifest
}

/// What a compilation did.
struct Summary<'a> {
    out: &'a Path,
    seconds: f64,
    written: Written,
    f32_bytes: u64,
    totals: Totals,
    online_transforms: usize,
    timings: &'a [Timing],
    warnings: &'a [Warning],
    explanations: &'a [Explanation],
    choices: &'a Choices,
    /// Largest relative error of an output of the transformed model in f32, before anything is rounded, against the imported one; none
    /// where nothing was transformed.
    change: Option<f64>,
}

impl Summary<'_> {
    fn describe(&self) -> Value {
        let passes = self.timings.iter().map(|t| json!({ "name": t.name, "seconds": t.seconds }));
        let warnings = self.warnings.iter().map(|w| json!({ "pass": w.pass, "message": w.message }));
        let trade_offs = self.explanations.iter().flat_map(|e| &e.trade_offs);
        json!({
            "seconds": self.seconds,
            "peak_rss_bytes": memory::peak_resident(),
            "bytes": self.written.bytes,
            "parameter_bytes": self.written.parameter_bytes,
            "f32_bytes": self.f32_bytes,
            "bits_per_weight": self.totals.bits_per_weight,
            "kernels": self.written.kernels,
            "online_transforms": self.online_transforms,
            "max_relative_error": self.change,
            "passes": passes.collect::<Value>(),
            "warnings": warnings.collect::<Value>(),
            "transforms": self.explanations.iter().map(explain::describe).collect::<Value>(),
            "formats": explain::choices(self.choices),
            "pareto": trade_offs.map(explain::trade_off).collect::<Value>(),
        })
    }

    /// What the transforms changed of the outputs in f32: rounding, if all is well.
    fn change(&self) -> String {
        let change = |d| format!("at most {d:.1e}, relative, by all transforms together");
        self.change.map_or("none: nothing was transformed".into(), change)
    }

    fn show(&self, streams: &mut Streams<'_>) -> Result<(), Failure> {
        report::table(
            streams,
            &[],
            self.rows().into_iter().map(|(name, value)| vec![name.into(), value]),
            &[],
        )
    }

    /// What was done, for people.
    fn rows(&self) -> Vec<(&'static str, String)> {
        let smaller = self.f32_bytes as f64 / self.written.parameter_bytes.max(1) as f64;
        vec![
            ("artifact", self.out.display().to_string()),
            ("bytes", report::bytes(self.written.bytes)),
            (
                "weights",
                format!("{} ({smaller:.2} × smaller than f32)", report::bytes(self.written.parameter_bytes)),
            ),
            ("f32 bytes", report::bytes(self.f32_bytes)),
            (
                "bits per quantized weight",
                self.totals.bits_per_weight.map_or("-".into(), |b| format!("{b:.3}")),
            ),
            ("kernels", self.written.kernels.to_string()),
            ("online transforms", self.online_transforms.to_string()),
            ("change in f32", self.change()),
            ("seconds", format!("{:.2}", self.seconds)),
            ("peak memory", memory::peak_resident().map_or("-".into(), report::bytes)),
            ("warnings", self.warnings.len().to_string()),
        ]
    }
}
