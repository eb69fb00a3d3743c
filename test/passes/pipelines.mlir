// RUN: not qcc opt %s --pass-pipeline=canonicalise 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not qcc opt %s --pass-pipeline='quantize{weigths=int8}' 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: not qcc opt %s --pass-pipeline='canonicalize,,quantize' 2>&1 | FileCheck %s --check-prefix=SYNTAX
// RUN: not qcc opt %s --load-pass-plugin=x.so 2>&1 | FileCheck %s --check-prefix=PLUGIN
// RUN: qcc opt %s --quantize="weights=int8:channel" --canonicalize | FileCheck %s --check-prefix=FLAGS
// RUN: qcc passes | FileCheck %s --check-prefix=LIST

// Pipelines say what is wrong with them; passes may also be given as flags.

// NAME: error: unknown pass `canonicalise`; did you mean `canonicalize`?; `qcc passes` lists all
// OPTION: error: pass `quantize`:
// SYNTAX: error: pipeline `canonicalize,,quantize`, column 14: a pass name is missing
// PLUGIN: error: plugin `x.so`: cannot read it
// FLAGS: "qcc.parameter"() {name = "w.codes"}
// LIST: canonicalize {{[a-z]}}
// LIST: quantize {{[a-z]}}
// LIST-NEXT: weights {{[a-z]}}
"func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?x4xf32>) -> tensor<?x2xf32>, sym_name = "main"}> ({
^bb0(%0: tensor<?x4xf32>):
  %1 = "qcc.parameter"() {name = "w"} : () -> tensor<2x4xf32>
  %2 = "qcc.linear"(%0, %1) : (tensor<?x4xf32>, tensor<2x4xf32>) -> tensor<?x2xf32>
  "func.return"(%2) : (tensor<?x2xf32>) -> ()
}) : () -> ()
