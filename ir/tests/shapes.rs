//! Shape inference: the tables of `test/ir/shapes`. A case names an operation with its attributes and gives an operand a line (`-` is an
//! absent one); the answer is the results' types, or why there are none. `REWRITE=1` writes the answers anew.

use datadriven::walk;
use qcc_ir::infer::infer;
use qcc_ir::parse::parse_attributes;
use qcc_ir::{Attribute, Dim, ElementType, Op, TensorType};

#[test]
fn results_follow_from_operands() {
    walk(concat!(env!("CARGO_MANIFEST_DIR"), "/../test/ir/shapes"), |file| {
        file.run(|case| match case.directive.as_str() {
            "infer" => match results(&case.input) {
                Ok(types) => types.iter().map(|ty| format!("{}\n", shown(ty))).collect(),
                Err(message) => format!("error: {message}\n"),
            },
            other => panic!("unknown directive `{other}`"),
        });
    });
}

fn results(input: &str) -> Result<Vec<TensorType>, String> {
    let mut lines = input.lines().map(str::trim).filter(|l| !l.is_empty());
    let head = lines.next().ok_or("an operation is missing")?;
    let (name, attributes) = head.split_once(' ').unwrap_or((head, "{}"));
    let mut attributes = parse_attributes("case", attributes).map_err(|e| e.to_string())?;
    let op = Op::from_attributes(name, &mut attributes).map_err(|e| e.to_string())?;
    let operands = lines.map(tensor).collect::<Result<Vec<_>, _>>()?;
    let operands: Vec<Option<&TensorType>> = operands.iter().map(Option::as_ref).collect();
    infer(&op, &operands, None).map(|types| types.into_vec()).map_err(|e| e.message)
}

/// `[B, 3, 8] f32`
fn tensor(text: &str) -> Result<Option<TensorType>, String> {
    if text == "-" {
        return Ok(None);
    }
    let bad = || format!("`{text}` is not like `[B, 4] f32`");
    let (sizes, element) = text.strip_prefix('[').and_then(|t| t.split_once(']')).ok_or_else(bad)?;
    let sizes = sizes.split(',').map(str::trim).filter(|s| !s.is_empty());
    let dims = sizes.map(Dim::parse).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
    let element: ElementType = match parse_attributes("case", &format!("{{e = {}}}", element.trim())) {
        Ok(mut entries) => match entries.remove("e") {
            Some(Attribute::Type(element)) => element,
            _ => return Err(bad()),
        },
        Err(e) => return Err(e.to_string()),
    };
    Ok(Some(TensorType::new(dims, element)))
}

fn shown(ty: &TensorType) -> String {
    let sizes: Vec<String> = ty.dims.iter().map(Dim::to_string).collect();
    format!("[{}] {}", sizes.join(", "), ty.element)
}
