// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-online,canonicalize' --verify-each --explain 2>&1 | FileCheck %s

// A ReLU lets no rotation pass, so its result is transformed while the model runs; of 12 features in one block of a known order.

// CHECK: remark: rotate-online: `down`: rotate-online
// CHECK: %[[R:.*]] = "qcc.relu"(%arg0)
// CHECK-NEXT: %[[H:.*]] = "qcc.hadamard"(%[[R]]) {size = 12 : i64, transpose = false}
// CHECK-NEXT: %[[W:.*]] = "qcc.parameter"() {name = "down.weight.hadamard"} : () -> tensor<4x12xf32>
// CHECK-NEXT: "qcc.linear"(%[[H]], %[[W]])
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "12"], qcc.name = "x"}], function_type = (tensor<?x12xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x12xf32>):
    %0 = "qcc.relu"(%x) : (tensor<?x12xf32>) -> tensor<?x12xf32>
    %w = "qcc.parameter"() {name = "down.weight"} : () -> tensor<4x12xf32>
    %1 = "qcc.linear"(%0, %w) : (tensor<?x12xf32>, tensor<4x12xf32>) -> tensor<?x4xf32> loc("down")
    "func.return"(%1) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
