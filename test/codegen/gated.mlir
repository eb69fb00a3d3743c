// A gated feed-forward layer: what follows the gate is quantized row by row as it is made. A bias of columns and a factor of all beside it.
// PIPELINE:
// PIPELINE: quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:block=32 activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel activations=int8:tensor range=-2..2},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "70"]}, {qcc.dims = ["B", "T", "70"]}], function_type = (tensor<?x?x70xf32>, tensor<?x?x70xf32>) -> tensor<?x?x33xf32>, sym_name = "main"}> ({
  ^bb0(%gate: tensor<?x?x70xf32>, %up: tensor<?x?x70xf32>):
    %0 = "qcc.silu"(%gate) : (tensor<?x?x70xf32>) -> tensor<?x?x70xf32>
    %1 = "qcc.mul"(%0, %up) : (tensor<?x?x70xf32>, tensor<?x?x70xf32>) -> tensor<?x?x70xf32>
    %b = "qcc.parameter"() {name = "shift"} : () -> tensor<70xf32>
    %2 = "qcc.add"(%1, %b) : (tensor<?x?x70xf32>, tensor<70xf32>) -> tensor<?x?x70xf32>
    %f = "qcc.parameter"() {name = "factor"} : () -> tensor<f32>
    %3 = "qcc.mul"(%2, %f) : (tensor<?x?x70xf32>, tensor<f32>) -> tensor<?x?x70xf32>
    %w = "qcc.parameter"() {name = "down"} : () -> tensor<33x70xf32>
    %4 = "qcc.linear"(%3, %w) : (tensor<?x?x70xf32>, tensor<33x70xf32>) -> tensor<?x?x33xf32>
    "func.return"(%4) : (tensor<?x?x33xf32>) -> ()
  }) : () -> ()
}) : () -> ()
