//! Artifacts for other machines, by a C program: for ARM in an emulator, for AVX2 under a tool that looks at every access to memory. Functions
//! that keep nothing agree with the interpreter there too.

use std::path::Path;
use std::process::Command;

use qcc_cpu::artifact::{self, ArtifactExtras};
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{ElementType, Module};
use qcc_mlir::Target;
use qcc_params::{Data, Parameters, Tensor};
use qcc_passes::verify_each::relative_error;
use qcc_passes::{Executor, SilentProgress};

use crate::{Random, TOLERANCE, codegen_files, inputs, quantized};

/// How programs for a machine are compiled and run.
struct Machine {
    target: Target,
    compiler: &'static str,
    /// What runs them, with its arguments.
    runner: &'static [&'static str],
}

/// As the program's header numbers elements, and back.
fn number(element: ElementType) -> i64 {
    match element {
        ElementType::F32 => 0,
        ElementType::I64 => 10,
        ElementType::Bool => 12,
        other => panic!("tensors of {other}"),
    }
}

fn job(inputs: &[Tensor]) -> Vec<u8> {
    let mut bytes = (inputs.len() as i64).to_le_bytes().to_vec();
    for tensor in inputs {
        let data = tensor.to_le_bytes();
        let head = [number(tensor.ty().element), tensor.dims.len() as i64];
        let dims = tensor.dims.iter().map(|&d| d as i64);
        for n in head.into_iter().chain(dims).chain([data.len() as i64]) {
            bytes.extend(n.to_le_bytes());
        }
        bytes.extend(data);
    }
    bytes
}

fn results(bytes: &[u8]) -> Vec<Tensor> {
    /// The first bytes, which are taken off.
    fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = rest.split_at(count);
        *rest = tail;
        head
    }
    fn next(rest: &mut &[u8]) -> i64 {
        i64::from_le_bytes(take(rest, 8).try_into().expect("eight bytes"))
    }
    let mut rest = bytes;
    let mut tensors = Vec::new();
    for _ in 0..next(&mut rest) {
        let (element, rank) = (next(&mut rest), next(&mut rest));
        let dims: Vec<usize> = (0..rank).map(|_| next(&mut rest) as usize).collect();
        let length = next(&mut rest) as usize;
        let data = take(&mut rest, length);
        let words = |size: usize| data.chunks_exact(size);
        let (element, data) = match element {
            0 => {
                let values = words(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")));
                (ElementType::F32, Data::F32(values.collect()))
            }
            2 => {
                let values = words(2).map(|b| half::bf16::from_le_bytes(b.try_into().expect("two bytes")));
                (ElementType::BF16, Data::BF16(values.collect()))
            }
            10 => {
                let values = words(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")));
                (ElementType::I64, Data::I64(values.collect()))
            }
            _ => (ElementType::Bool, Data::Bool(data.iter().map(|b| *b != 0).collect())),
        };
        tensors.push(Tensor::new(dims, element, data).expect("the sizes agree"));
    }
    tensors
}

impl Machine {
    /// Whether what it needs is there.
    fn is_here(&self) -> bool {
        let has = |program: &str| {
            let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
            if !found {
                eprintln!("skipped: no `{program}` here");
            }
            found
        };
        has(self.compiler) && self.runner.first().is_none_or(|runner| has(runner))
    }

    /// What an artifact gives for these inputs.
    fn run(&self, artifact: &Path, folder: &Path, inputs: &[Tensor], at: &str) -> Vec<Tensor> {
        let program = folder.join("run_job");
        let status = Command::new(self.compiler)
            .args(["-std=c99", "-O1", "-Wall", "-Werror", "-I"])
            .arg(artifact)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_job.c"))
            .arg(artifact.join("model.so"))
            .arg(format!("-Wl,-rpath,{}", artifact.display()))
            .arg("-o")
            .arg(&program)
            .status()
            .expect("the compiler runs");
        assert!(status.success(), "{at}");
        let (asked, answered) = (folder.join("job"), folder.join("result"));
        std::fs::write(&asked, job(inputs)).expect("written");
        let mut command = match self.runner {
            [] => Command::new(&program),
            [runner, arguments @ ..] => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(&program);
                command
            }
        };
        let output = command.arg(artifact).arg(&asked).arg(&answered).output().expect("the program runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{at}: {} {}", output.status, String::from_utf8_lossy(&said));
        results(&std::fs::read(&answered).expect("results"))
    }

    fn check(&self, module: &Module, parameters: &Parameters, sizes: &[(&str, i64)], at: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let artifact = folder.path().join("model.qcc");
        let interpreter = Interpreter::new(Precision::F32);
        let extras = ArtifactExtras::default();
        artifact::write(module, parameters, &interpreter, &self.target, &extras, &artifact, &SilentProgress)
            .unwrap_or_else(|e| panic!("{at}: {e}"));
        let function = module.entry().expect("a function");
        let inputs = inputs(function, &mut Random(11), sizes);
        let mut reference =
            interpreter.prepare(module, parameters).expect("the interpreter takes every module");
        let expected = reference.run(&inputs).expect("the interpreter runs every module");
        let got = self.run(&artifact, folder.path(), &inputs, at);
        assert_eq!(got.len(), expected.len(), "{at}");
        for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
            let error = relative_error(a, b);
            assert!(error <= TOLERANCE, "{at}: output {i} is off by {error:.2e}");
        }
    }

    /// All functions of the suite that keep nothing, after the passes that their files name.
    fn check_all(&self, name: &str) {
        if !self.is_here() {
            return;
        }
        let sizes = [("B", 2), ("T", 19), ("P", 0)];
        let mut checked = 0;
        for file in codegen_files() {
            for (at, module, parameters) in quantized(&file) {
                if module.entry().is_some_and(|function| function.states.is_empty()) {
                    self.check(&module, &parameters, &sizes, &format!("{name}: {at}"));
                    checked += 1;
                }
            }
        }
        assert!(checked > 10, "only {checked} functions");
    }
}

fn check_arm(target: &str) {
    let runner = &["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"];
    let machine = Machine {
        target: Target::named(target).expect("a known target"),
        compiler: "aarch64-linux-gnu-gcc",
        runner,
    };
    machine.check_all(target);
}

#[test]
fn functions_agree_on_arm() {
    check_arm("aarch64");
}

#[test]
fn functions_agree_on_arm_with_products_of_signed_bytes() {
    check_arm("aarch64+dotprod");
}

#[test]
fn functions_agree_on_arm_with_products_of_bytes_of_either_sign() {
    check_arm("aarch64+dotprod+i8mm");
}

/// The program itself asks the system for the registers.
#[test]
fn functions_agree_in_tile_registers() {
    if !qcc_runtime::features::amx_int8() {
        eprintln!("skipped: this machine has no AMX");
        return;
    }
    let target = Target::named("x86-64-v4+amx-int8").expect("a known target");
    Machine { target, compiler: "cc", runner: &[] }.check_all("x86-64-v4+amx-int8");
}

#[test]
fn nothing_is_read_or_written_where_it_should_not_be() {
    let target = Target::named("x86-64-v3").expect("a known target");
    let runner =
        &["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=definite"];
    Machine { target, compiler: "cc", runner }.check_all("x86-64-v3");
}
