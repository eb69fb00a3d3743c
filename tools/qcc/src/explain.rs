//! What a compilation did to keep quantization's loss small, and what it could not do: `--explain`, `--pareto`.

use qcc_passes::transform::Explanation;
use qcc_passes::transform::explanation::{LayerChoice, Refusal, TradeOff};
use serde_json::{Value, json};

use crate::report::table;
use crate::{Failure, Streams};

/// Everything, for programs.
pub fn describe(explanation: &Explanation) -> Value {
    let Explanation { pass, layers, refused, trade_offs, saturations, search, difference } = explanation;
    let layer = |l: &LayerChoice| {
        json!({
            "name": l.layer, "transform": l.chosen, "error_before": l.before, "error_after": l.after,
            "online_seconds": l.online_seconds,
        })
    };
    let refusal = |r: &Refusal| json!({ "name": r.site, "transform": r.transform, "reason": r.reason });
    json!({
        "pass": pass,
        "layers": layers.iter().map(layer).collect::<Value>(),
        "refused": refused.iter().map(refusal).collect::<Value>(),
        "trade_offs": trade_offs.iter().map(trade_off).collect::<Value>(),
        "saturations": saturations.iter().map(|s| json!({
            "classes": s.classes, "nodes": s.nodes, "iterations": s.iterations, "seconds": s.time.as_secs_f64(),
        })).collect::<Value>(),
        "search_seconds": search.as_secs_f64(),
        "max_relative_error": difference,
    })
}

/// One line of the Pareto table, for programs.
pub fn trade_off(t: &TradeOff) -> Value {
    json!({
        "layers": t.layers, "online_transforms": t.online, "seconds": t.seconds, "estimated_error": t.error,
        "measured_loss": t.loss, "chosen": t.chosen,
    })
}

/// What was done where, and why not more.
///
/// # Errors
/// When the output cannot be written.
pub fn show(explanation: &Explanation, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let rows = explanation.layers.iter().map(|l| {
        vec![
            l.layer.clone(),
            l.chosen.clone(),
            error(l.before),
            error(l.after),
            if l.online_seconds > 0.0 { microseconds(l.online_seconds) } else { "-".into() },
        ]
    });
    if !explanation.layers.is_empty() {
        writeln!(streams.stdout, "\n{}: what was done at each layer", explanation.pass)?;
        let head = ["layer", "transform", "error before", "error after", "online µs"];
        table(streams, &head, rows, &[2, 3, 4])?;
    }
    if !explanation.refused.is_empty() {
        writeln!(streams.stdout, "\n{}: what could not be done, and why", explanation.pass)?;
        let row = |r: &Refusal| vec![r.site.clone(), r.transform.clone(), r.reason.clone()];
        table(streams, &["layer", "cannot be", "because"], explanation.refused.iter().map(row), &[])?;
    }
    if let Some(difference) = explanation.difference {
        writeln!(
            streams.stdout,
            "\n{}: the transformed model in f32 differs from the model before by at most {difference:.2e} (relative, over all outputs)",
            explanation.pass
        )?;
    }
    Ok(())
}

/// What was done where, and why not more, a line each.
///
/// # Errors
/// When the output cannot be written.
pub fn remarks(explanation: &Explanation, to: &mut dyn std::io::Write) -> std::io::Result<()> {
    let pass = explanation.pass;
    for l in &explanation.layers {
        writeln!(to, "remark: {pass}: `{}`: {}", l.layer, l.chosen)?;
    }
    for r in &explanation.refused {
        writeln!(to, "remark: {pass}: `{}`: not {}: {}", r.site, r.transform, r.reason)?;
    }
    Ok(())
}

/// The trade-offs of latency and accuracy.
///
/// # Errors
/// When the output cannot be written.
pub fn pareto(explanation: &Explanation, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if explanation.trade_offs.is_empty() {
        return Ok(());
    }
    writeln!(streams.stdout, "\n{}: trade-offs of latency and loss", explanation.pass)?;
    let row = |t: &TradeOff| {
        vec![
            t.layers.to_string(),
            t.online.to_string(),
            microseconds(t.seconds),
            format!("{:.3e}", t.error),
            t.loss.map_or("-".into(), |loss| format!("{loss:.3e}")),
            if t.chosen { "chosen".into() } else { String::new() },
        ]
    };
    table(
        streams,
        &["layers", "online", "estimated µs", "estimated error", "measured loss", ""],
        explanation.trade_offs.iter().map(row),
        &[0, 1, 2, 3, 4],
    )
}

fn error(error: Option<f64>) -> String {
    error.map_or_else(|| "-".into(), |error| format!("{error:.2e}"))
}

fn microseconds(seconds: f64) -> String {
    format!("{:.2}", seconds * 1e6)
}
