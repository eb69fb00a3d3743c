// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-heads,canonicalize' --verify-each --explain 2>&1 | FileCheck %s

// Nothing but a linear map lies between two layers: both take up a rotation, the first with its bias.

// CHECK: remark: rotate-heads: `value`: as it is
// CHECK-NEXT: remark: rotate-heads: `output`: rotate-heads, taken up by value
// CHECK-NEXT: remark: rotate-heads: `value`: no rotate-heads: it reads neither a normalisation nor a linear layer
// CHECK-NOT: remark
// CHECK: %[[W:.*]] = "qcc.parameter"() {name = "{{.*}}"} : () -> tensor<8x4xf32>
// CHECK: %[[B:.*]] = "qcc.parameter"() {name = "{{.*}}"} : () -> tensor<8xf32>
// CHECK: %[[V:.*]] = "qcc.linear"(%arg0, %[[W]], %[[B]])
// CHECK-NEXT: %[[U:.*]] = "qcc.parameter"() {name = "{{.*}}"} : () -> tensor<4x8xf32>
// CHECK-NEXT: "qcc.linear"(%[[V]], %[[U]])
// CHECK-NEXT: "func.return"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"], qcc.name = "x"}], function_type = (tensor<?x4xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x4xf32>):
    %w = "qcc.parameter"() {name = "value.weight"} : () -> tensor<8x4xf32>
    %b = "qcc.parameter"() {name = "value.bias"} : () -> tensor<8xf32>
    %0 = "qcc.linear"(%x, %w, %b) : (tensor<?x4xf32>, tensor<8x4xf32>, tensor<8xf32>) -> tensor<?x8xf32> loc("value")
    %u = "qcc.parameter"() {name = "output.weight"} : () -> tensor<4x8xf32>
    %1 = "qcc.linear"(%0, %u) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32> loc("output")
    "func.return"(%1) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
