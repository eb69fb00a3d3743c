//! A small model with kernels written by hand: `y = total += 2·x + bias`, rows shared among threads, `total` kept from call to call.
//! Its entry points are `step` (any batch) and `peek`, which returns the total.

use qcc_runtime::program::{Arg, Entry, Expr, ParameterSlot, Port, Program, SCHEMA, Slot, Step, Work};
use qcc_runtime::{AlignedBuffer, KernelFn, Model, Parameters};

pub const WIDTH: u64 = 5;

/// `args`: x, doubled, width. Goes through scratch memory, so that sharing it between workers would show.
unsafe extern "C" fn double(args: *const u64, begin: u64, end: u64, scratch: *mut u8) {
    unsafe {
        let (x, out, width) = (*args as *const f32, *args.add(1) as *mut f32, *args.add(2));
        assert!(
            x.addr().is_multiple_of(4) && out.addr().is_multiple_of(4) && scratch.addr().is_multiple_of(64)
        );
        let scratch = scratch.cast::<f32>();
        for row in begin..end {
            for j in 0..width {
                *scratch.add(j as usize) = 2.0 * *x.add((row * width + j) as usize);
            }
            for j in 0..width {
                *out.add((row * width + j) as usize) = *scratch.add(j as usize);
            }
        }
    }
}

/// `args`: doubled, bias, total, y, width.
unsafe extern "C" fn accumulate(args: *const u64, begin: u64, end: u64, _: *mut u8) {
    unsafe {
        let (doubled, bias) = (*args as *const f32, *args.add(1) as *const f32);
        let (total, y, width) = (*args.add(2) as *mut f32, *args.add(3) as *mut f32, *args.add(4));
        for i in begin * width..end * width {
            *total.add(i as usize) += *doubled.add(i as usize) + *bias.add((i % width) as usize);
            *y.add(i as usize) = *total.add(i as usize);
        }
    }
}

/// `args`: from, to, width.
unsafe extern "C" fn copy(args: *const u64, begin: u64, end: u64, _: *mut u8) {
    unsafe {
        let (from, to, width) = (*args as *const f32, *args.add(1) as *mut f32, *args.add(2));
        for i in begin * width..end * width {
            *to.add(i as usize) = *from.add(i as usize);
        }
    }
}

pub fn kernels() -> Vec<KernelFn> {
    vec![double, accumulate, copy]
}

fn batch() -> Expr {
    Expr::Symbol(0)
}

fn rows(name: &str) -> Port {
    Port { name: name.into(), element: "f32".into(), dims: vec![batch(), Expr::Const(WIDTH)] }
}

pub fn program() -> Program {
    let row_bytes = 4 * WIDTH;
    let step = |name: &str, kernel, args| Step {
        name: name.into(),
        kernel,
        args,
        items: batch(),
        grain: 1,
        scratch: Expr::Const(row_bytes),
        work: Work::default(),
        beside: false,
    };
    let width = || Arg::Value(Expr::Const(WIDTH));
    // The doubled values lie at an offset, to exercise it.
    let doubled = || Arg::Slot { index: 1, offset: Expr::Const(64) };
    let slot = Expr::Add(
        Box::new(Expr::Const(64)),
        Box::new(Expr::Mul(Box::new(batch()), Box::new(Expr::Const(row_bytes)))),
    );
    Program {
        schema: SCHEMA,
        symbols: vec!["batch".into()],
        parameters: vec![
            ParameterSlot { name: "unused".into(), bytes: 3 },
            ParameterSlot { name: "bias".into(), bytes: row_bytes },
        ],
        kernels: vec!["double".into(), "accumulate".into(), "copy".into()],
        features: vec![],
        entries: vec![
            Entry {
                name: "step".into(),
                inputs: vec![rows("x")],
                outputs: vec![rows("y")],
                states: vec![rows("total")],
                growth: None,
                limits: Vec::new(),
                slots: vec![
                    Slot { bytes: Expr::Const(1), first: 0, last: 0 },
                    Slot { bytes: slot, first: 0, last: 1 },
                ],
                steps: vec![
                    step("layer.double", 0, vec![Arg::Input(0), doubled(), width()]),
                    step(
                        "layer.add",
                        1,
                        vec![
                            doubled(),
                            Arg::Parameter { index: 1, offset: 0 },
                            Arg::State(0),
                            Arg::Output(0),
                            width(),
                        ],
                    ),
                ],
            },
            Entry {
                name: "peek".into(),
                inputs: vec![Port { name: "rows".into(), element: "u8".into(), dims: vec![batch()] }],
                outputs: vec![rows("now")],
                states: vec![rows("total")],
                growth: None,
                limits: Vec::new(),
                slots: vec![],
                steps: vec![step("read", 2, vec![Arg::State(0), Arg::Output(0), width()])],
            },
        ],
    }
}

pub fn bias() -> Vec<f32> {
    (0..WIDTH).map(|j| 100.0 * j as f32).collect()
}

pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub fn parameters() -> Parameters {
    let buffer = |bytes: &[u8]| AlignedBuffer::copy_of(bytes, "a test").unwrap();
    Parameters::from_buffers([
        ("unused".into(), buffer(&[1, 2, 3])),
        ("bias".into(), buffer(&bytes(&bias()))),
    ])
}

pub fn model() -> Model {
    // SAFETY: the kernels are those the program was written for.
    unsafe { Model::new(program(), kernels(), parameters()) }.unwrap()
}

/// What `step` gives after `calls` equal calls.
pub fn expected(x: &[f32], calls: u32) -> Vec<f32> {
    let bias = bias();
    x.iter().enumerate().map(|(i, x)| calls as f32 * (2.0 * x + bias[i % WIDTH as usize])).collect()
}

pub fn ramp(batch: u64) -> Vec<f32> {
    (0..batch * WIDTH).map(|i| i as f32).collect()
}
