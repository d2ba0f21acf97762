//! The services of a cluster of machines: a directory of manifests, followed. Each file has its own last good
//! content, so that a half-written one takes nothing away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::manifest::{self, Defaults, Manifest};
use config::resource::{Kind, Name, ResourceId};
use config::wire::{Entries, Rejection};
use config::world::Fact;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use self::sum::{Said, Sum};
use crate::sync::cache::{read_checked, write_checked};
use crate::sync::secrets::hex;

mod sum;

/// So long must a directory be quiet before it is read: whoever writes may be in the middle of it. What is read too soon
/// does no harm, as a file that makes no sense keeps its last good content.
const QUIET: Duration = Duration::from_millis(20);
/// But it is read after so long at the latest.
const IMPATIENT: Duration = Duration::from_millis(100);
/// So often all of it is read anyway: notices can get lost.
const RESCAN: Duration = Duration::from_secs(5);
/// What is seen is kept on disk no more often than this, however fast files change.
const KEEPING: Duration = Duration::from_secs(1);
/// No manifest file is longer, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What is seen in the directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sighting {
    /// The services and nodes.
    pub(super) entries: Entries,
    /// What is wrong with which file or resource.
    pub(super) rejected: Vec<Rejection>,
}

/// The directory, as last read.
pub(super) struct Services {
    folder: PathBuf,
    defaults: Defaults,
    cluster: Name,
    kept: PathBuf,
    /// When that was written, if it holds all that was seen then.
    kept_at: Option<Instant>,
    unkept: bool,
    files: BTreeMap<String, ServiceFile>,
    /// What they come to.
    sum: Sum,
}

/// Which files may have changed.
#[derive(Debug, Clone, PartialEq)]
enum Touched {
    All,
    These(BTreeSet<String>),
}

impl Touched {
    /// What a notice is about.
    fn add(&mut self, event: notify::Result<Event>) {
        match (self, event) {
            (touched @ Touched::These(_), Err(_)) => *touched = Touched::All,
            (touched @ Touched::These(_), Ok(event)) if event.need_rescan() => *touched = Touched::All,
            (Touched::These(names), Ok(event)) => {
                let last = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
                names.extend(event.paths.iter().filter_map(last));
            }
            (Touched::All, _) => {}
        }
    }
}

/// A file: its last good content, and what is wrong with it now.
#[derive(Default, Serialize, Deserialize)]
struct ServiceFile {
    /// SHA-256 of the text that was last read, good or not; empty when it couldn't be read.
    text: String,
    good: Entries,
    faults: Vec<Rejection>,
}

impl ServiceFile {
    fn said(&self) -> Said {
        Said { good: self.good.clone(), faults: self.faults.clone() }
    }
}

impl Services {
    /// The directory of a cluster; what was good in the last life is known again from `kept`.
    ///
    /// # Errors
    /// When there is no such directory.
    pub(super) fn open(folder: PathBuf, cluster: Name, kept: PathBuf) -> io::Result<Self> {
        fs::read_dir(&folder)?;
        let namespace = "default".parse().ok();
        let defaults = Defaults { cluster: Some(cluster.clone()), namespace };
        let mut files: BTreeMap<String, ServiceFile> = read_checked(&kept).unwrap_or_default();
        files.values_mut().for_each(|file| file.text.clear()); // the program may read it differently now
        let mut sum = Sum::default();
        files.iter().for_each(|(name, file)| sum.set(name, file.said()));
        Ok(Services { folder, defaults, cluster, kept, kept_at: None, unkept: false, files, sum })
    }

    /// Reads what has changed; returns what is seen now.
    pub(super) fn scan(&mut self) -> Sighting {
        self.scan_touched(&Touched::All)
    }

    fn scan_touched(&mut self, touched: &Touched) -> Sighting {
        match touched {
            Touched::These(names) => names.iter().filter(|name| is_manifest(name)).for_each(|name| self.look(name)),
            Touched::All => match self.list() {
                Ok(names) => self.look_at_all(names),
                Err(error) => tracing::warn!(
                    folder = %self.folder.display(), %error,
                    "the services' directory cannot be read; the last good stays"
                ),
            },
        }
        self.keep();
        Sighting { entries: self.sum.entries().clone(), rejected: self.sum.rejected() }
    }

    /// The manifest files.
    fn list(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for file in fs::read_dir(&self.folder)? {
            let Ok(name) = file?.file_name().into_string() else { continue };
            if is_manifest(&name) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn look_at_all(&mut self, mut names: BTreeSet<String>) {
        names.extend(self.files.keys().cloned());
        names.iter().for_each(|name| self.look(name));
    }

    /// Looks at a file that may have changed, come, or gone.
    fn look(&mut self, name: &str) {
        let changed = if self.is_gone(name) { self.files.remove(name).is_some() } else { self.read_file(name) };
        if changed {
            self.sum.set(name, self.files.get(name).map(ServiceFile::said).unwrap_or_default());
            self.unkept = true;
        }
    }

    /// Of a directory that is itself not there, as while it is mounted anew, no file counts as gone.
    fn is_gone(&self, name: &str) -> bool {
        let found = self.folder.join(name).symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) && self.folder.is_dir()
    }

    /// What is not kept yet is with the next scan, [`RESCAN`] from now at the latest.
    fn keep(&mut self) {
        if !self.unkept || self.kept_at.is_some_and(|at| at.elapsed() < KEEPING) {
            return;
        }
        if let Err(error) = write_checked(&self.kept, &self.files) {
            tracing::warn!(%error, "the last good services could not be kept on disk");
        }
        (self.kept_at, self.unkept) = (Some(Instant::now()), false);
    }

    /// Returns whether the file has changed.
    fn read_file(&mut self, name: &str) -> bool {
        let path = self.folder.join(name);
        let text = read_text(&path);
        let checksum = text.as_ref().map(|text| hex(digest(&SHA256, text.as_bytes()).as_ref())).unwrap_or_default();
        let file = self.files.entry(name.to_owned()).or_default();
        if !checksum.is_empty() && file.text == checksum {
            return false;
        }
        file.text = checksum;
        let before = std::mem::take(&mut file.faults);
        match text.and_then(|text| read_manifests(&text, &path, &self.defaults, &self.cluster)) {
            Ok((good, faults)) => (file.good, file.faults) = (good, faults),
            Err(faults) => file.faults = faults, // the last good stays
        }
        if file.faults != before {
            for Rejection { key, reason } in &file.faults {
                tracing::error!(path = %path.display(), key, reason, "a service manifest is wrong");
            }
        }
        true
    }
}

/// Hidden files are none: editors and `rsync` put half-written ones there.
fn is_manifest(name: &str) -> bool {
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

fn read_text(path: &Path) -> Result<String, Vec<Rejection>> {
    let fault = |reason: String| vec![Rejection { key: path.display().to_string(), reason }];
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(fault(format!("{error}; its last good content stays"))),
        Ok(_) if text.len() as u64 > MAX_FILE => Err(fault(format!("it has more than {MAX_FILE} bytes"))),
        // What a truncating writer leaves for a moment.
        Ok(_) if text.trim().is_empty() => {
            Err(fault("it is empty; its last good content stays until the file is removed".into()))
        }
        Ok(_) => Ok(text),
    }
}

/// The good entries of a text and what was refused of it; an error when the text is wrong as a whole.
fn read_manifests(
    text: &str,
    path: &Path,
    defaults: &Defaults,
    cluster: &Name,
) -> Result<(Entries, Vec<Rejection>), Vec<Rejection>> {
    let source = path.display().to_string();
    let manifests = manifest::read(text, &source, defaults).map_err(|errors| {
        errors.iter().map(|error| Rejection { key: source.clone(), reason: error.to_string() }).collect::<Vec<_>>()
    })?;
    let (mut good, mut faults) = (Entries::new(), Vec::new());
    for Manifest { resource, line, .. } in manifests {
        let key = resource.id.to_string();
        let place = line.map_or(source.clone(), |line| format!("{source}:{line}"));
        let entry = permitted(&resource.id, cluster)
            .and_then(|()| Fact::Resource(Arc::new(resource)).entry().map_err(|e| e.to_string()));
        match entry {
            Ok((key, value)) => drop(good.insert(key, value)),
            Err(reason) => faults.push(Rejection { key, reason: format!("{place}: {reason}") }),
        }
    }
    Ok((good, faults))
}

fn permitted(id: &ResourceId, own: &Name) -> Result<(), String> {
    match id {
        ResourceId::Service { cluster, .. } | ResourceId::Node { cluster, .. } if cluster == own => Ok(()),
        ResourceId::Service { .. } | ResourceId::Node { .. } => {
            Err(format!("it is of another cluster, and this is the agent of {own}: put it into that agent's directory"))
        }
        _ => Err(format!(
            "an agent's directory holds only {} and {}: give a {} to the controller with `tombolo apply`",
            Kind::Service,
            Kind::Node,
            id.kind()
        )),
    }
}

/// Follows the directory for ever.
pub(super) async fn watch(services: Arc<Mutex<Services>>, seen: watch::Sender<Arc<Sighting>>) {
    let (notice, mut notices) = mpsc::channel(1);
    let touched = Arc::new(Mutex::new(Touched::These(BTreeSet::new())));
    let folder = services.lock().unwrap_or_else(PoisonError::into_inner).folder.clone();
    let noting = touched.clone();
    let notify = move |event: notify::Result<Event>| {
        if !event.as_ref().is_ok_and(|event| is_reading(event.kind)) {
            noting.lock().unwrap_or_else(PoisonError::into_inner).add(event);
            let _ = notice.try_send(()); // a full channel already holds a notice
        }
    };
    let watcher = notify::recommended_watcher(notify).and_then(|mut watcher| {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(watcher) // held for as long as it is to watch
    });
    if let Err(error) = &watcher {
        tracing::warn!(%error, "changes of the services' directory take up to {RESCAN:?} to be noticed");
    }
    let mut all_read = Instant::now();
    loop {
        if let Ok(Some(())) = timeout(RESCAN, notices.recv()).await {
            quiet(&mut notices).await;
        } else if watcher.is_err() {
            sleep(RESCAN).await; // without a watcher the channel is closed, and `recv` returns at once
        }
        let (none, due) = (Touched::These(BTreeSet::new()), all_read.elapsed() >= RESCAN);
        let mut touched = std::mem::replace(&mut *touched.lock().unwrap_or_else(PoisonError::into_inner), none);
        if due {
            (touched, all_read) = (Touched::All, Instant::now());
        }
        let services = services.clone();
        let scan = move || services.lock().unwrap_or_else(PoisonError::into_inner).scan_touched(&touched);
        let Ok(sighting) = tokio::task::spawn_blocking(scan).await else { return };
        seen.send_if_modified(|last| {
            let changed = **last != sighting;
            *last = Arc::new(sighting);
            changed
        });
    }
}

/// Our own reading makes notices too: to follow them would be to read for ever.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

async fn quiet(notices: &mut mpsc::Receiver<()>) {
    let lull = async { while let Ok(Some(())) = timeout(QUIET, notices.recv()).await {} };
    let _ = timeout(IMPATIENT, lull).await; // impatience is no error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn service(name: &str) -> String {
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  ports: [{{name: http, port: 80}}]\n  versions:\n  - name: v1\n    instances: [{{address: 127.0.0.1}}]\n"
        )
    }

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("services")).unwrap();
            Directory(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("services")
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path().join(name), text).unwrap();
        }

        fn open(&self) -> Services {
            Services::open(self.path(), "north".parse().unwrap(), self.0.path().join("services.json")).unwrap()
        }
    }

    fn keys(sighting: &Sighting) -> Vec<&str> {
        sighting.entries.keys().collect()
    }

    #[test]
    fn a_half_written_file_takes_nothing_away_also_not_after_a_restart() {
        let directory = Directory::new();
        directory.write("cart.yaml", &service("cart"));
        directory.write("web.yaml", &service("web"));
        let mut services = directory.open();
        assert_eq!(keys(&services.scan()), ["Service/north/shop/cart", "Service/north/shop/web"]);
        for broken in ["apiVersion: tombolo.dev/v1alpha1\nkind: Serv", "", "{"] {
            directory.write("cart.yaml", broken);
            for services in [&mut services, &mut directory.open()] {
                let sighting = services.scan();
                assert_eq!(keys(&sighting), ["Service/north/shop/cart", "Service/north/shop/web"]);
                assert!(sighting.rejected.first().unwrap().key.contains("cart.yaml"), "{:?}", sighting.rejected);
            }
        }
        directory.write("cart.yaml", &service("basket"));
        let sighting = services.scan();
        assert_eq!(keys(&sighting), ["Service/north/shop/basket", "Service/north/shop/web"]);
        assert_eq!(sighting.rejected, []);
        fs::remove_file(directory.path().join("web.yaml")).unwrap();
        assert_eq!(keys(&services.scan()), ["Service/north/shop/basket"]);
    }

    #[test]
    fn of_many_files_those_are_read_that_may_have_changed() {
        let directory = Directory::new();
        let mut services = directory.open();
        directory.write("cart.yaml", &service("cart"));
        directory.write("web.yaml", &service("web"));
        services.scan();
        directory.write("cart.yaml", &service("basket"));
        directory.write("web.yaml", &service("site"));
        directory.write("new.yaml", &service("new"));
        fs::write(directory.path().join(".half.yaml"), service("half")).unwrap();
        let these = |names: &[&str]| Touched::These(names.iter().map(ToString::to_string).collect());
        let seen = ["Service/north/shop/basket", "Service/north/shop/web"];
        assert_eq!(keys(&services.scan_touched(&these(&["cart.yaml", ".half.yaml", "never.yaml"]))), seen);
        let seen = ["Service/north/shop/basket", "Service/north/shop/new", "Service/north/shop/web"];
        assert_eq!(keys(&services.scan_touched(&these(&["new.yaml"]))), seen);
        fs::remove_file(directory.path().join("new.yaml")).unwrap();
        fs::remove_file(directory.path().join("cart.yaml")).unwrap();
        let seen = ["Service/north/shop/basket", "Service/north/shop/web"];
        assert_eq!(keys(&services.scan_touched(&these(&["new.yaml"]))), seen);
        assert_eq!(keys(&services.scan()), ["Service/north/shop/site"], "a look at all of them misses nothing");
    }

    #[test]
    fn a_directory_that_is_away_takes_nothing_away() {
        let directory = Directory::new();
        directory.write("web.yaml", &service("web"));
        let mut services = directory.open();
        services.scan();
        fs::remove_dir_all(directory.path()).unwrap();
        for touched in [Touched::All, Touched::These(["web.yaml".to_owned()].into())] {
            assert_eq!(keys(&services.scan_touched(&touched)), ["Service/north/shop/web"]);
        }
    }

    #[test]
    fn what_isnt_this_clusters_is_refused_alone() {
        let directory = Directory::new();
        let foreign = service("cart").replace("namespace: shop", "namespace: shop, cluster: south");
        let cluster = "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {name: north}\nspec: {}\n";
        directory.write("all.yaml", &[&service("web"), foreign.as_str(), cluster].join("---\n"));
        directory.write("web.yaml", &service("web"));
        let sighting = directory.open().scan();
        assert_eq!(keys(&sighting), ["Service/north/shop/web"]);
        let rejected: Vec<_> = sighting.rejected.iter().map(|rejection| rejection.key.as_str()).collect();
        assert_eq!(rejected, ["Service/south/shop/cart", "Cluster/north", "Service/north/shop/web"]);
    }

    #[tokio::test]
    async fn reading_the_directory_makes_nobody_read_it() {
        let directory = Directory::new();
        directory.write("web.yaml", &service("web"));
        let (mut services, events) = (directory.open(), Arc::new(Mutex::new(Vec::new())));
        let heard = Arc::clone(&events);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            heard.lock().unwrap().push(event.unwrap().kind);
        })
        .unwrap();
        watcher.watch(&directory.path(), RecursiveMode::NonRecursive).unwrap();
        services.scan();
        sleep(QUIET).await;
        assert!(events.lock().unwrap().drain(..).all(is_reading));
        directory.write("web.yaml", &service("cart"));
        sleep(QUIET).await;
        assert!(!events.lock().unwrap().iter().copied().all(is_reading));
    }

    #[test]
    fn other_files_are_left_alone() {
        let directory = Directory::new();
        directory.write(".cart.yaml.swp", "x");
        directory.write(".cart.yaml", "x");
        directory.write("README.md", "x");
        assert_eq!(directory.open().scan(), Sighting::default());
    }
}
