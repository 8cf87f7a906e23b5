//! What a batch of changelog records comes to: the last record of each key, in the order that engines want.

use super::ChangelogRecord;
use super::rows::key_prefix;

/// From so many bytes of keys and values on, a batch goes to the engine's [`ingest`](super::Engine::ingest): below, a file of its own costs
/// more than it saves.
pub(super) const INGEST_BYTES_MIN: usize = 1 << 20;

/// The last record of each key, sorted by key.
pub(super) fn last_of_each_key(records: &[ChangelogRecord]) -> Vec<&ChangelogRecord> {
    // The first eight bytes decide nearly always, and lie side by side; records of one key stay in their order by their number.
    let mut sorted: Vec<(u64, usize)> =
        records.iter().enumerate().map(|(at, record)| (key_prefix(&record.key), at)).collect();
    sorted.sort_unstable_by(|(a_prefix, a), (b_prefix, b)| {
        let by_key = || records[*a].key.cmp(&records[*b].key).then_with(|| a.cmp(b));
        a_prefix.cmp(b_prefix).then_with(by_key)
    });
    let mut last: Vec<&ChangelogRecord> = Vec::with_capacity(sorted.len());
    for record in sorted.into_iter().map(|(_, at)| &records[at]) {
        match last.last_mut() {
            Some(before) if before.key == record.key => *before = record,
            _ => last.push(record),
        }
    }
    last
}

/// Bytes of keys and values.
pub(super) fn bytes_of(records: &[&ChangelogRecord]) -> usize {
    let size = |record: &&ChangelogRecord| {
        record.key.len() + record.value.as_ref().map_or(0, |value| value.len())
    };
    records.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_last_record_of_a_key_decides_and_keys_are_in_order() {
        let keys = ["b", "a", "", "abcdefghi", "abcdefgh", "a", "abcdefghi", "a\0", "b"];
        let record = |(at, key): (usize, &&'static str)| ChangelogRecord {
            key: Bytes::from_static(key.as_bytes()),
            value: (at != 5).then(|| Bytes::from(at.to_string())),
            timestamp: Default::default(),
            headers: Default::default(),
        };
        let records: Vec<ChangelogRecord> = keys.iter().enumerate().map(record).collect();
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let found: Vec<(String, Option<String>)> = last_of_each_key(&records)
            .into_iter()
            .map(|record| (text(&record.key), record.value.as_ref().map(text)))
            .collect();
        let wanted = [
            ("", Some("2")),
            ("a", None),
            ("a\0", Some("7")),
            ("abcdefgh", Some("4")),
            ("abcdefghi", Some("6")),
            ("b", Some("8")),
        ];
        assert_eq!(found, wanted.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))));
    }
}
