//! A repository: made by `init`, opened with a password or a key file.
//!
//! Must stay true: the config is written last, so a repository exists exactly when its config does; opening reads two or
//! three small objects and nothing else. The index is opened by whoever needs it first.

use crate::chains::{Chains, SetBack};
use crate::error::{Error, ErrorKind, Result};
use crate::lookup::Lookup;
use lifeboat_format::config::{Config, Features, Parameters};
use lifeboat_format::keys::Keys;
use lifeboat_format::seal::Key;
use lifeboat_format::slot::{Argon2Cost, Role, RoleBundle, Secret, Slot};
use lifeboat_format::{ObjectKey, ObjectKind, RepositoryId, SlotId, Timestamp};
use lifeboat_store::Store;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

/// An open repository; clones share it.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    config: Config,
    keys: Keys,
    master: Key,
    slot: SlotId,
    cache: Option<PathBuf>,
    state: Option<PathBuf>,
    set_back: Mutex<Vec<SetBack>>,
    lookup: OnceLock<Lookup>,
    opening: Opening,
}

/// The local index on its way, on a thread that nobody leaves behind: at the end of the process it would lose what it stands on.
#[derive(Default)]
struct Opening(Mutex<Option<JoinHandle<Result<Lookup>>>>);

impl Opening {
    /// What came of it; `None` where nothing was begun.
    fn finish(&self) -> Option<Result<Lookup>> {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let thread = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever wanted the index is gone already; a panic over it was printed.
        let _ = thread.map(JoinHandle::join);
    }
}

/// One way into a repository.
#[derive(Debug, Clone)]
pub struct SlotInfo {
    /// Its name.
    pub id: SlotId,
    /// What the user called it; only known for the slot that opened the repository.
    pub label: Option<String>,
    /// Whether it takes a passphrase; otherwise a key file.
    pub is_passphrase: bool,
    /// Whether this repository was opened with it.
    pub is_current: bool,
}

impl Repository {
    /// Makes a repository in an empty store.
    ///
    /// A half-created one is started over: without a config nothing can have been stored in it.
    pub fn init(
        store: Arc<dyn Store>,
        parameters: Parameters,
        secret: &Secret<'_>,
        label: &str,
        now: Timestamp,
    ) -> Result<Self> {
        let location = store.location();
        match store.bytes(&ObjectKey::config()) {
            Ok(_) => return Err(Error::RepositoryExists { location }),
            Err(error) if error.kind() == lifeboat_store::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::Store { doing: format!("{location} cannot be looked at"), source });
            }
        }
        let stale = store.list(ObjectKind::Slot).map_err(Error::store("key slots cannot be listed"))?;
        for kind in [ObjectKind::Pack, ObjectKind::Snapshot] {
            if !store.list(kind).map_err(Error::store("the place cannot be listed"))?.is_empty() {
                let detail = "it holds packs or snapshots but no config: put the config back instead".into();
                return Err(Error::Damaged { what: format!("the repository at {location}"), detail });
            }
        }
        let repository = RepositoryId::random();
        let master = Key::random();
        let keys = Keys::derive(&master, repository, parameters.suite);
        let slot = put_slot(store.as_ref(), repository, parameters, secret, &master, label, now)?;
        let config = Config { repository, created: now, features: Features::default(), parameters };
        let bytes = config.encode(&keys).map_err(Error::format("the config cannot be made"))?;
        store.put(&ObjectKey::config(), &bytes).map_err(Error::store("the config cannot be stored"))?;
        let stale: Vec<ObjectKey> = stale.into_iter().map(|listed| listed.key).collect();
        store.delete_many(&stale).map_err(Error::store("old key slots cannot be deleted"))?;
        Ok(Self::assemble(store, config, keys, master, slot))
    }

    /// Opens a repository with a secret that one of its slots takes.
    pub fn open(store: Arc<dyn Store>, secret: &Secret<'_>) -> Result<Self> {
        let location = store.location();
        let bytes = store.get(&ObjectKey::config()).map_err(|source| match source.kind() {
            lifeboat_store::ErrorKind::NotFound => match store.list(ObjectKind::Slot) {
                Ok(slots) if !slots.is_empty() => Error::HalfCreated { location: location.clone() },
                _ => Error::NoRepository { location: location.clone() },
            },
            _ => Error::Store { doing: format!("the repository at {location} cannot be opened"), source },
        })?;
        let unchecked =
            Config::decode(&bytes).map_err(Error::format("the repository's config cannot be read"))?;
        let slots = store.list(ObjectKind::Slot).map_err(Error::store("key slots cannot be listed"))?;
        let mut damaged = None;
        for listed in &slots {
            let id = slot_id(&listed.key);
            match read_slot(store.as_ref(), id).and_then(|slot| {
                slot.open(unchecked.claimed_repository(), id, secret)
                    .map_err(Error::format("a slot stays shut"))
            }) {
                Ok(bundle) => {
                    let suite = unchecked.claimed_suite();
                    let keys = Keys::derive(&bundle.master, unchecked.claimed_repository(), suite);
                    let config = unchecked
                        .check(&keys)
                        .map_err(Error::format("the repository's config is not its own"))?;
                    return Ok(Self::assemble(store, config, keys, bundle.master.clone(), id));
                }
                Err(error) if error.kind() == ErrorKind::Denied => {}
                Err(error) => damaged = Some(error),
            }
        }
        // A slot that cannot be read may be the one that the secret belongs to.
        Err(damaged.unwrap_or(Error::WrongKey { slots: slots.len() }))
    }

    fn assemble(store: Arc<dyn Store>, config: Config, keys: Keys, master: Key, slot: SlotId) -> Self {
        let (set_back, lookup) = (Mutex::default(), OnceLock::new());
        Self(Arc::new(Inner {
            store,
            config,
            keys,
            master,
            slot,
            cache: None,
            state: None,
            set_back,
            lookup,
            opening: Opening::default(),
        }))
    }

    /// The same repository with its local index below `cache`, in a folder of its own.
    ///
    /// # Panics
    /// When the repository is shared already.
    #[must_use]
    pub fn with_cache(mut self, cache: Option<PathBuf>) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("the cache is set before the repository is shared");
        inner.cache = cache.map(|cache| cache.join(inner.config.repository.to_string()));
        self
    }

    /// The same repository, watched for being set back to an older state: what was seen of it is remembered below
    /// `state`. See [`Repository::take_set_back`].
    ///
    /// # Panics
    /// When the repository is shared already.
    #[must_use]
    pub fn with_state(mut self, state: PathBuf) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("the state is set before the repository is shared");
        inner.state = Some(state);
        self
    }

    /// What this machine saw of the chains of snapshots, if it remembers anything.
    pub(crate) fn chains(&self) -> Option<Chains> {
        self.0.state.as_ref().map(|state| Chains::open(state, self.id()))
    }

    pub(crate) fn note_set_back(&self, found: Vec<SetBack>) {
        *self.0.set_back.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// What the last listing lacked that this machine saw before.
    pub fn take_set_back(&self) -> Vec<SetBack> {
        std::mem::take(&mut *self.0.set_back.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The folder that holds what this machine caches of this repository.
    pub fn cache_directory(&self) -> Option<&PathBuf> {
        self.0.cache.as_ref()
    }

    /// The store that holds it.
    pub fn store(&self) -> &dyn Store {
        self.0.store.as_ref()
    }

    /// Its identity.
    pub fn id(&self) -> RepositoryId {
        self.0.config.repository
    }

    /// Its config.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The local index; opened on the first call, brought up to date by [`Lookup::sync`].
    pub fn lookup(&self) -> Result<&Lookup> {
        self.0.lookup.get().map_or_else(|| self.open_lookup(), Ok)
    }

    /// The local index, brought up to date with what is stored now: the index objects are listed once in any case.
    pub fn synced_lookup(&self) -> Result<&Lookup> {
        let Some(lookup) = self.0.lookup.get() else { return self.open_lookup() };
        lookup.sync()?;
        Ok(lookup)
    }

    fn lookup_opener(&self) -> impl FnOnce() -> Result<Lookup> + Send + 'static {
        let directory = self.0.cache.as_ref().map(|cache| cache.join("index"));
        let (store, keys) = (self.0.store.clone(), self.0.keys.clone());
        move || Lookup::open(store, keys, directory)
    }

    /// Begins to open the local index, for who will need it and has other things to do first. It is mostly waiting.
    pub fn open_lookup_ahead(&self) {
        let mut opening = self.0.opening.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.lookup.get().is_none() && opening.is_none() {
            *opening = Some(std::thread::spawn(self.lookup_opener()));
        }
    }

    fn open_lookup(&self) -> Result<&Lookup> {
        let lookup = self.0.opening.finish().unwrap_or_else(|| self.lookup_opener()())?;
        lookup.sync()?;
        let is_ours = self.0.lookup.set(lookup).is_ok();
        let lookup = self.0.lookup.get().expect("it was set just now");
        if !is_ours {
            // Another thread was faster. Its instance is the one, and may have been brought up to date before ours was asked for.
            lookup.sync()?;
        }
        Ok(lookup)
    }

    /// Notices about the local index, if it was opened.
    pub fn take_notices(&self) -> Vec<String> {
        self.0.lookup.get().map(Lookup::take_notices).unwrap_or_default()
    }

    /// The repository's slots.
    pub fn slots(&self, secret: Option<&Secret<'_>>) -> Result<Vec<SlotInfo>> {
        let listed =
            self.store().list(ObjectKind::Slot).map_err(Error::store("key slots cannot be listed"))?;
        listed
            .iter()
            .map(|listed| {
                let id = slot_id(&listed.key);
                let slot = read_slot(self.store(), id)?;
                let opened = secret
                    .filter(|_| id == self.0.slot)
                    .and_then(|secret| slot.open(self.id(), id, secret).ok());
                Ok(SlotInfo {
                    id,
                    label: opened.map(|bundle| bundle.label),
                    is_passphrase: matches!(slot.derivation, lifeboat_format::slot::Derivation::Argon2id(_)),
                    is_current: id == self.0.slot,
                })
            })
            .collect()
    }

    /// Adds a way in.
    pub fn add_slot(&self, secret: &Secret<'_>, label: &str, now: Timestamp) -> Result<SlotId> {
        put_slot(self.store(), self.id(), self.0.config.parameters, secret, &self.0.master, label, now)
    }

    /// Removes a way in; the last one stays.
    pub fn remove_slot(&self, id: SlotId) -> Result<()> {
        let slots =
            self.store().list(ObjectKind::Slot).map_err(Error::store("key slots cannot be listed"))?;
        if !slots.iter().any(|listed| slot_id(&listed.key) == id) {
            return Err(Error::Usage(format!("there is no key slot {id}")));
        }
        if slots.len() == 1 {
            return Err(Error::Usage(
                "the last key slot cannot be removed: nobody could open the repository".into(),
            ));
        }
        let key = ObjectKey::new(ObjectKind::Slot, &id.0);
        self.store().delete(&key).map_err(Error::store(format!("{key} cannot be removed")))
    }

    /// Replaces the slot that opened this repository: the new one is durable before the old one goes.
    pub fn replace_slot(&self, secret: &Secret<'_>, label: &str, now: Timestamp) -> Result<SlotId> {
        let id = self.add_slot(secret, label, now)?;
        self.remove_slot(self.0.slot)?;
        Ok(id)
    }

    /// Replaces all slots by one: the new one is durable before the first of the old ones goes. Gives its id and theirs.
    pub fn rotate_slots(
        &self,
        secret: &Secret<'_>,
        label: &str,
        now: Timestamp,
    ) -> Result<(SlotId, Vec<SlotId>)> {
        let id = self.add_slot(secret, label, now)?;
        let listed =
            self.store().list(ObjectKind::Slot).map_err(Error::store("key slots cannot be listed"))?;
        let old: Vec<SlotId> =
            listed.iter().map(|listed| slot_id(&listed.key)).filter(|old| *old != id).collect();
        let keys: Vec<ObjectKey> = old.iter().map(|old| ObjectKey::new(ObjectKind::Slot, &old.0)).collect();
        self.store().delete_many(&keys).map_err(Error::store("old key slots cannot be removed"))?;
        Ok((id, old))
    }
}

fn slot_id(key: &ObjectKey) -> SlotId {
    SlotId(key.name().try_into().expect("a slot's name has 16 bytes"))
}

fn read_slot(store: &dyn Store, id: SlotId) -> Result<Slot> {
    let key = ObjectKey::new(ObjectKind::Slot, &id.0);
    let bytes = store.get(&key).map_err(Error::store(format!("{key} cannot be read")))?;
    Slot::decode(&bytes).map_err(Error::format(format!("{key} cannot be read")))
}

fn put_slot(
    store: &dyn Store,
    repository: RepositoryId,
    parameters: Parameters,
    secret: &Secret<'_>,
    master: &Key,
    label: &str,
    now: Timestamp,
) -> Result<SlotId> {
    let id = SlotId::random();
    let bundle = RoleBundle { role: Role::Full, master: master.clone(), label: label.into(), created: now };
    let slot = Slot::seal(repository, id, parameters.suite, secret, Argon2Cost::default(), &bundle)
        .map_err(Error::format("a key slot cannot be made"))?;
    let key = ObjectKey::new(ObjectKind::Slot, &id.0);
    store.put(&key, &slot.encode()).map_err(Error::store(format!("{key} cannot be stored")))?;
    Ok(id)
}
