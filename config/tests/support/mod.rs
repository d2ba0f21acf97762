//! What several tests of this crate need.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod facts;

use std::path::PathBuf;
use std::sync::Arc;

use config::manifest::{self, Defaults, ManifestError};
use config::resource::Resource;
use config::world::{Fact, World};

/// The file below `tests/`.
pub fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(file)
}

/// Its text.
pub fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The text equals the file's; `TOMBOLO_BLESS=1` writes the file instead.
pub fn assert_golden(file: &str, text: &str) {
    if std::env::var_os("TOMBOLO_BLESS").is_some() {
        return std::fs::write(path(file), text).unwrap();
    }
    let golden = self::text(file);
    assert!(golden == text, "{file} differs (TOMBOLO_BLESS=1 rewrites it); now it is:\n{text}");
}

/// Resources out of manifests that are well.
pub fn resources(manifests: &str) -> Vec<Arc<Resource>> {
    let manifests = manifest::read(manifests, "test.yaml", &Defaults::default());
    let manifests = manifests.unwrap_or_else(|errors| panic!("{}", listed(&errors)));
    manifests.into_iter().map(|manifest| Arc::new(manifest.resource)).collect()
}

/// Each error on its own line.
pub fn listed(errors: &[ManifestError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

/// A world of facts.
pub fn world(facts: impl IntoIterator<Item = Fact>) -> World {
    let mut world = World::default();
    world.facts.extend(facts.into_iter().map(|fact| (fact.key().to_string(), fact)));
    world
}

/// A world of manifests.
pub fn world_of(manifests: &str) -> World {
    world(resources(manifests).into_iter().map(Fact::Resource))
}
