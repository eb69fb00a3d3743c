// A table that embeds tokens and is the output head: quantized, it is stored once, in the panels of the head's kernel.
// PIPELINE:
// PIPELINE: quantize{weights=int8:channel head=int8:channel},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int8:tensor},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int4:channel},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int4:tensor},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int4:block=8},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int4:block=32},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel activations=int8:token:dynamic head=int4:block=32},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int2:channel},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int6:tensor},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int3:block=8:scale=f32},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int8:block=32},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=int8:channel head=int5:block=32:full:scale=f32},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"]}], function_type = (tensor<?x?xi64>) -> (tensor<?x?x45xf32>), sym_name = "main"}> ({
  ^bb0(%tokens: tensor<?x?xi64>):
    %table = "qcc.parameter"() {name = "table"} : () -> tensor<45x37xf32>
    %step = "qcc.constant"() {value = dense<14> : tensor<i64>} : () -> tensor<i64>
    %0 = "qcc.mul"(%tokens, %step) : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi64>
    %1 = "qcc.embedding"(%table, %0) : (tensor<45x37xf32>, tensor<?x?xi64>) -> tensor<?x?x37xf32>
    %w = "qcc.parameter"() {name = "mix"} : () -> tensor<37x37xf32>
    %2 = "qcc.linear"(%1, %w) : (tensor<?x?x37xf32>, tensor<37x37xf32>) -> tensor<?x?x37xf32>
    %3 = "qcc.add"(%1, %2) : (tensor<?x?x37xf32>, tensor<?x?x37xf32>) -> tensor<?x?x37xf32>
    %4 = "qcc.linear"(%3, %table) : (tensor<?x?x37xf32>, tensor<45x37xf32>) -> tensor<?x?x45xf32>
    "func.return"(%4) : (tensor<?x?x45xf32>) -> ()
  }) : () -> ()
}) : () -> ()
