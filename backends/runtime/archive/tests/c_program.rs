//! From objects to a running C program: hand-written kernels and a program are linked with the embedded runtime into `model.so`, by each
//! linker there is, and a C program uses it.

use std::path::Path;
use std::process::Command;

use qcc_runtime::program::{Arg, Entry, Expr, ParameterSlot, Port, Program, SCHEMA, Slot, Step, Work};
use qcc_runtime::{PARAMETER_FILE, ParameterWriter};
use qcc_runtime_archive::{EXPORTED_DATA, HEADER, Linkage};

const WIDTH: u64 = 4;

fn program() -> Program {
    let rows = |name: &str| Port {
        name: name.into(),
        element: "f32".into(),
        dims: vec![Expr::Symbol(0), Expr::Const(WIDTH)],
    };
    let step = |name: &str, kernel, args| Step {
        name: name.into(),
        kernel,
        args,
        items: Expr::Symbol(0),
        grain: 1,
        scratch: Expr::Const(4 * WIDTH),
        work: Work::default(),
        beside: false,
    };
    let doubled = || Arg::Slot { index: 0, offset: Expr::Const(0) };
    let width = || Arg::Value(Expr::Const(WIDTH));
    Program {
        schema: SCHEMA,
        symbols: vec!["batch".into()],
        parameters: vec![ParameterSlot { name: "bias".into(), bytes: 4 * WIDTH }],
        kernels: vec!["twice".into(), "accumulate".into()],
        features: vec![],
        entries: vec![Entry {
            name: "step".into(),
            inputs: vec![rows("x")],
            outputs: vec![rows("y")],
            states: vec![rows("total")],
            growth: None,
            limits: Vec::new(),
            slots: vec![Slot {
                bytes: Expr::Mul(Box::new(Expr::Symbol(0)), Box::new(Expr::Const(4 * WIDTH))),
                first: 0,
                last: 1,
            }],
            steps: vec![
                step("double", 0, vec![Arg::Input(0), doubled(), width()]),
                step(
                    "add",
                    1,
                    vec![
                        doubled(),
                        Arg::Parameter { index: 0, offset: 0 },
                        Arg::State(0),
                        Arg::Output(0),
                        width(),
                    ],
                ),
            ],
        }],
    }
}

/// Runs a command that must succeed and gives what it printed; none when there is no such program.
fn run(command: &mut Command) -> Option<String> {
    let (success, printed) = finish(command)?;
    assert!(success, "{command:?}: {printed}");
    Some(printed)
}

/// Runs a command: whether it succeeded, and what it printed; none when there is no such program.
fn finish(command: &mut Command) -> Option<(bool, String)> {
    let output = match command.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    let printed = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&printed).into_owned()))
}

fn sources(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Compiles the kernels with the program beside them; none without a C compiler.
fn compile_kernels(directory: &Path) -> Option<()> {
    let bytes = program().encode().unwrap();
    let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let data = format!(
        "#include <stdint.h>\nconst uint8_t qcc_program_data[] = {{{}}};\nconst uint64_t qcc_program_size = {};\n#include \"{}\"\n",
        list.join(","),
        bytes.len(),
        sources("kernels.c").display()
    );
    std::fs::write(directory.join("kernels.c"), data).unwrap();
    let mut cc = Command::new("cc");
    cc.current_dir(directory).args([
        "-O2",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-c",
        "kernels.c",
        "-o",
        "kernels.o",
    ]);
    run(&mut cc).map(drop)
}

fn write_artifact(directory: &Path) {
    let mut file = Vec::new();
    let mut writer = ParameterWriter::new(&mut file, &program().parameters).unwrap();
    let bias: Vec<u8> = [0.5f32, 10.0, 20.0, 30.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    writer.write(&bias).unwrap();
    let written = writer.finish().unwrap();
    std::fs::write(directory.join(PARAMETER_FILE), file).unwrap();
    std::fs::write(directory.join("model.h"), HEADER).unwrap();
    let manifest = serde_json::json!({
        "schema": 1, "features": [], "files": { PARAMETER_FILE: { "bytes": written.bytes, "blake3": written.blake3 } },
    });
    std::fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
}

const EXPECTED: &str = "\
abi 1, 1 entries, step: x(batch 0, -1 x 4) -> y
y 2 x 4, 32 bytes: 0.5 12 24 36 8.5 20 32 44
y 2 x 4, 32 bytes: 1 24 48 72 17 40 64 88
y 2 x 4, 32 bytes: 0.5 12 24 36 8.5 20 32 44
y 1 x 4, 16 bytes: 0.5 12 24 36
error: input `x`: shape [2, 5] where [batch, 4] is expected
error: input 0: `x` has elements of type f32, not i32
error: output 0 overlaps input 0
error: no entry point `walk`; there are step
error: state is NULL
";

/// Links `model.so` with a linker, and the C program against it, and checks what it prints.
fn link_and_use(linker: &str, flag_prefix: &str, with_libraries: bool) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    if compile_kernels(directory).is_none() {
        return eprintln!("skipped: no C compiler `cc` here");
    }
    write_artifact(directory);
    let linkage = Linkage::write(directory).unwrap();
    let mut command = Command::new(linker);
    command.current_dir(directory).args(["-shared", "-o", "model.so", "kernels.o"]);
    command.args(linkage.flags.iter().map(|flag| format!("{flag_prefix}{flag}"))).arg(&linkage.archive);
    if with_libraries {
        command.args(&linkage.libraries);
    }
    if run(&mut command).is_none() {
        return eprintln!("skipped: no linker `{linker}` here");
    }
    let mut cc = Command::new("cc");
    cc.current_dir(directory)
        .args(["-std=c99", "-pedantic", "-Wall", "-Werror", "-I."])
        .arg(sources("use_model.c"));
    run(cc.args(["model.so", "-Wl,-rpath,$ORIGIN", "-o", "use_model"])).unwrap();
    let use_model = || finish(Command::new(directory.join("use_model")).arg(directory)).unwrap();
    assert_eq!(use_model(), (true, EXPECTED.to_string()));

    let path = directory.join(PARAMETER_FILE);
    let mut damaged = std::fs::read(&path).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let (success, refused) = use_model();
    assert!(
        !success && refused.starts_with("refused: ") && refused.contains("its hash differs"),
        "{refused}"
    );

    // Nothing of the machine that built the runtime.
    let library = std::fs::read(directory.join("model.so")).unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    for folder in [env!("CARGO_MANIFEST_DIR"), &format!("{home}/.cargo")] {
        assert!(!library.windows(folder.len()).any(|w| w == folder.as_bytes()), "{folder} is in model.so");
    }
    eprintln!("model.so linked by {linker}: {} bytes", library.len());

    let exported = run(Command::new("nm").args(["-D", "--defined-only"]).arg(directory.join("model.so")));
    for line in exported.unwrap_or_default().lines() {
        let name = line.rsplit(' ').next().unwrap_or_default();
        let known = qcc_runtime_archive::exported_functions();
        assert!(known.contains(&name) || EXPORTED_DATA.contains(&name), "exports {name}");
    }
}

#[test]
fn linked_by_lld() {
    link_and_use("ld.lld-22", "", true);
}

#[test]
fn linked_by_the_c_compiler() {
    link_and_use("cc", "-Wl,", false);
}
