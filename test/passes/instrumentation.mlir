// RUN: qcc opt %s --canonicalize --plan-memory --mlir-print-ir-after-all 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: qcc opt %s --canonicalize --plan-memory --mlir-print-ir-after-change 2>&1 | FileCheck %s --check-prefix=CHANGE
// RUN: qcc opt %s --canonicalize --mlir-timing 2>&1 | FileCheck %s --check-prefix=TIMING
// RUN: qcc opt %s --pass-pipeline='canonicalize,fold-batch-norm' --verify-each | FileCheck %s --check-prefix=VERIFIED

// What happens around passes: dumps after each, or after those that changed something, times, and proofs by example.

// ALL: // -----// IR Dump After canonicalize //----- //
// ALL-NEXT: "builtin.module"() ({
// ALL: // -----// IR Dump After plan-memory //----- //
// ALL: qcc.slots

// CHANGE-NOT: canonicalize
// CHANGE: // -----// IR Dump After plan-memory //----- //

// TIMING: ... Execution time report ...
// TIMING: Total Execution Time: {{[0-9.]+}} seconds
// TIMING: ----Wall Time---- ----Name----
// TIMING-NEXT: {{[0-9.]+}} ( {{[0-9.]+}}%) parse
// TIMING: canonicalize
// TIMING: Total

// VERIFIED: "qcc.relu"
"func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?x4xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
^bb0(%0: tensor<?x4xf32>):
  %1 = "qcc.exp"(%0) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %2 = "qcc.relu"(%1) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  "func.return"(%2) : (tensor<?x4xf32>) -> ()
}) : () -> ()
