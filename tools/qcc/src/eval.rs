//! `qcc eval`: perplexity, accuracy, or closeness to another model.

use std::path::Path;

use qcc_data::{TokenWindows, images};
use qcc_passes::Progress;
use serde_json::json;

use crate::cases::Cases;
use crate::cli::EvalArgs;
use crate::language::LanguageModel;
use crate::model::{Runnable, tokenizer};
use crate::session::Session;
use crate::vision::ImageModel;
use crate::{Failure, Streams, compare, perplexity, report, source, top1};

/// Runs the command.
///
/// # Errors
/// When the model or the data cannot be read, or do not fit each other.
pub fn run(args: &EvalArgs, streams: &mut Streams<'_>, progress: &dyn Progress) -> Result<(), Failure> {
    if args.limit == Some(0) {
        return Err(Failure::usage("`--limit 0` leaves nothing to measure"));
    }
    source::kind(&args.model)?;
    // The text first: what is wrong with it is said before a model is compiled.
    let windows = match (&args.perplexity, &args.perplexity_tokens) {
        (Some(text), _) => {
            Some(TokenWindows::from_text(text, &tokenizer(&args.model)?, args.seq_len, args.limit)?)
        }
        (None, Some(ids)) => Some(TokenWindows::from_npy(ids, args.seq_len, args.limit)?),
        (None, None) => None,
    };
    let model = Runnable::open(&args.model, progress)?;
    if let Some(windows) = windows {
        return eval_perplexity(args, &model, &windows, streams, progress);
    }
    match (&args.top1, &args.labels, &args.compare) {
        (Some(folder), Some(labels), _) => eval_top1(args, &model, folder, labels, streams, progress),
        (_, _, Some(reference)) => eval_compare(args, &model, reference, streams, progress),
        _ => {
            Err(Failure::usage("say what to measure: --perplexity, --perplexity-tokens, --top1 or --compare"))
        }
    }
}

fn eval_perplexity(
    args: &EvalArgs,
    model: &Runnable,
    windows: &TokenWindows,
    streams: &mut Streams<'_>,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let mut language = LanguageModel::new(&model.model, args.threads)?;
    let measured = perplexity::measure(&mut language, windows, progress)?;
    if args.json {
        let object = json!({
            "perplexity": measured.perplexity(), "nll": measured.nll, "tokens": measured.tokens,
            "windows": windows.len(), "seq_len": windows.seq_len(),
        });
        return report::json(streams, &object);
    }
    let rows = [
        ("perplexity", format!("{:.4}", measured.perplexity())),
        ("nll", format!("{:.5}", measured.nll)),
        ("tokens", measured.tokens.to_string()),
        ("windows", format!("{} of {}", windows.len(), windows.seq_len())),
    ];
    report::pairs(streams, rows)
}

fn eval_top1(
    args: &EvalArgs,
    model: &Runnable,
    folder: &Path,
    labels: &Path,
    streams: &mut Streams<'_>,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let remembered = model.input();
    let preprocess = remembered.preprocess(args.preprocess.as_deref())?;
    let mut entries = images::labelled(folder, labels)?;
    entries.truncate(args.limit.unwrap_or(usize::MAX));
    let mut classifier = ImageModel::new(&model.model, preprocess, args.threads)?;
    let accuracy =
        top1::measure(&mut classifier, &entries, remembered.label_offset(args.label_offset), progress)?;
    let (first, five) = (accuracy.percent(accuracy.top1), accuracy.percent(accuracy.top5));
    if args.json {
        return report::json(streams, &json!({ "top1": first, "top5": five, "images": accuracy.images }));
    }
    let rows = [
        ("top1", format!("{first:.2} %")),
        ("top5", format!("{five:.2} %")),
        ("images", accuracy.images.to_string()),
    ];
    report::pairs(streams, rows)
}

fn eval_compare(
    args: &EvalArgs,
    model: &Runnable,
    reference: &Path,
    streams: &mut Streams<'_>,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let reference = Runnable::open(reference, progress)?;
    // What an artifact remembers of its input holds for the model it came from.
    let preprocess = model.input().preprocess(args.preprocess.as_deref())?;
    let tokenizer = || if model.has_tokenizer() { model.tokenizer() } else { reference.tokenizer() };
    let mut ours = Session::new(&model.model, args.threads)?;
    let mut theirs = Session::new(&reference.model, args.threads)?;
    let cases = Cases::new(&args.inputs, args.seq_len, args.limit, preprocess, tokenizer, ours.entry())?;
    let closeness = compare::measure(&mut ours, &mut theirs, &cases, progress)?;
    if args.json {
        let object = json!({
            "cosine": closeness.cosine(), "sqnr_db": closeness.sqnr_db(),
            "max_abs_error": closeness.max_abs_error(), "top1_agreement": closeness.top1_agreement(),
            "cases": cases.len(),
        });
        return report::json(streams, &object);
    }
    let agreement = closeness.top1_agreement().map_or("-".into(), |share| format!("{:.2} %", 100.0 * share));
    let rows = [
        ("cosine", format!("{:.6}", closeness.cosine())),
        ("sqnr_db", format!("{:.2}", closeness.sqnr_db())),
        ("max_abs_error", format!("{:.4e}", closeness.max_abs_error())),
        ("top1_agreement", agreement),
        ("cases", cases.len().to_string()),
    ];
    report::pairs(streams, rows)
}
