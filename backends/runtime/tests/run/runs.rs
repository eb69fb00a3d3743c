//! Values, persistent buffers, shapes, refusals.

use crate::fixture::{WIDTH, bytes, expected, kernels, model, parameters, program, ramp};
use crate::step;
use qcc_runtime::program::{Arg, Entry, Expr, Limit, Port, Program, Step, Work};
use qcc_runtime::{AlignedBuffer, InputView, Model, OutputBuffer, Parameters, State};

fn failure(state: &mut State, shape: &[u64], data: &[u8], room: usize) -> String {
    let mut y = vec![0; room];
    let run = state.run("step", &[InputView { shape, data }], &mut [OutputBuffer { data: &mut y }]);
    run.unwrap_err().to_string()
}

#[test]
fn values_for_any_batch_and_number_of_threads() {
    for threads in [1, 2, 5] {
        let mut state = State::new(&model(), threads).unwrap();
        assert_eq!(state.threads(), threads);
        for batch in [1, 7, 2, 300, 3, 0] {
            let x = ramp(batch);
            // The batch differs from the last one's, so the total starts from zero each time.
            assert_eq!(step(&mut state, batch, &x).unwrap(), expected(&x, 1), "batch {batch}");
            assert_eq!(step(&mut state, batch, &x).unwrap(), expected(&x, 2), "batch {batch}");
        }
    }
}

#[test]
fn sizes_beyond_a_limit_are_refused_before_anything_runs() {
    let mut limited = program();
    limited.entries[0].limits.push(Limit {
        size: Expr::Symbol(0),
        most: Expr::Const(3),
        name: "batch".into(),
        place: "layer.table".into(),
    });
    // SAFETY: the kernels are those of the program.
    #[allow(unsafe_code)]
    let model = unsafe { Model::new(limited, kernels(), parameters()) }.unwrap();
    let mut state = State::new(&model, 1).unwrap();
    let x = ramp(3);
    assert_eq!(step(&mut state, 3, &x).unwrap(), expected(&x, 1));
    let message = failure(&mut state, &[4, WIDTH], &bytes(&ramp(4)), (4 * WIDTH * 4) as usize);
    assert!(message.contains("`batch` is 4") && message.contains("3 at most: `layer.table`"), "{message}");
    assert!(model.output_shapes("step", &[&[4, WIDTH]]).unwrap_err().to_string().contains("at most"));
    assert_eq!(step(&mut state, 3, &x).unwrap(), expected(&x, 2), "the state is as it was");
}

/// Writes the number of its item plus a number.
unsafe extern "C" fn number(args: *const u64, begin: u64, end: u64, _: *mut u8) {
    // SAFETY: the program below has these arguments.
    unsafe {
        for item in begin..end {
            *(*args as *mut f32).add(item as usize) = (item + *args.add(1)) as f32;
        }
    }
}

/// Three steps that may run together, of different lengths and one of none, and one that may not.
#[test]
fn steps_that_run_together_do_what_they_do_apart() {
    let sizes = [3u64, 0, 70, 5];
    let port = |index: usize| Port {
        name: format!("y{index}"),
        element: "f32".into(),
        dims: vec![Expr::Const(sizes[index])],
    };
    let step = |index: usize| Step {
        name: format!("layer{index}"),
        kernel: 0,
        args: vec![Arg::Output(index as u32), Arg::Value(Expr::Const(1000 * index as u64))],
        items: Expr::Const(sizes[index]),
        grain: 1 + index as u64,
        scratch: Expr::Const(0),
        work: Work { integer: Expr::Const(7), ..Work::default() },
        beside: index == 1 || index == 2,
    };
    let entry = Entry {
        name: "step".into(),
        inputs: Vec::new(),
        outputs: (0..4).map(port).collect(),
        states: Vec::new(),
        growth: None,
        limits: Vec::new(),
        slots: Vec::new(),
        steps: (0..4).map(step).collect(),
    };
    let program =
        Program { entries: vec![entry], kernels: vec!["number".into()], parameters: vec![], ..program() };
    // SAFETY: the kernel is the one that the program was written for.
    #[allow(unsafe_code)]
    let model = unsafe { Model::new(program, vec![number], Parameters::default()) }.unwrap();
    for threads in [1, 2, 5] {
        let mut state = State::new(&model, threads).unwrap();
        state.set_profiling(true);
        let mut results: Vec<Vec<u8>> = sizes.iter().map(|n| vec![0xff; 4 * *n as usize]).collect();
        let mut outputs: Vec<OutputBuffer<'_>> =
            results.iter_mut().map(|data| OutputBuffer { data }).collect();
        state.run("step", &[], &mut outputs).unwrap();
        for (index, result) in results.iter().enumerate() {
            let wanted: Vec<f32> = (0..sizes[index]).map(|i| (i + 1000 * index as u64) as f32).collect();
            assert_eq!(*result, bytes(&wanted), "step {index}, {threads} threads");
        }
        let times = state.profile("step").unwrap();
        assert!(times.iter().all(|t| t.calls == 1 && t.integer_operations == 7.0), "{times:?}");
    }
}

/// Adds one to a state, and finds numbers from 100 on outside.
unsafe extern "C" fn checked(args: *const u64, _: u64, _: u64, _: *mut u8) {
    // SAFETY: the program below has these arguments.
    unsafe {
        let (x, total, fault) = (*args as *const f32, *args.add(1) as *mut f32, *args.add(2) as *mut i64);
        *total += 1.0;
        *(*args.add(3) as *mut f32) = *total;
        if *x >= 100.0 {
            *fault.add(1) = *x as i64;
            *fault = 1;
        }
    }
}

#[test]
fn what_a_kernel_finds_outside_fails_the_call_and_resets_states() {
    let one = |name: &str| Port { name: name.into(), element: "f32".into(), dims: vec![Expr::Const(1)] };
    let step = Step {
        name: "layer.table".into(),
        kernel: 0,
        args: vec![Arg::Input(0), Arg::State(0), Arg::Fault, Arg::Output(0)],
        items: Expr::Const(1),
        grain: 1,
        scratch: Expr::Const(0),
        work: Work::default(),
        beside: false,
    };
    let entry = Entry {
        name: "step".into(),
        inputs: vec![one("x")],
        outputs: vec![one("y")],
        states: vec![one("total")],
        growth: None,
        limits: Vec::new(),
        slots: Vec::new(),
        steps: vec![step],
    };
    let program =
        Program { entries: vec![entry], kernels: vec!["checked".into()], parameters: vec![], ..program() };
    assert_eq!(Program::decode(&program.encode().unwrap()).unwrap(), program);
    // SAFETY: the kernel is the one that the program was written for.
    #[allow(unsafe_code)]
    let model = unsafe { Model::new(program, vec![checked], Parameters::default()) }.unwrap();
    let mut state = State::new(&model, 1).unwrap();
    let mut call = |x: f32| {
        let mut y = [0; 4];
        let input = InputView { shape: &[1], data: &x.to_le_bytes() };
        state.run("step", &[input], &mut [OutputBuffer { data: &mut y }]).map(|()| f32::from_le_bytes(y))
    };
    assert_eq!((call(1.0).unwrap(), call(2.0).unwrap()), (1.0, 2.0));
    let message = call(100.0).unwrap_err().to_string();
    assert!(message.contains("`layer.table`: the index 100 is outside"), "{message}");
    assert_eq!(call(3.0).unwrap(), 1.0, "it begins anew");
}

#[test]
fn aligned_buffers_are_used_in_place() {
    let mut state = State::new(&model(), 2).unwrap();
    let x = ramp(4);
    let input = AlignedBuffer::copy_of(&bytes(&x), "x").unwrap();
    let mut y = AlignedBuffer::zeroed(bytes(&x).len() as u64 + 4, "y").unwrap();
    y.fill(0xaa);
    state
        .run("step", &[InputView { shape: &[4, WIDTH], data: &input }], &mut [OutputBuffer { data: &mut y }])
        .unwrap();
    let (written, rest) = y.split_at(input.len());
    assert_eq!(written, bytes(&expected(&x, 1)));
    assert_eq!(rest, [0xaa; 4], "bytes behind the output are left alone");
}

#[test]
fn entry_points_share_states_and_reset_zeroes_them() {
    let mut state = State::new(&model(), 2).unwrap();
    let x = ramp(3);
    step(&mut state, 3, &x).unwrap();
    let peek = |state: &mut State, batch: u64| {
        let mut now = vec![0xff; (batch * WIDTH * 4) as usize];
        let rows = vec![0; batch as usize];
        let input = InputView { shape: &[batch], data: &rows };
        state.run("peek", &[input], &mut [OutputBuffer { data: &mut now }]).unwrap();
        now
    };
    assert_eq!(peek(&mut state, 3), bytes(&expected(&x, 1)));
    assert_eq!(state.read_state("total").unwrap(), (vec![3, WIDTH], bytes(&expected(&x, 1)).into()));
    state.reset();
    assert!(peek(&mut state, 3).iter().all(|&b| b == 0));
    step(&mut state, 3, &x).unwrap();
    assert!(peek(&mut state, 2).iter().all(|&b| b == 0), "another batch starts from zero");
}

#[test]
fn states_can_be_moved_from_one_caller_to_another() {
    let model = model();
    let (mut first, mut second) = (State::new(&model, 1).unwrap(), State::new(&model, 2).unwrap());
    assert!(second.read_state("total").unwrap_err().to_string().contains("no size before the first call"));
    let x = ramp(3);
    step(&mut first, 3, &x).unwrap();
    let (shape, data) = first.read_state("total").unwrap();
    second.write_state("total", &shape, &data).unwrap();
    assert_eq!(step(&mut second, 3, &x).unwrap(), expected(&x, 2));

    let lost = step(&mut second, 4, &ramp(4)).unwrap_err().to_string();
    assert!(lost.contains("state `total`: it was set with shape"), "{lost}");
    second.reset();
    step(&mut second, 4, &ramp(4)).unwrap();

    assert!(second.write_state("total", &[3, 4], &[0; 48]).unwrap_err().to_string().contains("does not fit"));
    assert!(second.write_state("total", &[3, 5], &[0; 59]).unwrap_err().to_string().contains("59 bytes"));
    assert!(second.write_state("sum", &[3], &[]).unwrap_err().to_string().contains("there are total"));
}

#[test]
fn more_shapes_than_are_kept() {
    let mut state = State::new(&model(), 2).unwrap();
    for batch in (1..=40).chain((1..=40).rev()) {
        let x = ramp(batch);
        assert_eq!(step(&mut state, batch, &x).unwrap(), expected(&x, 1), "batch {batch}");
        state.reset();
    }
}

#[test]
fn wrong_tensors_are_refused() {
    let mut state = State::new(&model(), 1).unwrap();
    let x = bytes(&ramp(2));
    assert_eq!(failure(&mut state, &[2, 4], &x, 40), "input `x`: shape [2, 4] where [batch, 5] is expected");
    assert_eq!(failure(&mut state, &[10], &x, 40), "input `x`: shape [10] where [batch, 5] is expected");
    assert_eq!(
        failure(&mut state, &[2, 5], &x[1..], 40),
        "input `x`: 39 bytes where shape [2, 5] of f32 has 40"
    );
    assert_eq!(
        failure(&mut state, &[2, 5], &x, 39),
        "output `y`: room for 39 bytes where shape [2, 5] of f32 has 40"
    );
    assert!(failure(&mut state, &[u64::MAX / 4, 5], &x, 40).contains("overflows"));
    assert!(failure(&mut state, &[1 << 55, 5], &x, 40).contains("40 bytes where shape"));
    assert_eq!(state.run("step", &[], &mut []).unwrap_err().to_string(), "`step` takes 1 inputs, not 0");
    let input = [InputView { shape: &[2, 5], data: &x }];
    assert_eq!(state.run("step", &input, &mut []).unwrap_err().to_string(), "`step` takes 1 outputs, not 0");
    assert_eq!(
        state.run("walk", &[], &mut []).unwrap_err().to_string(),
        "no entry point `walk`; there are step, peek"
    );
    assert_eq!(step(&mut state, 2, &ramp(2)).unwrap(), expected(&ramp(2), 1), "and the state still works");
}

#[test]
fn output_shapes_follow_the_inputs() {
    let model = model();
    assert_eq!(model.output_shapes("step", &[&[9, WIDTH]]).unwrap(), [[9, WIDTH]]);
    assert!(model.output_shapes("step", &[&[9]]).is_err());
}

#[test]
fn profiles_count_steps() {
    let mut state = State::new(&model(), 2).unwrap();
    step(&mut state, 2, &ramp(2)).unwrap();
    assert!(state.profile("step").unwrap().is_empty());
    state.set_profiling(true);
    for _ in 0..3 {
        step(&mut state, 2, &ramp(2)).unwrap();
    }
    let profile = state.profile("step").unwrap();
    let names: Vec<_> = profile.iter().map(|s| (s.name.as_str(), s.kernel.as_str(), s.calls)).collect();
    assert_eq!(names, [("layer.double", "double", 3), ("layer.add", "accumulate", 3)]);
    assert!(profile.iter().all(|s| s.seconds > 0.0));
    assert_eq!(state.profile("peek").unwrap()[0].calls, 0);
}

#[test]
fn a_model_needs_its_kernels_parameters_and_features() {
    let build = |program, kernels, parameters| {
        // SAFETY: never run.
        unsafe { Model::new(program, kernels, parameters) }.unwrap_err().to_string()
    };
    assert!(build(program(), vec![], parameters()).contains("names 3 kernels, the code has 0"));
    assert!(
        build(program(), kernels(), Parameters::default()).contains("parameter `unused`: the model needs it")
    );
    let mut demanding = program();
    demanding.features.push("avx8192".into());
    assert!(build(demanding, kernels(), parameters()).contains("this CPU lacks avx8192"));
    let mut larger = program();
    larger.parameters[1].bytes = 64;
    assert!(build(larger, kernels(), parameters()).contains("has 20 bytes where the model needs 64"));
}
