//! The vault over an embedded store, through all changes of its key.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tempfile::TempDir;

use super::*;
use crate::store::EmbeddedStore;

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// A directory with a store and keys.
struct Place {
    directory: TempDir,
    store: Arc<dyn Store>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).unwrap());
        Place { directory, store }
    }

    fn own(&self) -> PathBuf {
        self.directory.path().join("vault.key")
    }

    /// A key that an operator gives.
    fn key(&self, number: u8) -> Option<SealKey> {
        let path = self.directory.path().join(format!("key{number}"));
        identity::files::write_private(&path, &[number; 32]).unwrap();
        Some(SealKey::read(&path).unwrap())
    }

    fn open(&self, current: Option<SealKey>, previous: Option<SealKey>) -> Result<Vault, VaultError> {
        Vault::open(Arc::clone(&self.store), self.directory.path(), SealKeys { current, previous })
    }

    /// All that the database holds.
    fn dump(&self) -> Vec<std::collections::BTreeMap<String, Vec<u8>>> {
        [Table::Secrets, Table::Seals].map(|table| self.store.records(table).unwrap()).into()
    }
}

#[test]
fn secrets_come_back_only_under_their_own_reference() {
    let place = Place::new();
    let vault = place.open(None, None).unwrap();
    vault.put("a", &secret("the key of a")).unwrap();
    assert_eq!(vault.get("a").unwrap().unwrap().as_str(), "the key of a");
    assert!(vault.get("b").unwrap().is_none());
    let sealed = place.store.record(Table::Secrets, "a").unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("key of a"));
    assert!(place.store.swap(Table::Secrets, "b", None, Some(&sealed)).unwrap());
    assert!(matches!(vault.get("b"), Err(VaultError::Unsealable { .. })));
    vault.remove("a").unwrap();
    assert_eq!(vault.references().unwrap(), ["b"]);
}

#[test]
fn the_vaults_own_key_is_private_and_its_loss_or_damage_is_told() {
    let place = Place::new();
    place.open(None, None).unwrap().put("a", &secret("x")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.own()), mode(&place.directory.path().join("controller.redb"))), (0o600, 0o600));
    let refused = || place.open(None, None).unwrap_err().to_string();
    let sound = fs::read(place.own()).unwrap();

    fs::set_permissions(place.own(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused().contains("can be read by others"));
    fs::set_permissions(place.own(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(place.own(), &sound[..31]).unwrap();
    assert!(refused().contains("vault.key is no sealing key"));
    let flipped: Vec<u8> = sound.iter().enumerate().map(|(at, byte)| if at == 9 { byte ^ 1 } else { *byte }).collect();
    fs::write(place.own(), flipped).unwrap();
    assert!(refused().contains("is sealed with key"));
    fs::remove_file(place.own()).unwrap();
    assert!(refused().contains("vault.key is missing"));
    fs::write(place.own(), sound).unwrap();
    fs::set_permissions(place.own(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.open(None, None).unwrap().get("a").unwrap().unwrap().as_str(), "x");
}

#[test]
fn a_given_key_takes_the_place_of_the_vaults_own_and_gives_way_to_the_next() {
    let place = Place::new();
    place.open(None, None).unwrap().put("a", &secret("x")).unwrap();
    let before = place.dump();
    let sealed = place.open(place.key(1), None).unwrap();
    assert_eq!(sealed.get("a").unwrap().unwrap().as_str(), "x");
    assert!(!place.own().exists() && place.dump() != before, "nothing is left of the old key");

    let first = place.dump();
    for (current, previous, what) in [
        (None, None, "give it with --seal-key-file"),
        (None, place.key(1), "give it with --seal-key-file"),
        (place.key(2), None, "--old-seal-key-file"),
        (place.key(2), place.key(3), "--old-seal-key-file"),
    ] {
        let error = place.open(current, previous).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(place.dump(), first, "a refusal changes nothing");
        assert!(!place.own().exists());
    }

    let rotated = place.open(place.key(2), place.key(1)).unwrap();
    assert_eq!(rotated.get("a").unwrap().unwrap().as_str(), "x");
    assert!(place.open(place.key(1), None).is_err(), "the old key is good for nothing");
    let again = place.open(place.key(2), place.key(1)).unwrap();
    assert_eq!(again.get("a").unwrap().unwrap().as_str(), "x", "the old key may be given for longer than needed");
}

#[test]
fn a_vault_of_before_there_were_given_keys_is_sealed_anew() {
    for given in [None, Some(1)] {
        let place = Place::new();
        let raw = [9; 32];
        identity::files::write_private(&place.own(), &raw).unwrap();
        let old = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &raw).unwrap());
        let (nonce, mut sealed) = ([3; NONCE_LEN], b"x".to_vec());
        old.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from("a"), &mut sealed).unwrap();
        place.store.set(Table::Secrets, "a", Some(&[&nonce[..], &sealed].concat())).unwrap();
        let vault = place.open(given.and_then(|number| place.key(number)), None).unwrap();
        assert_eq!(vault.get("a").unwrap().unwrap().as_str(), "x");
        assert_eq!(place.own().exists(), given.is_none());
    }
}

#[test]
fn one_damaged_secret_stops_a_change_of_keys_before_it_begins() {
    let place = Place::new();
    let vault = place.open(place.key(1), None).unwrap();
    ["a", "b"].iter().for_each(|reference| vault.put(reference, &secret("x")).unwrap());
    let mut sealed = place.store.record(Table::Secrets, "b").unwrap().unwrap();
    sealed.reverse();
    place.store.set(Table::Secrets, "b", Some(&sealed)).unwrap();
    let before = place.dump();
    let error = place.open(place.key(2), place.key(1)).unwrap_err().to_string();
    assert!(error.contains("the secret b is damaged"), "{error}");
    assert_eq!(place.dump(), before);
    assert_eq!(place.open(place.key(1), None).unwrap().get("a").unwrap().unwrap().as_str(), "x", "the other is whole");
}
