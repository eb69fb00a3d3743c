// RUN: qcc opt %s --pass-pipeline='canonicalize,split-projections,canonicalize' --verify-each | FileCheck %s

// Each slice of a layer's result becomes a layer of its own, with those rows of the weight and the bias.

// CHECK-LABEL: sym_name = "halves"
// CHECK-NOT: qcc.slice
// CHECK-DAG: %[[W:.*]] = "qcc.parameter"() {name = "in.weight[0:4]"} : () -> tensor<4x8xf32>
// CHECK-DAG: %[[B:.*]] = "qcc.parameter"() {name = "in.bias[0:4]"} : () -> tensor<4xf32>
// CHECK-DAG: %[[V:.*]] = "qcc.parameter"() {name = "in.weight[4:8]"} : () -> tensor<4x8xf32>
// CHECK-DAG: "qcc.linear"(%[[X:.*]], %[[W]], %[[B]])
// CHECK-DAG: "qcc.linear"(%[[X]], %[[V]], %{{.*}})
// CHECK: "func.return"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "8"]}], function_type = (tensor<?x8xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>), sym_name = "halves"}> ({
  ^bb0(%arg0: tensor<?x8xf32>):
    %0 = "qcc.parameter"() {name = "in.weight"} : () -> tensor<8x8xf32>
    %1 = "qcc.parameter"() {name = "in.bias"} : () -> tensor<8xf32>
    %2 = "qcc.linear"(%arg0, %0, %1) : (tensor<?x8xf32>, tensor<8x8xf32>, tensor<8xf32>) -> tensor<?x8xf32> loc("in")
    %3 = "qcc.slice"(%2) {axes = array<i64: 1>, ends = array<i64: 4>, starts = array<i64: 0>, steps = array<i64: 1>} : (tensor<?x8xf32>) -> tensor<?x4xf32>
    %4 = "qcc.slice"(%2) {axes = array<i64: 1>, ends = array<i64: 8>, starts = array<i64: 4>, steps = array<i64: 1>} : (tensor<?x8xf32>) -> tensor<?x4xf32>
    "func.return"(%3, %4) : (tensor<?x4xf32>, tensor<?x4xf32>) -> ()
  }) : () -> ()

  // A result that is needed whole stays whole.
  // CHECK-LABEL: sym_name = "whole"
  // CHECK: %[[Y:.*]] = "qcc.linear"
  // CHECK: "qcc.slice"(%[[Y]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "8"]}], function_type = (tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x4xf32>), sym_name = "whole"}> ({
  ^bb0(%arg0: tensor<?x8xf32>):
    %0 = "qcc.parameter"() {name = "whole.weight"} : () -> tensor<8x8xf32>
    %2 = "qcc.linear"(%arg0, %0) : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32> loc("whole")
    %3 = "qcc.slice"(%2) {axes = array<i64: 1>, ends = array<i64: 4>, starts = array<i64: 0>, steps = array<i64: 1>} : (tensor<?x8xf32>) -> tensor<?x4xf32>
    "func.return"(%2, %3) : (tensor<?x8xf32>, tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
