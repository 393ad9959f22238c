//! What README says is shown by a test is shown by one.

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_readme_names_is_there() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("and what shows that it is gone").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")).collect();
    assert_eq!(rows.len(), 25, "{rows:?}");
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let (mut text, mut named) = (String::new(), 0);
        for name in cell.split('`').skip(1).step_by(2) {
            if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
                text = fs::read_to_string(suite.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
                continue;
            }
            let start = format!("fn {}", name.trim_end_matches('…'));
            let end = if name.ends_with('…') { "" } else { "()" };
            assert!(text.contains(&format!("{start}{end}")), "{name} is nowhere: {row}");
            named += 1;
        }
        assert!(named > 0, "no test: {row}");
    }
}
