//! The test runner: runs the `// RUN:` lines of test files in this process, without a shell, and checks output as LLVM's FileCheck does.
//!
//! The same files pass under LLVM's own `lit` with `lit.cfg.py`. What a line may say is what [`script`] parses: pipes, `&&`, redirections,
//! `not`, `FileCheck`, `qcc` (run in process), and any other program that is installed.
//!
//! No library was found that does this: `litcheck-filecheck` 0.5 differs from LLVM's in `CHECK-SAME`, `CHECK-DAG` and white space (and
//! brings a hundred crates), `filecheck` has a language of its own. [`filecheck`] is tested against LLVM's answers.

pub mod bless;
pub mod execute;
pub mod filecheck;
pub mod mutate;
pub mod script;
