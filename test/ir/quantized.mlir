// RUN: qcc opt %s | FileCheck %s

// Element types say how numbers are stored; scales are values. Optional operands are told apart by operandSegmentSizes.

"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "64"], qcc.name = "x"}], function_type = (tensor<?x?x64xf32>) -> (tensor<?x?x32xf32>, tensor<?x?x1xf32>), res_attrs = [{qcc.name = "y"}, {}], sym_name = "main"}> ({
  ^bb0(%arg0: tensor<?x?x64xf32>):
    // CHECK: %[[Q:.*]]:2 = "qcc.dynamic_quantize"(%arg0) {narrow = true, rounding = "half_even", to = !qcc.q<i8, {token}, f32, none>} : (tensor<?x?x64xf32>) -> (tensor<?x?x64x!qcc.q<i8, {token}, f32, none>>, tensor<?x?x1xf32>)
    %0:2 = "qcc.dynamic_quantize"(%arg0) {narrow = true, rounding = "half_even", to = !qcc.q<i8, {token}, f32, none>} : (tensor<?x?x64xf32>) -> (tensor<?x?x64x!qcc.q<i8, {token}, f32, none>>, tensor<?x?x1xf32>) loc("q")
    // CHECK: %[[W:.*]] = "qcc.parameter"() {name = "w"} : () -> tensor<32x64x!qcc.q<i4, {axis = 1 : i64, block = 32 : i64}, f16, none>, #qcc.panel<16 : i64, 4 : i64>>
    %1 = "qcc.parameter"() {name = "w"} : () -> tensor<32x64x!qcc.q<i4, {axis = 1 : i64, block = 32 : i64}, f16, none>, #qcc.panel<16 : i64, 4 : i64>> loc("w")
    %2 = "qcc.parameter"() {name = "w.scale"} : () -> tensor<32x2xf16> loc("w.scale")
    // CHECK: "qcc.quantized_linear"(%[[Q]]#0, %[[W]], %{{.*}}, %[[Q]]#1) {lower = 0xFFF0000000000000 : f64, narrow = false, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>, qcc.note = "per token", to = f32, upper = 0x7FF0000000000000 : f64}
    %3 = "qcc.quantized_linear"(%0#0, %1, %2, %0#1) {lower = 0xFFF0000000000000 : f64, narrow = false, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>, qcc.note = "per token", to = f32, upper = 0x7FF0000000000000 : f64} : (tensor<?x?x64x!qcc.q<i8, {token}, f32, none>>, tensor<32x64x!qcc.q<i4, {axis = 1 : i64, block = 32 : i64}, f16, none>, #qcc.panel<16 : i64, 4 : i64>>, tensor<32x2xf16>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32> loc("up")
    "func.return"(%3, %0#1) : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> ()
  }) : () -> ()
}) : () -> ()
