//! Java's `SplittableRandom`, draw for draw, so that the input equals the peer's byte for byte.
//!
//! Source: `java.util.SplittableRandom` and `jdk.internal.util.random.RandomSupport.boundedNextInt` (JDK 17).
//! Left out: `split`, floating point, bounded longs; the data set needs none of them.

/// A seeded generator with the sequence of `new SplittableRandom(seed)`.
#[derive(Debug, Clone)]
pub(crate) struct SplittableRandom {
    seed: u64,
}

impl SplittableRandom {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(Self::GOLDEN_GAMMA);
        self.seed
    }

    /// `nextLong()`: Stafford's variant 13 of the 64-bit finaliser.
    pub(crate) fn next_long(&mut self) -> u64 {
        let z = self.next_seed();
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `nextInt()`: the upper half of Stafford's variant 4.
    fn next_int(&mut self) -> u32 {
        let z = self.next_seed();
        let z = (z ^ (z >> 33)).wrapping_mul(0x62a9_d9ed_7997_05f5);
        ((z ^ (z >> 28)).wrapping_mul(0xcb24_d0a5_c88c_35b3) >> 32) as u32
    }

    /// `nextInt(bound)`, in `0..bound`.
    pub(crate) fn next_below(&mut self, bound: u32) -> u32 {
        debug_assert!((1..=i32::MAX as u32).contains(&bound));
        let last = bound - 1;
        let drawn = self.next_int();
        if bound & last == 0 {
            return drawn & last;
        }
        // Java draws again where `u + last - u % bound` overflows an int: values from the incomplete last
        // multiple of `bound` would favour small results.
        let mut u = drawn >> 1;
        loop {
            let result = u % bound;
            if u - result + last <= i32::MAX as u32 {
                return result;
            }
            u = self.next_int() >> 1;
        }
    }

    /// A version 4 UUID in text form: the peer sets version and variant on two raw longs.
    pub(crate) fn next_uuid(&mut self) -> String {
        let most = self.next_long() & !0xf000 | 0x4000;
        let least = self.next_long() & !(3 << 62) | 1 << 63;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            most >> 32,
            most >> 16 & 0xffff,
            most & 0xffff,
            least >> 48,
            least & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values were printed by JDK 17.
    #[test]
    fn draws_equal_those_of_the_jdk() {
        let mut random = SplittableRandom::new(20_240_607);
        let draws: Vec<u32> =
            [60, 100, 64, 500_000, 1 << 30, (1 << 30) + 1].map(|b| random.next_below(b)).to_vec();
        assert_eq!(draws, [1, 13, 2, 441_408, 589_150_193, 200_245_760]);
        assert_eq!(random.next_long(), 5_025_817_155_460_175_141);
        assert_eq!(random.next_uuid(), "09b9feb9-21fc-474f-8284-361f8ec4fa88");
    }
}
