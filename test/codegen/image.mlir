// Convolutions (plain, pointwise, depthwise, strided, dilated), pools, residual sums and a classifier on channels-first images.
// PIPELINE:
// PIPELINE: quantize{weights=int8:channel activations=uint8:tensor:asym range=-1..3},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:tensor activations=int8:tensor range=-2..2},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=split4},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=split2:tensor activations=uint8:tensor:asym range=-1..3},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "17", "15"]}], function_type = (tensor<?x3x17x15xf32>) -> tensor<?x10xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x3x17x15xf32>):
    %w0 = "qcc.parameter"() {name = "stem"} : () -> tensor<20x3x3x3xf32>
    %b0 = "qcc.parameter"() {name = "stem.bias"} : () -> tensor<20xf32>
    %0 = "qcc.conv"(%x, %w0, %b0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x17x15xf32>, tensor<20x3x3x3xf32>, tensor<20xf32>) -> tensor<?x20x17x15xf32>
    %1 = "qcc.clamp"(%0) {max = 6.000000e+00 : f64, min = 0.000000e+00 : f64} : (tensor<?x20x17x15xf32>) -> tensor<?x20x17x15xf32>
    %w1 = "qcc.parameter"() {name = "depthwise"} : () -> tensor<20x1x3x3xf32>
    %2 = "qcc.conv"(%1, %w1) {dilations = array<i64: 1, 1>, groups = 20 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x20x17x15xf32>, tensor<20x1x3x3xf32>) -> tensor<?x20x17x15xf32>
    %3 = "qcc.relu"(%2) : (tensor<?x20x17x15xf32>) -> tensor<?x20x17x15xf32>
    %w2 = "qcc.parameter"() {name = "pointwise"} : () -> tensor<20x20x1x1xf32>
    %4 = "qcc.conv"(%3, %w2) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x20x17x15xf32>, tensor<20x20x1x1xf32>) -> tensor<?x20x17x15xf32>
    %5 = "qcc.add"(%1, %4) : (tensor<?x20x17x15xf32>, tensor<?x20x17x15xf32>) -> tensor<?x20x17x15xf32>
    %6 = "qcc.max_pool"(%5) {ceil = false, dilations = array<i64: 1, 1>, kernel = array<i64: 3, 3>, layout = "channels_first", pads = array<i64: 0, 0, 1, 1>, strides = array<i64: 2, 2>} : (tensor<?x20x17x15xf32>) -> tensor<?x20x8x7xf32>
    %w3 = "qcc.parameter"() {name = "dilated"} : () -> tensor<24x20x3x3xf32>
    %7 = "qcc.conv"(%6, %w3) {dilations = array<i64: 2, 2>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 2, 2, 2, 2>, strides = array<i64: 2, 2>} : (tensor<?x20x8x7xf32>, tensor<24x20x3x3xf32>) -> tensor<?x24x4x4xf32>
    %8 = "qcc.avg_pool"(%7) {ceil = false, count_pads = false, dilations = array<i64: 2, 2>, kernel = array<i64: 2, 2>, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 2, 2>} : (tensor<?x24x4x4xf32>) -> tensor<?x24x2x2xf32>
    %9 = "qcc.reduce_mean"(%8) {axes = array<i64: 2, 3>, keep_dims = false} : (tensor<?x24x2x2xf32>) -> tensor<?x24xf32>
    %w4 = "qcc.parameter"() {name = "classifier"} : () -> tensor<10x24xf32>
    %10 = "qcc.linear"(%9, %w4) : (tensor<?x24xf32>, tensor<10x24xf32>) -> tensor<?x10xf32>
    %11 = "qcc.softmax"(%10) {axis = 1 : i64} : (tensor<?x10xf32>) -> tensor<?x10xf32>
    "func.return"(%11) : (tensor<?x10xf32>) -> ()
  }) : () -> ()
}) : () -> ()
