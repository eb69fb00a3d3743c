//! `qcc opt`: runs passes on IR text, as `mlir-opt` does on its dialects, with its flags where both know the thing.
//!
//! Text holds no weights. Where passes need some (to prove themselves, to measure activations), seeded random ones are made up, so results
//! are the same on every run. Text is untrusted: whatever it says becomes a located message, and output is written only when all went well.

mod expected;
mod made_up;
mod output;
mod reference;
mod rules;
mod shorthand;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::diagnostics::Location;
use qcc_ir::parse::{Parsed, Places, parse_at};
use qcc_ir::{Diagnostic, Module, Severity, Str, irdl, print, verify};
use qcc_passes::{Context, Instrumentation, PassError, Pipeline, PrintAfter, Timing};

use crate::cli::Plugins;
use crate::{Failure, Streams, explain};
use made_up::MadeUp;
use shorthand::Shorthands;

/// Arguments of `qcc opt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// IR text; `-` is standard input.
    #[arg(value_name = "FILE.mlir", default_value = "-")]
    pub file: PathBuf,
    /// Where to write the result; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Passes to run, e.g. `canonicalize,quantize{weights=int8:channel}`; `qcc passes` lists all.
    #[arg(long, value_name = "STR", conflicts_with = Shorthands::GROUP)]
    pub pass_pipeline: Option<String>,
    /// Passes given one by one.
    #[command(flatten)]
    pub passes: Shorthands,
    /// Plugins.
    #[command(flatten)]
    pub plugins: Plugins,
    /// Treat each part between `// -----` lines as a module of its own.
    #[arg(long)]
    pub split_input_file: bool,
    /// Check that the messages are those of the `expected-error {{…}}` comments.
    #[arg(long)]
    pub verify_diagnostics: bool,
    /// Run the module before and after each function-preserving pass, with made-up weights and inputs, and compare.
    #[arg(long)]
    pub verify_each: bool,
    /// Say what transforms did at each layer and what they could not do, as remarks on standard error.
    #[arg(long)]
    pub explain: bool,
    /// Treat warnings as errors.
    #[arg(long)]
    pub strict: bool,
    /// Print the sources of operations as locations.
    #[arg(long)]
    pub mlir_print_debuginfo: bool,
    /// Print the IR after each pass, to standard error.
    #[arg(long)]
    pub mlir_print_ir_after_all: bool,
    /// Print the IR after each pass that changed it, to standard error.
    #[arg(long)]
    pub mlir_print_ir_after_change: bool,
    /// Print how long each pass took, to standard error.
    #[arg(long)]
    pub mlir_timing: bool,
    /// Print the dialect for `mlir-opt --irdl-file=FILE`, and nothing else.
    #[arg(long, conflicts_with = "help_ops")]
    pub emit_irdl: bool,
    /// Print the reference of all operations (Markdown), and nothing else.
    #[arg(long)]
    pub help_ops: bool,
    /// Print what rewrite rules are written with (Markdown), and nothing else.
    #[arg(long, conflicts_with_all = ["help_ops", "emit_irdl"])]
    pub help_rules: bool,
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if args.emit_irdl {
        return output::write(&args.output, &irdl::irdl_file(), streams);
    }
    if args.help_ops {
        return output::write(&args.output, &reference::markdown(), streams);
    }
    if args.help_rules {
        return output::write(&args.output, &rules::markdown(), streams);
    }
    let steps = args.pass_pipeline.clone().unwrap_or_else(|| args.passes.pipeline());
    let pipeline = Pipeline::parse(&steps, &args.plugins.registry()?).map_err(Failure::usage)?;
    let bytes = output::read(&args.file, streams)?;
    let name = match args.file.as_os_str() == "-" {
        true => "<stdin>".to_string(),
        false => args.file.display().to_string(),
    };
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(_) => {
            let errors = qcc_ir::parse::parse_bytes(&name, &bytes).err().unwrap_or_default();
            output::report(&errors, &name, "", 1, streams.stderr)?;
            return Err(Failure::Reported);
        }
    };
    let mut job = Job { args, name: &name, pipeline: &pipeline, timings: Vec::new() };
    let (mut results, mut failed) = (Vec::new(), false);
    for (first_line, part) in parts(text, args.split_input_file) {
        let (result, mut diagnostics) = job.part(part, first_line, streams);
        if args.verify_diagnostics {
            diagnostics = expected::differences(&name, part, first_line, &diagnostics);
        }
        // Warnings of passes were logged when they came up.
        diagnostics.retain(|d| d.severity != Severity::Warning);
        output::report(&diagnostics, &name, part, first_line, streams.stderr)?;
        failed |= diagnostics.iter().any(|d| d.severity == Severity::Error);
        results.extend(result);
    }
    if args.mlir_timing {
        output::timing(&job.timings, streams.stderr)?;
    }
    if failed {
        return Err(Failure::Reported);
    }
    output::write(&args.output, &results.join("// -----\n"), streams)
}

/// The parts of a text with the line each starts at: all of it, or what stands between `// -----` lines.
fn parts(text: &str, split: bool) -> Vec<(u32, &str)> {
    if !split {
        return vec![(1, text)];
    }
    let mut parts = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 1, 0);
    for (line, number) in text.split_inclusive('\n').zip(1u32..) {
        if line.trim_end() == "// -----" {
            parts.push((first_line, &text[start..at]));
            (start, first_line) = (at + line.len(), number + 1);
        }
        at += line.len();
    }
    parts.push((first_line, &text[start..]));
    parts
}

/// What is the same for all parts of a file.
struct Job<'a> {
    args: &'a Args,
    name: &'a str,
    pipeline: &'a Pipeline,
    timings: Vec<Timing>,
}

impl Job<'_> {
    /// Parses, transforms and prints one module; the text is absent where an error is among the messages.
    fn part(
        &mut self,
        text: &str,
        first_line: u32,
        streams: &mut Streams<'_>,
    ) -> (Option<String>, Vec<Diagnostic>) {
        let start = Instant::now();
        let parsed = parse_at(self.name, text, first_line);
        self.time("parse", start);
        let Parsed { mut module, places } = match parsed {
            Ok(parsed) => parsed,
            Err(errors) => return (None, errors),
        };
        let start = Instant::now();
        let source = Some(verify::Source { places: &places, text });
        let verified = verify::verify(&module, verify::Options { source, ..Default::default() });
        self.time("verify", start);
        if let Err(errors) = verified {
            return (None, errors);
        }
        let sources = named_places(&module, &places, text);
        let diagnostics = self.transform(&mut module, &sources, streams);
        if diagnostics.iter().any(|d| d.severity == Severity::Error) {
            return (None, diagnostics);
        }
        let start = Instant::now();
        let printed = print::print_module(&module, self.printing());
        self.time("print", start);
        (Some(printed), diagnostics)
    }

    fn printing(&self) -> print::Options {
        print::Options { locations: self.args.mlir_print_debuginfo }
    }

    fn time(&mut self, name: &str, start: Instant) {
        self.timings.push(Timing { name: name.into(), seconds: start.elapsed().as_secs_f64() });
    }

    /// Runs the passes.
    fn transform(
        &mut self,
        module: &mut Module,
        sources: &HashMap<Str, Location>,
        streams: &mut Streams<'_>,
    ) -> Vec<Diagnostic> {
        let (fast, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
        let made_up = MadeUp::of(module);
        let mut context = Context::new(made_up.parameters(), &fast);
        match made_up.samples() {
            Ok(samples) => {
                context.executor = Some(&fast);
                context.reference = Some(&reference);
                context.samples = Some(samples);
            }
            Err(message) if self.args.verify_each => {
                return vec![Diagnostic::error(Location::Unknown, format!("`--verify-each`: {message}"))];
            }
            Err(_) => {}
        }
        let printing = self.printing();
        let stderr = &mut *streams.stderr;
        let mut instrumentation = Instrumentation {
            print_after: match (self.args.mlir_print_ir_after_all, self.args.mlir_print_ir_after_change) {
                (_, true) => PrintAfter::Change,
                (true, false) => PrintAfter::All,
                (false, false) => PrintAfter::Never,
            },
            dump: Some(Box::new(|pass, module| {
                let text = print::print_module(module, printing);
                // A dump that nobody reads must not stop the passes.
                let _ = write!(stderr, "// -----// IR Dump After {pass} //----- //\n{text}\n");
            })),
            verify_each: self.args.verify_each,
            timings: Vec::new(),
        };
        let outcome = self.pipeline.run(module, &mut context, &mut instrumentation);
        self.timings.append(&mut instrumentation.timings);
        drop(instrumentation);
        if self.args.explain {
            for explanation in &context.explanations {
                // Nor must a remark that nobody reads.
                let _ = explain::remarks(explanation, &mut *streams.stderr);
            }
        }
        let severity = if self.args.strict { Severity::Error } else { Severity::Warning };
        let warning = |w: &qcc_passes::Warning| Diagnostic {
            severity,
            ..Diagnostic::error(Location::Unknown, format!("pass `{}`: {}", w.pass, w.message))
        };
        let mut diagnostics: Vec<Diagnostic> = context.warnings.iter().map(warning).collect();
        if let Err(error) = outcome {
            let place = match &error {
                PassError::At { location, .. } => sources.get(location.as_str()).cloned(),
                _ => None,
            };
            diagnostics.push(Diagnostic::error(place.unwrap_or_default(), error.to_string()));
        }
        diagnostics
    }
}

/// Where the operations of each source name stand; passes say in errors what they are about by that name.
fn named_places(module: &Module, places: &Places, text: &str) -> HashMap<Str, Location> {
    let mut sources = HashMap::new();
    for (index, function) in module.functions.iter().enumerate() {
        for &op in function.order() {
            let name = &function.node(op).location;
            if let Some(place) = places.operation(text, index, op).filter(|_| !name.is_empty()) {
                sources.entry(name.clone()).or_insert(place);
            }
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_know_their_first_line() {
        let text = "a\n// -----\nb\nc\n// -----\n";
        assert_eq!(parts(text, false), [(1, text)]);
        assert_eq!(parts(text, true), [(1, "a\n"), (3, "b\nc\n"), (6, "")]);
        assert_eq!(parts("", true), [(1, "")]);
    }
}
