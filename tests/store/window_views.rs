//! Interactive queries of window and session stores see what the store's own reads see after a commit, and nothing else.

use std::time::Duration;

use kstreams::serdes::DefaultSerde;
use kstreams::store::{
    Direction, QueryableStoreType, ReadOnlySessionStore, ReadOnlyWindowStore, RowOrder,
    SegmentedStoreOptions, SessionStore, StateStore, TransactionalStoreOptions, ValueFormat,
    WindowStore, WindowStoreOptions,
};
use kstreams::{QueryableStoreTypes, Timestamp, Window};

use crate::engines::{self, Subject};

const RETENTION_MS: i64 = 200_000;
const ORDERS: [RowOrder; 3] = [RowOrder::KeyFirst, RowOrder::TimeFirst, RowOrder::TimeFirstIndexed];
const KEYS: [&str; 4] = ["a", "aa", "b", "ü"];
/// From before the retention to now: some are gone, and one is too old in a segment that is still there.
const TIMES: [i64; 8] = [0, 40_000, 59_999, 60_000, 100_000, 120_000, 250_000, 300_000];
const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Backward];

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn options(order: RowOrder, value_format: ValueFormat) -> SegmentedStoreOptions {
    SegmentedStoreOptions {
        store: TransactionalStoreOptions { value_format, ..Default::default() },
        retention: Duration::from_millis(RETENTION_MS as u64),
        additional_retention: Duration::ZERO,
        order,
    }
}

fn windows(subject: &Subject, order: RowOrder) -> WindowStore<String, i64> {
    let segments = options(order, ValueFormat::Timestamped);
    let options = WindowStoreOptions {
        segments,
        window_size: Duration::from_secs(10),
        retain_duplicates: false,
    };
    WindowStore::open("w".into(), String::serde(), i64::serde(), subject.open(), options).unwrap()
}

fn read(store: &WindowStore<String, i64>) -> ReadOnlyWindowStore<String, i64> {
    let view = store.view().unwrap().typed.downcast().unwrap();
    QueryableStoreTypes::window_store::<String, i64>().create(vec![(3, view)])
}

fn put_windows(store: &mut WindowStore<String, i64>) {
    for (n, time) in (0i64..).zip(TIMES) {
        for key in KEYS {
            store.put_with_timestamp(&key.to_owned(), &n, at(time), at(time + n)).unwrap();
        }
    }
    store.accept_record();
}

#[test]
fn windows_are_read_as_the_store_itself_reads_them() {
    for subject in engines::all() {
        for order in ORDERS {
            subject.wipe();
            let mut store = windows(&subject, order);
            let view = read(&store);
            put_windows(&mut store);
            assert!(view.all().unwrap().next().is_none(), "nothing is committed");
            assert_eq!(view.fetch(&"a".into(), at(300_000)).unwrap(), None);
            store.commit(Some(1)).unwrap();
            // What follows is uncommitted, and must change nothing.
            let expected = all_window_reads(&mut store);
            store.put_with_timestamp(&"a".into(), &99, at(900_000), at(0)).unwrap();
            store.delete(&"b".into(), at(250_000)).unwrap();

            let case = format!("{} {order:?}", subject.name);
            assert_eq!(view.partitions(), [3]);
            let mut found = Vec::new();
            for (first, last, from, to, direction) in ranges() {
                let (first, last) = (first.as_ref(), last.as_ref());
                let scan = view.fetch_keys(first, last, at(from), at(to), direction).unwrap();
                found.push(scan.with_timestamps().map(Result::unwrap).collect::<Vec<_>>());
            }
            assert!(found.iter().any(|rows| rows.len() > 10), "{case}");
            assert_eq!(found, expected, "{case}");
            for key in KEYS.map(str::to_owned) {
                for time in TIMES {
                    let wanted = (time > 300_000 - RETENTION_MS)
                        .then(|| TIMES.iter().position(|t| *t == time).unwrap() as i64);
                    assert_eq!(view.fetch(&key, at(time)).unwrap(), wanted, "{case} {key}@{time}");
                }
                let starts = |iter: kstreams::store::WindowViewIter<String, i64>| -> Vec<i64> {
                    iter.map(|entry| entry.unwrap().0.window.start.as_millis()).collect()
                };
                let mut one = starts(view.fetch_range(&key, at(0), at(260_000)).unwrap());
                assert_eq!(one, [120_000, 250_000], "{case}");
                one.reverse();
                assert_eq!(
                    one,
                    starts(view.backward_fetch_range(&key, at(0), at(260_000)).unwrap())
                );
            }
            StateStore::close(Box::new(store)).unwrap();
            assert!(view.all().is_err(), "{case}: closed");
        }
    }
}

type Range = (Option<String>, Option<String>, i64, i64, Direction);

fn ranges() -> Vec<Range> {
    let mut ranges = Vec::new();
    let bounds = [None, Some("a"), Some("aa"), Some("b")];
    for first in bounds {
        for last in bounds {
            for (from, to) in [(0, i64::MAX), (59_999, 120_000), (120_001, 249_999), (5, 4)] {
                for direction in DIRECTIONS {
                    let own = |bound: Option<&str>| bound.map(str::to_owned);
                    ranges.push((own(first), own(last), from, to, direction));
                }
            }
        }
    }
    ranges
}

type Rows = Vec<(kstreams::Windowed<String>, i64, Timestamp)>;

fn all_window_reads(store: &mut WindowStore<String, i64>) -> Vec<Rows> {
    let mut reads = Vec::new();
    for (first, last, from, to, direction) in ranges() {
        // One key is a read of its own, as it is in the view.
        let rows: Rows = match (&first, &last) {
            (Some(first), Some(last)) if first == last => {
                let scan = match direction {
                    Direction::Forward => store.fetch_range(first, at(from), at(to)),
                    Direction::Backward => store.backward_fetch_range(first, at(from), at(to)),
                };
                let windowed = |start: Timestamp| {
                    let end = at(start.as_millis() + 10_000);
                    kstreams::Windowed::new(first.clone(), Window::new(start, end))
                };
                let rows = scan.unwrap().with_timestamps().map(Result::unwrap);
                rows.map(|(start, value, time)| (windowed(start), value, time)).collect()
            }
            _ => {
                let (first, last) = (first.as_ref(), last.as_ref());
                let scan = store.fetch_keys(first, last, at(from), at(to), direction).unwrap();
                scan.with_timestamps().map(Result::unwrap).collect()
            }
        };
        reads.push(rows);
    }
    reads
}

#[test]
fn sessions_are_read_as_the_store_itself_reads_them() {
    for subject in engines::all() {
        for order in ORDERS {
            subject.wipe();
            let options = options(order, ValueFormat::Plain);
            let (key, value) = (String::serde(), i64::serde());
            let mut store =
                SessionStore::open("s".into(), key, value, subject.open(), options).unwrap();
            let view = store.view().unwrap().typed.downcast().unwrap();
            let view: ReadOnlySessionStore<String, i64> =
                QueryableStoreTypes::session_store().create(vec![(0, view)]);
            for (n, time) in (0i64..).zip(TIMES) {
                for (length, key) in (0i64..).zip(KEYS) {
                    let session = Window::new(at((time - 1_000 * length).max(0)), at(time));
                    store.put(&key.to_owned(), session, &n).unwrap();
                }
            }
            store.accept_record();
            assert!(view.fetch(&"a".into()).unwrap().next().is_none(), "nothing is committed");
            store.commit(Some(1)).unwrap();

            let case = format!("{} {order:?}", subject.name);
            let mut most = 0;
            for (first, last, from, to, direction) in ranges() {
                let (first, last) = (first.as_ref(), last.as_ref());
                let is_one = first.is_some() && first == last;
                let wanted: Vec<_> = match (first, direction) {
                    (Some(key), Direction::Forward) if is_one => {
                        store.find_sessions(key, at(from), at(to)).unwrap().collect()
                    }
                    (Some(key), Direction::Backward) if is_one => {
                        store.backward_find_sessions(key, at(from), at(to)).unwrap().collect()
                    }
                    _ => store
                        .find_sessions_of_keys(first, last, at(from), at(to), direction)
                        .unwrap()
                        .collect(),
                };
                let found =
                    view.find_sessions_of_keys(first, last, at(from), at(to), direction).unwrap();
                let rows = |rows: Vec<kstreams::Result<_>>| -> Vec<_> {
                    rows.into_iter().map(Result::unwrap).collect()
                };
                let found = rows(found.collect());
                most = most.max(found.len());
                assert_eq!(found, rows(wanted), "{case}");
            }
            assert!(most > 10, "{case}");
            let session = Window::new(at(249_000), at(250_000));
            assert_eq!(view.fetch_session(&"aa".into(), session).unwrap(), Some(6), "{case}");
            assert_eq!(view.fetch_session(&"a".into(), session).unwrap(), None, "{case}");
            let mut ends = view.backward_fetch(&"b".into()).unwrap();
            assert_eq!(ends.next().unwrap().unwrap().0.window.end, at(300_000), "{case}");
        }
    }
}
