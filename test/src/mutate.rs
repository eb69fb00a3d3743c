//! Mutations of test files: what a careless or hostile hand may do to a text. Seeded, so that a failure can be repeated.

/// A stream of random numbers (splitmix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is positive.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}

const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "1099511627776",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
];

/// One to four changes to a text: cut, flip a byte, take a piece of another text, change a number, repeat or drop a piece, nest deeply.
pub fn mutate(text: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = text.to_vec();
    for _ in 0..=random.below(4) {
        if out.is_empty() {
            break;
        }
        let at = random.below(out.len());
        let end = at + random.below((out.len() - at).min(200)) + 1;
        match random.below(8) {
            0 => out.truncate(at),
            1 => out[at] ^= 1 << random.below(8),
            2 if !other.is_empty() => {
                let from = random.below(other.len());
                let to = from + random.below((other.len() - from).min(400)) + 1;
                out.splice(at..at, other[from..to].iter().copied());
            }
            3 | 4 => replace_number(&mut out, at, random),
            5 => {
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            6 => drop(out.drain(at..end)),
            _ => {
                let open = ["[", "{a = [", "(", "loc(callsite(", "tensor<", "fused<"][random.below(6)];
                out.splice(at..at, open.repeat(10 + random.below(5000)).into_bytes());
            }
        }
    }
    out
}

/// Puts another number in place of the first one at or after `at`.
fn replace_number(text: &mut Vec<u8>, at: usize, random: &mut Random) {
    let is_digit = |b: &u8| b.is_ascii_digit();
    let Some(start) = text[at..].iter().position(is_digit).map(|i| at + i) else { return };
    let end = text[start..].iter().position(|b| !is_digit(b)).map_or(text.len(), |i| start + i);
    let number = NUMBERS[random.below(NUMBERS.len())];
    text.splice(start..end, number.bytes());
}
