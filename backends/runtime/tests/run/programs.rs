//! The serial form, and what validation refuses.

use crate::fixture::program;
use qcc_runtime::program::{Arg, Expr, Limit, Port, Program};

/// The error of a program after a change.
fn refused(change: impl FnOnce(&mut Program)) -> String {
    let mut program = program();
    change(&mut program);
    let error = program.validate().unwrap_err().to_string();
    assert!(program.encode().is_err());
    error
}

#[test]
fn decoding_gives_back_what_was_encoded() {
    let bytes = program().encode().unwrap();
    assert_eq!(Program::decode(&bytes).unwrap(), program());
    assert_eq!(program().encode().unwrap(), bytes);
}

#[test]
fn damaged_bytes_are_errors() {
    let bytes = program().encode().unwrap();
    for length in 0..bytes.len() {
        assert!(Program::decode(&bytes[..length]).is_err(), "cut off at {length}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Program::decode(&longer).unwrap_err().to_string().contains("1 bytes follow its end"));
    let mut other = bytes.clone();
    other[4] = 9;
    assert!(Program::decode(&other).unwrap_err().to_string().contains("its version is 9"));
    // Whatever a byte becomes, decoding ends with a program or an error.
    for position in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] = value;
            let _ = Program::decode(&damaged);
        }
    }
}

#[test]
fn indices_out_of_range_are_refused() {
    let step = |p: &mut Program, arg: Arg| p.entries[0].steps[0].args[0] = arg;
    assert!(
        refused(|p| p.entries[0].steps[1].kernel = 3)
            .contains("entry point `step`: step 1 (`layer.add`): kernel 3 of 3")
    );
    assert!(refused(|p| step(p, Arg::Input(1))).contains("input 1 of 1"));
    assert!(refused(|p| step(p, Arg::Output(1))).contains("output 1 of 1"));
    assert!(refused(|p| step(p, Arg::State(1))).contains("state 1 of 1"));
    assert!(refused(|p| step(p, Arg::Slot { index: 2, offset: Expr::Const(0) })).contains("slot 2 of 2"));
    assert!(refused(|p| step(p, Arg::Parameter { index: 2, offset: 0 })).contains("parameter 2 of 2"));
    assert!(
        refused(|p| step(p, Arg::Parameter { index: 0, offset: 4 })).contains("byte 4 of parameter `unused`")
    );
}

#[test]
fn sizes_must_be_bound_and_well_formed() {
    assert!(
        refused(|p| p.entries[0].slots[0].bytes = Expr::Symbol(1))
            .contains("slot 0: no input binds symbol 1")
    );
    assert!(
        refused(|p| p.entries[0].inputs[0].dims[0] = Expr::Const(1))
            .contains("no input binds symbol 0 (`batch`)")
    );
    let computed = Expr::Add(Box::new(Expr::Symbol(0)), Box::new(Expr::Const(1)));
    assert!(
        refused(|p| p.entries[0].inputs[0].dims[0] = computed)
            .contains("neither constant nor a known symbol")
    );
    let divided = Expr::CeilDiv(Box::new(Expr::Symbol(0)), 0);
    assert!(refused(|p| p.entries[0].steps[0].items = divided).contains("divided by 0"));
    let deep = (0..5000).fold(Expr::Symbol(0), |e, _| Expr::FloorDiv(Box::new(e), 2));
    assert!(refused(|p| p.entries[0].slots[0].bytes = deep).contains("nested too deeply"));
    let limit = |size: Expr| Limit { size, most: Expr::Const(1), name: "n".into(), place: "table".into() };
    assert!(refused(|p| p.entries[0].limits.push(limit(Expr::Symbol(1)))).contains("limit of `n`"));
    assert!(
        refused(|p| p.entries[0].slots[0].first = 1).contains("slot 0: in use from step 1 to step 0 of 2")
    );
    assert!(
        refused(|p| p.entries[0].slots[0].last = 2).contains("slot 0: in use from step 0 to step 2 of 2")
    );
    assert!(
        refused(|p| p.entries[0].slots[1].last = 0)
            .contains("step 1 (`layer.add`): slot 1, which is in use from step 0 to step 0 only")
    );
    // Steps that may run together use what one of them uses.
    let together = |p: &mut Program| {
        p.entries[0].steps[1].beside = true;
        p.entries[0].slots[0].last = 0;
        p.entries[0].steps[0].args.push(Arg::Slot { index: 0, offset: Expr::Const(0) });
    };
    assert!(
        refused(together)
            .contains("step 0 (`layer.double`): slot 0, which is in use from step 0 to step 0 only")
    );
    assert!(refused(|p| p.entries[0].steps[0].grain = 0).contains("grain is 0"));
}

#[test]
fn names_and_elements_must_make_sense() {
    assert!(refused(|p| p.schema = 9).contains("version is 9"));
    assert!(refused(|p| p.entries[1].name = "step".into()).contains("two entry points are named `step`"));
    assert!(refused(|p| p.parameters[0].name = "bias".into()).contains("two parameters are named `bias`"));
    assert!(refused(|p| p.symbols.push("batch".into())).contains("two symbols are named `batch`"));
    assert!(refused(|p| p.entries[0].outputs[0].element = "i4".into()).contains("unknown element type `i4`"));
    assert!(
        refused(|p| p.entries[0].states[0].dims.push(Expr::Const(1)))
            .contains("declare the state `total` differently")
    );
    assert!(refused(|p| p.entries[0].outputs[0].dims = vec![Expr::Const(1); 17]).contains("rank 17"));
    let twice = Port { name: "x".into(), element: "f32".into(), dims: vec![] };
    assert!(refused(|p| p.entries[0].inputs.push(twice)).contains("input `x`: declared twice"));
}
