//! `--help-rules`: what rewrite rules are written with, from the tables of the equivalence engine.

use std::fmt::Write;

use qcc_passes::equivalence::guard::GUARDS;
use qcc_passes::equivalence::heads::heads;
use qcc_passes::equivalence::rules::{BUILTIN, parse};

/// Heads, guards and the rules of this build as Markdown.
pub fn markdown() -> String {
    let mut out = String::from("# Rewrite rules\n\n## Heads besides the operations\n\n");
    let line = |doc: &str, out: &mut String| {
        let (term, meaning) = doc.split_once(": ").unwrap_or((doc, ""));
        writeln!(out, "* `{term}`: {meaning}").expect("invariant: writing to a string succeeds");
    };
    heads().for_each(|head| line(head.doc, &mut out));
    line("(first …), (second …): the results of an operation that has two", &mut out);
    out.push_str("\n## Guards\n\n");
    GUARDS.iter().for_each(|guard| line(guard.doc, &mut out));
    for (file, text) in BUILTIN {
        let rules = parse(file, text).expect("invariant: the rules of this build were tested");
        let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        write!(out, "\n## {file}\n\n{}\n", names.join(", "))
            .expect("invariant: writing to a string succeeds");
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn heads_and_guards_are_described() {
        let text = super::markdown();
        for line in [
            "* `(rows ?w ?k)`: ?k, of one element or one for each row of ?w, to be broadcast along axis 0 of ?w\n",
            "* `(weights ?w …)`: each is computed from weights alone\n",
            "rotate-rms-norm",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("`: \n"), "every line says what it means: {text}");
    }
}
