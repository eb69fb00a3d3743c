// Linear layers in every format that has kernels, with bias, activation and odd sizes; a head on top.
// PIPELINE:
// PIPELINE: quantize{weights=int8:channel activations=int8:tensor range=-2..2},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:tensor activations=uint8:tensor:asym range=-1..3},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:tensor},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:channel},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:block=32},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int4:block=32 activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=split2},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=split5:channel activations=int8:token},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=split8 activations=uint8:asym range=-1..3},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "70"]}], function_type = (tensor<?x?x70xf32>) -> tensor<?x?x33xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x?x70xf32>):
    %w = "qcc.parameter"() {name = "up"} : () -> tensor<100x70xf32>
    %b = "qcc.parameter"() {name = "up.bias"} : () -> tensor<100xf32>
    %0 = "qcc.linear"(%x, %w, %b) : (tensor<?x?x70xf32>, tensor<100x70xf32>, tensor<100xf32>) -> tensor<?x?x100xf32>
    %1 = "qcc.relu"(%0) : (tensor<?x?x100xf32>) -> tensor<?x?x100xf32>
    %v = "qcc.parameter"() {name = "down"} : () -> tensor<33x100xf32>
    %2 = "qcc.linear"(%1, %v) : (tensor<?x?x100xf32>, tensor<33x100xf32>) -> tensor<?x?x33xf32>
    "func.return"(%2) : (tensor<?x?x33xf32>) -> ()
  }) : () -> ()
}) : () -> ()
