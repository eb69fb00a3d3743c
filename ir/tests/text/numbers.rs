//! Numbers of all magnitudes: their text is the part of MLIR that is easiest to get wrong.

use qcc_ir::{Attribute, Dense, ElementType, Float, Function, Module, Op, TensorType};

/// Constants and attributes with random bits, small decimals, and fractions of powers of two.
pub fn numbers() -> Module {
    let mut function = Function::new("numbers");
    let x = function.add_argument("x", TensorType::scalar(ElementType::F32));
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state
    };
    for i in 0..60 {
        let narrow: Vec<f32> = (0..100)
            .map(|_| match i % 3 {
                0 => f32::from_bits((random() >> 32) as u32),
                1 => (random() >> 40) as f32 / 1000.0,
                _ => (random() >> 44) as f32 / (1 << 20) as f32 - 0.5,
            })
            .collect();
        function.add_constant(Dense::f32(&[10, 10], &narrow), "");
        let wide: Vec<Attribute> = (0..40)
            .map(|_| match i % 3 {
                0 => f64::from_bits(random()),
                1 => (random() >> 20) as f64 / 1e4,
                _ => f64::from((random() >> 44) as f32 / (1 << 20) as f32),
            })
            .map(|v| Attribute::Float(Float(v)))
            .collect();
        function.add_one(Op::Relu {}, [x], "").expect("well typed");
        let op = *function.order().last().expect("an operation");
        function.node_mut(op).annotations.insert("numbers".into(), Attribute::Array(wide.clone()));
        function.node_mut(op).annotations.insert("number".into(), wide[0].clone());
    }
    Module { functions: vec![function] }
}
