//! What the fuzz targets do, on the stable toolchain: with random bytes, with their seeds, and with seeds that were damaged.

#[path = "../fuzz/entries/frame.rs"]
mod frame;
#[path = "../fuzz/entries/object.rs"]
mod object;
#[path = "../fuzz/entries/record_batch.rs"]
mod record_batch;
#[path = "../fuzz/entries/verdict.rs"]
mod verdict;

use std::path::Path;

use proptest::prelude::*;

/// A target's name and what it does with its input.
type Target = (&'static str, fn(&[u8]) -> bool);

const TARGETS: &[Target] =
    &[("frame", frame::run), ("object", object::run), ("record_batch", record_batch::run), ("verdict", verdict::run)];

/// A change to an input.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, [u8; 4]),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    /// Copies the bytes from the first place over those at the second.
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| unreachable!("{}: {e}", folder.display()));
    files.filter_map(|file| std::fs::read(file.ok()?.path()).ok()).collect()
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let extreme = prop::sample::select(vec![[0; 4], [0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0, 0, 0, 1]]);
    prop_oneof![
        (at(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), prop_oneof![extreme, any::<[u8; 4]>()]).prop_map(|(at, value)| Damage::Set(at, value)),
        at().prop_map(Damage::Cut),
        (at(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at(), at()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let len = bytes.len().max(1);
        match damage {
            Damage::Flip(at, bit) => bytes.iter_mut().skip(at.index(len)).take(1).for_each(|byte| *byte ^= 1 << bit),
            Damage::Set(at, value) => bytes.iter_mut().skip(at.index(len)).zip(value).for_each(|(byte, value)| *byte = *value),
            Damage::Cut(at) => bytes.truncate(at.index(len)),
            Damage::Insert(at, more) => {
                let at = at.index(len).min(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Repeat(from, to) => {
                let piece: Vec<u8> = bytes.iter().copied().skip(from.index(len)).take(16).collect();
                bytes.iter_mut().skip(to.index(len)).zip(piece).for_each(|(byte, value)| *byte = value);
            }
        }
    }
    bytes
}

#[test]
fn every_seed_is_good_and_nothing_before_its_end_is() {
    for (name, run) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            assert!(run(&seed), "a seed of {name} is not good: {seed:02x?}");
            for len in 0..seed.len() {
                assert!(!run(&seed[..len]), "{len} bytes of a seed of {name} are good: {seed:02x?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for (_, run) in TARGETS {
            run(&bytes);
        }
    }

    #[test]
    fn damaged_seeds_do_no_harm(seed: prop::sample::Index, damages in prop::collection::vec(damage(), 1..6)) {
        for (name, run) in TARGETS {
            let seeds = seeds(name);
            run(&damaged(seed.get(&seeds).clone(), &damages));
        }
    }
}
