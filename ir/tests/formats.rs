//! The format grammar: the table of `test/formats`. A case gives a format a line, read as a weight's or an activation's; the answer is the
//! canonical text, the type of a matrix in it, and whether this build computes with it. `REWRITE=1` writes the answers anew.

use datadriven::walk;
use qcc_ir::format::CATALOGUE;
use qcc_ir::{ElementType, Format, Role};

#[test]
fn formats_are_what_the_table_says() {
    walk(concat!(env!("CARGO_MANIFEST_DIR"), "/../test/formats/grammar.txt"), |file| {
        file.run(|case| {
            let role = match case.directive.as_str() {
                "weight" => Role::Weight,
                "activation" => Role::Activation,
                other => panic!("unknown directive `{other}`"),
            };
            let answers = case.input.lines().map(|text| format!("{text} -> {}\n", answer(text, role)));
            answers.collect::<String>()
        });
    });
}

fn answer(text: &str, role: Role) -> String {
    let format = match Format::parse(text, role) {
        Ok(format) => format,
        Err(e) => return format!("error: {e}"),
    };
    assert_eq!(Format::parse(&format.to_string(), role), Ok(format), "{text}");
    let ty = format.quant_type(0, 1).map_or_else(String::new, |q| format!(" {}", ElementType::Quant(q)));
    let can = if format.check_executable().is_ok() { "" } else { " (not yet)" };
    format!("{format}{ty}{can}")
}

#[test]
fn everything_in_the_catalogue_is_a_format() {
    for name in CATALOGUE.iter().flat_map(|(names, _)| names.split(' ')) {
        let name = name.replace(['N', 'X', 'I'], "3").replace(['Y', 'F'], "2");
        for role in [Role::Weight, Role::Activation] {
            let format = Format::parse(&name, role).expect(&name);
            assert_eq!(Format::parse(&format.to_string(), role), Ok(format), "{name} as {format}");
        }
    }
}

#[test]
fn a_format_that_cannot_run_says_what_can() {
    let refused =
        |text: &str, role| Format::parse(text, role).expect(text).check_executable().expect_err(text);
    let message = refused("split4:block=32", Role::Weight);
    assert!(
        message.contains("`split4:block=32` is known, but weights") && message.contains("per tensor"),
        "{message}"
    );
    assert!(refused("fixed7.8", Role::Activation).contains("at most 8 bits"));
    assert!(refused("fixed3.4:dynamic", Role::Activation).contains("no scales to find"));
    let message = refused("codebook4", Role::Activation);
    assert!(message.contains("`codebook4:tensor` is known, but activations"), "{message}");
}
