//! Files that are no manifests any more, or hardly. `MUTATIONS=100` tries a hundred times as many, and others each time.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, sync::LazyLock};

use controller_core::{Settings, translate};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};
use tempfile::TempDir;

use super::Files;

/// The files of all examples.
static EXAMPLES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/examples");
    let folders = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
});

/// What has a meaning in YAML, or none in text.
const PIECES: [&[u8]; 26] = [
    b": ",
    b"\n",
    b"- ",
    b"---\n",
    b"...\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!binary ",
    b"!x ",
    b"|\n",
    b">-\n",
    b"\t",
    b"# ",
    b"'",
    b"\"",
    b"\\u0000",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"99999999999999999999",
    b"? ",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize),
    Remove(u8),
    /// Repeats what comes before.
    Repeat(u8),
    /// Puts something into so many brackets.
    Nest(u16),
    Cut,
}

fn edits() -> impl Strategy<Value = Vec<(Index, Edit)>> {
    let edit = prop_oneof![
        8 => (0..PIECES.len()).prop_map(Edit::Insert),
        4 => any::<u8>().prop_map(Edit::Remove),
        2 => any::<u8>().prop_map(Edit::Repeat),
        1 => any::<u16>().prop_map(Edit::Nest),
        1 => Just(Edit::Cut),
    ];
    prop::collection::vec((any::<Index>(), edit), 1..6)
}

fn apply(text: &mut Vec<u8>, place: Index, edit: &Edit) {
    let at = place.index(text.len() + 1);
    match edit {
        Edit::Insert(piece) => drop(text.splice(at..at, PIECES[*piece].iter().copied())),
        Edit::Remove(count) => drop(text.drain(at..text.len().min(at + usize::from(*count)))),
        Edit::Repeat(count) => {
            let before = text[at - at.min(usize::from(*count))..at].to_vec();
            text.splice(at..at, before);
        }
        Edit::Nest(depth) => drop(text.splice(at..at, std::iter::repeat_n(b'[', usize::from(*depth)))),
        Edit::Cut => text.truncate(at),
    }
}

const SIBLING: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: sibling, namespace: other}\nspec: {}\n";

fn config() -> ProptestConfig {
    let more = std::env::var("MUTATIONS").ok().and_then(|more| more.parse::<u32>().ok());
    let rng_seed = if more.is_some() { RngSeed::Random } else { RngSeed::Fixed(7) };
    ProptestConfig { cases: 256 * more.unwrap_or(1), failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_becomes_of_a_file_the_others_are_read(file in any::<Index>(), edits in edits()) {
        let directory = TempDir::new().unwrap();
        let (path, original) = (directory.path().join("edited.yaml"), file.get(&EXAMPLES));
        fs::write(directory.path().join("sibling.yaml"), SIBLING).unwrap();
        fs::write(&path, original).unwrap();
        let mut files = Files::new(directory.path());
        let before = files.load().unwrap();
        prop_assert!(before.problems.is_empty());

        let mut text = original.clone().into_bytes();
        for (place, edit) in &edits {
            apply(&mut text, *place, edit);
        }
        fs::write(&path, &text).unwrap();
        let Some(after) = files.load() else { return Ok(()) };
        prop_assert!(after.snapshot.services.contains_key(&("other".to_owned(), "sibling".to_owned())));
        for problem in &after.problems {
            prop_assert!(problem.file == path && problem.line > 0 && !problem.message.is_empty(), "{problem}");
        }
        if after.problems.iter().any(|problem| problem.message.ends_with("what it said before stays in force")) {
            let places = |manifests: &super::Manifests| manifests.places.keys().cloned().collect::<Vec<_>>();
            let kept = places(&after);
            prop_assert!(places(&before).iter().any(|object| kept.contains(object)));
        }
        let settings = Settings { running_on_host: true, ..Settings::default() };
        drop(translate(&after.snapshot, &settings));
    }
}
