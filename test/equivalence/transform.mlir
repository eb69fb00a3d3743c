// RUN: qcc opt %s --pass-pipeline='canonicalize,transform{weights=int4:channel},canonicalize' --verify-each --explain 2>&1 | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='canonicalize,transform{weights=int4:channel kinds=rotate-online},canonicalize' --verify-each --explain 2>&1 | FileCheck %s --check-prefix=ONLINE

// Among all transforms those with the least loss are taken that leave the model about as fast; others are named where they are not legal.
// A Hadamard transform of so few features while the model runs would cost more than it may.

// CHECK: remark: transform: `gate`: smooth
// CHECK-NEXT: remark: transform: `up`: smooth
// CHECK-NEXT: remark: transform: `down`: smooth
// CHECK-NEXT: remark: transform: `gate + up`: no rotate-residual: a rotation does not pass the input `x`
// CHECK-NOT: qcc.hadamard
// CHECK: "func.return"
// ONLINE: remark: transform: `down`: as it is
// ONLINE-NOT: qcc.hadamard
// ONLINE: "func.return"
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
