use std::path::PathBuf;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Module;
use qcc_params::Parameters;

use super::declaration::text;
use super::guard::{logging, register};
use super::*;
use crate::{Context, Options, Outcome, Pass, PassError, PassInfo, Preservation};

/// What loading a file says that has these bytes.
fn load_bytes(name: &str, bytes: &[u8]) -> String {
    let file = std::env::temp_dir().join(format!("qcc-plugin-{}-{name}", std::process::id()));
    std::fs::write(&file, bytes).expect("written");
    let error = load(&file, &mut Registry::builtin()).expect_err("no plugin");
    std::fs::remove_file(&file).expect("removed");
    error.to_string()
}

#[test]
fn what_is_no_library_is_refused() {
    let load = |file: &str| load(&PathBuf::from(file), &mut Registry::builtin()).expect_err(file).to_string();
    assert!(
        load("/nonexistent/x.so").starts_with("plugin `/nonexistent/x.so`: cannot read it: No such file")
    );
    assert_eq!(load("/"), "plugin `/`: cannot read it: it is not a regular file");
    for (name, bytes) in
        [("empty", &b""[..]), ("text", b"not a library, but text that is longer than a header")]
    {
        let error = load_bytes(name, bytes);
        assert!(
            error.contains("it does not load as a shared library (") && error.ends_with("`cdylib`"),
            "{error}"
        );
    }
}

#[test]
fn the_build_id_is_of_this_build() {
    assert!(BUILD_ID.starts_with(&format!("qcc {} ", env!("CARGO_PKG_VERSION"))), "{BUILD_ID}");
    assert!(BUILD_ID.contains(", rustc "), "{BUILD_ID}");
    assert_eq!(BUILD_ID.ends_with(", debug assertions"), cfg!(debug_assertions), "{BUILD_ID}");
    let declaration = Declaration::new("example", |_, _| Ok(()));
    assert_eq!(
        (text(&declaration.build_id).as_str(), text(&declaration.name).as_str()),
        (BUILD_ID, "example")
    );
}

struct Panics;

impl Pass for Panics {
    fn preservation(&self) -> Preservation {
        Preservation::Approximate
    }

    fn run(&self, _: &mut Module, _: &mut Context<'_>) -> Result<Outcome, PassError> {
        panic!("in run")
    }
}

const RUN_PANICS: PassInfo =
    PassInfo { name: "run-panics", summary: "", options: &[], make: |_| Ok(Box::new(Panics)) };
const MAKE_PANICS: PassInfo =
    PassInfo { name: "make-panics", summary: "", options: &[], make: |_| panic!("in make") };

#[test]
fn panics_of_a_plugin_are_errors() {
    let mut registry = Registry::builtin();
    let error = register(&mut registry, logging, |_| panic!("in {}", "register")).expect_err("a panic");
    assert_eq!(error, "it panicked while it registered its passes: in register");

    register(&mut registry, logging, |registry| {
        registry.register(RUN_PANICS)?;
        registry.register(MAKE_PANICS)
    })
    .expect("registered");
    let error = registry.make("make-panics", Options::default()).err().expect("a panic").to_string();
    assert_eq!(error, "pass `make-panics`: it panicked, which is a bug of the plugin: in make");

    let pass = registry.make("run-panics", Options::default()).expect("made");
    let evaluator = Interpreter::new(Precision::F32);
    let mut context = Context::new(Parameters::new(), &evaluator);
    let error = pass.run(&mut Module::default(), &mut context).expect_err("a panic").to_string();
    assert_eq!(error, "pass `run-panics`: it panicked, which is a bug of the plugin: in run");
}

#[test]
fn what_goes_wrong_in_registering_is_said() {
    let mut registry = Registry::builtin();
    let error = register(&mut registry, logging, |registry| {
        registry.register(RUN_PANICS)?;
        registry.register(RUN_PANICS)
    });
    assert_eq!(error, Err("pass `run-panics`: a pass of this name is registered already".to_string()));
}
