// Equalized convolutions: clamps whose bounds differ by channel, behind plain and depthwise convolutions.
// PIPELINE: equalize,canonicalize
// PIPELINE: equalize,canonicalize,quantize{weights=int8:channel activations=uint8:tensor:asym range=-1..3},canonicalize,lower-quantized,canonicalize
// PIPELINE: equalize,canonicalize,quantize{weights=int8:tensor activations=int8:tensor range=-2..2},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x5x8x8xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x3x8x8xf32>):
    %w0 = "qcc.parameter"() {name = "stem"} : () -> tensor<20x3x3x3xf32>
    %0 = "qcc.conv"(%x, %w0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<20x3x3x3xf32>) -> tensor<?x20x8x8xf32> loc("stem")
    %1 = "qcc.clamp"(%0) {max = 6.000000e+00 : f64, min = 0.000000e+00 : f64} : (tensor<?x20x8x8xf32>) -> tensor<?x20x8x8xf32>
    %w2 = "qcc.parameter"() {name = "depthwise"} : () -> tensor<20x1x3x3xf32>
    %2 = "qcc.conv"(%1, %w2) {dilations = array<i64: 1, 1>, groups = 20 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x20x8x8xf32>, tensor<20x1x3x3xf32>) -> tensor<?x20x8x8xf32> loc("depthwise")
    %3 = "qcc.clamp"(%2) {max = 1.000000e+00 : f64, min = -5.000000e-01 : f64} : (tensor<?x20x8x8xf32>) -> tensor<?x20x8x8xf32>
    %w4 = "qcc.parameter"() {name = "project"} : () -> tensor<12x20x1x1xf32>
    %4 = "qcc.conv"(%3, %w4) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x20x8x8xf32>, tensor<12x20x1x1xf32>) -> tensor<?x12x8x8xf32> loc("project")
    %5 = "qcc.relu"(%4) : (tensor<?x12x8x8xf32>) -> tensor<?x12x8x8xf32>
    %w6 = "qcc.parameter"() {name = "last"} : () -> tensor<5x12x3x3xf32>
    %6 = "qcc.conv"(%5, %w6) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x12x8x8xf32>, tensor<5x12x3x3xf32>) -> tensor<?x5x8x8xf32> loc("last")
    "func.return"(%6) : (tensor<?x5x8x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
