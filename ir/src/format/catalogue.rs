//! All elements of the format grammar with a sentence each: `qcc formats`, and the names that near matches are sought among.

/// Names (separated by blanks; `N`, `X`, `Y`, `I`, `F` stand for numbers) and what they are.
pub const CATALOGUE: &[(&str, &str)] = &[
    ("f32 f16 bf16", "plain floats, not quantized"),
    (
        "int2 int3 int4 int5 int6 int7 int8",
        "signed integers; symmetric, `:full` adds the lowest code, `:asym` a zero point",
    ),
    ("uint2 uint3 uint4 uint5 uint6 uint7 uint8", "unsigned integers; `:asym` adds a zero point"),
    (
        "eXmY",
        "minifloats of any split into X exponent and Y mantissa bits, 1 + X + Y <= 8; no NaN, no infinity, saturating",
    ),
    ("fp8e4m3 fp8e5m2", "OCP 8-bit floats"),
    ("fp6e2m3 fp6e3m2", "OCP 6-bit floats"),
    ("fp4e2m1", "OCP 4-bit float"),
    (
        "mxfp8 mxfp8e4m3 mxfp8e5m2",
        "OCP Microscaling: 8-bit floats in blocks of 32 with a power-of-two scale (mxfp8 = mxfp8e4m3)",
    ),
    ("mxfp6 mxfp6e2m3 mxfp6e3m2", "OCP Microscaling: 6-bit floats in blocks of 32 (mxfp6 = mxfp6e2m3)"),
    ("mxfp4", "OCP Microscaling: 4-bit floats in blocks of 32"),
    ("mxint8", "OCP Microscaling: 8-bit integers in blocks of 32"),
    ("nvfp4", "4-bit floats in blocks of 16 with an E4M3 scale, and an f32 scale a tensor"),
    ("bfpN", "block floating point: N-bit mantissas with sign share an 8-bit exponent in blocks of 32"),
    ("nf4", "4-bit NormalFloat"),
    ("codebookN", "calibrated codebook of 2^N entries"),
    ("powexpN", "power exponent of N bits"),
    (
        "splitN",
        "N-bit integers in SplitQuant's three clusters of values, each with a scale and zero point; per tensor, kernel by kernel in convolutions",
    ),
    ("fixedI.F", "fixed point with I integer and F fraction bits"),
    ("potN", "signed powers of two of N bits"),
    ("ternary", "-1, 0, +1"),
    ("binary", "-1, +1"),
];
