// RUN: qcc opt %s --pass-pipeline='rewrite{rules=%S/rules/negations.rules}' --verify-each | FileCheck %s
// RUN: not qcc opt %s --pass-pipeline='rewrite{rules=%S/rules/wrong.rules}' 2>&1 | FileCheck %s --check-prefix=WRONG
// RUN: not qcc opt %s --pass-pipeline=rewrite 2>&1 | FileCheck %s --check-prefix=FILE

// Rules from a file are proved by example, then applied.

// CHECK: "qcc.exp"(%arg0)
// CHECK-NOT: qcc.neg
// CHECK: "func.return"
// WRONG: a-negation-is-nothing
// FILE: the option `rules=FILE` is needed
"func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?x4xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
^bb0(%0: tensor<?x4xf32>):
  %1 = "qcc.exp"(%0) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %2 = "qcc.neg"(%1) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %3 = "qcc.neg"(%2) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  "func.return"(%3) : (tensor<?x4xf32>) -> ()
}) : () -> ()
