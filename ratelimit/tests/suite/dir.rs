//! Configuration in a directory that changes, as a ConfigMap does.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ratelimit::{
    config::{Config, Domains},
    service::CurrentConfig,
    settings::Settings,
    source::dir::{Dir, Error, Place},
};

fn domain(name: &str) -> String {
    format!("domain: {name}\ndescriptors:\n  - key: k\n    rate_limit: {{ unit: second, requests_per_unit: 1 }}\n")
}

fn knows(config: &CurrentConfig, name: &str) -> bool {
    config.load().as_ref().is_some_and(|config| config.domain(name).is_some())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lays a volume out as the kubelet does: files are links into `..data`, which is a link to a directory.
fn config_map(dir: &Path, generation: &str, files: &[(&str, &str)]) {
    let data = dir.join(format!("..{generation}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
    }
    let new = dir.join("..data_tmp");
    symlink(format!("..{generation}"), &new).unwrap();
    fs::rename(new, dir.join("..data")).unwrap();
    for (name, _) in files {
        // It is there already after the first time.
        let _ = symlink(format!("..data/{name}"), dir.join(name));
    }
}

#[tokio::test]
async fn a_swapped_config_map_is_followed_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = CurrentConfig::default();
    config_map(dir.path(), "1", &[("a.yaml", &domain("first"))]);
    let follow = tokio::spawn(Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config)).follow());
    until("the first load", || knows(&config, "first")).await;

    config_map(dir.path(), "2", &[("a.yaml", &domain("second"))]);
    until("the swap", || knows(&config, "second") && !knows(&config, "first")).await;

    config_map(dir.path(), "3", &[("a.yaml", "domain: ''"), ("b.yaml", &domain("third"))]);
    config_map(dir.path(), "4", &[("a.yaml", &domain("fourth")), ("b.yaml", &domain("third"))]);
    until("the next good one", || knows(&config, "fourth") && knows(&config, "third")).await;
    follow.abort();
}

#[tokio::test]
async fn a_swapped_root_and_a_plain_file_are_followed() {
    let root = tempfile::tempdir().unwrap();
    for version in ["one", "two"] {
        fs::create_dir(root.path().join(version)).unwrap();
        fs::write(root.path().join(version).join("a.yml"), domain(version)).unwrap();
    }
    let current = root.path().join("current");
    symlink("one", &current).unwrap();
    let config = CurrentConfig::default();
    let follow = tokio::spawn(Dir::new(&current, Domains::Distinct, Arc::clone(&config)).follow());
    until("the first load", || knows(&config, "one")).await;

    symlink("two", root.path().join("next")).unwrap();
    fs::rename(root.path().join("next"), &current).unwrap();
    until("the swap", || knows(&config, "two")).await;

    fs::write(current.join("b.yaml"), domain("three")).unwrap();
    until("the new file", || knows(&config, "three")).await;
    fs::remove_file(current.join("b.yaml")).unwrap();
    until("the removal", || !knows(&config, "three")).await;
    follow.abort();
}

#[test]
fn one_bad_file_keeps_all_of_the_last_good_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = CurrentConfig::default();
    let mut source = Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config));
    fs::write(dir.path().join("a.yaml"), domain("a")).unwrap();
    source.load().unwrap();

    fs::write(dir.path().join("b.yaml"), "domain: b\nnonsense: 1\n").unwrap();
    fs::write(dir.path().join("c.yaml"), domain("c")).unwrap();
    let error = source.load().unwrap_err();
    assert!(error.to_string().contains("b.yaml:2:1: "), "{error}");
    assert!(knows(&config, "a") && !knows(&config, "c"));
    source.load().expect("what was refused once is not refused again before it changes");

    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    source.load().unwrap();
    assert!(knows(&config, "a") && knows(&config, "c"));
}

#[test]
fn files_of_any_name_are_read_at_any_depth_but_not_what_editors_leave() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("team/shop")).unwrap();
    for (name, domain_name) in [("limits", "a"), ("b.yaml", "b"), ("team/c.conf", "c"), ("team/shop/d.yml", "d")] {
        fs::write(dir.path().join(name), domain(domain_name)).unwrap();
    }
    for name in [".hidden.yaml", "b.yaml~", ".b.yaml.swp", "#b.yaml#", "b.yaml.bak", "..data_tmp"] {
        fs::write(dir.path().join(name), "not a configuration").unwrap();
    }
    symlink("nowhere", dir.path().join(".#b.yaml")).unwrap();
    symlink(".", dir.path().join("loop")).unwrap();
    let config = CurrentConfig::default();
    Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config)).load().unwrap();
    assert_eq!(config.load().as_ref().unwrap().dump().lines().count(), 4);

    let place = Place { dot_files: true, ..dir.path().into() };
    let error = Dir::new(place, Domains::Distinct, Arc::clone(&config)).load().unwrap_err();
    assert!(error.to_string().contains(".hidden.yaml:1:1: "), "{error}");
}

/// Lays out what the settings ask for, and tells which domains are read from there.
fn domains_of(root: &Path, arguments: &[&str]) -> Result<Vec<String>, Error> {
    let root = ["ratelimit", "--runtime-root", root.to_str().unwrap()];
    let settings = Settings::read([&root[..], arguments].concat()).unwrap();
    let config = CurrentConfig::default();
    Dir::new(settings.source.place(), Domains::Distinct, Arc::clone(&config)).load()?;
    let dump = config.load().as_ref().unwrap().dump();
    Ok(dump.lines().map(|line| line.split('.').next().unwrap().to_owned()).collect())
}

#[test]
fn the_root_is_watched_or_the_directory_itself() {
    let root = tempfile::tempdir().unwrap();
    let files = ["ratelimit/config/a.yaml", "ratelimit/config/deep/b.yaml", "ratelimit/config.c.yaml", "config/d.yaml"];
    for (file, name) in files.into_iter().zip(["a", "b", "c", "d"]) {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, domain(name)).unwrap();
    }
    symlink("config", root.path().join("ratelimit/link")).unwrap();
    fs::create_dir(root.path().join("ratelimit/configuration")).unwrap();
    fs::write(root.path().join("ratelimit/configuration/other.yaml"), "not ours").unwrap();
    let in_subdirectory = ["--runtime-subdirectory", "ratelimit"];
    let domains = |arguments: &[&str]| domains_of(root.path(), arguments).unwrap();
    assert_eq!(domains(&in_subdirectory), ["a", "b", "c"]);
    let directory_itself = [&in_subdirectory[..], &["--runtime-watch-root", "false"]].concat();
    assert_eq!(domains(&directory_itself), ["a", "b"]);
    assert_eq!(domains(&[]), ["d"]);
    assert_eq!(domains(&["--runtime-watch-root", "false"]), ["d"]);
    assert_eq!(domains(&["--runtime-appdirectory", "ratelimit/config"]), ["a", "b", "c"]);
    assert_eq!(domains(&["--runtime-appdirectory", "ratelimit/link"]), ["a", "b"]);
    let none = domains_of(root.path(), &["--runtime-appdirectory", "none"]).unwrap_err();
    assert!(matches!(none, Error::Empty(_)), "{none}");
}

#[tokio::test]
async fn a_swapped_root_is_followed_far_above_the_files() {
    let root = tempfile::tempdir().unwrap();
    for version in ["one", "two"] {
        fs::create_dir_all(root.path().join(version).join("ratelimit/config/deep")).unwrap();
        fs::write(root.path().join(version).join("ratelimit/config/deep/a"), domain(version)).unwrap();
    }
    let current = root.path().join("current");
    symlink("one", &current).unwrap();
    let arguments = ["ratelimit", "--runtime-subdirectory", "ratelimit", "--runtime-root", current.to_str().unwrap()];
    let place = Settings::read(arguments).unwrap().source.place();
    let config = CurrentConfig::default();
    let follow = tokio::spawn(Dir::new(place, Domains::Distinct, Arc::clone(&config)).follow());
    until("the first load", || knows(&config, "one")).await;

    // Well below the interval at which the source looks without a sign, at least once on a busy machine.
    let mut seen_at_once = false;
    for version in ["two", "one", "two", "one", "two"] {
        let swapped = Instant::now();
        symlink(version, root.path().join("next")).unwrap();
        fs::rename(root.path().join("next"), &current).unwrap();
        until("the swap", || knows(&config, version)).await;
        seen_at_once |= swapped.elapsed() < Duration::from_millis(1500);
    }
    assert!(seen_at_once, "the swap was not seen as a change");
    fs::write(current.join("ratelimit/config/deep/b"), domain("three")).unwrap();
    until("the new file", || knows(&config, "three")).await;
    follow.abort();
}

#[test]
fn p08_a_file_cut_off_anywhere_keeps_the_last_good_configuration_or_is_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let whole =
        "domain: a\ndescriptors:\n  - key: k\n    rate_limit:\n      unit: second\n      requests_per_unit: 12\n";
    let config = CurrentConfig::default();
    let mut source = Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config));
    let dump = || config.load().as_ref().unwrap().dump();
    let mut kept = 0;
    for length in 0..whole.len() {
        fs::write(&file, whole).unwrap();
        source.load().unwrap();
        let before = dump();
        assert!(before.contains("requests_per_unit=12"), "{before}");
        fs::write(&file, &whole[..length]).unwrap();
        if source.load().is_ok() {
            let said = Config::from_yaml([("a.yaml", &whole[..length])], Domains::Distinct).unwrap();
            assert_eq!(dump(), said.dump(), "{length}");
        } else {
            kept += 1;
            assert_eq!(dump(), before, "{length}");
        }
    }
    assert!(kept > whole.len() / 2, "only {kept} of {} were refused", whole.len());
    fs::write(&file, "").unwrap();
    source.load().unwrap_err();
    fs::remove_file(&file).unwrap();
    assert!(matches!(source.load().unwrap_err(), Error::Empty(_)), "no file is not a wish to be without limits");
    assert!(knows(&config, "a"));
}

#[test]
fn p09_a_link_swapped_all_the_time_is_seen_whole() {
    let dir = tempfile::tempdir().unwrap();
    let rule = |domain: &str, generation: u32| {
        let limit = format!("{{ unit: second, requests_per_unit: {generation} }}");
        format!("domain: {domain}\ndescriptors:\n  - key: k\n    rate_limit: {limit}\n")
    };
    let swap = |generation: u32| {
        let texts: Vec<_> = ["a", "b", "c"].map(|name| (name, rule(name, generation))).into();
        let files: Vec<_> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        config_map(dir.path(), &generation.to_string(), &files);
        if let Some(old) = generation.checked_sub(2) {
            let _ = fs::remove_dir_all(dir.path().join(format!("..{old}")));
        }
    };
    swap(0);
    let config = CurrentConfig::default();
    let mut source = Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config));
    let (mut last, mut seen) = (0, 0);
    std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            for generation in 1..400 {
                swap(generation);
                std::thread::yield_now();
            }
        });
        while !swaps.is_finished() {
            let _ = source.load();
            let dump = config.load().as_ref().map(|config| config.dump()).unwrap_or_default();
            let generations: Vec<u32> = dump
                .lines()
                .map(|line| {
                    line.split_once("requests_per_unit=").unwrap().1.split(',').next().unwrap().parse().unwrap()
                })
                .collect();
            let [a, b, c] = generations[..] else { continue };
            assert!(a == b && b == c, "{dump}");
            assert!(a >= last, "{a} after {last}");
            seen += u32::from(a > last);
            last = a;
        }
    });
    source.load().unwrap();
    assert!(config.load().as_ref().unwrap().dump().contains("requests_per_unit=399"));
    assert!(seen > 3, "only {seen} generations were seen while they changed");
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let config = CurrentConfig::default();
    let error = Dir::new("/does/not/exist", Domains::Distinct, Arc::clone(&config)).load().unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert!(error.to_string().starts_with("cannot read /does/not/exist: "), "{error}");
    assert!(config.load().is_none());
}
