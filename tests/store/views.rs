//! What queries from other threads see of an engine: whole committed states, until it closes.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kstreams::ErrorKind;
use kstreams::store::{Direction, Engine, EngineView, PageLimits};

use crate::engines;

const KEYS: u32 = 500;
const LIMITS: PageLimits = PageLimits { entries: 1_000, bytes: 1 << 20 };

/// Gives every key the same value, in one commit.
fn write_all(engine: &mut dyn Engine, value: u32) {
    let (keys, value): (Vec<_>, _) =
        ((0..KEYS).map(u32::to_be_bytes).collect(), value.to_be_bytes());
    let mut changes = keys.iter().map(|key| (&key[..], Some(&value[..])));
    engine.write(&mut changes, Some(i64::from(u32::from_be_bytes(value)))).unwrap();
}

fn page(
    view: &dyn EngineView,
    direction: Direction,
    limits: PageLimits,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let page = view.page(Bound::Unbounded, Bound::Unbounded, direction, limits).unwrap();
    page.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[test]
fn a_view_reads_what_the_engine_holds() {
    for subject in engines::all() {
        let mut engine = subject.open();
        let view = engine.view();
        assert_eq!(view.position().unwrap(), None, "{}", subject.name);
        assert_eq!(page(&*view, Direction::Forward, LIMITS), [], "{}", subject.name);
        let (a, b, c) = (&b"a"[..], &b"b"[..], &b"c"[..]);
        let changes = [(a, Some(&b"1"[..])), (b, Some(b"22")), (c, Some(b"3"))];
        engine.write(&mut changes.into_iter(), Some(7)).unwrap();
        assert_eq!(view.position().unwrap(), Some(7), "{}", subject.name);
        assert_eq!(view.get(b).unwrap().as_deref(), Some(&b"22"[..]), "{}", subject.name);
        assert_eq!(view.get(b"").unwrap(), None, "{}", subject.name);
        assert_eq!(view.approximate_entries().unwrap(), engine.approximate_entries());
        let keys = |from, to, direction, limits| -> Vec<u8> {
            let page = view.page(from, to, direction, limits).unwrap();
            page.iter().flat_map(|(key, _)| key.to_vec()).collect()
        };
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(keys(all.0, all.1, Direction::Backward, LIMITS), b"cba", "{}", subject.name);
        assert_eq!(keys(Bound::Excluded(a), Bound::Excluded(c), Direction::Forward, LIMITS), b"b");
        assert_eq!(keys(Bound::Included(c), Bound::Included(a), Direction::Forward, LIMITS), b"");
        let entries =
            |entries, bytes| keys(all.0, all.1, Direction::Forward, PageLimits { entries, bytes });
        assert_eq!((entries(2, 100), entries(0, 100)), (b"ab".to_vec(), b"".to_vec()));
        // The entry that exceeds the bytes is still in the page, so that a scan always goes on.
        assert_eq!((entries(9, 1), entries(9, 3)), (b"a".to_vec(), b"ab".to_vec()));
        engine.close().unwrap();
    }
}

#[test]
fn a_page_is_one_committed_state_whatever_is_written_meanwhile() {
    for subject in engines::all() {
        let mut engine = subject.open();
        write_all(&mut *engine, 0);
        let views: Vec<_> = (0..2).map(|_| engine.view()).collect();
        let done = AtomicBool::new(false);
        let read = |view: &dyn EngineView| {
            let (mut pages, mut newest) = (0, Vec::new());
            while !done.load(Ordering::Relaxed) || pages == 0 {
                let page = page(view, Direction::Forward, LIMITS);
                assert_eq!(page.len(), KEYS as usize);
                assert!(page.iter().all(|(_, value)| *value == page[0].1), "a torn commit");
                assert!(page[0].1 >= newest, "a commit was taken back");
                newest.clone_from(&page[0].1);
                pages += 1;
            }
            pages
        };
        let pages: u32 = thread::scope(|scope| {
            let readers: Vec<_> = views.iter().map(|v| scope.spawn(|| read(&**v))).collect();
            (1..200).for_each(|value| write_all(&mut *engine, value));
            done.store(true, Ordering::Relaxed);
            readers.into_iter().map(|reader| reader.join().unwrap()).sum()
        });
        assert!(pages > 0, "{}", subject.name);
        engine.close().unwrap();
    }
}

#[test]
fn a_view_ends_with_its_engine_and_holds_nothing_of_it() {
    for subject in engines::all() {
        for is_closed in [true, false] {
            let mut engine = subject.open();
            write_all(&mut *engine, 1);
            let view = engine.view();
            match is_closed {
                true => engine.close().unwrap(),
                false => drop(engine),
            }
            for error in [
                view.get(b"a").unwrap_err(),
                view.page(Bound::Unbounded, Bound::Unbounded, Direction::Forward, LIMITS)
                    .unwrap_err(),
                view.approximate_entries().unwrap_err(),
                view.position().unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Retriable, "{}: {error}", subject.name);
                assert!(error.message().contains("found it closed"), "{error}");
            }
            // While the old view is still held.
            subject.open().close().unwrap();
        }
    }
}
