// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-residual{basis=hadamard},canonicalize' --verify-each --explain 2>&1 | FileCheck %s

// A stream of two widths is rotated in both, each with a matrix of its own.
// CHECK-DAG: `up1`: rotate-residual
// CHECK-DAG: `wide`: rotate-residual
// CHECK-DAG: `up2`: rotate-residual
// CHECK-DAG: `head`: rotate-residual
// CHECK-NOT: cannot be rotated
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"], qcc.name = "t"}], function_type = (tensor<?x?xi64>) -> tensor<?x?x20xf32>, sym_name = "main"}> ({
  ^bb0(%t: tensor<?x?xi64>):
    %p1 = "qcc.parameter"() {name = "w1"} : () -> tensor<20x8xf32>
    %v1 = "qcc.embedding"(%p1, %t) : (tensor<20x8xf32>, tensor<?x?xi64>) -> tensor<?x?x8xf32>
    %p2 = "qcc.parameter"() {name = "g1"} : () -> tensor<8xf32>
    %v2 = "qcc.rms_norm"(%v1, %p2) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %p3 = "qcc.parameter"() {name = "w3"} : () -> tensor<12x8xf32>
    %v3 = "qcc.linear"(%v2, %p3) : (tensor<?x?x8xf32>, tensor<12x8xf32>) -> tensor<?x?x12xf32> loc("up1")
    %v4 = "qcc.silu"(%v3) : (tensor<?x?x12xf32>) -> tensor<?x?x12xf32>
    %p5 = "qcc.parameter"() {name = "w5"} : () -> tensor<8x12xf32>
    %v5 = "qcc.linear"(%v4, %p5) : (tensor<?x?x12xf32>, tensor<8x12xf32>) -> tensor<?x?x8xf32> loc("down1")
    %v6 = "qcc.add"(%v1, %v5) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %p7 = "qcc.parameter"() {name = "g2"} : () -> tensor<8xf32>
    %v7 = "qcc.rms_norm"(%v6, %p7) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %p8 = "qcc.parameter"() {name = "w8"} : () -> tensor<16x8xf32>
    %v8 = "qcc.linear"(%v7, %p8) : (tensor<?x?x8xf32>, tensor<16x8xf32>) -> tensor<?x?x16xf32> loc("wide")
    %p9 = "qcc.parameter"() {name = "g3"} : () -> tensor<16xf32>
    %v9 = "qcc.rms_norm"(%v8, %p9) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x16xf32>, tensor<16xf32>) -> tensor<?x?x16xf32>
    %p10 = "qcc.parameter"() {name = "w10"} : () -> tensor<12x16xf32>
    %v10 = "qcc.linear"(%v9, %p10) : (tensor<?x?x16xf32>, tensor<12x16xf32>) -> tensor<?x?x12xf32> loc("up2")
    %v11 = "qcc.silu"(%v10) : (tensor<?x?x12xf32>) -> tensor<?x?x12xf32>
    %p12 = "qcc.parameter"() {name = "w12"} : () -> tensor<16x12xf32>
    %v12 = "qcc.linear"(%v11, %p12) : (tensor<?x?x12xf32>, tensor<16x12xf32>) -> tensor<?x?x16xf32> loc("down2")
    %v13 = "qcc.add"(%v8, %v12) : (tensor<?x?x16xf32>, tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %p14 = "qcc.parameter"() {name = "g4"} : () -> tensor<16xf32>
    %v14 = "qcc.rms_norm"(%v13, %p14) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x16xf32>, tensor<16xf32>) -> tensor<?x?x16xf32>
    %p15 = "qcc.parameter"() {name = "w15"} : () -> tensor<20x16xf32>
    %v15 = "qcc.linear"(%v14, %p15) : (tensor<?x?x16xf32>, tensor<20x16xf32>) -> tensor<?x?x20xf32> loc("head")
    "func.return"(%v15) : (tensor<?x?x20xf32>) -> ()
  }) : () -> ()
}) : () -> ()
