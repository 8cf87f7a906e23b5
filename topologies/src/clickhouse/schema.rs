//! The tables and views, in versions: what was applied is noted in the database, so that applying again changes nothing.

use kstreams::{Error, Result};

use super::client::ClickHouse;

/// A step of the schema. Statements leave alone what exists, so that a step that was cut off can be run again.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// From 1, without gaps.
    pub version: u32,
    /// What it brings.
    pub name: &'static str,
    /// Statements that end in a semicolon and a line end; `{database}` stands for the database's name.
    pub sql: &'static str,
}

/// Every step, in order. One that was released is never changed: add another.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "audit_events",
        sql: include_str!("../../../clickhouse/001_audit_events.sql"),
    },
    Migration { version: 2, name: "views", sql: include_str!("../../../clickhouse/002_views.sql") },
];

/// A step, and whether it was applied now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its version.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// It changed the database just now.
    pub now: bool,
}

/// Brings the database to the newest version.
///
/// # Errors
/// `Invalid` where the database knows a version that this program does not, or has another under its number; else the server's.
pub fn apply(server: &ClickHouse) -> Result<Vec<Applied>> {
    let database = server.database();
    server.run(&format!(
        "CREATE TABLE IF NOT EXISTS {database}.schema_migrations \
         (version UInt32, name String, applied_at DateTime) \
         ENGINE = ReplacingMergeTree() ORDER BY version"
    ))?;
    let known = server.run(&format!(
        "SELECT DISTINCT version, name FROM {database}.schema_migrations ORDER BY version FORMAT TSV"
    ))?;
    let known: Vec<(&str, &str)> = known.lines().filter_map(|line| line.split_once('\t')).collect();
    for (version, name) in &known {
        let ours = MIGRATIONS.iter().find(|ours| ours.version.to_string() == *version);
        if ours.is_none_or(|ours| ours.name != *name) {
            return Err(Error::invalid(format!(
                "database \"{database}\": found schema version {version} \"{name}\", wanted at most {}; \
                 use the program of that version or a newer one",
                MIGRATIONS.len()
            )));
        }
    }
    let mut applied = Vec::new();
    for Migration { version, name, sql } in MIGRATIONS {
        let now = !known.iter().any(|(known, _)| *known == version.to_string());
        if now {
            for statement in statements(sql, database) {
                server
                    .run(&statement)
                    .map_err(|e| e.context(format!("schema version {version} \"{name}\"")))?;
            }
            server.run(&format!(
                "INSERT INTO {database}.schema_migrations (version, name, applied_at) \
                 VALUES ({version}, '{name}', now())"
            ))?;
        }
        applied.push(Applied { version: *version, name, now });
    }
    Ok(applied)
}

/// The statements of a step, without comments.
fn statements(sql: &str, database: &str) -> Vec<String> {
    let sql = sql.replace("{database}", database);
    let without_comments = |statement: &str| {
        let lines = statement.lines().filter(|line| !line.trim_start().starts_with("--"));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    sql.split(";\n").map(without_comments).filter(|statement| !statement.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_statements_that_may_be_repeated() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            let statements = statements(migration.sql, "db");
            assert!(!statements.is_empty());
            for statement in statements {
                assert!(statement.starts_with("CREATE "), "{statement}");
                assert!(statement.contains(" IF NOT EXISTS db."), "{statement}");
                assert!(!statement.contains(['{', ';']), "{statement}");
            }
        }
    }
}
