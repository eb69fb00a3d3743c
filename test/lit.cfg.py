"""Runs the suites under LLVM's lit: `lit test`, with `qcc` from $QCC, the build folder, or $PATH, and LLVM 22's FileCheck."""

import os
import shutil

import lit.formats

config.name = "qcc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
# Inputs of other tests.
config.excludes = ["codegen", "data", "models"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.environ.get("QCC_LIT_OUT", os.path.join(config.test_source_root, "..", "target", "lit"))

folder = os.environ.get("CARGO_TARGET_DIR", os.path.join(config.test_source_root, "..", "target"))
built = [os.path.join(folder, kind, "qcc") for kind in ("release", "debug")]
candidates = [os.environ.get("QCC"), *built, shutil.which("qcc")]
qcc = next((path for path in candidates if path and os.path.exists(path)), None)
if qcc is None:
    lit_config.fatal("no `qcc`: build it with `cargo build`, or name it in $QCC")

config.substitutions += [(r"\bqcc (?=opt|passes|formats|targets|compile|run|eval|bench|inspect)", f"{qcc} "), (r"\bFileCheck\b", "FileCheck-22")]
