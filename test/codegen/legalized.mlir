// What `legalize` rewrites, and element types beside f32: conversions saturate or wrap, half precision rounds after every operation.
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "6", "5", "4"]}], function_type = (tensor<?x6x5x4xf32>) -> (tensor<?x3x5x11xf32>, tensor<?x9xf32>), sym_name = "images"}> ({
  ^bb0(%x: tensor<?x6x5x4xf32>):
    %0 = "qcc.parameter"() {name = "grouped"} : () -> tensor<9x2x3x3xf32>
    %1 = "qcc.parameter"() {name = "grouped.bias"} : () -> tensor<9xf32>
    %2 = "qcc.conv"(%x, %0, %1) {dilations = array<i64: 1, 1>, groups = 3 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x6x5x4xf32>, tensor<9x2x3x3xf32>, tensor<9xf32>) -> tensor<?x9x5x4xf32>
    %3 = "qcc.parameter"() {name = "multiplied"} : () -> tensor<18x1x3x3xf32>
    %4 = "qcc.conv"(%2, %3) {dilations = array<i64: 1, 1>, groups = 9 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x9x5x4xf32>, tensor<18x1x3x3xf32>) -> tensor<?x18x5x4xf32>
    %5 = "qcc.pad"(%4) {mode = "reflect", pads = array<i64: 0, 0, 1, 2, 0, 0, 1, 1>, value = 0.000000e+00 : f64} : (tensor<?x18x5x4xf32>) -> tensor<?x18x7x7xf32>
    %6 = "qcc.resize"(%5) {coordinates = "half_pixel", mode = "linear", rounding = "floor", scales = [1.285714e+00 : f64, 1.571429e+00 : f64], sizes = array<i64: 9, 11>} : (tensor<?x18x7x7xf32>) -> tensor<?x18x9x11xf32>
    %7 = "qcc.parameter"() {name = "transposed"} : () -> tensor<18x3x3x3xf32>
    %8 = "qcc.parameter"() {name = "transposed.bias"} : () -> tensor<3xf32>
    %9 = "qcc.conv_transpose"(%6, %7, %8) {dilations = array<i64: 1, 1>, groups = 1 : i64, output_padding = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 2, 2>} : (tensor<?x18x9x11xf32>, tensor<18x3x3x3xf32>, tensor<3xf32>) -> tensor<?x3x18x22xf32>
    %10 = "qcc.parameter"() {name = "norm.scale"} : () -> tensor<3xf32>
    %11 = "qcc.parameter"() {name = "norm.bias"} : () -> tensor<3xf32>
    %12 = "qcc.parameter"() {name = "norm.mean"} : () -> tensor<3xf32>
    %13 = "qcc.parameter"() {name = "positive.variance"} : () -> tensor<3xf32>
    %14 = "qcc.batch_norm"(%9, %10, %11, %12, %13) {epsilon = 1.000000e-05 : f64} : (tensor<?x3x18x22xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<?x3x18x22xf32>
    %15 = "qcc.resize"(%14) {coordinates = "asymmetric", mode = "nearest", rounding = "floor", scales = [5.000000e-01 : f64, 5.000000e-01 : f64], sizes = array<i64: 9, 11>} : (tensor<?x3x18x22xf32>) -> tensor<?x3x9x11xf32>
    %16 = "qcc.slice"(%15) {axes = array<i64: 2, 3>, ends = array<i64: -1, 11>, starts = array<i64: 8, 0>, steps = array<i64: -2, 1>} : (tensor<?x3x9x11xf32>) -> tensor<?x3x5x11xf32>
    %17 = "qcc.reduce_mean"(%15) {axes = array<i64: 1, 3>, keep_dims = false} : (tensor<?x3x9x11xf32>) -> tensor<?x9xf32>
    "func.return"(%16, %17) : (tensor<?x3x5x11xf32>, tensor<?x9xf32>) -> ()
  }) : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "5", "T"]}, {qcc.dims = ["T", "B"]}], function_type = (tensor<?x5x?xf32>, tensor<?x?xf32>) -> (tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<5xf32>), sym_name = "rows"}> ({
  ^bb0(%x: tensor<?x5x?xf32>, %v: tensor<?x?xf32>):
    %0 = "qcc.softmax"(%x) {axis = 2 : i64} : (tensor<?x5x?xf32>) -> tensor<?x5x?xf32>
    %1 = "qcc.softmax"(%x) {axis = 1 : i64} : (tensor<?x5x?xf32>) -> tensor<?x5x?xf32>
    %2 = "qcc.log_softmax"(%x) {axis = 1 : i64} : (tensor<?x5x?xf32>) -> tensor<?x5x?xf32>
    %3 = "qcc.layer_norm"(%x) <{operandSegmentSizes = array<i32: 1, 0, 0>}> {axis = 1 : i64, epsilon = 1.000000e-01 : f64} : (tensor<?x5x?xf32>) -> tensor<?x5x?xf32>
    %4 = "qcc.matmul"(%x, %v) : (tensor<?x5x?xf32>, tensor<?x?xf32>) -> tensor<?x5x?xf32>
    %5 = "qcc.reduce_max"(%x) {axes = array<i64: 0, 2>, keep_dims = false} : (tensor<?x5x?xf32>) -> tensor<5xf32>
    "func.return"(%0, %1, %2, %3, %4, %5) : (tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<?x5x?xf32>, tensor<5xf32>) -> ()
  }) : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "7"]}, {qcc.dims = ["B", "T", "7"]}], function_type = (tensor<?x?x7xf32>, tensor<?x?x7xi64>) -> (tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x9xf32>, tensor<?x?x7x3xf32>), sym_name = "numbers"}> ({
  ^bb0(%x: tensor<?x?x7xf32>, %ids: tensor<?x?x7xi64>):
    %0 = "qcc.constant"() {value = dense<3.000000e+02> : tensor<f32>} : () -> tensor<f32>
    %1 = "qcc.mul"(%x, %0) : (tensor<?x?x7xf32>, tensor<f32>) -> tensor<?x?x7xf32>
    %2 = "qcc.cast"(%1) {to = i8} : (tensor<?x?x7xf32>) -> tensor<?x?x7xi8>
    %3 = "qcc.cast"(%2) {to = f32} : (tensor<?x?x7xi8>) -> tensor<?x?x7xf32>
    %4 = "qcc.mul"(%2, %2) : (tensor<?x?x7xi8>, tensor<?x?x7xi8>) -> tensor<?x?x7xi8>
    %5 = "qcc.max"(%4, %2) : (tensor<?x?x7xi8>, tensor<?x?x7xi8>) -> tensor<?x?x7xi8>
    %6 = "qcc.cast"(%5) {to = f32} : (tensor<?x?x7xi8>) -> tensor<?x?x7xf32>
    %7 = "qcc.reduce_sum"(%2) {axes = array<i64: 1>, keep_dims = false} : (tensor<?x?x7xi8>) -> tensor<?x7xi8>
    %8 = "qcc.reduce_mean"(%2) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xi8>) -> tensor<?x?xi8>
    %9 = "qcc.reduce_max"(%2) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xi8>) -> tensor<?x?xi8>
    %10 = "qcc.cast"(%7) {to = f32} : (tensor<?x7xi8>) -> tensor<?x7xf32>
    %11 = "qcc.cast"(%8) {to = f32} : (tensor<?x?xi8>) -> tensor<?x?xf32>
    %12 = "qcc.cast"(%9) {to = f32} : (tensor<?x?xi8>) -> tensor<?x?xf32>
    %13 = "qcc.cast"(%1) {to = ui8} : (tensor<?x?x7xf32>) -> tensor<?x?x7xui8>
    %14 = "qcc.cast"(%13) {to = f32} : (tensor<?x?x7xui8>) -> tensor<?x?x7xf32>
    %15 = "qcc.mul"(%13, %13) : (tensor<?x?x7xui8>, tensor<?x?x7xui8>) -> tensor<?x?x7xui8>
    %16 = "qcc.max"(%15, %13) : (tensor<?x?x7xui8>, tensor<?x?x7xui8>) -> tensor<?x?x7xui8>
    %17 = "qcc.cast"(%16) {to = f32} : (tensor<?x?x7xui8>) -> tensor<?x?x7xf32>
    %18 = "qcc.reduce_sum"(%13) {axes = array<i64: 1>, keep_dims = false} : (tensor<?x?x7xui8>) -> tensor<?x7xui8>
    %19 = "qcc.reduce_mean"(%13) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xui8>) -> tensor<?x?xui8>
    %20 = "qcc.reduce_max"(%13) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xui8>) -> tensor<?x?xui8>
    %21 = "qcc.cast"(%18) {to = f32} : (tensor<?x7xui8>) -> tensor<?x7xf32>
    %22 = "qcc.cast"(%19) {to = f32} : (tensor<?x?xui8>) -> tensor<?x?xf32>
    %23 = "qcc.cast"(%20) {to = f32} : (tensor<?x?xui8>) -> tensor<?x?xf32>
    %24 = "qcc.cast"(%1) {to = i32} : (tensor<?x?x7xf32>) -> tensor<?x?x7xi32>
    %25 = "qcc.cast"(%24) {to = f32} : (tensor<?x?x7xi32>) -> tensor<?x?x7xf32>
    %26 = "qcc.mul"(%24, %24) : (tensor<?x?x7xi32>, tensor<?x?x7xi32>) -> tensor<?x?x7xi32>
    %27 = "qcc.max"(%26, %24) : (tensor<?x?x7xi32>, tensor<?x?x7xi32>) -> tensor<?x?x7xi32>
    %28 = "qcc.cast"(%27) {to = f32} : (tensor<?x?x7xi32>) -> tensor<?x?x7xf32>
    %29 = "qcc.reduce_sum"(%24) {axes = array<i64: 1>, keep_dims = false} : (tensor<?x?x7xi32>) -> tensor<?x7xi32>
    %30 = "qcc.reduce_mean"(%24) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xi32>) -> tensor<?x?xi32>
    %31 = "qcc.reduce_max"(%24) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xi32>) -> tensor<?x?xi32>
    %32 = "qcc.cast"(%29) {to = f32} : (tensor<?x7xi32>) -> tensor<?x7xf32>
    %33 = "qcc.cast"(%30) {to = f32} : (tensor<?x?xi32>) -> tensor<?x?xf32>
    %34 = "qcc.cast"(%31) {to = f32} : (tensor<?x?xi32>) -> tensor<?x?xf32>
    %35 = "qcc.cast"(%1) {to = i64} : (tensor<?x?x7xf32>) -> tensor<?x?x7xi64>
    %36 = "qcc.cast"(%35) {to = f32} : (tensor<?x?x7xi64>) -> tensor<?x?x7xf32>
    %37 = "qcc.mul"(%35, %35) : (tensor<?x?x7xi64>, tensor<?x?x7xi64>) -> tensor<?x?x7xi64>
    %38 = "qcc.max"(%37, %35) : (tensor<?x?x7xi64>, tensor<?x?x7xi64>) -> tensor<?x?x7xi64>
    %39 = "qcc.cast"(%38) {to = f32} : (tensor<?x?x7xi64>) -> tensor<?x?x7xf32>
    %40 = "qcc.reduce_sum"(%35) {axes = array<i64: 1>, keep_dims = false} : (tensor<?x?x7xi64>) -> tensor<?x7xi64>
    %41 = "qcc.reduce_mean"(%35) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xi64>) -> tensor<?x?xi64>
    %42 = "qcc.reduce_max"(%35) {axes = array<i64: 2>, keep_dims = false} : (tensor<?x?x7xi64>) -> tensor<?x?xi64>
    %43 = "qcc.cast"(%40) {to = f32} : (tensor<?x7xi64>) -> tensor<?x7xf32>
    %44 = "qcc.cast"(%41) {to = f32} : (tensor<?x?xi64>) -> tensor<?x?xf32>
    %45 = "qcc.cast"(%42) {to = f32} : (tensor<?x?xi64>) -> tensor<?x?xf32>
    %46 = "qcc.cast"(%1) {to = i1} : (tensor<?x?x7xf32>) -> tensor<?x?x7xi1>
    %47 = "qcc.cast"(%46) {to = f32} : (tensor<?x?x7xi1>) -> tensor<?x?x7xf32>
    %48 = "qcc.cast"(%1) {to = f16} : (tensor<?x?x7xf32>) -> tensor<?x?x7xf16>
    %49 = "qcc.cast"(%48) {to = f32} : (tensor<?x?x7xf16>) -> tensor<?x?x7xf32>
    %50 = "qcc.mul"(%48, %48) : (tensor<?x?x7xf16>, tensor<?x?x7xf16>) -> tensor<?x?x7xf16>
    %51 = "qcc.cast"(%50) {to = f32} : (tensor<?x?x7xf16>) -> tensor<?x?x7xf32>
    %52 = "qcc.softmax"(%48) {axis = 2 : i64} : (tensor<?x?x7xf16>) -> tensor<?x?x7xf16>
    %53 = "qcc.cast"(%52) {to = f32} : (tensor<?x?x7xf16>) -> tensor<?x?x7xf32>
    %54 = "qcc.reduce_max"(%48) {axes = array<i64: 1>, keep_dims = false} : (tensor<?x?x7xf16>) -> tensor<?x7xf16>
    %55 = "qcc.cast"(%54) {to = f32} : (tensor<?x7xf16>) -> tensor<?x7xf32>
    %56 = "qcc.cast"(%1) {to = bf16} : (tensor<?x?x7xf32>) -> tensor<?x?x7xbf16>
    %57 = "qcc.cast"(%56) {to = f32} : (tensor<?x?x7xbf16>) -> tensor<?x?x7xf32>
    %58 = "qcc.mul"(%56, %56) : (tensor<?x?x7xbf16>, tensor<?x?x7xbf16>) -> tensor<?x?x7xbf16>
    %59 = "qcc.cast"(%58) {to = f32} : (tensor<?x?x7xbf16>) -> tensor<?x?x7xf32>
    %60 = "qcc.softmax"(%56) {axis = 2 : i64} : (tensor<?x?x7xbf16>) -> tensor<?x?x7xbf16>
    %61 = "qcc.cast"(%60) {to = f32} : (tensor<?x?x7xbf16>) -> tensor<?x?x7xf32>
    %62 = "qcc.reduce_max"(%56) {axes = array<i64: 1>, keep_dims = false} : (tensor<?x?x7xbf16>) -> tensor<?x7xbf16>
    %63 = "qcc.cast"(%62) {to = f32} : (tensor<?x7xbf16>) -> tensor<?x7xf32>
    %64 = "qcc.cast"(%1) {to = i64} : (tensor<?x?x7xf32>) -> tensor<?x?x7xi64>
    %65 = "qcc.constant"() {value = dense<-3> : tensor<i64>} : () -> tensor<i64>
    %66 = "qcc.div"(%64, %65) : (tensor<?x?x7xi64>, tensor<i64>) -> tensor<?x?x7xi64>
    %67 = "qcc.abs"(%66) : (tensor<?x?x7xi64>) -> tensor<?x?x7xi64>
    %68 = "qcc.cast"(%67) {to = f32} : (tensor<?x?x7xi64>) -> tensor<?x?x7xf32>
    %69 = "qcc.constant"() {value = dense<-1> : tensor<i64>} : () -> tensor<i64>
    %70 = "qcc.div"(%64, %69) : (tensor<?x?x7xi64>, tensor<i64>) -> tensor<?x?x7xi64>
    %71 = "qcc.prelu"(%70, %65) : (tensor<?x?x7xi64>, tensor<i64>) -> tensor<?x?x7xi64>
    %72 = "qcc.cast"(%71) {to = f32} : (tensor<?x?x7xi64>) -> tensor<?x?x7xf32>
    %73 = "qcc.cast"(%ids) {to = i1} : (tensor<?x?x7xi64>) -> tensor<?x?x7xi1>
    %74 = "qcc.cast"(%73) {to = i8} : (tensor<?x?x7xi1>) -> tensor<?x?x7xi8>
    %75 = "qcc.cast"(%74) {to = f32} : (tensor<?x?x7xi8>) -> tensor<?x?x7xf32>
    %76 = "qcc.pad"(%74) {mode = "constant", pads = array<i64: 0, 0, 1, 0, 0, 1>, value = -5.000000e+00 : f64} : (tensor<?x?x7xi8>) -> tensor<?x?x9xi8>
    %77 = "qcc.cast"(%76) {to = f32} : (tensor<?x?x9xi8>) -> tensor<?x?x9xf32>
    %78 = "qcc.cast"(%ids) {to = ui8} : (tensor<?x?x7xi64>) -> tensor<?x?x7xui8>
    %79 = "qcc.parameter"() {name = "table"} : () -> tensor<4x3xf32>
    %80 = "qcc.embedding"(%79, %78) : (tensor<4x3xf32>, tensor<?x?x7xui8>) -> tensor<?x?x7x3xf32>
    "func.return"(%3, %6, %10, %11, %12, %14, %17, %21, %22, %23, %25, %28, %32, %33, %34, %36, %39, %43, %44, %45, %47, %49, %51, %53, %55, %57, %59, %61, %63, %68, %72, %75, %77, %80) : (tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x7xf32>, tensor<?x?x9xf32>, tensor<?x?x7x3xf32>) -> ()
  }) : () -> ()
}) : () -> ()
