// RUN: qcc opt %s | FileCheck %s

// Constants and numbers print digit for digit as MLIR prints them: splats once, more than 100 elements in hexadecimal.

"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.name = "x"}], function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, sym_name = "main"}> ({
  ^bb0(%arg0: tensor<2x3xf32>):
    // CHECK: dense<[1.000000e+00, -0.000000e+00, 0x7FC00000, 0x7F800000, 0.699999988, 3.40282347E+38]> : tensor<6xf32>
    %0 = "qcc.constant"() {value = dense<[1.0, -0.0, 0x7FC00000, 0x7F800000, 0.7, 3.4028235e38]> : tensor<6xf32>} : () -> tensor<6xf32>
    // CHECK: dense<7> : tensor<2x3xi64>
    %1 = "qcc.constant"() {value = dense<[[7, 7, 7], [7, 7, 7]]> : tensor<2x3xi64>} : () -> tensor<2x3xi64>
    // CHECK: dense<{{\[\[}}1, -2], [3, 4]]> : tensor<2x2xi32>
    %2 = "qcc.constant"() {value = dense<[[1, -2], [3, 4]]> : tensor<2x2xi32>} : () -> tensor<2x2xi32>
    // CHECK: dense<[true, false]> : tensor<2xi1>
    %3 = "qcc.constant"() {value = dense<[true, false]> : tensor<2xi1>} : () -> tensor<2xi1>
    // CHECK: dense<> : tensor<0x3xf32>
    %4 = "qcc.constant"() {value = dense<> : tensor<0x3xf32>} : () -> tensor<0x3xf32>
    // CHECK: dense<"0x49922449922449922449922409"> : tensor<101xi1>
    %5 = "qcc.constant"() {value = dense<"0x49922449922449922449922409"> : tensor<101xi1>} : () -> tensor<101xi1>
    // CHECK: "qcc.clamp"(%arg0) {max = 0x7FF0000000000000 : f64, min = 0.10000000149011612 : f64}
    %6 = "qcc.clamp"(%arg0) {min = 0.10000000149011612 : f64, max = 0x7FF0000000000000 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    // CHECK: "qcc.leaky_relu"(%{{.*}}) {alpha = 1.000000e-02 : f64, qcc.list = ["a\22\\\0A\C3\BC", 1, 2.500000e+00, [], 0x7FF8000000000000 : f64, true, i8], qcc.none = array<i64>, qcc.some = array<i64: 1, -2>, qcc.unit}
    %7 = "qcc.leaky_relu"(%6) {alpha = 0.01 : f64, qcc.list = ["a\"\\\nü", 1, 2.5, [], 0x7FF8000000000000 : f64, true, i8], qcc.none = array<i64>, qcc.some = array<i64: 1, -2>, qcc.unit} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "func.return"(%7) : (tensor<2x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
