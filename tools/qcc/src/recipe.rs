//! Recipes: how a model is compiled, as names (embedded TOML files) or files of one's own. A flag overrides the recipe, the recipe
//! overrides the defaults; what comes out is a textual pass pipeline.

mod file;
mod transforms;

use std::path::Path;

use qcc_ir::format::{CacheFormat, Role};
use qcc_passes::Pipeline;
use qcc_passes::assign::Override;
use serde_json::{Value, json};

use crate::Failure;
use crate::backend::{Chosen, format};
use crate::cli::CompileArgs;
use crate::input::Remembered;
use file::{Apply, Recipe};
use transforms::{Transform, Transforms};

pub use transforms::{by_format, needs_data};

/// The recipes of this build.
const NAMED: [(&str, &str); 9] = [
    ("f32", include_str!("../recipes/f32.toml")),
    ("w8a8", include_str!("../recipes/w8a8.toml")),
    ("w8a8-dynamic", include_str!("../recipes/w8a8-dynamic.toml")),
    ("w4a16", include_str!("../recipes/w4a16.toml")),
    ("w4a8", include_str!("../recipes/w4a8.toml")),
    ("mamba-w8a8", include_str!("../recipes/mamba-w8a8.toml")),
    ("mamba-w4a8", include_str!("../recipes/mamba-w4a8.toml")),
    ("llama-w4a8kv4", include_str!("../recipes/llama-w4a8kv4.toml")),
    ("cnn-int8", include_str!("../recipes/cnn-int8.toml")),
];

/// The recipe of a compilation that names none.
const DEFAULT: &str = "f32";
/// Tokens of a calibration window.
const SEQ_LEN: usize = 256;

/// What to do to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of the recipe, or of its file.
    pub recipe: String,
    /// Format of weights; none keeps floats.
    pub weights: Option<String>,
    /// Format of activations; none keeps floats.
    pub activations: Option<String>,
    /// Format of the output head's weight; none keeps floats.
    pub head: Option<String>,
    /// Formats of keys and values of attention; none keeps floats.
    pub cache: Option<Cache>,
    /// Whether ranges of activations are measured beforehand.
    pub is_static: bool,
    /// How weights are rounded, where that is not to nearest.
    pub rounding: Option<String>,
    /// Whether biases take up what rounding adds to the mean of outputs.
    pub bias_correction: bool,
    /// The passes that give layers formats of their own.
    pub overrides: Vec<String>,
    /// The bits that formats are searched for.
    pub search_bits: Option<f64>,
    /// The loss, in percent, for which layers get more bits.
    pub target_loss: Option<f64>,
    /// Transforms to apply, in order.
    pub transforms: Vec<Transform>,
    /// The transforms as they were asked for.
    pub asked: String,
    /// Whether `auto` was asked for and has nothing to choose: floats are not rounded.
    pub auto_is_idle: bool,
    /// Whether the transforms were asked for by name, so that one that matches nothing is worth a warning.
    pub transforms_named: bool,
    /// Options of `calibrate`.
    calibrate: String,
    /// Windows or images to calibrate on, where they were given.
    pub samples: Option<usize>,
    /// Tokens of a window.
    pub seq_len: usize,
    /// How images become inputs.
    pub input: Remembered,
}

impl Settings {
    /// Puts flags, recipe and defaults together.
    ///
    /// # Errors
    /// When a name, key or format is unknown (with the nearest), or nothing in this build does it yet.
    pub fn new(args: &CompileArgs) -> Result<Settings, Failure> {
        let named = args.recipe.as_deref().unwrap_or(DEFAULT);
        let (recipe, text, place) = read(named)?;
        let Recipe { input, quantize, transforms, calibration, overrides } = file::parse(&text, &place)?;
        let (overrides, overriding_static) = self::overrides(&overrides, &place)?;
        let or = |flag: &Option<String>, of_recipe: Option<String>| flag.clone().or(of_recipe);
        let cache = or(&args.kv_cache, quantize.kv_cache).map(|text| Cache::parse(&text)).transpose()?;
        let cache = cache.filter(|cache| !(cache.keys.is_f32() && cache.values.is_f32()));
        let rounding = rounding(or(&args.rounding, quantize.rounding))?;
        let bias_correction = args.bias_correction || quantize.bias_correction == Some(true);
        let (weights, _) = chosen(or(&args.weights, quantize.weights), Role::Weight)?;
        let (activations, is_static) = chosen(or(&args.activations, quantize.activations), Role::Activation)?;
        let is_static = is_static || overriding_static;
        let (head, _) = chosen(or(&args.head, quantize.head), Role::Weight)?;
        if weights.is_none()
            && let Some(other) = activations.as_ref().or(head.as_ref())
        {
            return Err(Failure::input(format!(
                "`{other}` without a format of weights: pass `--weights` too, e.g. `--weights int8:channel`"
            )));
        }
        if let (None, Some(rounding)) = (&weights, &rounding) {
            return Err(Failure::input(format!(
                "rounding `{rounding}` without a format of weights: pass `--weights` too, e.g. `--weights int4:block=32`"
            )));
        }
        let needing = [
            (!overrides.is_empty(), "`[[override]]`"),
            (args.target_loss.is_some(), "`--target-loss`"),
            (quantize.search_bits.is_some(), "`search-bits`"),
        ];
        if let Some((_, what)) = needing.iter().find(|(asked, _)| *asked && weights.is_none()) {
            return Err(Failure::input(format!(
                "{what} without a format of weights for all other layers: pass `--weights` too, e.g. `--weights int8:channel`"
            )));
        }
        if let Some(loss) = args.target_loss.filter(|loss| !(loss.is_finite() && *loss > 0.0)) {
            return Err(Failure::input(format!("`--target-loss {loss}` must be a percentage above 0")));
        }
        if bias_correction && weights.is_none() {
            return Err(Failure::input(
                "bias correction without a format of weights: pass `--weights` too, e.g. `--weights int8:tensor`",
            ));
        }
        let asked = args.transforms.clone().or_else(|| transforms.apply.as_ref().map(Apply::text));
        let wanted = args
            .transforms
            .as_deref()
            .map(Transforms::parse)
            .or_else(|| transforms.apply.map(|a| a.parsed()));
        let wanted = wanted.transpose()?.unwrap_or(Transforms::Named(Vec::new()));
        let keys = cache.and_then(Cache::transform);
        let auto_is_idle = wanted == Transforms::Auto && weights.is_none() && keys.is_none();
        let (samples, seq_len) = (args.samples.or(calibration.samples), args.seq_len.or(calibration.seq_len));
        if samples == Some(0) {
            return Err(Failure::input("0 calibration samples measure nothing; use at least 1"));
        }
        let mut input = Remembered { preprocess: input.preprocess, label_offset: input.label_offset };
        if args.preprocess.is_some() {
            input.preprocess = Some(input.preprocess(args.preprocess.as_deref())?);
        }
        let builtin = NAMED.iter().any(|(name, _)| *name == named);
        let transforms_named =
            matches!(wanted, Transforms::Named(_)) && (args.transforms.is_some() || !builtin);
        let transforms = wanted.list(weights.is_some(), is_static, keys);
        Ok(Settings {
            recipe,
            calibrate: calibration.options(activations.as_deref())?,
            weights,
            activations,
            head,
            cache,
            is_static,
            rounding,
            bias_correction,
            overrides,
            search_bits: quantize.search_bits,
            target_loss: args.target_loss,
            asked: asked.unwrap_or_default(),
            auto_is_idle,
            // A recipe of this build is for many models: what finds nothing in one of them was not asked for.
            transforms_named,
            transforms,
            samples,
            seq_len: seq_len.unwrap_or(SEQ_LEN),
            input,
        })
    }

    /// The passes that do it.
    pub fn pipeline(&self) -> String {
        let mut passes = vec!["canonicalize".to_string()];
        for transform in &self.transforms {
            // What a transform does to a weight becomes part of the weight: later passes see weights only.
            passes.extend([self.transform(transform), "canonicalize".into()]);
        }
        if let Some(weights) = &self.weights {
            passes.extend(self.overrides.iter().cloned());
            passes.extend(self.search_bits.map(|bits| format!("search-formats{{bits={bits}}}")));
            if self.is_static {
                passes.push(format!("calibrate{}", self.calibrate));
            }
            let mut quantize = format!("quantize{{weights={weights}");
            let more =
                [("activations", &self.activations), ("head", &self.head), ("rounding", &self.rounding)];
            for (name, value) in more {
                if let Some(value) = value {
                    quantize.push_str(&format!(" {name}={value}"));
                }
            }
            if self.bias_correction {
                quantize.push_str(" bias-correction=true");
            }
            // The first `canonicalize` makes codes of the weights, the last one cleans up after the lowering.
            let quantize = format!("{quantize}}},canonicalize,lower-quantized,canonicalize");
            passes
                .extend(self.target_loss.map(|loss| format!("protect{{loss={loss} passes=\"{quantize}\"}}")));
            passes.push(quantize);
        }
        passes.extend(
            self.cache
                .map(|Cache { keys, values }| format!("quantize-kv-cache{{keys={keys} values={values}}}")),
        );
        passes.join(",")
    }

    /// What looks at activations, which takes data, in words; none where nothing does.
    pub fn needs_data(&self) -> Option<String> {
        let transforms = self.transforms.iter().any(Transform::needs_data);
        let activations = self.activations.as_deref().unwrap_or("of an override");
        match &self.rounding {
            _ if self.is_static => {
                Some(format!("recipe `{}` measures activations beforehand (`{activations}`)", self.recipe))
            }
            Some(rounding) => Some(format!("`--rounding {rounding}` looks at what layers read")),
            None if self.target_loss.is_some() => Some("`--target-loss` measures losses".into()),
            None if self.search_bits.is_some() => Some("`search-bits` looks at what layers read".into()),
            None if self.cache.is_some_and(Cache::is_measured) => {
                Some("`--kv-cache` by channel measures keys and values beforehand".into())
            }
            None if self.bias_correction => Some("`--bias-correction` looks at what layers make".into()),
            None => transforms.then(|| format!("`--transforms {}` looks at activations", self.asked)),
        }
    }

    /// A transform with the options it takes.
    fn transform(&self, transform: &Transform) -> String {
        let name = transform.name;
        let mut options: Vec<String> = Vec::new();
        if name == "equalize" || transforms::by_format(name) {
            for (option, format) in [("weights", &self.weights), ("activations", &self.activations)] {
                options.push(format!("{option}={}", format.as_deref().unwrap_or("f32")));
            }
        }
        if transforms::by_format(name) {
            options.extend(self.head.iter().map(|head| format!("head={head}")));
        }
        let says_keys = transform.options.split_whitespace().any(|option| option.starts_with("keys="));
        if let Some(cache) = self.cache.filter(|_| name == "rearrange-kv-channels" && !says_keys) {
            options.push(format!("keys={}", cache.keys));
            if self.asked == "auto" {
                options.push("whole=rotate".into());
            }
        }
        if name == "transform" && self.is_static {
            // It has the format of activations already.
            let calibrate = self.calibrate.trim_matches(['{', '}']).split(' ');
            let measures: Vec<&str> = calibrate.filter(|o| !o.starts_with("activations=")).collect();
            options.push(measures.join(" "));
        }
        options.push(transform.options.clone());
        options.retain(|option| !option.is_empty());
        Transform { name, options: options.join(" ") }.to_string()
    }

    /// What a manifest says of it.
    pub fn describe(&self, pipeline: &str) -> Value {
        json!({
            "name": self.recipe, "weights": self.weights, "activations": self.activations, "head": self.head,
            "kv_cache": self.cache.map(|Cache { keys, values }| json!({ "keys": keys.to_string(), "values": values.to_string() })),
            "rounding": self.rounding.as_deref().unwrap_or("nearest"), "bias_correction": self.bias_correction,
            "transforms": self.transforms.iter().map(Transform::to_string).collect::<Vec<_>>(), "pipeline": pipeline,
        })
    }
}

/// Bits of codes that are few for one scale a token.
const FEW_BITS: u32 = 4;

/// Formats of keys and values of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Of keys.
    pub keys: CacheFormat,
    /// Of values.
    pub values: CacheFormat,
}

impl Cache {
    /// What `auto` does to keys: blocks are to hold features alike, at no cost; where a block is a whole head, or a token has few bits and one
    /// scale, what is large is spread over all of it.
    fn transform(self) -> Option<&'static str> {
        match (self.keys.block(), self.keys.rows()) {
            (Some(_), _) => Some("rearrange-kv-channels"),
            (None, Some(q)) if q.storage.bits() <= FEW_BITS && !self.keys.is_by_channel() => {
                Some("rotate-keys")
            }
            _ => None,
        }
    }

    /// Whether keys or values are measured beforehand.
    pub fn is_measured(self) -> bool {
        self.keys.is_by_channel() || self.values.is_by_channel()
    }

    /// `FMT`, of both, or `K=FMT,V=FMT`, of which one may be missing.
    fn parse(text: &str) -> Result<Cache, Failure> {
        let format = |text: &str| CacheFormat::parse(text).map_err(|e| Failure::input(e.to_string()));
        if !text.contains("K=") && !text.contains("V=") {
            let both = format(text)?;
            return Ok(Cache { keys: both, values: both });
        }
        let (mut keys, mut values) = (None, None);
        for part in text.split(',') {
            match part.trim().split_once('=') {
                Some(("K", text)) if keys.is_none() => keys = Some(format(text)?),
                Some(("V", text)) if values.is_none() => values = Some(format(text)?),
                Some((twice @ ("K" | "V"), _)) => {
                    return Err(Failure::input(format!("`--kv-cache {text}` says `{twice}=` twice")));
                }
                _ => {
                    return Err(Failure::input(format!(
                        "`--kv-cache {text}`: `{part}` is neither K=FORMAT nor V=FORMAT, e.g. `K=bfp4:block=16,V=int8:token`"
                    )));
                }
            }
        }
        let f32 = CacheFormat::F32;
        Ok(Cache { keys: keys.unwrap_or(f32), values: values.unwrap_or(f32) })
    }
}

/// A recipe's name, text, and what to call it in messages.
fn read(named: &str) -> Result<(String, String, String), Failure> {
    if let Some((name, text)) = NAMED.iter().find(|(name, _)| *name == named) {
        return Ok((name.to_string(), text.to_string(), format!("recipe `{name}`")));
    }
    let path = Path::new(named);
    if path.extension().is_some_and(|e| e == "toml") {
        let text = qcc_data::read::text(path)?;
        // The name alone: an artifact does not depend on where its recipe lay.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok((name, text, path.display().to_string()));
    }
    let names = || NAMED.iter().map(|(name, _)| *name);
    let hint = qcc_ir::names::near_match(named, names());
    let known: Vec<_> = NAMED.iter().map(|(name, _)| *name).collect();
    Err(Failure::input(format!(
        "unknown recipe `{named}`{hint}; there are {}, or pass a .toml file",
        known.join(", ")
    )))
}

/// A format that is no plain f32, and whether it needs ranges measured beforehand.
fn chosen(text: Option<String>, role: Role) -> Result<(Option<String>, bool), Failure> {
    let Some(text) = text else { return Ok((None, false)) };
    Ok(match format(&text, role)? {
        Chosen::F32 => (None, false),
        Chosen::Static => (Some(text), true),
        Chosen::Dynamic => (Some(text), false),
    })
}

/// The passes that give layers formats of their own, and whether one of these is measured beforehand.
fn overrides(tables: &[file::Override], place: &str) -> Result<(Vec<String>, bool), Failure> {
    let (mut passes, mut is_static) = (Vec::new(), false);
    for (at, table) in tables.iter().enumerate() {
        let fail = |e: String| Failure::input(format!("{place}: `[[override]]` {}: {e}", at + 1));
        let pass = table.pass().map_err(fail)?;
        picking(&pass).map_err(fail)?;
        is_static |= chosen(table.activations.clone(), Role::Activation)?.1;
        passes.push(pass);
    }
    Ok((passes, is_static))
}

/// What an `override` of a pipeline picks.
///
/// # Errors
/// When it says nothing, or something that is no glob or format.
pub fn picking(pass: &str) -> Result<Override, String> {
    Override::new(&mut Pipeline::options(pass).map_err(|e| e.to_string())?)
}

/// A rounding of weights other than to nearest.
fn rounding(name: Option<String>) -> Result<Option<String>, Failure> {
    const KNOWN: [&str; 3] = ["nearest", "gptq", "decoupleq"];
    match name.as_deref() {
        None | Some("nearest") => Ok(None),
        Some(known) if KNOWN.contains(&known) => Ok(name),
        Some(name) => {
            let hint = qcc_ir::names::near_match(name, KNOWN);
            Err(Failure::input(format!("unknown rounding `{name}`{hint}; there are {}", KNOWN.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests;
