//! Seeded damage to bytes: cut off, flipped, spliced, and numbers made huge.

/// Random numbers (splitmix64, Steele et al. 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }
}

const NUMBERS: [&str; 8] = [
    "0",
    "-1",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999",
    "1e308",
    "1.5",
];

/// One to three damages. Half of them near the start, where headers are.
pub fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(3) {
        if out.is_empty() {
            break;
        }
        let reach = if random.below(2) == 0 { out.len().min(2048) } else { out.len() };
        let at = random.below(reach);
        match random.below(6) {
            0 => out.truncate(at),
            1 => out[at] ^= 1 << random.below(8),
            2 => {
                let from = random.below(out.len());
                let len = random.below((out.len() - from).min(256)) + 1;
                let piece = out[from..from + len].to_vec();
                out.splice(at..at, piece);
            }
            3 => {
                let end = (at + random.below(256) + 1).min(out.len());
                out.drain(at..end);
            }
            // A length, offset or count of eight bytes becomes huge.
            4 => {
                let end = (at + 8).min(out.len());
                let huge = [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 32][random.below(4)].to_le_bytes();
                let len = end - at;
                out[at..end].copy_from_slice(&huge[..len]);
            }
            // A written number becomes another.
            _ => {
                if let Some(start) = (at..out.len()).find(|&i| out[i].is_ascii_digit()) {
                    let end = (start..out.len()).find(|&i| !out[i].is_ascii_digit()).unwrap_or(out.len());
                    out.splice(start..end, NUMBERS[random.below(NUMBERS.len())].bytes());
                }
            }
        }
    }
    out
}
