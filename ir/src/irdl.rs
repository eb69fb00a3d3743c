//! The dialect as an IRDL file, generated from the op table: `mlir-opt --irdl-file=…` with it parses, verifies and prints every dump, and
//! MLIR's language server understands them. IRDL states structure (operands, results, kinds of attributes); the type rules are `infer`'s.

use std::fmt::Write;

use crate::ops::{Arity, OpSpec, TABLE};

/// Types and attributes of the dialect. An IRDL constraint is a variable that all its uses share, hence one for each use.
const TYPES: &str = r##"  irdl.type @element {
    %name = irdl.base "#builtin.string"
    irdl.parameters(name: %name)
  }
  irdl.type @q {
    %integer = irdl.base "!builtin.integer"
    %e4m3 = irdl.is f8E4M3FN
    %e5m2 = irdl.is f8E5M2
    %e2m3 = irdl.is f6E2M3FN
    %e3m2 = irdl.is f6E3M2FN
    %e2m1 = irdl.is f4E2M1FN
    %element = irdl.base @qcc::@element
    %storage = irdl.any_of(%integer, %e4m3, %e5m2, %e2m3, %e3m2, %e2m1, %element)
    %granularity = irdl.base "#builtin.dictionary"
    %f32 = irdl.is f32
    %f16 = irdl.is f16
    %bf16 = irdl.is bf16
    %scale_e4m3 = irdl.is f8E4M3FN
    %scale_e8m0 = irdl.is f8E8M0FNU
    %scale = irdl.any_of(%f32, %f16, %bf16, %scale_e4m3, %scale_e8m0)
    %none = irdl.is none
    %zero_point = irdl.any_of(%none, %storage)
    irdl.parameters(storage: %storage, granularity: %granularity, scale: %scale, zero_point: %zero_point)
  }
  irdl.attribute @panel {
    %n = irdl.base "#builtin.integer"
    %k = irdl.base "#builtin.integer"
    irdl.parameters(n: %n, k: %k)
  }
"##;

/// The IRDL file of the dialect.
pub fn irdl_file() -> String {
    let mut out = String::from("irdl.dialect @qcc {\n");
    out.push_str(TYPES);
    for spec in TABLE {
        operation(&mut out, spec);
    }
    out.push_str("}\n");
    out
}

fn operation(out: &mut String, spec: &OpSpec) {
    let mut line = |text: String| writeln!(out, "{text}").expect("invariant: writing to a string succeeds");
    line(format!("  irdl.operation @{} {{", spec.name));
    for (kind, groups) in [("operands", spec.operands), ("results", spec.results)] {
        // Operand and result names may coincide; IRDL values may not.
        let prefix = &kind[..1];
        for (name, _) in groups {
            line(format!("    %{prefix}_{name} = irdl.base \"!builtin.tensor\""));
        }
        let uses: Vec<String> = groups
            .iter()
            .map(|(name, arity)| {
                let arity = match arity {
                    Arity::Single => "",
                    Arity::Optional => "optional ",
                    Arity::Variadic => "variadic ",
                };
                format!("{name}: {arity}%{prefix}_{name}")
            })
            .collect();
        if !uses.is_empty() {
            line(format!("    irdl.{kind}({})", uses.join(", ")));
        }
    }
    let mut uses = Vec::new();
    // IRDL has no attributes that may be absent: those are not stated.
    for (name, constraint) in spec.attributes.iter().filter(|(_, constraint)| *constraint != "optional") {
        for definition in attribute_constraint(name, constraint) {
            line(format!("    {definition}"));
        }
        uses.push(format!("\"{name}\" = %a_{name}"));
    }
    if !uses.is_empty() {
        line(format!("    irdl.attributes {{{}}}", uses.join(", ")));
    }
    line("  }".into());
}

/// IRDL operations that define the constraint `%a_NAME`.
fn attribute_constraint(name: &str, constraint: &str) -> Vec<String> {
    let base = |what: &str| vec![format!("%a_{name} = irdl.base \"#builtin.{what}\"")];
    match constraint {
        "bool" => vec![
            format!("%true_{name} = irdl.is true"),
            format!("%false_{name} = irdl.is false"),
            format!("%a_{name} = irdl.any_of(%true_{name}, %false_{name})"),
        ],
        "i64" => base("integer"),
        "f64" => base("float"),
        "string" => base("string"),
        "ints" => base("dense_array"),
        "array" => base("array"),
        "type" => base("type"),
        "dense" => base("dense_int_or_fp_elements"),
        _ => vec![format!("%a_{name} = irdl.any")],
    }
}
