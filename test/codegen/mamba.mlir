// A Mamba block: causal convolution and selective scan with their states, gates and norms; the states come out as results.
// PIPELINE:
// PIPELINE: quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel activations=int8:tensor range=-4..4},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:block=8},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=split3},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"]}, {qcc.dims = ["B", "24", "3"]}, {qcc.dims = ["B", "24", "4"]}], function_type = (tensor<?x?xi64>, tensor<?x24x3xf32>, tensor<?x24x4xf32>) -> (tensor<?x?x9xf32>, tensor<?x24x3xf32>, tensor<?x24x4xf32>), sym_name = "main"}> ({
  ^bb0(%tokens: tensor<?x?xi64>, %conv: tensor<?x24x3xf32>, %ssm: tensor<?x24x4xf32>):
    %table = "qcc.parameter"() {name = "table"} : () -> tensor<9x16xf32>
    %0 = "qcc.embedding"(%table, %tokens) : (tensor<9x16xf32>, tensor<?x?xi64>) -> tensor<?x?x16xf32>
    %g = "qcc.parameter"() {name = "norm"} : () -> tensor<16xf32>
    %1 = "qcc.rms_norm"(%0, %g) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x16xf32>, tensor<16xf32>) -> tensor<?x?x16xf32>
    %w0 = "qcc.parameter"() {name = "in_proj"} : () -> tensor<48x16xf32>
    %2 = "qcc.linear"(%1, %w0) : (tensor<?x?x16xf32>, tensor<48x16xf32>) -> tensor<?x?x48xf32>
    %3 = "qcc.slice"(%2) {axes = array<i64: 2>, ends = array<i64: 24>, starts = array<i64: 0>, steps = array<i64: 1>} : (tensor<?x?x48xf32>) -> tensor<?x?x24xf32>
    %4 = "qcc.slice"(%2) {axes = array<i64: 2>, ends = array<i64: 48>, starts = array<i64: 24>, steps = array<i64: 1>} : (tensor<?x?x48xf32>) -> tensor<?x?x24xf32>
    %w1 = "qcc.parameter"() {name = "conv1d"} : () -> tensor<24x4xf32>
    %b1 = "qcc.parameter"() {name = "conv1d.bias"} : () -> tensor<24xf32>
    %5:2 = "qcc.causal_conv"(%3, %w1, %conv, %b1) : (tensor<?x?x24xf32>, tensor<24x4xf32>, tensor<?x24x3xf32>, tensor<24xf32>) -> (tensor<?x?x24xf32>, tensor<?x24x3xf32>)
    %6 = "qcc.silu"(%5#0) : (tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    %w2 = "qcc.parameter"() {name = "x_proj"} : () -> tensor<10x24xf32>
    %7 = "qcc.linear"(%6, %w2) : (tensor<?x?x24xf32>, tensor<10x24xf32>) -> tensor<?x?x10xf32>
    %8 = "qcc.slice"(%7) {axes = array<i64: 2>, ends = array<i64: 2>, starts = array<i64: 0>, steps = array<i64: 1>} : (tensor<?x?x10xf32>) -> tensor<?x?x2xf32>
    %9 = "qcc.slice"(%7) {axes = array<i64: 2>, ends = array<i64: 6>, starts = array<i64: 2>, steps = array<i64: 1>} : (tensor<?x?x10xf32>) -> tensor<?x?x4xf32>
    %10 = "qcc.slice"(%7) {axes = array<i64: 2>, ends = array<i64: 10>, starts = array<i64: 6>, steps = array<i64: 1>} : (tensor<?x?x10xf32>) -> tensor<?x?x4xf32>
    %w3 = "qcc.parameter"() {name = "dt_proj"} : () -> tensor<24x2xf32>
    %b3 = "qcc.parameter"() {name = "dt_proj.bias"} : () -> tensor<24xf32>
    %11 = "qcc.linear"(%8, %w3, %b3) : (tensor<?x?x2xf32>, tensor<24x2xf32>, tensor<24xf32>) -> tensor<?x?x24xf32>
    %12 = "qcc.softplus"(%11) : (tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    %a = "qcc.parameter"() {name = "negative.a"} : () -> tensor<24x4xf32>
    %d = "qcc.parameter"() {name = "d"} : () -> tensor<24xf32>
    %13:2 = "qcc.selective_scan"(%6, %12, %a, %9, %10, %d, %ssm) : (tensor<?x?x24xf32>, tensor<?x?x24xf32>, tensor<24x4xf32>, tensor<?x?x4xf32>, tensor<?x?x4xf32>, tensor<24xf32>, tensor<?x24x4xf32>) -> (tensor<?x?x24xf32>, tensor<?x24x4xf32>)
    %14 = "qcc.silu"(%4) : (tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    %15 = "qcc.mul"(%13#0, %14) : (tensor<?x?x24xf32>, tensor<?x?x24xf32>) -> tensor<?x?x24xf32>
    %w4 = "qcc.parameter"() {name = "out_proj"} : () -> tensor<16x24xf32>
    %16 = "qcc.linear"(%15, %w4) : (tensor<?x?x24xf32>, tensor<16x24xf32>) -> tensor<?x?x16xf32>
    %17 = "qcc.add"(%0, %16) : (tensor<?x?x16xf32>, tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %18 = "qcc.linear"(%17, %table) : (tensor<?x?x16xf32>, tensor<9x16xf32>) -> tensor<?x?x9xf32>
    "func.return"(%18, %5#1, %13#1) : (tensor<?x?x9xf32>, tensor<?x24x3xf32>, tensor<?x24x4xf32>) -> ()
  }) {qcc.states = array<i64: 1, 1, 2, 2>} : () -> ()
}) : () -> ()
