//! Names of function-preserving transforms: a list, `none`, or `auto`.

use std::fmt;

use crate::Failure;

const KNOWN: [&str; 18] = [
    "fold-batch-norm",
    "equalize",
    "split-projections",
    "rotate-residual",
    "rotate-heads",
    "rotate-online",
    "smooth",
    "awq",
    "shift",
    "permute",
    "smooth-window",
    "smooth-state",
    "rotate-state",
    "split",
    "low-rank",
    "outlier-columns",
    "rearrange-kv-channels",
    "rotate-keys",
];

/// Those that depend on what activations look like and on formats.
const BY_FORMAT: [&str; 7] =
    ["rotate-residual", "rotate-heads", "rotate-online", "smooth", "awq", "shift", "permute"];

/// A transform, with options of its pass: `smooth-state{axis=channel}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// The pass.
    pub name: &'static str,
    /// Its options, without braces.
    pub options: String,
}

impl Transform {
    /// Whether it looks at activations, which takes data.
    pub fn needs_data(&self) -> bool {
        needs_data(self.name)
            || self.options.split_whitespace().any(|option| ["where=helps", "by=keys"].contains(&option))
    }
}

impl From<&'static str> for Transform {
    fn from(name: &'static str) -> Transform {
        Transform { name, options: String::new() }
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.options.as_str() {
            "" => f.write_str(self.name),
            options => write!(f, "{}{{{options}}}", self.name),
        }
    }
}

/// Which transforms to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transforms {
    /// Those that fit, chosen by cost where they are not free.
    Auto,
    /// These.
    Named(Vec<Transform>),
}

impl Transforms {
    /// Parses `none`, `auto` or a list separated by commas.
    ///
    /// # Errors
    /// When a name is unknown, or braces are open.
    pub fn parse(text: &str) -> Result<Transforms, Failure> {
        let mut depth = 0usize;
        let separates = |c: char| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        };
        let parts: Vec<&str> = text.split(separates).collect();
        Transforms::of(parts.into_iter().map(str::trim))
    }

    /// As [`Transforms::parse`], of names.
    ///
    /// # Errors
    /// When a name is unknown, or braces are open.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Transforms, Failure> {
        let names: Vec<&str> = names.into_iter().collect();
        match names.as_slice() {
            ["auto"] => return Ok(Transforms::Auto),
            ["none"] => return Ok(Transforms::Named(Vec::new())),
            _ => {}
        }
        Ok(Transforms::Named(names.into_iter().map(known).collect::<Result<_, _>>()?))
    }

    /// Their passes, in order, for a model that is quantized or not, with ranges measured beforehand or not: nothing is gained by making
    /// floats easier to quantize, and where equalizing helps is seen on activations.
    ///
    /// `keys`: what makes cached keys easier to round.
    pub fn list(self, quantized: bool, is_static: bool, keys: Option<&'static str>) -> Vec<Transform> {
        let auto: &[&'static str] = match self {
            Transforms::Named(transforms) => return transforms,
            Transforms::Auto if is_static => {
                &["fold-batch-norm", "equalize", "split-projections", "transform"]
            }
            Transforms::Auto if quantized => &["fold-batch-norm", "split-projections", "transform"],
            Transforms::Auto => &["fold-batch-norm"],
        };
        let chosen = |name: &&'static str| match *name {
            "equalize" => Transform { name, options: "where=helps".into() },
            name => Transform::from(name),
        };
        auto.iter().copied().chain(keys).map(|name| chosen(&name)).collect()
    }
}

/// A transform of this build, from its name and options.
fn known(text: &str) -> Result<Transform, Failure> {
    let (name, options) = match text.split_once('{') {
        None => (text, ""),
        Some((name, rest)) => match rest.strip_suffix('}') {
            Some(options) => (name, options),
            None => return Err(Failure::input(format!("transform `{text}`: `{{` is not closed"))),
        },
    };
    if let Some(name) = KNOWN.iter().find(|k| **k == name) {
        let is_format = |option: &&str| ["weights", "activations", "head"].contains(option);
        let mut named = options.split_whitespace().filter_map(|option| Some(option.split_once('=')?.0));
        if let Some(option) = named.find(is_format) {
            return Err(Failure::input(format!(
                "transform `{text}`: `{option}` is not to be said here; it is the format of `--{option}` or the recipe"
            )));
        }
        return Ok(Transform { name, options: options.trim().to_string() });
    }
    if ["auto", "none"].contains(&name) {
        return Err(Failure::input(format!("`{name}` stands alone: it cannot be one of several transforms")));
    }
    let hint = qcc_ir::names::near_match(name, KNOWN);
    Err(Failure::input(format!(
        "unknown transform `{name}`{hint}; this build knows {}, none and auto",
        KNOWN.join(", ")
    )))
}

/// Whether a pass looks at activations.
pub fn needs_data(name: &str) -> bool {
    by_format(name) || ["outlier-columns", "smooth-window", "smooth-state"].contains(&name)
}

/// Whether a pass takes the formats as options.
pub fn by_format(name: &str) -> bool {
    name == "transform" || BY_FORMAT.contains(&name)
}
