//! The simulator's randomness: SplitMix64, a stream of its own for each thing that is decided.
//!
//! What happens to request 17 follows from the seed and from 17 alone, not from how many numbers were drawn before. So the
//! content of a run does not depend on timing. Not for secrets.

use uuid::Uuid;

/// A seeded stream of numbers. Source: Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators".
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of one `thing` of a `kind`, such as request 17.
    pub(crate) fn of(seed: u64, kind: &str, thing: i64) -> Self {
        let mut random = Self(seed);
        for part in kind.bytes().map(u64::from).chain([thing.cast_unsigned()]) {
            random.0 ^= part;
            random.0 = random.next();
        }
        random
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // The bias for limits far below 2^64 is too small to be seen.
        self.next() % limit
    }

    /// A number from `first` to `last`, both included.
    pub(crate) fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below((last - first).unsigned_abs() + 1).cast_signed()
    }

    /// Whether something of this probability (0 to 1) happens.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        // 53 bits, as many as a double holds.
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.below(from.len() as u64);
        &from[usize::try_from(index).expect("an index of a slice fits")]
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&mut self) -> Uuid {
        let bytes = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_seed_kind_and_thing() {
        let first = |seed, kind, thing| Random::of(seed, kind, thing).next();
        assert_eq!(first(1, "request", 7), first(1, "request", 7));
        let others = [first(2, "request", 7), first(1, "job", 7), first(1, "request", 8)];
        assert!(others.iter().all(|other| *other != first(1, "request", 7)));
    }

    #[test]
    fn numbers_stay_in_their_range_and_probabilities_hold() {
        let mut random = Random::of(1, "test", 0);
        let mut hits = 0;
        for _ in 0..10_000 {
            assert!((-3..=5).contains(&random.between(-3, 5)));
            hits += u32::from(random.happens(0.25));
        }
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!(!random.happens(0.0));
        assert!(random.happens(1.0));
    }
}
