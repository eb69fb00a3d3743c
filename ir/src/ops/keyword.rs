//! Keyword attributes of operations (string attributes in IR text).

use crate::keyword_enum;

keyword_enum!(
    /// Where the channel axis of an image-like tensor is.
    ImageLayout {
        /// `[batch, channels, spatial…]`
        ChannelsFirst = "channels_first",
        /// `[batch, spatial…, channels]`
        ChannelsLast = "channels_last",
    }
);

keyword_enum!(
    /// How ties are rounded when a number is quantized.
    Rounding {
        /// Ties to the even code.
        HalfEven = "half_even",
        /// Ties away from zero.
        HalfAway = "half_away",
    }
);

keyword_enum!(
    /// What becomes of NaN, and of numbers beyond the last level, when a number is quantized.
    Special or Saturate {
        /// Beyond the last level counts as the last level, infinities too. NaN stays NaN where the element has one, else it is zero.
        Saturate = "saturate",
        /// As in IEEE 754 conversions: beyond the last level is infinity, or where the element has none NaN, or where it has neither the last
        /// level. NaN as in `saturate`.
        Ieee = "ieee",
        /// As `saturate`, but NaN is zero always.
        Finite = "finite",
    }
);

keyword_enum!(
    /// How `pad` fills.
    PadMode {
        /// With a constant.
        Constant = "constant",
        /// By reflection without repeating the edge.
        Reflect = "reflect",
        /// By repeating the edge.
        Edge = "edge",
    }
);

keyword_enum!(
    /// Interpolation of `resize`.
    ResizeMode {
        /// Nearest neighbour.
        Nearest = "nearest",
        /// (Bi)linear.
        Linear = "linear",
    }
);

keyword_enum!(
    /// Which source coordinate an output coordinate of `resize` reads (names as in ONNX).
    CoordinateTransform {
        /// `(x + 0.5) / scale - 0.5`
        HalfPixel = "half_pixel",
        /// As half pixel, but 0 where the output size is 1.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// `x * (in - 1) / (out - 1)`
        AlignCorners = "align_corners",
        /// `x / scale`
        Asymmetric = "asymmetric",
    }
);

keyword_enum!(
    /// How nearest-neighbour `resize` rounds a source coordinate (names as in ONNX).
    NearestRounding {
        /// Ties down.
        RoundPreferFloor = "round_prefer_floor",
        /// Ties up.
        RoundPreferCeil = "round_prefer_ceil",
        /// Down.
        Floor = "floor",
        /// Up.
        Ceil = "ceil",
    }
);
