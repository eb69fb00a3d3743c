// RUN: qcc opt %s --pass-pipeline='canonicalize' | FileCheck %s

"builtin.module"() ({
  // An operation on weights becomes a weight, computed when the model is compiled; the equal one is the same weight.
  // CHECK-LABEL: sym_name = "weights"
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: %[[W:.*]] = "qcc.parameter"() {name = "w.transpose"} : () -> tensor<4x8xf32>
  // CHECK-NEXT: %[[A:.*]] = "qcc.linear"(%arg{{[0-9]}}, %[[W]])
  // CHECK-NEXT: "qcc.add"(%[[A]], %[[A]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "8"]}], function_type = (tensor<?x8xf32>) -> tensor<?x4xf32>, sym_name = "weights"}> ({
  ^bb0(%arg0: tensor<?x8xf32>):
    %0 = "qcc.parameter"() {name = "w"} : () -> tensor<8x4xf32>
    %1 = "qcc.transpose"(%0) {permutation = array<i64: 1, 0>} : (tensor<8x4xf32>) -> tensor<4x8xf32>
    %2 = "qcc.linear"(%arg0, %1) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
    %3 = "qcc.parameter"() {name = "w"} : () -> tensor<8x4xf32>
    %4 = "qcc.transpose"(%3) {permutation = array<i64: 1, 0>} : (tensor<8x4xf32>) -> tensor<4x8xf32>
    %5 = "qcc.linear"(%arg0, %4) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
    %6 = "qcc.add"(%2, %5) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    "func.return"(%6) : (tensor<?x4xf32>) -> ()
  }) : () -> ()

  // Constants fold to constants where that is exact; a square root would be rounded, so it waits as a weight.
  // CHECK-LABEL: sym_name = "constants"
  // CHECK-DAG: "qcc.constant"() {value = dense<{{.*}}> : tensor<2xf32>}
  // CHECK-DAG: "qcc.parameter"() {name = "constant.sqrt"} : () -> tensor<2xf32>
  // CHECK-NOT: qcc.reshape
  // CHECK-NOT: qcc.sqrt
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "2"]}], function_type = (tensor<?x2xf32>) -> tensor<?x2xf32>, sym_name = "constants"}> ({
  ^bb0(%arg1: tensor<?x2xf32>):
    %0 = "qcc.constant"() {value = dense<[[2.000000e+00, 3.000000e+00]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
    %1 = "qcc.reshape"(%0) {shape = ["2"]} : (tensor<1x2xf32>) -> tensor<2xf32>
    %2 = "qcc.sqrt"(%1) : (tensor<2xf32>) -> tensor<2xf32>
    %3 = "qcc.mul"(%arg1, %1) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
    %4 = "qcc.add"(%3, %2) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
    "func.return"(%4) : (tensor<?x2xf32>) -> ()
  }) : () -> ()

  // Reshapes and transposes that undo each other, and operations that nobody needs.
  // CHECK-LABEL: sym_name = "identities"
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: "qcc.relu"(%arg{{[0-9]}})
  // CHECK-NEXT: "func.return"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "2", "4"]}], function_type = (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>, sym_name = "identities"}> ({
  ^bb0(%arg2: tensor<?x2x4xf32>):
    %0 = "qcc.transpose"(%arg2) {permutation = array<i64: 0, 2, 1>} : (tensor<?x2x4xf32>) -> tensor<?x4x2xf32>
    %1 = "qcc.transpose"(%0) {permutation = array<i64: 0, 2, 1>} : (tensor<?x4x2xf32>) -> tensor<?x2x4xf32>
    %2 = "qcc.reshape"(%1) {shape = ["B", "8"]} : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
    %3 = "qcc.reshape"(%2) {shape = ["B", "2", "4"]} : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
    %4 = "qcc.relu"(%3) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
    %5 = "qcc.exp"(%4) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
    "func.return"(%4) : (tensor<?x2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
