// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-heads,canonicalize' --verify-each | FileCheck %s

// A value that a later piece of the function reads is read in its new form: the layer is rotated, and not computed twice.
// CHECK: name = "rotation.a2
// CHECK: %[[A:.*]] = "qcc.linear"
// CHECK: name = "w4.cast.linear.cast"
// CHECK: %[[A2:.*]] = "qcc.linear"(%[[A]]
// CHECK: "qcc.linear"
// CHECK: %[[C:.*]] = "qcc.linear"
// CHECK-NOT: qcc.linear
// CHECK: "qcc.add"(%[[C]], %[[A2]])
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"], qcc.name = "t"}], function_type = (tensor<?x?xi64>) -> tensor<?x?x8xf32>, sym_name = "main"}> ({
  ^bb0(%t: tensor<?x?xi64>):
    %p1 = "qcc.parameter"() {name = "w1"} : () -> tensor<20x8xf32>
    %v1 = "qcc.embedding"(%p1, %t) : (tensor<20x8xf32>, tensor<?x?xi64>) -> tensor<?x?x8xf32> loc("embedding1")
    %p2 = "qcc.parameter"() {name = "w2"} : () -> tensor<8xf32>
    %v2 = "qcc.rms_norm"(%v1, %p2) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32> loc("rms_norm2")
    %p3 = "qcc.parameter"() {name = "w3"} : () -> tensor<8x8xf32>
    %v3 = "qcc.linear"(%v2, %p3) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("a")
    %p4 = "qcc.parameter"() {name = "w4"} : () -> tensor<8x8xf32>
    %v4 = "qcc.linear"(%v3, %p4) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("a2")
    %p5 = "qcc.parameter"() {name = "w5"} : () -> tensor<8x8xf32>
    %v5 = "qcc.linear"(%v2, %p5) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("r")
    %v6 = "qcc.relu"(%v5) : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32> loc("relu6")
    %v7 = "qcc.add"(%v1, %v6) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32> loc("add7")
    %p6 = "qcc.parameter"() {name = "w6"} : () -> tensor<8xf32>
    %v8 = "qcc.rms_norm"(%v7, %p6) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32> loc("rms_norm8")
    %p7 = "qcc.parameter"() {name = "w7"} : () -> tensor<8x8xf32>
    %v9 = "qcc.linear"(%v8, %p7) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("b")
    %p8 = "qcc.parameter"() {name = "w8"} : () -> tensor<8x8xf32>
    %v10 = "qcc.linear"(%v9, %p8) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("c")
    %v11 = "qcc.add"(%v10, %v4) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32> loc("add11")
    %v12 = "qcc.sigmoid"(%v11) : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32> loc("sigmoid12")
    "func.return"(%v12) : (tensor<?x?x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
