//! `qcc run`: continues text, classifies images, or maps arrays to arrays.

use std::path::Path;

use qcc_data::{ImageEntry, Sampler, Sampling, Tokenizer};
use qcc_passes::Progress;
use serde_json::json;

use crate::cases::arrays;
use crate::cli::RunArgs;
use crate::generate::{StopText, generate};
use crate::language::LanguageModel;
use crate::model::Runnable;
use crate::session::Session;
use crate::tensor::{to_f64, to_npy};
use crate::vision::{ImageModel, best, probabilities};
use crate::{Failure, Streams, report};

/// Runs the command.
///
/// # Errors
/// When the model or an input cannot be read, or do not fit each other.
pub fn run(args: &RunArgs, streams: &mut Streams<'_>, progress: &dyn Progress) -> Result<(), Failure> {
    let sampling =
        Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed };
    let sampler = Sampler::new(sampling).map_err(Failure::usage)?;
    let model = Runnable::open(&args.model, progress)?;
    if !args.input.is_empty() {
        return run_arrays(args, &model, streams);
    }
    if !args.image.is_empty() {
        return run_images(args, &model, streams);
    }
    run_text(args, &model, sampler, streams)
}

fn run_text(
    args: &RunArgs,
    model: &Runnable,
    mut sampler: Sampler,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let mut language = LanguageModel::new(&model.model, args.threads)?;
    // Token ids do without a tokenizer, but where there is one, people read text.
    let tokenizer: Option<Tokenizer> = match &args.prompt {
        Some(_) => Some(model.tokenizer()?),
        None if model.has_tokenizer() => Some(model.tokenizer()?),
        None => None,
    };
    if tokenizer.is_none() && !args.stop.is_empty() {
        return Err(Failure::input("`--stop` needs a tokenizer, which this model lacks"));
    }
    let prompt = match (&args.prompt, &tokenizer) {
        // A template writes the special tokens itself.
        (Some(text), Some(tokenizer)) if args.chat => tokenizer.encode(&model.chat_prompt(text)?)?,
        (Some(text), Some(tokenizer)) => tokenizer.encode_with_special_tokens(text)?,
        _ => args.prompt_tokens.clone(),
    };
    language.expect_tokens(prompt.len(), args.max_tokens);
    let mut decoder = tokenizer.as_ref().map(Tokenizer::decode_stream);
    let mut stop = StopText::new(&args.stop);
    let mut text = String::new();
    let ids = generate(&mut language, &mut sampler, &prompt, args.max_tokens, |id| {
        let piece = match &mut decoder {
            Some(decoder) => stop.push(&decoder.push(id)?),
            None => format!("{}{id}", if text.is_empty() { "" } else { "," }),
        };
        text.push_str(&piece);
        if !args.json {
            streams.stdout.write_all(piece.as_bytes())?;
            streams.stdout.flush()?;
        }
        Ok(!stop.stopped() && !model.end_tokens.contains(&id))
    })?;
    let mut rest = String::new();
    if let Some(decoder) = decoder {
        rest.push_str(&stop.push(&decoder.finish()?));
        rest.push_str(&stop.finish());
    }
    if args.json {
        let text = if tokenizer.is_some() { text + &rest } else { String::new() };
        return report::json(streams, &json!({ "text": text, "tokens": ids, "prompt_tokens": prompt }));
    }
    Ok(writeln!(streams.stdout, "{rest}")?)
}

fn run_images(args: &RunArgs, model: &Runnable, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let preprocess = model.input().preprocess(args.preprocess.as_deref())?;
    let mut classifier = ImageModel::new(&model.model, preprocess, args.threads)?;
    let entries: Vec<ImageEntry> = args.image.iter().map(ImageEntry::unlabelled).collect();
    let (input, batch) = (classifier.input(), classifier.batch());
    let mut predictions = Vec::new();
    for images in input.batches(&entries, batch)? {
        let images = images?;
        let (scores, classes) = classifier.scores(&images.data, images.entries.len())?;
        for (entry, row) in images.entries.iter().zip(scores.chunks_exact(classes)) {
            predictions.push((entry.path.display().to_string(), best(&probabilities(row), args.top)));
        }
    }
    if args.json {
        let list: Vec<_> =
            predictions.iter().map(|(image, top)| json!({ "image": image, "top": top })).collect();
        return report::json(streams, &json!({ "predictions": list }));
    }
    let rows = predictions.into_iter().flat_map(|(image, top)| {
        top.into_iter()
            .map(move |(class, p)| vec![image.clone(), class.to_string(), format!("{:.2} %", 100.0 * p)])
    });
    report::table(streams, &["image", "class", "probability"], rows, &[1, 2])
}

fn run_arrays(args: &RunArgs, model: &Runnable, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let mut session = Session::new(&model.model, args.threads)?;
    let inputs = arrays(&args.input, session.entry())?;
    session.run(&inputs.iter().map(|t| t.view()).collect::<Vec<_>>())?;
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure::file(folder, format!("cannot make this folder: {e}")))?;
    }
    let mut rows = Vec::new();
    for (index, port) in session.entry().outputs.iter().enumerate() {
        let (shape, bytes) = session.output(index);
        let values = to_f64(&port.element, bytes)?;
        let (low, high) = range(&values);
        let file = args.output.as_deref().map(|folder| folder.join(file_name(&port.name, index)));
        if let Some(file) = &file {
            to_npy(&port.element, shape, bytes)?.write(file)?;
        }
        rows.push((port.name.clone(), shape.to_vec(), port.element.clone(), low, high, file));
    }
    if args.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(name, shape, element, low, high, file)| {
                json!({ "name": name, "shape": shape, "element": element, "min": low, "max": high,
                    "file": file.as_deref().map(|f: &Path| f.display().to_string()) })
            })
            .collect();
        return report::json(streams, &json!({ "outputs": list }));
    }
    let rows = rows.into_iter().map(|(name, shape, element, low, high, file)| {
        let file = file.map(|f| f.display().to_string()).unwrap_or_default();
        vec![name, format!("{shape:?}"), element, format!("{low:.6}"), format!("{high:.6}"), file]
    });
    report::table(streams, &["output", "shape", "element", "min", "max", "file"], rows, &[3, 4])
}

/// Least and greatest value; NaN where any value is, and where there is none.
fn range(values: &[f64]) -> (f64, f64) {
    if values.is_empty() || values.iter().any(|x| x.is_nan()) {
        return (f64::NAN, f64::NAN);
    }
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)))
}

/// A file for an output: its name, with what paths cannot hold replaced.
fn file_name(name: &str, index: usize) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    if name.trim_matches('.').is_empty() { format!("output{index}.npy") } else { format!("{name}.npy") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_do_not_hide_nan() {
        assert_eq!(super::range(&[2.0, -1.0]), (-1.0, 2.0));
        assert!(super::range(&[2.0, f64::NAN]).0.is_nan() && super::range(&[]).1.is_nan());
    }

    #[test]
    fn output_files_stay_in_their_folder() {
        assert_eq!(super::file_name("logits", 0), "logits.npy");
        assert_eq!(super::file_name("../a:0", 0), ".._a_0.npy");
        assert_eq!(super::file_name("..", 3), "output3.npy");
    }
}
