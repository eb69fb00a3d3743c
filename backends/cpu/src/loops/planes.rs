//! Planes to pixels: a few planes of an image, as files and checkpoints have them, to pixels of so many channels. A transpose whose inner side
//! is two to four elements long, sixteen pixels at a time.
//!
//! Work item: [`Planes::PIXELS`] pixels of one image.

use super::{Slots, integer_of};
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, Scalar, Type, Value};

/// The copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Planes {
    /// Bytes of one element: 1, 2 or 4.
    pub bytes: i64,
    /// Planes: 2, 3 or 4.
    pub channels: usize,
}

/// Pixels of a register of each plane.
const LANES: usize = 16;

impl Planes {
    /// Pixels of a work item.
    pub const PIXELS: i64 = 1024;

    /// Argument names: pixels of an image, and elements from one plane, one image, to the next.
    pub const ARGUMENTS: [&'static str; 5] = ["out", "in", "pixels", "plane_stride", "image_stride"];

    /// Whether there is a kernel for planes of so many elements of so many bytes.
    pub fn fits(bytes: i64, channels: i64) -> bool {
        matches!(bytes, 1 | 2 | 4) && (2..=4).contains(&channels)
    }

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
        let scalar = integer_of(self.bytes);
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let (out, from) = (slots.pointer(e, "out"), slots.pointer(e, "in"));
            let [pixels, plane, image] = ["pixels", "plane_stride", "image_stride"].map(|n| slots.size(e, n));
            let pieces = e.ceil_div(pixels, Self::PIXELS);
            e.each(kernel.begin, kernel.end, |e, item| {
                let (index, piece) = (e.div(item, pieces), e.rem(item, pieces));
                let first = e.times(piece, Self::PIXELS);
                let left = e.sub(pixels, first);
                let most = e.int(Self::PIXELS);
                let count = e.min_int(left, most);
                let start = e.mul(index, image);
                let start = e.add(start, first);
                let from = e.element(from, start, self.bytes);
                let planes: Vec<Value> = (0..self.channels as i64)
                    .map(|c| {
                        let skip = e.times(plane, c);
                        e.element(from, skip, self.bytes)
                    })
                    .collect();
                let before = e.mul(index, pixels);
                let before = e.add(before, first);
                let to = e.element(out, before, self.bytes * self.channels as i64);
                let lanes = e.int(LANES as i64);
                let rest = e.rem(count, lanes);
                let whole = e.sub(count, rest);
                let (zero, one) = (e.int(0), e.int(1));
                e.repeat(zero, whole, lanes, &[], |e, pixel, _| {
                    self.sixteen(e, &planes, to, pixel, scalar);
                    Vec::new()
                });
                e.repeat(whole, count, one, &[], |e, pixel, _| {
                    let to = e.element(to, pixel, self.bytes * self.channels as i64);
                    for (c, &plane) in planes.iter().enumerate() {
                        let p = e.element(plane, pixel, self.bytes);
                        let x = e.load(p, Type::One(scalar));
                        let p = e.offset(to, self.bytes * c as i64);
                        e.store(x, p);
                    }
                    Vec::new()
                });
            });
        });
        e.finish()
    }

    fn sixteen(&self, e: &mut Emitter, planes: &[Value], to: Value, pixel: Value, scalar: Scalar) {
        let ty = Type::Lanes(LANES as u16, scalar);
        let rows: Vec<Value> = planes
            .iter()
            .map(|&plane| {
                let p = e.element(plane, pixel, self.bytes);
                e.load(p, ty)
            })
            .collect();
        let to = e.element(to, pixel, self.bytes * self.channels as i64);
        for part in 0..self.channels {
            // Element i of the part is that of plane i mod channels.
            let place = |i: usize| ((LANES * part + i) / self.channels, (LANES * part + i) % self.channels);
            let pick: Vec<usize> =
                (0..LANES).map(|i| place(i).0 + if place(i).1 == 1 { LANES } else { 0 }).collect();
            let mut mixed = e.shuffle(rows[0], rows[1], &pick);
            for (c, &row) in rows.iter().enumerate().skip(2) {
                let pick: Vec<usize> =
                    (0..LANES).map(|i| if place(i).1 == c { LANES + place(i).0 } else { i }).collect();
                mixed = e.shuffle(mixed, row, &pick);
            }
            let p = e.offset(to, self.bytes * (LANES * part) as i64);
            e.store(mixed, p);
        }
    }
}
