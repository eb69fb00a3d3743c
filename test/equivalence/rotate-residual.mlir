// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-residual,canonicalize' --verify-each --explain 2>&1 | FileCheck %s

// The residual stream is rotated from the embedding to the head: gains leave the normalisations, weights take the rotation up, and the
// operations stay what they were. The table of a tied head becomes two weights.

// CHECK: remark: rotate-residual: `up`: rotate-residual, taken up by
// CHECK-NEXT: remark: rotate-residual: `down`: as it is
// CHECK-NEXT: remark: rotate-residual: `head`: rotate-residual, taken up by
// CHECK-NEXT: remark: rotate-residual: `down`: no rotate-residual: it reads neither a normalisation nor a linear layer
// CHECK-NOT: remark
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"], qcc.name = "tokens"}], function_type = (tensor<?x?xi64>) -> tensor<?x?x12xf32>, sym_name = "main"}> ({
  ^bb0(%tokens: tensor<?x?xi64>):
    %table = "qcc.parameter"() {name = "table"} : () -> tensor<12x8xf32>
    // CHECK: %[[X:.*]] = "qcc.embedding"(%[[TABLE:.*]], %arg0)
    %0 = "qcc.embedding"(%table, %tokens) : (tensor<12x8xf32>, tensor<?x?xi64>) -> tensor<?x?x8xf32>
    %g = "qcc.parameter"() {name = "gain"} : () -> tensor<8xf32>
    // CHECK: %[[N:.*]] = "qcc.rms_norm"(%[[X]]
    %1 = "qcc.rms_norm"(%0, %g) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %w = "qcc.parameter"() {name = "up.weight"} : () -> tensor<16x8xf32>
    // CHECK: %[[U:.*]] = "qcc.linear"(%[[N]], %{{.*}})
    %2 = "qcc.linear"(%1, %w) : (tensor<?x?x8xf32>, tensor<16x8xf32>) -> tensor<?x?x16xf32> loc("up")
    // CHECK-NEXT: %[[R:.*]] = "qcc.relu"(%[[U]])
    %3 = "qcc.relu"(%2) : (tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %v = "qcc.parameter"() {name = "down.weight"} : () -> tensor<8x16xf32>
    // CHECK: %[[D:.*]] = "qcc.linear"(%[[R]], %{{.*}})
    %4 = "qcc.linear"(%3, %v) : (tensor<?x?x16xf32>, tensor<8x16xf32>) -> tensor<?x?x8xf32> loc("down")
    // CHECK-NEXT: %[[Y:.*]] = "qcc.add"(%[[X]], %[[D]])
    %5 = "qcc.add"(%0, %4) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %f = "qcc.parameter"() {name = "last.gain"} : () -> tensor<8xf32>
    // CHECK: %[[L:.*]] = "qcc.rms_norm"(%[[Y]]
    %6 = "qcc.rms_norm"(%5, %f) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    // CHECK-NOT: "qcc.linear"(%[[L]], %[[TABLE]])
    // CHECK: "qcc.linear"(%[[L]], %{{.*}})
    // CHECK-NEXT: "func.return"
    %7 = "qcc.linear"(%6, %table) : (tensor<?x?x8xf32>, tensor<12x8xf32>) -> tensor<?x?x12xf32> loc("head")
    "func.return"(%7) : (tensor<?x?x12xf32>) -> ()
  }) : () -> ()
}) : () -> ()
