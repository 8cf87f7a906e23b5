//! Murmur3 with 128 bits, as Kafka Streams hashes the left values of a foreign-key join. Hot path of that join.

/// Kafka's seed, which differs from Guava's and Hive's. Source: `Murmur3.DEFAULT_SEED`.
const SEED: u64 = 104_729;
const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// A hash: its two halves, in the order in which they are written.
pub(crate) type Hash128 = [u64; 2];

/// The hash of `data`. Source: `Murmur3.hash128(byte[])`.
pub(crate) fn hash128(data: &[u8]) -> Hash128 {
    let (mut h1, mut h2) = (SEED, SEED);
    let mut blocks = data.chunks_exact(16);
    for block in &mut blocks {
        h1 ^= mix1(half(&block[..8]));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix2(half(&block[8..]));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let tail = blocks.remainder();
    if tail.len() > 8 {
        h2 ^= mix2(half(&tail[8..]));
    }
    h1 ^= mix1(half(&tail[..tail.len().min(8)]));
    h1 ^= data.len() as u64;
    h2 ^= data.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2) = (finish(h1), finish(h2));
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    [h1, h2]
}

/// Up to eight bytes, little-endian.
fn half(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}

fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn finish(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `Murmur3.hash128` of Kafka Streams 4.3.1 returns.
    #[test]
    fn hashes_are_javas() {
        let data: Vec<u8> = (0..40u8).map(|i| i.wrapping_mul(37)).collect();
        let expected: [(usize, Hash128); 11] = [
            (0, [0x9d27_64a0_18e3_2942, 0x8c3c_f3b0_3593_8518]),
            (1, [0xbf66_3156_7482_f286, 0x38e7_02af_0fbf_73cd]),
            (7, [0x4bbd_ba3e_3e89_24e1, 0xe546_0de6_ed7c_9d4d]),
            (8, [0x1aaa_4cc5_4ef0_dc1e, 0x77cd_3a66_75a9_62bf]),
            (9, [0x97bc_1cd7_f156_1e8b, 0xb2d5_eabe_4a4f_7d41]),
            (15, [0x0de6_450c_8655_0a51, 0x87d4_ca36_ea7e_1c61]),
            (16, [0x1a53_f6a8_8693_64ca, 0xaf9b_3636_2973_6d45]),
            (17, [0x2636_8d9c_4246_bc2c, 0x25bf_52bc_4382_8d15]),
            (31, [0x1a6e_ad73_9635_2c8d, 0xec5f_80f8_9bf4_5bf4]),
            (32, [0x6e69_f3f6_099e_a986, 0x482e_dad4_809f_f238]),
            (40, [0xd216_7f00_9553_a63a, 0x66aa_ad8c_bad1_2706]),
        ];
        for (bytes, hash) in expected {
            assert_eq!(hash128(&data[..bytes]), hash, "{bytes} bytes");
        }
    }
}
