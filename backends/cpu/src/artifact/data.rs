//! The object file that ties a model together: the program's bytes and the table of kernels, under the names the runtime looks for.

use std::fmt::Write as _;

use crate::compile::Kernel;

/// MLIR text that defines `qcc_program_data`, `qcc_program_size` and `qcc_kernel_table`.
pub(super) fn text(program: &[u8], kernels: &[Kernel]) -> String {
    let mut text = String::with_capacity(program.len() * 3 + 4096);
    for kernel in kernels {
        let _ = writeln!(text, "llvm.func @{}(!llvm.ptr, i64, i64, !llvm.ptr)", kernel.name);
    }
    let _ = write!(text, "llvm.mlir.global external constant @qcc_program_data(\"");
    for byte in program {
        let _ = write!(text, "\\{byte:02X}");
    }
    let _ = writeln!(
        text,
        "\") {{addr_space = 0 : i32, alignment = 64 : i64}} : !llvm.array<{} x i8>",
        program.len()
    );
    let _ =
        writeln!(text, "llvm.mlir.global external constant @qcc_program_size({} : i64) : i64", program.len());
    let table = format!("!llvm.array<{} x ptr>", kernels.len());
    let _ = writeln!(text, "llvm.mlir.global external constant @qcc_kernel_table() : {table} {{");
    let _ = writeln!(text, "  %t0 = llvm.mlir.undef : {table}");
    for (i, kernel) in kernels.iter().enumerate() {
        let _ = writeln!(text, "  %k{i} = llvm.mlir.addressof @{} : !llvm.ptr", kernel.name);
        let _ = writeln!(text, "  %t{} = llvm.insertvalue %k{i}, %t{i}[{i}] : {table}", i + 1);
    }
    let _ = writeln!(text, "  llvm.return %t{} : {table}\n}}", kernels.len());
    text
}
