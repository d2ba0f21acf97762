//! Replays a corpus, for ordinary tests.

use std::path::Path;

/// Puts every file of `fuzz/corpus/TARGET` to the check. `root` is the workspace's.
pub fn replay(root: &Path, target: &str, check: fn(&[u8])) {
    let corpus = root.join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let checked = std::panic::catch_unwind(|| check(&bytes));
        assert!(checked.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}
