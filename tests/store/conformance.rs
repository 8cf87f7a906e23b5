//! What every engine owes the layer above.

use std::collections::BTreeMap;
use std::ops::Bound;

use kstreams::store::{Direction, Engine};

use crate::engines;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn write(engine: &mut dyn Engine, changes: &[(&[u8], Option<&[u8]>)], position: Option<i64>) {
    engine.write(&mut changes.iter().copied(), position).unwrap();
}

fn scan(
    engine: &dyn Engine,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let entries = engine.range(from, to, direction).unwrap();
    entries.map(|entry| entry.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
}

fn all(engine: &dyn Engine) -> Map {
    scan(engine, Bound::Unbounded, Bound::Unbounded, Direction::Forward).into_iter().collect()
}

#[test]
fn a_new_engine_is_empty_and_has_no_position() {
    for subject in engines::all() {
        let engine = subject.open();
        assert_eq!(engine.position(), None, "{}", subject.name);
        assert_eq!(engine.approximate_entries(), 0, "{}", subject.name);
        assert_eq!(engine.get(b"").unwrap(), None, "{}", subject.name);
        assert_eq!(all(&*engine), Map::new(), "{}", subject.name);
        engine.close().unwrap();
    }
}

#[test]
fn a_write_changes_entries_and_position_together() {
    for subject in engines::all() {
        let mut engine = subject.open();
        let large = vec![7; 3 << 20];
        write(
            &mut *engine,
            &[(b"a", Some(b"1")), (b"b", Some(b"")), (b"c", Some(&large))],
            Some(5),
        );
        write(&mut *engine, &[(b"a", Some(b"2")), (b"d", None)], None);
        assert_eq!(engine.position(), Some(5), "{}", subject.name);
        write(&mut *engine, &[(b"b", None)], Some(-1));
        write(&mut *engine, &[], Some(9));
        assert_eq!(engine.position(), Some(9), "{}", subject.name);
        assert_eq!(engine.get(b"a").unwrap().unwrap(), b"2"[..], "{}", subject.name);
        assert_eq!(engine.get(b"b").unwrap(), None, "{}", subject.name);
        let expected = Map::from([(b"a".to_vec(), b"2".to_vec()), (b"c".to_vec(), large)]);
        assert!(all(&*engine) == expected, "{}", subject.name);
        engine.close().unwrap();
    }
}

#[test]
fn ranges_hold_their_bounds_both_ways() {
    let keys: Vec<&[u8]> = vec![
        b"",
        b"\0",
        b"\0\0",
        b"\0\x01",
        b"\x01",
        b"\x01\0",
        b"a",
        b"ab",
        b"b",
        b"\xff",
        b"\xff\xff",
    ];
    let bounds: Vec<Bound<&[u8]>> = keys
        .iter()
        .copied()
        .chain([&b"\0\0\0"[..], b"aa", b"c"])
        .flat_map(|key| [Bound::Included(key), Bound::Excluded(key)])
        .chain([Bound::Unbounded])
        .collect();
    for subject in engines::all() {
        let mut engine = subject.open();
        let changes: Vec<_> = keys.iter().map(|key| (*key, Some(*key))).collect();
        write(&mut *engine, &changes, Some(1));
        for (&from, &to) in bounds.iter().flat_map(|from| bounds.iter().map(move |to| (from, to))) {
            let is_within =
                |key: &&&[u8]| std::ops::RangeBounds::<[u8]>::contains(&(from, to), **key);
            let mut expected: Vec<_> =
                keys.iter().filter(is_within).map(|key| (key.to_vec(), key.to_vec())).collect();
            let name = subject.name;
            let found = scan(&*engine, from, to, Direction::Forward);
            assert_eq!(found, expected, "{name} {from:?} {to:?}");
            expected.reverse();
            let found = scan(&*engine, from, to, Direction::Backward);
            assert_eq!(found, expected, "{name} {from:?} {to:?} backward");
        }
        assert_eq!(engine.approximate_entries(), keys.len() as u64, "{}", subject.name);
        engine.close().unwrap();
    }
}

#[test]
fn what_is_persistent_outlives_close_and_ends_with_wipe() {
    for subject in engines::all().into_iter().filter(|subject| subject.is_persistent()) {
        let mut engine = subject.open();
        write(&mut *engine, &[(b"", Some(b"1")), (b"a", Some(b"2"))], Some(7));
        let entries = all(&*engine);
        engine.close().unwrap();

        let engine = subject.open();
        assert_eq!((engine.position(), all(&*engine)), (Some(7), entries), "{}", subject.name);
        engine.close().unwrap();

        subject.wipe();
        subject.wipe();
        let engine = subject.open();
        assert_eq!((engine.position(), all(&*engine)), (None, Map::new()), "{}", subject.name);
        engine.close().unwrap();
        assert!(subject.folder().exists());
    }
}
