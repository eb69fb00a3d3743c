// Hadamard transforms before layers and of scan states, and the scaled SiLU: as gate of a scan, after a convolution, and alone.
// PIPELINE:
// PIPELINE: quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel activations=int8:tensor range=-4..4},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:block=8},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:block=8 activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "64"]}], function_type = (tensor<?x?x64xf32>) -> tensor<?x?x9xf32>, sym_name = "layer"}> ({
  ^bb0(%x: tensor<?x?x64xf32>):
    %0 = "qcc.hadamard"(%x) {size = 64 : i64, transpose = false} : (tensor<?x?x64xf32>) -> tensor<?x?x64xf32>
    %w = "qcc.parameter"() {name = "w"} : () -> tensor<9x64xf32>
    %1 = "qcc.linear"(%0, %w) : (tensor<?x?x64xf32>, tensor<9x64xf32>) -> tensor<?x?x9xf32>
    "func.return"(%1) : (tensor<?x?x9xf32>) -> ()
  }) : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "64"]}], function_type = (tensor<?x?x64xf32>) -> (tensor<?x?x24xf32>, tensor<?x?x80xf32>), sym_name = "blocks_of_a_view"}> ({
  ^bb0(%x: tensor<?x?x64xf32>):
    %w0 = "qcc.parameter"() {name = "w0"} : () -> tensor<104x64xf32>
    %0 = "qcc.linear"(%x, %w0) : (tensor<?x?x64xf32>, tensor<104x64xf32>) -> tensor<?x?x104xf32>
    %1 = "qcc.slice"(%0) {axes = array<i64: 2>, ends = array<i64: 88>, starts = array<i64: 8>, steps = array<i64: 1>} : (tensor<?x?x104xf32>) -> tensor<?x?x80xf32>
    %2 = "qcc.hadamard"(%1) {size = 40 : i64, transpose = true} : (tensor<?x?x80xf32>) -> tensor<?x?x80xf32>
    %3 = "qcc.hadamard"(%2) {size = 80 : i64, transpose = false} : (tensor<?x?x80xf32>) -> tensor<?x?x80xf32>
    %w1 = "qcc.parameter"() {name = "w1"} : () -> tensor<24x80xf32>
    %4 = "qcc.linear"(%2, %w1) : (tensor<?x?x80xf32>, tensor<24x80xf32>) -> tensor<?x?x24xf32>
    %5 = "qcc.hadamard"(%4) {size = 12 : i64, transpose = false} : (tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    "func.return"(%5, %3) : (tensor<?x?x24xf32>, tensor<?x?x80xf32>) -> ()
  }) : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "24"]}, {qcc.dims = ["B", "24", "3"]}, {qcc.dims = ["B", "24", "4"]}], function_type = (tensor<?x?x24xf32>, tensor<?x24x3xf32>, tensor<?x24x4xf32>) -> (tensor<?x?x9xf32>, tensor<?x24x3xf32>, tensor<?x24x4xf32>), sym_name = "gate"}> ({
  ^bb0(%x: tensor<?x?x24xf32>, %conv: tensor<?x24x3xf32>, %ssm: tensor<?x24x4xf32>):
    %w0 = "qcc.parameter"() {name = "in_proj"} : () -> tensor<48x24xf32>
    %0 = "qcc.linear"(%x, %w0) : (tensor<?x?x24xf32>, tensor<48x24xf32>) -> tensor<?x?x48xf32>
    %u = "qcc.slice"(%0) {axes = array<i64: 2>, ends = array<i64: 24>, starts = array<i64: 0>, steps = array<i64: 1>} : (tensor<?x?x48xf32>) -> tensor<?x?x24xf32>
    %z = "qcc.slice"(%0) {axes = array<i64: 2>, ends = array<i64: 48>, starts = array<i64: 24>, steps = array<i64: 1>} : (tensor<?x?x48xf32>) -> tensor<?x?x24xf32>
    %w1 = "qcc.parameter"() {name = "conv1d"} : () -> tensor<24x4xf32>
    %1:2 = "qcc.causal_conv"(%u, %w1, %conv) : (tensor<?x?x24xf32>, tensor<24x4xf32>, tensor<?x24x3xf32>) -> (tensor<?x?x24xf32>, tensor<?x24x3xf32>)
    %s1 = "qcc.parameter"() {name = "positive.conv_scale"} : () -> tensor<24xf32>
    %2 = "qcc.scaled_silu"(%1#0, %s1) : (tensor<?x?x24xf32>, tensor<24xf32>) -> tensor<?x?x24xf32>
    %w2 = "qcc.parameter"() {name = "x_proj"} : () -> tensor<32x24xf32>
    %3 = "qcc.linear"(%2, %w2) : (tensor<?x?x24xf32>, tensor<32x24xf32>) -> tensor<?x?x32xf32>
    %b = "qcc.slice"(%3) {axes = array<i64: 2>, ends = array<i64: 4>, starts = array<i64: 0>, steps = array<i64: 1>} : (tensor<?x?x32xf32>) -> tensor<?x?x4xf32>
    %c = "qcc.slice"(%3) {axes = array<i64: 2>, ends = array<i64: 8>, starts = array<i64: 4>, steps = array<i64: 1>} : (tensor<?x?x32xf32>) -> tensor<?x?x4xf32>
    %4 = "qcc.slice"(%3) {axes = array<i64: 2>, ends = array<i64: 32>, starts = array<i64: 8>, steps = array<i64: 1>} : (tensor<?x?x32xf32>) -> tensor<?x?x24xf32>
    %5 = "qcc.softplus"(%4) : (tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    %a = "qcc.parameter"() {name = "negative.a"} : () -> tensor<24x4xf32>
    %d = "qcc.parameter"() {name = "d"} : () -> tensor<24xf32>
    %6:2 = "qcc.selective_scan"(%2, %5, %a, %b, %c, %d, %ssm) : (tensor<?x?x24xf32>, tensor<?x?x24xf32>, tensor<24x4xf32>, tensor<?x?x4xf32>, tensor<?x?x4xf32>, tensor<24xf32>, tensor<?x24x4xf32>) -> (tensor<?x?x24xf32>, tensor<?x24x4xf32>)
    %s2 = "qcc.parameter"() {name = "positive.gate_scale"} : () -> tensor<24xf32>
    %7 = "qcc.scaled_silu"(%z, %s2) : (tensor<?x?x24xf32>, tensor<24xf32>) -> tensor<?x?x24xf32>
    %8 = "qcc.mul"(%7, %6#0) : (tensor<?x?x24xf32>, tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    %w3 = "qcc.parameter"() {name = "out_proj"} : () -> tensor<9x24xf32>
    %9 = "qcc.linear"(%8, %w3) : (tensor<?x?x24xf32>, tensor<9x24xf32>) -> tensor<?x?x9xf32>
    "func.return"(%9, %1#1, %6#1) : (tensor<?x?x9xf32>, tensor<?x24x3xf32>, tensor<?x24x4xf32>) -> ()
  }) {qcc.states = array<i64: 1, 1, 2, 2>} : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "24"]}, {qcc.dims = ["B", "T", "24"]}, {qcc.dims = ["B", "T", "4"]}, {qcc.dims = ["B", "T", "4"]}, {qcc.dims = ["B", "24", "4"]}], function_type = (tensor<?x?x24xf32>, tensor<?x?x24xf32>, tensor<?x?x4xf32>, tensor<?x?x4xf32>, tensor<?x24x4xf32>) -> (tensor<?x?x24xf32>, tensor<?x24x4xf32>), sym_name = "rotated_states"}> ({
  ^bb0(%u: tensor<?x?x24xf32>, %delta: tensor<?x?x24xf32>, %b: tensor<?x?x4xf32>, %c: tensor<?x?x4xf32>, %ssm: tensor<?x24x4xf32>):
    %a = "qcc.parameter"() {name = "negative.a"} : () -> tensor<24x4xf32>
    %1 = "qcc.softplus"(%delta) : (tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    %2:2 = "qcc.selective_scan_states"(%u, %1, %a, %b, %ssm) : (tensor<?x?x24xf32>, tensor<?x?x24xf32>, tensor<24x4xf32>, tensor<?x?x4xf32>, tensor<?x24x4xf32>) -> (tensor<?x?x24x4xf32>, tensor<?x24x4xf32>)
    %3 = "qcc.hadamard"(%2#0) {size = 4 : i64, transpose = false} : (tensor<?x?x24x4xf32>) -> tensor<?x?x24x4xf32>
    %4 = "qcc.hadamard"(%c) {size = 4 : i64, transpose = false} : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
    %5 = "qcc.reshape"(%4) {shape = ["B", "T", "4", "1"]} : (tensor<?x?x4xf32>) -> tensor<?x?x4x1xf32>
    %7 = "qcc.matmul"(%3, %5) : (tensor<?x?x24x4xf32>, tensor<?x?x4x1xf32>) -> tensor<?x?x24x1xf32>
    %6 = "qcc.reshape"(%7) {shape = ["B", "T", "24"]} : (tensor<?x?x24x1xf32>) -> tensor<?x?x24xf32>
    "func.return"(%6, %2#1) : (tensor<?x?x24xf32>, tensor<?x24x4xf32>) -> ()
  }) {qcc.states = array<i64: 4, 1>} : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "64"]}, {qcc.dims = ["T", "1"]}], function_type = (tensor<?x?x64xf32>, tensor<?x1xf32>) -> (tensor<?x?x64xf32>, tensor<?x?x64xf32>), sym_name = "alone"}> ({
  ^bb0(%x: tensor<?x?x64xf32>, %s: tensor<?x1xf32>):
    %0 = "qcc.scaled_silu"(%x, %s) : (tensor<?x?x64xf32>, tensor<?x1xf32>) -> tensor<?x?x64xf32>
    %w = "qcc.parameter"() {name = "positive.scale"} : () -> tensor<1xf32>
    %1 = "qcc.scaled_silu"(%0, %w) : (tensor<?x?x64xf32>, tensor<1xf32>) -> tensor<?x?x64xf32>
    "func.return"(%0, %1) : (tensor<?x?x64xf32>, tensor<?x?x64xf32>) -> ()
  }) : () -> ()
}) : () -> ()
