//! Servers of versions that the images' own release does not have: PostgreSQL 13, MySQL, Valkey.
//!
//! Each is a release of Debian with one server, made by debootstrap alone. They are for one engine, because a server's
//! version does not depend on the engine.
//!
//! Must stay true: each has a recipe and a folder of its own, so a change of one makes that one anew and no other.
//!
//! MySQL is in no release, only in `sid`, which moves: what is tested is what it has when the image is made, and when it has
//! none that can be installed, nothing is made and the failure says so.

use super::{ARCHIVE, bootstrap, has, import_tar, pack, prune, write_program};
use crate::engines::engine::Engine;
use crate::engines::flavour::Flavour;
use crate::engines::programs::mirror;
use crate::engines::{fingerprint, mounts};
use crate::failure::{Failure, Result, While};
use crate::step;
use std::path::{Path, PathBuf};

/// The engine that has them.
const ENGINE: Flavour = Flavour::Graph;

struct Other {
    image: &'static str,
    suite: &'static str,
    packages: &'static str,
    /// Its entry point, and what that does.
    entry: &'static str,
    text: fn() -> String,
    changes: &'static [&'static str],
}

const OTHERS: [Other; 3] = [
    Other {
        image: "postgres-13",
        suite: "bullseye",
        packages: "postgresql-13",
        entry: "serve-postgres",
        text: || include_str!("serve-postgres.sh").to_owned(),
        changes: &[
            "STOPSIGNAL SIGINT",
            "CMD [\"postgres\"]",
            "ENV PATH=/usr/lib/postgresql/13/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENV PGDATA=/var/lib/postgresql/data",
            "VOLUME /var/lib/postgresql/data",
            "EXPOSE 5432",
        ],
    },
    Other {
        image: "valkey",
        suite: "trixie",
        packages: "valkey-server",
        entry: "serve-valkey",
        // It is started as Redis is.
        text: || include_str!("serve-redis.sh").replace("redis", "valkey"),
        changes: &["CMD [\"valkey-server\"]", "VOLUME /data", "WORKDIR /data", "EXPOSE 6379"],
    },
    Other {
        image: "mysql",
        suite: "sid",
        packages: "mysql-server-core,mysql-client-core",
        entry: "serve-mysql",
        text: || include_str!("serve-mysql.sh").to_owned(),
        changes: &["CMD [\"mysqld\"]", "VOLUME /var/lib/mysql", "EXPOSE 3306"],
    },
];

/// Whether any of these engines has them.
pub(super) fn are_for(engines: &[Engine]) -> bool {
    engines.iter().any(|engine| engine.flavour == ENGINE)
}

/// Those that are not there are made, all at once: each of them waits more than it computes.
pub(super) fn ensure_tars(cache: &Path) -> Result<()> {
    let missing: Vec<&Other> = OTHERS.iter().filter(|other| !other.tar(cache).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    step::step("make the images of other releases (two minutes)", || {
        std::thread::scope(|scope| {
            let making: Vec<_> =
                missing.iter().map(|other| scope.spawn(|| other.make(&other.tar(cache)))).collect();
            making.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(Failure::new("a thread that makes images panicked")))
            })
        })
    })
}

/// Gives the engine those that it does not have.
pub(super) fn import(engine: &Engine, cache: &Path) -> Result<()> {
    if engine.flavour != ENGINE {
        return Ok(());
    }
    for other in OTHERS {
        let recipe = other.recipe();
        if !has(engine, &[other.image], &recipe) {
            let entry = format!("ENTRYPOINT [\"{}\"]", other.entry);
            let changes = [&[entry.as_str()], other.changes].concat();
            import_tar(engine, &other.tar(cache), (other.image, &recipe), &changes)?;
            prune(engine)?;
        }
    }
    Ok(())
}

impl Other {
    fn recipe(&self) -> String {
        let Self { image, suite, packages, entry, text, changes } = self;
        let parts = format!("{image} {suite} {packages} {entry} {} {changes:?}", text());
        format!("{:016x}", fingerprint(parts.as_bytes()))
    }

    fn tar(&self, cache: &Path) -> PathBuf {
        let folder = cache.join("images-of-other-releases").join(self.suite);
        folder.join(format!("{}-{}.tar", self.image, self.recipe()))
    }

    fn make(&self, tar: &Path) -> Result<()> {
        let folder = tar.parent().unwrap_or(tar);
        std::fs::create_dir_all(folder).while_doing("make a folder for images")?;
        mounts::remove_all_in(folder);
        // A name of its own: the children of a killed run may still be busy in theirs.
        let root = folder.join(format!("root-{}", std::process::id()));
        self.bootstrap(&root)?;
        write_program(&root.join("usr/local/bin").join(self.entry), &(self.text)())?;
        pack(&root, tar)?;
        mounts::remove(&root)
    }

    /// A release that nobody maintains any more leaves the mirrors for the archive.
    fn bootstrap(&self, root: &Path) -> Result<()> {
        let from = |mirror: &str| {
            let name = format!("{} with {}, from {mirror}", self.suite, self.packages);
            bootstrap(&name, root, (self.suite, self.packages), mirror)
        };
        match (self.suite, from(&mirror())) {
            ("sid", made) => made.map_err(|failure| {
                Failure::new(format!(
                    "{failure}\nMySQL is only in Debian's sid, which moves: it may be that it cannot be installed there now"
                ))
            }),
            (_, Ok(())) => Ok(()),
            (_, Err(first)) => {
                mounts::remove(root)?;
                from(ARCHIVE).map_err(|second| Failure::new(format!("{second}\nbefore that, {first}")))
            }
        }
    }
}
