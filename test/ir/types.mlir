// RUN: qcc opt %s | FileCheck %s

// Every storage, granularity, scale type and layout there is.

"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "main"}> ({
    // CHECK: tensor<8x16x!qcc.q<i2, {}, f32, none>>
    %0 = "qcc.parameter"() {name = "int2"} : () -> tensor<8x16x!qcc.q<i2, {}, f32, none>>
    // CHECK: tensor<8x16x!qcc.q<ui4, {axis = 0 : i64}, f16, ui4>>
    %1 = "qcc.parameter"() {name = "uint4"} : () -> tensor<8x16x!qcc.q<ui4, {axis = 0 : i64}, f16, ui4>>
    // CHECK: tensor<8x16x!qcc.q<f8E4M3FN, {token}, bf16, none>>
    %2 = "qcc.parameter"() {name = "fp8e4m3"} : () -> tensor<8x16x!qcc.q<f8E4M3FN, {token}, bf16, none>>
    // CHECK: tensor<8x16x!qcc.q<f8E5M2, {axis = 1 : i64, block = 16 : i64}, f8E8M0FNU, none>>
    %3 = "qcc.parameter"() {name = "fp8e5m2"} : () -> tensor<8x16x!qcc.q<f8E5M2, {axis = 1 : i64, block = 16 : i64}, f8E8M0FNU, none>>
    // CHECK: !qcc.q<f6E2M3FN,
    %4 = "qcc.parameter"() {name = "fp6e2m3"} : () -> tensor<8x16x!qcc.q<f6E2M3FN, {}, f32, none>>
    // CHECK: !qcc.q<f6E3M2FN,
    %5 = "qcc.parameter"() {name = "fp6e3m2"} : () -> tensor<8x16x!qcc.q<f6E3M2FN, {}, f32, none>>
    // CHECK: !qcc.q<f4E2M1FN, {axis = 1 : i64, block = 16 : i64}, f8E4M3FN, none>
    %6 = "qcc.parameter"() {name = "nvfp4"} : () -> tensor<8x16x!qcc.q<f4E2M1FN, {axis = 1 : i64, block = 16 : i64}, f8E4M3FN, none>>
    // CHECK: !qcc.q<!qcc.element<"e3m4">, {}, f32, none>
    %7 = "qcc.parameter"() {name = "e3m4"} : () -> tensor<8x16x!qcc.q<!qcc.element<"e3m4">, {}, f32, none>>
    // CHECK: !qcc.q<!qcc.element<"bfp4">, {axis = 1 : i64, block = 32 : i64}, f8E8M0FNU, none>
    %8 = "qcc.parameter"() {name = "bfp4"} : () -> tensor<8x16x!qcc.q<!qcc.element<"bfp4">, {axis = 1 : i64, block = 32 : i64}, f8E8M0FNU, none>>
    // CHECK: !qcc.element<"fixed3.4">
    %9 = "qcc.parameter"() {name = "fixed"} : () -> tensor<8x16x!qcc.q<!qcc.element<"fixed3.4">, {}, f32, none>>
    // CHECK: !qcc.element<"nf4">
    %10 = "qcc.parameter"() {name = "nf4"} : () -> tensor<8x16x!qcc.q<!qcc.element<"nf4">, {}, f32, none>>
    // CHECK: tensor<0x3xui8, #qcc.panel<16 : i64, 4 : i64>>
    %11 = "qcc.parameter"() {name = "codes"} : () -> tensor<0x3xui8, #qcc.panel<16 : i64, 4 : i64>>
    // CHECK: () -> tensor<f64>
    %12 = "qcc.parameter"() {name = "double"} : () -> tensor<f64>
    // CHECK: () -> tensor<1xbf16>
    %13 = "qcc.parameter"() {name = "brain"} : () -> tensor<1xbf16>
    "func.return"() : () -> ()
  }) : () -> ()
}) : () -> ()
