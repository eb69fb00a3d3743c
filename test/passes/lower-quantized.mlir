// RUN: qcc opt %s --pass-pipeline='quantize{weights=int8:channel activations=int8 range=-4..4},canonicalize,lower-quantized,canonicalize' | FileCheck %s

// Layers become integer layers. The activation that clamps and the quantize of the only use go into the layer; the pool between two
// convolutions runs on codes.

// CHECK-LABEL: sym_name = "image"
// CHECK: %[[X:.*]] = "qcc.quantize"(%arg{{[0-9]}}
// CHECK: %[[C:.*]] = "qcc.quantized_conv"(%[[X]], {{.*}}lower = 0.000000e+00 : f64{{.*}}to = !qcc.q<i8, {}, f32, none>, upper = 6.000000e+00 : f64}
// CHECK: %[[P:.*]] = "qcc.max_pool"(%[[C]]){{.*}} -> tensor<?x4x4x4x!qcc.q<i8, {}, f32, none>>
// CHECK: %[[Y:.*]] = "qcc.quantized_conv"(%[[P]], {{.*}}to = f32
// CHECK-NEXT: "func.return"(%[[Y]])
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"]}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x2x4x4xf32>, sym_name = "image"}> ({
  ^bb0(%arg0: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "a"} : () -> tensor<4x3x3x3xf32>
    %1 = "qcc.conv"(%arg0, %0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<?x4x8x8xf32>
    %2 = "qcc.clamp"(%1) {max = 6.000000e+00 : f64, min = 0.000000e+00 : f64} : (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32>
    %3 = "qcc.max_pool"(%2) {ceil = false, dilations = array<i64: 1, 1>, kernel = array<i64: 2, 2>, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 2, 2>} : (tensor<?x4x8x8xf32>) -> tensor<?x4x4x4xf32>
    %4 = "qcc.parameter"() {name = "b"} : () -> tensor<2x4x1x1xf32>
    %5 = "qcc.conv"(%3, %4) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x4x4xf32>, tensor<2x4x1x1xf32>) -> tensor<?x2x4x4xf32>
    "func.return"(%5) : (tensor<?x2x4x4xf32>) -> ()
  }) : () -> ()

  // A value that others read in float stays float; the layer gets codes of it.
  // CHECK-LABEL: sym_name = "residual"
  // CHECK: %[[A:.*]] = "qcc.quantized_linear"({{.*}}to = f32
  // CHECK: %[[Q:.*]] = "qcc.quantize"(%[[A]]
  // CHECK: %[[B:.*]] = "qcc.quantized_linear"(%[[Q]], {{.*}}to = f32
  // CHECK: "qcc.add"(%[[A]], %[[B]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "8"]}], function_type = (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>, sym_name = "residual"}> ({
  ^bb0(%arg1: tensor<?x?x8xf32>):
    %0 = "qcc.parameter"() {name = "c"} : () -> tensor<8x8xf32>
    %1 = "qcc.linear"(%arg1, %0) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
    %2 = "qcc.parameter"() {name = "d"} : () -> tensor<8x8xf32>
    %3 = "qcc.linear"(%1, %2) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
    %4 = "qcc.add"(%1, %3) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    "func.return"(%4) : (tensor<?x?x8xf32>) -> ()
  }) : () -> ()

  // A minimum with a bound for each channel goes into the convolution, and the quantize behind it too.
  // CHECK-LABEL: sym_name = "bounded"
  // CHECK: %[[B:.*]] = "qcc.parameter"() {name = "bounds.reshape"} : () -> tensor<4xf32>
  // CHECK: %[[C:.*]] = "qcc.quantized_conv"({{.*}}, %[[B]]) {{.*}}lower = 0.000000e+00 : f64{{.*}}to = !qcc.q<i8, {}, f32, none>
  // CHECK-NOT: qcc.min
  // CHECK: "qcc.quantized_conv"(%[[C]]
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"]}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x2x8x8xf32>, sym_name = "bounded"}> ({
  ^bb0(%arg2: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "e"} : () -> tensor<4x3x1x1xf32>
    %1 = "qcc.conv"(%arg2, %0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x1x1xf32>) -> tensor<?x4x8x8xf32>
    %2 = "qcc.relu"(%1) : (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32>
    %3 = "qcc.parameter"() {name = "bounds"} : () -> tensor<4x1x1xf32>
    %4 = "qcc.min"(%2, %3) : (tensor<?x4x8x8xf32>, tensor<4x1x1xf32>) -> tensor<?x4x8x8xf32>
    %5 = "qcc.parameter"() {name = "f"} : () -> tensor<2x4x1x1xf32>
    %6 = "qcc.conv"(%4, %5) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x8x8xf32>, tensor<2x4x1x1xf32>) -> tensor<?x2x8x8xf32>
    "func.return"(%6) : (tensor<?x2x8x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
