//! Rules of `STYLE.md` that neither the compiler nor clippy knows: layers, file size, module docs,
//! and what must not stand in the tree. Each test lists all violations at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A module of `src/` and the modules it may use, besides itself.
///
/// `&` before a name stands for everything that the named module may use, and the module itself.
const LAYERS: &[(&str, &[&str])] = &[
    // 1: knows nothing but the standard library.
    ("error", &[]),
    ("time", &["error"]),
    ("ids", &["error"]),
    ("random", &["error"]),
    ("nullable", &["error"]),
    ("record", &["error", "time", "ids"]),
    ("windowed", &["time", "nullable"]),
    // 2: neither Kafka nor RocksDB.
    ("serdes", &["&record", "random", "nullable", "windowed"]),
    ("telemetry", &["&record", "random", "nullable"]),
    ("config", &["&record", "random", "nullable"]),
    // 3: edges; they do not know each other, nor the graph, nor tasks.
    ("kafka", &["&serdes", "&telemetry", "&config"]),
    ("dlq", &["&serdes", "&telemetry", "&config"]),
    ("store", &["&serdes", "&telemetry", "&config"]),
    // 4: user code's view; knows stores by their ports, Kafka not at all.
    ("processor", &["&store"]),
    // 5: the graph; does not know how nodes are run.
    ("topology", &["&processor", "&kafka", "&dlq"]),
    // 6: two that are blind to each other. The first describe, the second runs.
    ("operators", &["&processor", "topology"]),
    ("dsl", &["&operators", "&dlq"]),
    ("task", &["&topology"]),
    // 7: knows nothing of windows and joins.
    ("runtime", &["&task"]),
    // Beside tasks: topics to places outside Kafka.
    ("connect", &["&kafka", "runtime"]),
    // 8: nothing depends on it (see `nothing_depends_on_testing`).
    ("testing", &["&runtime", "&dsl"]),
];

/// A foreign crate and where alone its types may appear, so that it can be replaced.
const EDGES: &[(&str, &str)] = &[
    ("rdkafka", "src/kafka/"),
    ("rdkafka_sys", "src/kafka/"),
    ("rocksdb", "src/store/"),
    ("serde_avro_fast", "src/serdes/"),
    ("ureq", "src/serdes/"),
];

/// Most lines of a file, without its tests.
const LINES_MAX: usize = 500;

/// Longer files, each with the reason why two would read worse.
const LONGER: &[(&str, &str)] = &[];

#[test]
fn modules_use_only_layers_below_them() {
    let exports = exports(&read(&root().join("src/lib.rs")));
    let mut found = String::new();
    for file in rust_files(&["src"]) {
        let (Some(module), text) = (module_of(&file), code(&read(&root().join(&file)))) else {
            continue;
        };
        if !LAYERS.iter().any(|(name, _)| *name == module) {
            let _ = writeln!(found, "{file}: module \"{module}\" has no row in LAYERS");
            continue;
        }
        let allowed = allowed(&module);
        for name in crate_paths(&text) {
            let used = exports.get(&name).unwrap_or(&name);
            if *used != module && !allowed.contains(used) {
                let _ = writeln!(
                    found,
                    "{file}: uses crate::{name} of \"{used}\"; \"{module}\" may use {}",
                    allowed.join(" ")
                );
            }
        }
    }
    check("a module may use only layers below it; own a trait there instead", &found);
}

#[test]
fn nothing_depends_on_testing() {
    let depends = |(name, _): &&(&str, &[&str])| allowed(name).contains(&"testing".to_owned());
    assert!(LAYERS.iter().find(depends).is_none());
}

#[test]
fn foreign_types_stay_at_their_edge() {
    let mut found = String::new();
    for file in rust_files(&["src"]) {
        let text = code(&read(&root().join(&file)));
        for (name, place) in EDGES {
            if !file.starts_with(place) && !path_starts(&text, name).is_empty() {
                let _ = writeln!(found, "{file}: uses {name}, which belongs into {place}");
            }
        }
    }
    check("a foreign crate appears in one folder only", &found);
}

#[test]
fn files_stay_short() {
    let mut found = String::new();
    for file in rust_files(&["src", "topologies/src", "benches", "tests"]) {
        let lines = before_tests(&read(&root().join(&file))).lines().count();
        let excused = LONGER.iter().any(|(name, _)| *name == file);
        if lines > LINES_MAX && !excused {
            let _ = writeln!(found, "{file}: {lines} lines");
        }
        if lines <= LINES_MAX && excused {
            let _ = writeln!(found, "{file}: {lines} lines; needs no place in LONGER any more");
        }
    }
    check(&format!("a file has at most {LINES_MAX} lines before its tests"), &found);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut found = String::new();
    for file in rust_files(&["src", "topologies", "benches", "tests"]) {
        let text = read(&root().join(&file));
        // Settings of the whole crate may stand before the first word.
        let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
        if !first.is_some_and(|line| line.starts_with("//!")) {
            let _ = writeln!(found, "{file}");
        }
    }
    check("a file begins with a module doc (//!)", &found);
}

#[test]
fn no_test_is_skipped_and_nothing_is_left_open() {
    // In two parts, so that this file does not find itself.
    let banned =
        [concat!("#[", "ignore"), concat!("todo", "!("), concat!("unimpl", "emented!("), "dbg!("];
    let mut found = String::new();
    for file in rust_files(&["src", "topologies", "benches", "tests"]) {
        for (number, line) in read(&root().join(&file)).lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word) && file != THIS_FILE) {
                let _ = writeln!(found, "{file}:{}: {word}", number + 1);
            }
        }
    }
    check("no skipped tests, no open ends", &found);
}

#[test]
fn the_tree_names_no_machine() {
    let mut found = String::new();
    for file in all_files(&root()) {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| names_a_machine(line)) {
            let _ = writeln!(found, "{file}:{}: {}", number + 1, line.trim());
        }
    }
    check("no absolute paths of a machine", &found);
}

#[test]
fn the_table_for_movers_names_tests_that_exist() {
    let text = read(&root().join("docs/from-kafka-streams.md"));
    let operations = text.split("\n## ").find(|part| part.starts_with("Operations"));
    let operations = operations.expect("the page has a part \"Operations\"");
    let tests: Vec<String> = rust_files(&["src", "tests", "topologies"])
        .iter()
        .map(|file| read(&root().join(file)))
        .collect();
    let exists = |name: &str| tests.iter().any(|text| text.contains(&format!("fn {name}(")));
    let is_example = |name: &str| root().join(format!("examples/{name}.rs")).exists();
    let mut found = String::new();
    for row in operations.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = last_cell(row);
        let named = quoted(tests);
        for (before, name) in &named {
            let known = if before.ends_with("example ") { is_example(name) } else { exists(name) };
            if !known {
                let _ = writeln!(found, "{name}, of the row {row}");
            }
        }
        if named.is_empty() && !tests.starts_with("conformance") && !row.contains("**not yet**") {
            let _ = writeln!(found, "no test of the row {row}");
        }
    }
    check("a row of docs/from-kafka-streams.md names a test or example that exists", &found);
}

/// The last cell of a table's row.
fn last_cell(row: &str) -> &str {
    row.trim_end_matches('|').rsplit('|').next().unwrap_or("").trim()
}

/// What stands between back-ticks, each with the text before it.
fn quoted(text: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = text.split('`').collect();
    parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

#[test]
fn the_checks_find_what_they_look_for() {
    let text =
        "use crate::{error::{Error, Kind}, Record};\nlet x = crate::time::now(); // crate::no";
    assert_eq!(crate_paths(&code(text)), ["error", "Record", "time"]);
    assert_eq!(exports("pub use time::{Clock, Timestamp};\npub use ids::TaskId;")["Clock"], "time");
    assert_eq!(
        path_starts("use rocksdb::DB; crate::store::rocksdb::X; my_rocksdb::Y", "rocksdb"),
        [4]
    );
    assert!(names_a_machine(concat!("see /ho", "me/someone/project")));
    assert!(!names_a_machine("GET /work/items"));
    let row = "| 1 | `a` | b | conformance; `c`; example `d` |";
    assert_eq!(quoted(last_cell(row)), [("conformance; ", "c"), ("; example ", "d")]);
    assert!(allowed("runtime").contains(&"kafka".to_owned()));
    assert!(!allowed("runtime").contains(&"dsl".to_owned()));
}

const THIS_FILE: &str = "tests/tidy.rs";

#[track_caller]
fn check(rule: &str, found: &str) {
    assert!(found.is_empty(), "STYLE.md: {rule}. Found:\n{found}");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

/// Rust files below the given folders, relative to the root.
fn rust_files(folders: &[&str]) -> Vec<String> {
    let inside = |file: &String| folders.iter().any(|f| Path::new(file).starts_with(f));
    all_files(&root()).into_iter().filter(|f| f.ends_with(".rs") && inside(f)).collect()
}

/// All files of the tree, relative to the root and sorted, without hidden and built ones.
fn all_files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the tree can be read") {
        let path = entry.expect("the tree can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            let relative = path.strip_prefix(root()).expect("the walk starts at the root");
            files.push(relative.to_string_lossy().into_owned());
        }
    }
    files.sort();
    files
}

/// The first-level module that a file of `src/` belongs to; none for the crate's root.
fn module_of(file: &str) -> Option<String> {
    let first = file.strip_prefix("src/")?.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "lib").then(|| module.to_owned())
}

/// Everything that a module may use, with `&` resolved.
fn allowed(module: &str) -> Vec<String> {
    let mut names = Vec::new();
    let row = LAYERS.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, row)| row);
    for name in row {
        if let Some(base) = name.strip_prefix('&') {
            names.extend(allowed(base));
            names.push(base.to_owned());
        } else {
            names.push((*name).to_owned());
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The text before the unit tests, which stand at the bottom of a file.
fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ").map_or(text, |end| &text[..end])
}

/// The text without unit tests and without line comments.
fn code(text: &str) -> String {
    let uncommented = |line: &str| line.split("//").next().unwrap_or("").to_owned();
    before_tests(text).lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// Which module each name comes from that the crate's root re-exports.
fn exports(lib: &str) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    let text = code(lib);
    for statement in text.split(';').filter_map(|s| s.split_once("use ")).map(|(_, path)| path) {
        let Some((module, names)) = statement.split_once("::") else { continue };
        // Only last segments count: `a::{b::C, D as E}` exports C and E.
        for name in names.split([',', '{', '}']) {
            let name = name.rsplit([':', ' ']).next().unwrap_or("").trim();
            exports.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    exports
}

/// First names of all `crate::` paths, groups in braces included.
fn crate_paths(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for start in path_starts(text, "crate") {
        let rest = &text[start + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            names.extend(first_names(group));
        } else {
            names.push(first_name(rest));
        }
    }
    names
}

/// Places where a path begins with `name`, as a whole word and not in the middle of a path.
fn path_starts(text: &str, name: &str) -> Vec<usize> {
    let is_start = |at: &usize| {
        let before = text[..*at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
    };
    text.match_indices(&format!("{name}::")).map(|(at, _)| at).filter(is_start).collect()
}

/// First names inside `{…}`, whose opening brace is already gone.
fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut item) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(first_name(group[item..at].trim_start()));
                item = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether a line has a path into somebody's home, checkout or temporary folder.
fn names_a_machine(line: &str) -> bool {
    // In two parts, so that this file does not find itself.
    let folders =
        [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/t", "mp/")];
    folders.iter().any(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            // Part of a longer path or address, such as `http://host/work/…`, is something else.
            let before = line[..at].chars().next_back();
            let starts = !before.is_some_and(|c| c.is_alphanumeric() || "._-}$/".contains(c));
            // One more folder below makes it a place on some machine.
            let rest = &line[at + folder.len()..];
            let name = first_name(rest);
            starts && !name.is_empty() && rest[name.len()..].starts_with('/')
        })
    })
}
