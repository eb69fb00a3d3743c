//! `override`: formats of the layers that a glob over source names, a kind of operation and a shape pick.

use globset::{Glob, GlobMatcher};
use qcc_ir::format::{Format, Role};
use qcc_ir::{Function, Module, Op, OpId};

use super::Requested;
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "gives layers picked by name, kind and shape formats of their own",
    options: &[
        ("layers", "glob over source names, e.g. \"*.out_proj\"; omitted: all"),
        ("op", "linear or conv; omitted: both"),
        ("shape", "glob over shapes of weights, e.g. 1024x* or *x1x3x3; omitted: all"),
        ("weights", "format of their weights; f32 to keep them"),
        ("activations", "format of their inputs; f32 to keep them"),
    ],
    make: |options| Ok(Box::new(Override::new(options)?)),
};

const NAME: &str = "override";

/// Which layers get which formats.
#[derive(Clone, Debug)]
pub struct Override {
    layers: Option<GlobMatcher>,
    op: Option<String>,
    shape: Option<GlobMatcher>,
    formats: Requested,
}

impl Override {
    /// From the options of the pass, which recipes have as keys.
    ///
    /// # Errors
    /// When a glob or format does not parse, or nothing is picked or asked for.
    pub fn new(options: &mut Options) -> Result<Override, String> {
        let mut glob = |name: &str| -> Result<Option<GlobMatcher>, String> {
            let Some(text) = options.take::<String>(name)? else { return Ok(None) };
            let glob = Glob::new(&text).map_err(|e| format!("`{name}={text}` is no glob: {}", e.kind()))?;
            Ok(Some(glob.compile_matcher()))
        };
        let (layers, shape) = (glob("layers")?, glob("shape")?);
        let op = options.take::<String>("op")?;
        if let Some(op) = op.as_deref().filter(|op| !["linear", "conv"].contains(op)) {
            return Err(format!("`op={op}`: layers are linear or conv"));
        }
        let mut format = |name: &str, role: Role| -> Result<Option<Format>, String> {
            let Some(text) = options.take::<String>(name)? else { return Ok(None) };
            let format = Format::parse(&text, role).map_err(|e| e.to_string())?;
            format.check_executable().map(|()| Some(format))
        };
        let formats = Requested {
            weights: format("weights", Role::Weight)?,
            activations: format("activations", Role::Activation)?,
        };
        if layers.is_none() && op.is_none() && shape.is_none() {
            return Err("say which layers: `layers`, `op` or `shape`".into());
        }
        if formats == Requested::default() {
            return Err("say what they get: `weights` or `activations`".into());
        }
        Ok(Override { layers, op, shape, formats })
    }

    /// The layers it picks.
    ///
    /// # Errors
    /// When there are none, with the nearest name.
    pub fn picked(&self, function: &Function) -> Result<Vec<OpId>, String> {
        let layers: Vec<OpId> =
            function.order().iter().copied().filter(|id| is_layer(function, *id)).collect();
        let picked: Vec<OpId> = layers.iter().copied().filter(|id| self.picks(function, *id)).collect();
        if !picked.is_empty() {
            return Ok(picked);
        }
        let names: Vec<&str> = layers.iter().map(|id| &*function.node(*id).location).collect();
        let hint = match &self.layers {
            Some(glob) if !layers.iter().any(|id| self.named(function, *id)) => {
                near(glob.glob().glob(), &names)
            }
            _ => String::new(),
        };
        Err(format!("no layer is picked by {}{hint}", self.describe()))
    }

    fn describe(&self) -> String {
        let glob = |g: &GlobMatcher| g.glob().glob().to_string();
        let parts = [
            self.layers.as_ref().map(|g| format!("layers `{}`", glob(g))),
            self.op.as_ref().map(|op| format!("op `{op}`")),
            self.shape.as_ref().map(|g| format!("shape `{}`", glob(g))),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }

    fn named(&self, function: &Function, id: OpId) -> bool {
        let name = &*function.node(id).location;
        // Rows of a layer that was split are called `layer[a:b]`.
        let whole = name.split_once('[').map_or(name, |(whole, _)| whole);
        self.layers.as_ref().is_none_or(|glob| glob.is_match(name) || glob.is_match(whole))
    }

    fn picks(&self, function: &Function, id: OpId) -> bool {
        let node = function.node(id);
        let shape = || {
            let dims = node.operands[1].and_then(|w| function.ty(w).constant_dims()).unwrap_or_default();
            dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
        };
        self.named(function, id)
            && self.op.as_ref().is_none_or(|op| op == node.op.name())
            && self.shape.as_ref().is_none_or(|glob| glob.is_match(shape()))
    }
}

/// What is near a glob that matches no name: a whole name, or one whose last part is near its last part.
fn near(glob: &str, names: &[&str]) -> String {
    let last = |text: &str| text.rsplit(['.', '/', '*']).next().unwrap_or_default().to_string();
    let whole = qcc_ir::names::near_match(glob, names.iter().copied());
    if !whole.is_empty() {
        return whole;
    }
    let lasts: Vec<String> = names.iter().map(|name| last(name)).collect();
    let by_last = qcc_ir::names::near_match(&last(glob), lasts.iter().map(String::as_str));
    let plain = glob.replace('*', "");
    let plain = plain.trim_matches(['.', '/']);
    match (
        by_last.as_str(),
        names.iter().find(|name| !plain.is_empty() && name.contains(plain)),
        names.first(),
    ) {
        ("", Some(name), _) => format!("; there is `{name}`"),
        ("", None, Some(name)) => {
            format!("; the first layer is `{name}`, `qcc inspect --layers` lists all")
        }
        ("", None, None) => "; there are no layers".into(),
        _ => by_last,
    }
}

fn is_layer(function: &Function, id: OpId) -> bool {
    let node = function.node(id);
    let on_weight = || node.operands[1].is_some_and(|w| function.parameter_name(w).is_some());
    matches!(node.op, Op::Linear {} | Op::Conv { .. }) && on_weight()
}

impl Pass for Override {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, _: &mut Context<'_>) -> Result<Outcome, PassError> {
        let function = module
            .functions
            .first_mut()
            .ok_or_else(|| PassError::failed(NAME, "the module has no function"))?;
        let picked = self.picked(function).map_err(|e| PassError::failed(NAME, e))?;
        for &id in &picked {
            self.formats.annotate(function.node_mut(id));
        }
        Ok(Outcome::of([("layers", picked.len())]))
    }
}
