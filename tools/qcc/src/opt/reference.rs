//! `--help-ops`: the reference of the dialect, written from the op table.

use std::fmt::Write;

use qcc_ir::{Arity, OpSpec, TABLE};

/// All operations as Markdown.
pub fn markdown() -> String {
    let mut out = String::from("# Operations of the dialect `qcc`\n");
    for spec in TABLE {
        operation(&mut out, spec);
    }
    out
}

fn operation(out: &mut String, spec: &OpSpec) {
    let doc: Vec<&str> = spec.doc.lines().map(str::trim).collect();
    let results = match groups(spec.results).as_str() {
        "" => String::new(),
        results => format!("{results} = "),
    };
    let line = format!("{results}qcc.{}({})", spec.name, groups(spec.operands));
    write!(out, "\n## `qcc.{}`\n\n`{line}`\n\n{}\n", spec.name, doc.join("\n").trim())
        .expect("invariant: writing to a string succeeds");
    if !spec.attributes.is_empty() {
        out.push('\n');
    }
    for (name, kind) in spec.attributes {
        writeln!(out, "* `{name}`: {}", meaning(kind)).expect("invariant: writing to a string succeeds");
    }
}

fn groups(groups: &[(&str, Arity)]) -> String {
    let one = |(name, arity): &(&str, Arity)| match arity {
        Arity::Single => (*name).to_string(),
        Arity::Optional => format!("{name}?"),
        Arity::Variadic => format!("{name}…"),
    };
    groups.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What to write for an attribute of this IRDL constraint.
fn meaning(constraint: &str) -> &str {
    match constraint {
        "bool" => "`true` or `false`",
        "i64" => "an integer, `1 : i64`",
        "f64" => "a number, `1.0 : f64`",
        "string" => "a string, `\"…\"`",
        "ints" => "integers, `array<i64: 1, 2>`",
        "array" => "a list, `[…, …]`",
        "type" => "an element type, `f32` or `!qcc.q<…>`",
        "dense" => "a constant, `dense<…> : tensor<…>`",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_operation_is_described() {
        let text = super::markdown();
        assert_eq!(text.matches("\n## `qcc.").count(), qcc_ir::TABLE.len());
        let linear =
            "## `qcc.linear`\n\n`y = qcc.linear(x, weight, bias?)`\n\n`y = x · weightᵀ + bias`; x `[…, in]`";
        assert!(text.contains(linear), "{text}");
        assert!(text.contains("* `axis`: an integer, `1 : i64`\n"));
    }
}
