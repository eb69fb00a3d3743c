// RUN: qcc opt %s --pass-pipeline='quantize{weights=int8:channel},canonicalize' | FileCheck %s --check-prefix=WEIGHTS
// RUN: qcc opt %s --pass-pipeline='quantize{weights=int4:block=8 activations=int8:token:dynamic},canonicalize' | FileCheck %s --check-prefix=DYNAMIC
// RUN: qcc opt %s --pass-pipeline='quantize{weights=int8:channel activations=uint8:tensor:asym range=-1..3},canonicalize' | FileCheck %s --check-prefix=STATIC
// RUN: qcc opt %s --pass-pipeline='quantize{weights=split2},canonicalize,lower-quantized' | FileCheck %s --check-prefix=SPLIT

// A format's meaning is written with quantize and dequantize. Codes and scales of a weight are weights of their own, computed when the model
// is compiled; the linear layers stay what they were.

// WEIGHTS: %[[C:.*]] = "qcc.parameter"() {name = "up.codes"} : () -> tensor<8x16x!qcc.q<i8, {axis = 0 : i64}, f32, none>>
// WEIGHTS: %[[S:.*]] = "qcc.parameter"() {name = "up.scale"} : () -> tensor<8xf32>
// WEIGHTS: %[[W:.*]] = "qcc.dequantize"(%[[C]], %[[S]])
// WEIGHTS: "qcc.linear"(%arg{{[0-9]}}, %[[W]], %{{.*}})
// WEIGHTS: "qcc.parameter"() {name = "down.codes"} : () -> tensor<4x8x!qcc.q<i8, {axis = 0 : i64}, f32, none>>
// WEIGHTS: "qcc.linear"

// Dynamic activations get their scales from themselves, one for each token; blocks of weights have f16 scales.
// DYNAMIC: %[[Q:.*]]:2 = "qcc.dynamic_quantize"(%arg{{[0-9]}}) {narrow = true, rounding = "half_even", to = !qcc.q<i8, {token}, f32, none>}
// DYNAMIC: %[[X:.*]] = "qcc.dequantize"(%[[Q]]#0, %[[Q]]#1)
// DYNAMIC: "qcc.parameter"() {name = "up.codes"} : () -> tensor<8x16x!qcc.q<i4, {axis = 1 : i64, block = 8 : i64}, f16, none>>
// DYNAMIC: "qcc.parameter"() {name = "up.scale"} : () -> tensor<8x2xf16>
// DYNAMIC: "qcc.linear"(%[[X]]

// Static ones have a constant scale, here 4 / 255, and an asymmetric format a zero point, here 255 / 4 rounded.
// STATIC-DAG: %[[S:.*]] = "qcc.constant"() {value = dense<0.0156862754> : tensor<f32>}
// STATIC-DAG: %[[Z:.*]] = "qcc.constant"() {value = dense<64> : tensor<i32>}
// STATIC: %[[Q:.*]] = "qcc.quantize"(%arg{{[0-9]}}, %[[S]], %[[Z]]) {narrow = false, rounding = "half_even", to = !qcc.q<ui8, {}, f32, ui8>}
// STATIC: %[[X:.*]] = "qcc.dequantize"(%[[Q]], %[[S]], %[[Z]])
// STATIC: "qcc.linear"(%[[X]]
// STATIC: %[[R:.*]] = "qcc.relu"
// STATIC: "qcc.quantize"(%[[R]], %[[S]], %[[Z]])
// Split codes have tables of scales and zero points, three each. No integer operation takes them: they are decoded for the float one.
// SPLIT: %[[C:.*]] = "qcc.parameter"() {name = "up.codes"} : () -> tensor<8x16x!qcc.q<!qcc.element<"split2">, {}, f32, !qcc.element<"split2">>>
// SPLIT: %[[S:.*]] = "qcc.parameter"() {name = "up.scale"} : () -> tensor<3xf32>
// SPLIT: %[[Z:.*]] = "qcc.parameter"() {name = "up.zero_point"} : () -> tensor<3xi32>
// SPLIT: %[[W:.*]] = "qcc.dequantize"(%[[C]], %[[S]], %[[Z]])
// SPLIT: "qcc.linear"(%arg{{[0-9]}}, %[[W]], %{{.*}})
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "16"]}], function_type = (tensor<?x16xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
  ^bb0(%arg0: tensor<?x16xf32>):
    %0 = "qcc.parameter"() {name = "up"} : () -> tensor<8x16xf32>
    %1 = "qcc.parameter"() {name = "up.bias"} : () -> tensor<8xf32>
    %2 = "qcc.linear"(%arg0, %0, %1) : (tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32>) -> tensor<?x8xf32>
    %3 = "qcc.relu"(%2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %4 = "qcc.parameter"() {name = "down"} : () -> tensor<4x8xf32>
    %5 = "qcc.linear"(%3, %4) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
    "func.return"(%5) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
