//! What a compilation did to keep quantization's loss small, and what it could not do: `--explain`, `--pareto`.

use qcc_passes::assign::{Choices, Tried};
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
            "name": l.layer, "transform": l.chosen, "taken_up_by": l.taken_up_by, "error_before": l.before,
            "error_after": l.after, "online_seconds": l.online_seconds,
        })
    };
    let refusal = |r: &Refusal| json!({ "name": r.site(), "layers": r.layers, "transform": r.transform, "reason": r.reason });
    json!({
        "pass": pass,
        "layers": layers.iter().map(layer).collect::<Value>(),
        "refused": refused.iter().map(refusal).collect::<Value>(),
        "trade_offs": trade_offs.iter().map(trade_off).collect::<Value>(),
        "saturations": saturations.iter().map(|s| json!({
            "classes": s.classes, "nodes": s.nodes, "iterations": s.iterations, "seconds": s.time.as_secs_f64(),
            "node_limit": s.limits.nodes, "iteration_limit": s.limits.iterations,
            "second_limit": s.limits.time.as_secs_f64(), "applied": s.applied,
        })).collect::<Value>(),
        "search_seconds": search.as_secs_f64(),
        "max_relative_error": difference,
    })
}

/// One line of the Pareto table, for programs.
pub fn trade_off(t: &TradeOff) -> Value {
    json!({
        "layers": t.layers, "online_transforms": t.online, "seconds": t.seconds, "estimated_error": t.error,
        "measured_loss": t.loss, "chosen": t.chosen, "too_slow": t.too_slow,
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
            l.online_seconds.filter(|s| *s > 0.0).map_or("-".into(), microseconds),
            taken_up_by(&l.taken_up_by),
        ]
    });
    if !explanation.layers.is_empty() {
        writeln!(streams.stdout, "\n{}: what was done at each layer", explanation.pass)?;
        let head = ["layer", "transform", "error before", "error after", "online µs", "taken up by"];
        table(streams, &head, rows, &[2, 3, 4])?;
    }
    if !explanation.refused.is_empty() {
        writeln!(streams.stdout, "\n{}: what could not be done, and why", explanation.pass)?;
        let row = |r: &Refusal| vec![r.site(), r.transform.clone(), r.reason.clone()];
        table(streams, &["layer", "no", "because"], explanation.refused.iter().map(row), &[])?;
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
        let by = if l.taken_up_by.is_empty() { "" } else { ", taken up by " };
        writeln!(to, "remark: {pass}: `{}`: {}{by}{}", l.layer, l.chosen, l.taken_up_by.join(", "))?;
    }
    for r in &explanation.refused {
        writeln!(to, "remark: {pass}: `{}`: no {}: {}", r.site(), r.transform, r.reason)?;
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
            if t.chosen {
                "chosen"
            } else if t.too_slow {
                "too slow"
            } else {
                ""
            }
            .into(),
        ]
    };
    table(
        streams,
        &["layers", "online", "estimated µs", "estimated error", "measured loss", ""],
        explanation.trade_offs.iter().map(row),
        &[0, 1, 2, 3, 4],
    )
}

/// A few by name, many by number.
fn taken_up_by(names: &[String]) -> String {
    match names {
        [] => "-".into(),
        [_, _, _, ..] => format!("{} operations", names.len()),
        few => few.join(", "),
    }
}

fn error(error: Option<f64>) -> String {
    error.map_or_else(|| "-".into(), |error| format!("{error:.2e}"))
}

fn microseconds(seconds: f64) -> String {
    format!("{:.2}", seconds * 1e6)
}

/// What was found out about formats of single layers, for programs.
pub fn choices(choices: &Choices) -> Value {
    let Choices { tried, sensitivities, kept, loss } = choices;
    json!({
        "tried": tried.iter().map(|t| json!({
            "name": t.layer, "weight_format": t.format, "bits": t.bits, "error": t.error,
        })).collect::<Value>(),
        "sensitivities": sensitivities.iter().map(|s| json!({ "name": s.layer, "loss_percent": s.loss })).collect::<Value>(),
        "kept": kept.iter().map(|k| json!({
            "name": k.layer, "weight_format": k.format, "loss_percent": k.loss,
        })).collect::<Value>(),
        "loss_percent_before": loss.map(|(before, _)| before),
        "loss_percent": loss.map(|(_, after)| after),
    })
}

/// Formats of single layers; with `all` also what they were chosen among.
///
/// # Errors
/// When the output cannot be written.
pub fn show_choices(choices: &Choices, all: bool, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let Choices { tried, sensitivities, kept, loss } = choices;
    if let Some((before, after)) = loss {
        let n = kept.len();
        writeln!(
            streams.stdout,
            "\nprotect: the loss is {after:.3} %, {before:.3} % without the {n} layers kept"
        )?;
        let rows = kept.iter().map(|k| vec![k.layer.clone(), k.format.clone(), format!("{:.3} %", k.loss)]);
        if !kept.is_empty() {
            table(streams, &["layer", "weights", "loss alone"], rows, &[2])?;
        }
    }
    if !all {
        return Ok(());
    }
    if !sensitivities.is_empty() {
        writeln!(streams.stdout, "\nwhat each layer loses when it alone is quantized")?;
        let rows = sensitivities.iter().map(|s| vec![s.layer.clone(), format!("{:.3} %", s.loss)]);
        table(streams, &["layer", "loss"], rows, &[1])?;
    }
    if !tried.is_empty() {
        writeln!(streams.stdout, "\nsearch-formats: the format of each layer, and the next best")?;
        let of_layer = |run: &[Tried]| {
            let format = |t: &Tried| format!("{} ({:.2} bits)", t.format, t.bits);
            let error = |t: &Tried| format!("{:.2e}", t.error);
            let next = run.get(1);
            vec![
                run[0].layer.clone(),
                format(&run[0]),
                error(&run[0]),
                next.map_or("-".into(), format),
                next.map_or("-".into(), error),
            ]
        };
        let rows = tried.chunk_by(|a, b| a.layer == b.layer).map(of_layer);
        table(streams, &["layer", "weights", "error", "next best", "its error"], rows, &[2, 4])?;
    }
    Ok(())
}
