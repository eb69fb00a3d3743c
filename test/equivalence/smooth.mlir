// RUN: qcc opt %s --pass-pipeline='canonicalize,smooth,canonicalize' --verify-each --explain 2>&1 | FileCheck %s

// Scales pass from a layer into the gain of the normalisation before it, and through a product into one of its factors: here into the
// layer that makes it. Nothing is left to do while the model runs.

// CHECK: remark: smooth: `gate`: smooth, taken up by
// CHECK-NEXT: remark: smooth: `up`: smooth, taken up by
// CHECK-NEXT: remark: smooth: `down`: smooth, taken up by
// CHECK-NOT: remark
// CHECK: "qcc.rms_norm"
// CHECK: "qcc.linear"
// CHECK: "qcc.mul"
// CHECK-NOT: "qcc.mul"
// CHECK: "func.return"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "8"], qcc.name = "x"}], function_type = (tensor<?x8xf32>) -> tensor<?x8xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x8xf32>):
    %g = "qcc.parameter"() {name = "gain"} : () -> tensor<8xf32>
    %0 = "qcc.rms_norm"(%x, %g) {epsilon = 1.000000e-05 : f64} : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
    %w = "qcc.parameter"() {name = "gate.weight"} : () -> tensor<16x8xf32>
    %1 = "qcc.linear"(%0, %w) : (tensor<?x8xf32>, tensor<16x8xf32>) -> tensor<?x16xf32> loc("gate")
    %2 = "qcc.sigmoid"(%1) : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %u = "qcc.parameter"() {name = "up.weight"} : () -> tensor<16x8xf32>
    %3 = "qcc.linear"(%0, %u) : (tensor<?x8xf32>, tensor<16x8xf32>) -> tensor<?x16xf32> loc("up")
    %4 = "qcc.mul"(%2, %3) : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
    %d = "qcc.parameter"() {name = "down.weight"} : () -> tensor<8x16xf32>
    %5 = "qcc.linear"(%4, %d) : (tensor<?x16xf32>, tensor<8x16xf32>) -> tensor<?x8xf32> loc("down")
    "func.return"(%5) : (tensor<?x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
