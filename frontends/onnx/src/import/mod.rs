//! Translation of a model: first all operators are looked up, so that everything unsupported is reported at once, then inputs and
//! initialisers are declared and the nodes translated one after the other.

mod activation;
mod arithmetic;
mod attention;
mod choice;
mod constant;
mod conv;
mod gather;
mod matmul;
mod normalization;
mod pad;
mod pool;
mod reduce;
mod refused;
mod resize;
mod rotary;
mod sequence;
mod shape;
mod slice;
mod softmax;
mod table;
mod window;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use qcc_ir::Module;
use qcc_params::Imported;

use crate::call::Call;
use crate::error::{ImportError, NodePlace};
use crate::graph::{Bound, Graph};
use crate::initializer::Initializer;
use crate::input::Symbols;
use crate::proto::{GraphProto, ModelProto, NodeProto};
use crate::{NEWEST_OPSET, OLDEST_OPSET, sizes};

pub(crate) use arithmetic::cast;
pub(crate) use table::Handler;

/// The ONNX operators that can be imported, in order of name.
pub fn supported_ops() -> impl Iterator<Item = &'static str> {
    table::TABLE.iter().map(|(name, _)| *name)
}

/// The module and parameters of a model that was read from `file`.
pub(crate) fn import(file: &Path, model: ModelProto) -> Result<Imported, ImportError> {
    let model_error =
        |message: &str| ImportError::Model { path: file.to_path_buf(), message: message.to_string() };
    let opset = opset(file, &model)?;
    let graph = model.graph.ok_or_else(|| model_error("holds no graph; export or copy it again"))?;
    if !graph.sparse_initializer.is_empty() {
        return Err(model_error("has sparse initializers; store them densely"));
    }
    let mut importer = Importer {
        file,
        // The folder of a bare file name is the current one.
        folder: file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        opset,
        files: vec![file.to_path_buf()],
        graph: Graph::new(),
    };
    let handlers = importer.handlers(&graph)?;
    importer.declare(&graph)?;
    for ((index, node), handler) in graph.node.iter().enumerate().zip(handlers) {
        importer.node(index, node, handler)?;
    }
    importer.results(&graph)?;
    importer
        .graph
        .recognize_attention()
        .map_err(|message| ImportError::Model { path: file.to_path_buf(), message })?;
    let (function, parameters) = importer.graph.finish()?;
    Ok(Imported {
        module: Module { functions: vec![function] },
        parameters,
        files: importer.files,
        warnings: Vec::new(),
    })
}

/// The version of the standard operator set.
fn opset(file: &Path, model: &ModelProto) -> Result<i64, ImportError> {
    let standard = model.opset_import.iter().find(|set| is_standard(set.domain.as_deref()));
    let opset = standard.and_then(|set| set.version).ok_or_else(|| ImportError::Model {
        path: file.to_path_buf(),
        message: "does not say which ONNX operator set it uses; is it an ONNX model?".to_string(),
    })?;
    if (OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
        Ok(opset)
    } else {
        Err(ImportError::Opset { path: file.to_path_buf(), opset })
    }
}

fn is_standard(domain: Option<&str>) -> bool {
    matches!(domain.unwrap_or_default(), "" | "ai.onnx")
}

/// An operator as errors name it: with its domain, unless that is the standard one.
fn operator(node: &NodeProto) -> String {
    let op = node.op_type.as_deref().unwrap_or_default();
    match node.domain.as_deref() {
        domain if is_standard(domain) => op.to_string(),
        domain => format!("{}.{op}", domain.unwrap_or_default()),
    }
}

/// A model under translation.
struct Importer<'a> {
    file: &'a Path,
    folder: &'a Path,
    opset: i64,
    files: Vec<PathBuf>,
    graph: Graph,
}

impl Importer<'_> {
    /// What translates each node.
    fn handlers(&self, graph: &GraphProto) -> Result<Vec<Handler>, ImportError> {
        let mut handlers = Vec::with_capacity(graph.node.len());
        let mut unsupported: BTreeMap<String, usize> = BTreeMap::new();
        let mut first = None;
        for (index, node) in graph.node.iter().enumerate() {
            match table::find(&operator(node)) {
                Some(handler) => handlers.push(handler),
                None => {
                    *unsupported.entry(operator(node)).or_default() += 1;
                    first.get_or_insert((index, node));
                }
            }
        }
        let Some((index, node)) = first else { return Ok(handlers) };
        let op = operator(node);
        unsupported.remove(&op);
        Err(ImportError::Unsupported {
            path: self.file.to_path_buf(),
            place: Box::new(self.place(index, node)),
            reason: refused::reason(&op),
            others: unsupported.into_iter().collect(),
        })
    }

    fn place(&self, index: usize, node: &NodeProto) -> NodePlace {
        NodePlace { name: location(index, node), op_type: operator(node), opset: self.opset }
    }

    fn interface(&self, kind: &'static str, name: &str, message: String) -> ImportError {
        ImportError::Interface { path: self.file.to_path_buf(), kind, name: name.to_string(), message }
    }

    /// Declares arguments and initialisers. Before version 4 of the format initialisers are listed as inputs as well.
    fn declare(&mut self, graph: &GraphProto) -> Result<(), ImportError> {
        let mut initialized = HashSet::new();
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            let initializer = Initializer::new(tensor, self.folder, &mut self.files);
            let added = initializer.and_then(|initializer| self.graph.initializer(name, initializer));
            added.map_err(|message| ImportError::Initializer {
                path: self.file.to_path_buf(),
                name: name.to_string(),
                message,
            })?;
            initialized.insert(name);
        }
        let mut symbols = Symbols::default();
        for input in &graph.input {
            let name = input.name.as_deref().unwrap_or_default();
            if initialized.contains(name) {
                continue;
            }
            let ty = symbols.input_type(input);
            let added = ty.and_then(|ty| self.graph.argument(name, ty));
            added.map_err(|message| self.interface("input", name, message))?;
        }
        Ok(())
    }

    /// Translates a node.
    fn node(&mut self, index: usize, node: &NodeProto, handler: Handler) -> Result<(), ImportError> {
        self.translate(index, node, handler).map_err(|message| ImportError::Node {
            path: self.file.to_path_buf(),
            place: Box::new(self.place(index, node)),
            message,
        })
    }

    fn translate(&mut self, index: usize, node: &NodeProto, handler: Handler) -> Result<(), String> {
        let before = self.graph.value_count();
        let location = location(index, node);
        let mut call = Call::new(node, self.opset, self.folder, &mut self.files, &mut self.graph, &location)?;
        let op_type = node.op_type.as_deref().unwrap_or_default();
        let outputs = match sizes::evaluate(&mut call, op_type, handler)? {
            Some(outputs) => outputs,
            None => handler(&mut call)?,
        };
        call.attributes.finish()?;
        let mut outputs = outputs.into_iter();
        for (position, name) in node.output.iter().enumerate() {
            let output = outputs.next().unwrap_or_else(|| {
                Bound::Absent(format!(
                    "output {position} of the {op_type} node `{location}` (`{name}`) is not supported"
                ))
            });
            if name.is_empty() {
                continue;
            }
            if let Bound::Value(value) = output
                && value.index() >= before
            {
                self.graph.name(value, name);
            }
            self.graph.bind(name, output)?;
        }
        Ok(())
    }

    /// Declares the results.
    fn results(&mut self, graph: &GraphProto) -> Result<(), ImportError> {
        if graph.output.is_empty() {
            let message = "has no outputs".to_string();
            return Err(ImportError::Model { path: self.file.to_path_buf(), message });
        }
        for output in &graph.output {
            let name = output.name.as_deref().unwrap_or_default();
            let why = match self.graph.lookup(name) {
                Ok(Bound::Value(value)) => {
                    self.graph.result(name, value);
                    continue;
                }
                Ok(Bound::Absent(why)) | Err(why) => why,
                Ok(Bound::Sizes(sizes)) => {
                    format!("it is the sizes {:?}, which only the caller knows", sizes.elements)
                }
            };
            return Err(self.interface("output", name, why));
        }
        Ok(())
    }
}

/// The name of a node, else of its first output, else its position.
fn location(index: usize, node: &NodeProto) -> String {
    let output = || node.output.iter().find(|o| !o.is_empty()).cloned();
    let name = node.name.clone().filter(|name| !name.is_empty());
    name.or_else(output).unwrap_or_else(|| format!("node {index}"))
}
