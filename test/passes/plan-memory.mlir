// RUN: qcc opt %s --pass-pipeline='plan-memory' | FileCheck %s

// A chain of operations needs two slots. Weights and results of the function have none (-1), a reshape has its operand's.

// CHECK: "qcc.parameter"() {name = "w", qcc.slots = array<i64: -1>}
// CHECK: "qcc.exp"(%arg{{[0-9]}}) {qcc.slots = array<i64: [[A:[01]]]>}
// CHECK: "qcc.neg"({{.*}}) {qcc.slots = array<i64: [[B:[01]]]>}
// CHECK: "qcc.abs"({{.*}}) {qcc.slots = array<i64: [[A]]>}
// CHECK: "qcc.reshape"({{.*}}) {qcc.slots = array<i64: [[A]]>
// CHECK: "qcc.relu"({{.*}}) {qcc.slots = array<i64: [[B]]>}
// CHECK: "qcc.linear"({{.*}}) {qcc.slots = array<i64: -1>}
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "2", "4"]}], function_type = (tensor<?x2x4xf32>) -> tensor<?x3xf32>, sym_name = "main"}> ({
  ^bb0(%arg0: tensor<?x2x4xf32>):
    %0 = "qcc.parameter"() {name = "w"} : () -> tensor<3x8xf32>
    %1 = "qcc.exp"(%arg0) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
    %2 = "qcc.neg"(%1) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
    %3 = "qcc.abs"(%2) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
    %4 = "qcc.reshape"(%3) {shape = ["B", "8"]} : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
    %5 = "qcc.relu"(%4) : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %6 = "qcc.linear"(%5, %0) : (tensor<?x8xf32>, tensor<3x8xf32>) -> tensor<?x3xf32>
    "func.return"(%6) : (tensor<?x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
