//! States that grow: `y[b, h, f] = Σ` over all tokens so far, which lie token by token in one state and in blocks of four in another.

use qcc_runtime::program::{Arg, Blocks, Entry, Expr, Growth, Port, Program, SCHEMA, Step, Work};
use qcc_runtime::{InputView, KernelFn, Model, OutputBuffer, Parameters, RuntimeError, State};

const HEADS: u64 = 2;
const FEATURES: u64 = 3;

/// Where an element of a cache lies.
fn place(row: u64, token: u64, feature: u64, capacity: u64, block: u64) -> usize {
    ((row * capacity + token / block * block) * FEATURES + feature * block + token % block) as usize
}

/// `args`: x, cache, time, held, capacity, block. An item is a sequence.
unsafe extern "C" fn append(args: *const u64, begin: u64, end: u64, _: *mut u8) {
    unsafe {
        let (x, cache) = (*args as *const f32, *args.add(1) as *mut f32);
        let [time, held, capacity, block] = [2, 3, 4, 5].map(|i| *args.add(i));
        for b in begin..end {
            for (t, h, f) in
                (0..time).flat_map(|t| (0..HEADS).flat_map(move |h| (0..FEATURES).map(move |f| (t, h, f))))
            {
                let from = ((b * time + t) * HEADS + h) * FEATURES + f;
                let to = place(b * HEADS + h, held + t, f, capacity, block);
                *cache.add(to) = *x.add(from as usize);
            }
        }
    }
}

/// `args`: cache, y, tokens, capacity, block. An item is a sequence.
unsafe extern "C" fn sum(args: *const u64, begin: u64, end: u64, _: *mut u8) {
    unsafe {
        let (cache, y) = (*args as *const f32, *args.add(1) as *mut f32);
        let [tokens, capacity, block] = [2, 3, 4].map(|i| *args.add(i));
        for (row, f) in (begin * HEADS..end * HEADS).flat_map(|row| (0..FEATURES).map(move |f| (row, f))) {
            let at = |t: u64| *cache.add(place(row, t, f, capacity, block));
            *y.add((row * FEATURES + f) as usize) = (0..tokens).map(at).sum();
        }
    }
}

fn program() -> Program {
    let [batch, time, held, capacity] = [0, 1, 2, 3].map(Expr::Symbol);
    let port = |name: &str, tokens: Option<&Expr>| {
        let sizes = [Some(&batch), tokens].into_iter().flatten().cloned();
        let dims = sizes.chain([HEADS, FEATURES].map(Expr::Const)).collect();
        Port { name: name.into(), element: "f32".into(), dims }
    };
    let tokens = Expr::Add(Box::new(held.clone()), Box::new(time.clone()));
    let number = |e: &Expr| Arg::Value(e.clone());
    let mut steps = Vec::new();
    for (state, block) in [(0, 1), (1, 4)] {
        let block = Arg::Value(Expr::Const(block));
        let args = vec![
            Arg::Input(0),
            Arg::State(state),
            number(&time),
            number(&held),
            number(&capacity),
            block.clone(),
        ];
        let all = vec![Arg::State(state), Arg::Output(state), number(&tokens), number(&capacity), block];
        for (kernel, args) in [(0, args), (1, all)] {
            let (name, items) = (format!("step {kernel} of {state}"), batch.clone());
            steps.push(Step {
                name,
                kernel,
                args,
                items,
                grain: 1,
                scratch: Expr::Const(0),
                work: Work::default(),
                beside: false,
            });
        }
    }
    let rows = Expr::Mul(Box::new(batch.clone()), Box::new(Expr::Const(HEADS)));
    let blocks = |state: u32, tokens: u64| Blocks {
        state,
        rows: rows.clone(),
        tokens,
        bytes: 4 * FEATURES * tokens,
        packed: false,
    };
    let growth = Growth {
        held: 2,
        capacity: 3,
        added: time.clone(),
        step: 8,
        states: vec![blocks(0, 1), blocks(1, 4)],
    };
    Program {
        schema: SCHEMA,
        symbols: ["B", "T", "P", "room"].map(String::from).into(),
        parameters: vec![],
        kernels: vec!["append".into(), "sum".into()],
        features: vec![],
        entries: vec![Entry {
            name: "main".into(),
            inputs: vec![port("x", Some(&time))],
            outputs: vec![port("y", None), port("z", None)],
            states: vec![port("rows", Some(&held)), port("blocks", Some(&held))],
            growth: Some(growth),
            limits: Vec::new(),
            slots: vec![],
            steps,
        }],
    }
}

fn state() -> State {
    let kernels: Vec<KernelFn> = vec![append, sum];
    let model = unsafe { Model::new(program(), kernels, Parameters::default()) }.unwrap();
    State::new(&model, 2).unwrap()
}

fn numbers(batch: u64, time: u64, seed: u64) -> Vec<f32> {
    (0..batch * time * HEADS * FEATURES).map(|i| ((i * 7 + seed * 13) % 101) as f32).collect()
}

/// The sums after some tokens more; both states must agree.
fn run(state: &mut State, batch: u64, time: u64, x: &[f32]) -> Result<Vec<f32>, RuntimeError> {
    let data: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let input = InputView { shape: &[batch, time, HEADS, FEATURES], data: &data };
    let bytes = (4 * batch * HEADS * FEATURES) as usize;
    let (mut y, mut z) = (vec![0; bytes], vec![0; bytes]);
    state.run("main", &[input], &mut [OutputBuffer { data: &mut y }, OutputBuffer { data: &mut z }])?;
    assert_eq!(y, z, "two layouts of the same tokens");
    Ok(y.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

fn add(sums: &mut [f32], x: &[f32], time: u64) {
    let row = (HEADS * FEATURES) as usize;
    for (sums, x) in sums.chunks_exact_mut(row).zip(x.chunks_exact(row * time.max(1) as usize)) {
        x.chunks_exact(row).for_each(|x| sums.iter_mut().zip(x).for_each(|(s, x)| *s += x));
    }
}

#[test]
fn tokens_are_kept_while_the_room_grows() {
    let mut state = state();
    let mut sums = vec![0.0; (2 * HEADS * FEATURES) as usize];
    let mut held = 0;
    for time in [3, 5, 1, 30, 1, 200, 0, 2] {
        let x = numbers(2, time, held);
        add(&mut sums, &x, time);
        assert_eq!(run(&mut state, 2, time, &x).unwrap(), sums);
        held += time;
        assert_eq!(state.held(), held);
    }
    // Another batch starts from nothing.
    let x = numbers(1, 2, 0);
    let mut fresh = vec![0.0; (HEADS * FEATURES) as usize];
    add(&mut fresh, &x, 2);
    assert_eq!(run(&mut state, 1, 2, &x).unwrap(), fresh);
    state.reset();
    assert_eq!(run(&mut state, 1, 2, &x).unwrap(), fresh);
}

#[test]
fn reserved_room_does_not_move() {
    let mut state = state();
    state.reserve_tokens(100);
    run(&mut state, 1, 1, &numbers(1, 1, 0)).unwrap();
    let bytes = state.growing_bytes();
    assert_eq!(bytes, 2 * HEADS * FEATURES * 4 * 104);
    for i in 1..100 {
        run(&mut state, 1, 1, &numbers(1, 1, i)).unwrap();
    }
    assert_eq!(state.growing_bytes(), bytes);
}

#[test]
fn sequences_end_at_their_limit() {
    let mut state = state();
    state.limit_tokens(10);
    run(&mut state, 1, 8, &numbers(1, 8, 0)).unwrap();
    let full = run(&mut state, 1, 3, &numbers(1, 3, 1)).unwrap_err().to_string();
    assert!(full.contains("the sequence would have 11 tokens, its limit is 10"), "{full}");
    run(&mut state, 1, 2, &numbers(1, 2, 1)).unwrap();
    state.reset();
    run(&mut state, 1, 10, &numbers(1, 10, 1)).unwrap();
}

#[test]
fn what_is_held_can_be_moved_to_another_state() {
    let (mut first, mut second) = (state(), state());
    let (x, more) = (numbers(2, 7, 0), numbers(2, 2, 5));
    run(&mut first, 2, 7, &x).unwrap();
    for name in ["rows", "blocks"] {
        let (shape, data) = first.read_state(name).unwrap();
        assert_eq!(shape, [2, 7, HEADS, FEATURES]);
        assert_eq!(data.as_ref(), x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(), "{name}");
        second.write_state(name, &shape, &data).unwrap();
    }
    assert_eq!(run(&mut second, 2, 2, &more).unwrap(), run(&mut first, 2, 2, &more).unwrap());
    second.reset();
    second.write_state("rows", &[2, 1, HEADS, FEATURES], &[0; 48]).unwrap();
    let alone = run(&mut second, 2, 2, &more).unwrap_err().to_string();
    assert!(alone.contains("it holds 0 tokens where `rows` holds 1"), "{alone}");
    second.write_state("blocks", &[2, 3, HEADS, FEATURES], &[0; 144]).unwrap();
    let fewer = run(&mut second, 2, 2, &more).unwrap_err().to_string();
    assert!(fewer.contains("it holds 3 tokens where `rows` holds 1"), "{fewer}");
    assert_eq!(second.read_state("blocks").unwrap().0, [2, 3, HEADS, FEATURES]);
    let batch = run(&mut second, 1, 2, &numbers(1, 2, 0)).unwrap_err().to_string();
    assert!(batch.contains("it was set with shape"), "{batch}");
}

#[test]
fn a_call_that_fails_changes_nothing() {
    let mut state = state();
    let x = numbers(1, 5, 0);
    let mut sums = run(&mut state, 1, 5, &x).unwrap();
    let fails = |state: &mut State, shape: [u64; 4], data: &[u8], room: usize| {
        let (mut y, mut z) = (vec![0; room], vec![0; room]);
        let input = InputView { shape: &shape, data };
        state
            .run("main", &[input], &mut [OutputBuffer { data: &mut y }, OutputBuffer { data: &mut z }])
            .unwrap_err()
            .to_string()
    };
    let two = [2, 1, HEADS, FEATURES];
    assert!(fails(&mut state, two, &[0; 7], 48).contains("7 bytes where shape"));
    assert!(fails(&mut state, two, &[0; 48], 3).contains("room for 3 bytes"));
    assert!(fails(&mut state, [1, 1 << 40, HEADS, FEATURES], &[0; 24], 24).contains("24 bytes where shape"));
    assert_eq!(state.held(), 5);
    let bytes = state.growing_bytes();
    let x = numbers(1, 1, 9);
    add(&mut sums, &x, 1);
    assert_eq!(run(&mut state, 1, 1, &x).unwrap(), sums);
    assert_eq!(state.growing_bytes(), bytes);
}

#[test]
fn what_grows_must_make_sense() {
    let refused = |change: &dyn Fn(&mut Growth, &mut Vec<Port>)| {
        let mut program = program();
        let entry = &mut program.entries[0];
        change(entry.growth.as_mut().unwrap(), &mut entry.states);
        program.validate().unwrap_err().to_string()
    };
    assert!(refused(&|g, _| g.held = 9).contains("unknown symbols"));
    assert!(refused(&|g, _| g.held = 0).contains("an input binds how its states grow"));
    assert!(refused(&|g, _| g.added = Expr::Symbol(2)).contains("no input binds symbol 2"));
    assert!(refused(&|g, _| g.step = 0).contains("multiples of 0 tokens"));
    assert!(refused(&|g, _| g.step = 6).contains("grows by parts of blocks"));
    assert!(refused(&|g, _| g.states[0].tokens = 0).contains("grows by parts of blocks"));
    assert!(refused(&|g, _| g.states[0].state = 7).contains("state 7 of 2 grows"));
    assert!(refused(&|g, _| g.states[0].state = 1).contains("state 1 of 2 grows"));
    assert!(refused(&|g, _| drop(g.states.pop())).contains("holds tokens, and does not grow"));
    assert!(refused(&|g, _| g.states[0].bytes = 7).contains("has blocks of 7 bytes"));
    assert!(refused(&|_, s| s[0].dims[2] = Expr::Symbol(2)).contains("no input binds symbol 2"));
    assert!(refused(&|_, s| s[0].dims[1] = Expr::Const(4)).contains("grows along no axis"));
    let mut program = program();
    program.entries[0].steps[0].items = Expr::Symbol(2);
    assert!(program.validate().unwrap_err().to_string().contains("no input binds symbol 2"));
}
