//! Files that real databases wrote are recognised by their pages, and other real files are not.

use lifeboat_chunker::pages::{ReadAt, recognise};
use lifeboat_format::entry::Chunker;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Shorter files are cut by content, whatever they are.
const BYTES_MIN: u64 = 64 << 10;

struct Real(File);

impl ReadAt for Real {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let mut filled = 0;
        while let length @ 1.. = self.0.read_at(&mut buffer[filled..], offset + filled as u64)? {
            filled += length;
        }
        Ok(filled)
    }
}

fn chunker(path: &Path) -> Chunker {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    recognise(&Real(file), size)
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() && entry.metadata().unwrap().len() >= BYTES_MIN {
            found.push(entry.path());
        }
    }
}

fn large_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files_below(folder, &mut found);
    found
}

/// Runs a program to its end with `input` as its standard input.
fn feed(command: &mut Command, input: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("lifeboat-pages-").tempdir().unwrap()
}

/// PostgreSQL's programs, which Debian does not put on the path, run by an ordinary user: they refuse root.
fn postgres(program: &str, folder: &Path) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
    let newest = versions.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(newest.join("bin").join(program));
    command.current_dir(folder).env("PGTZ", "UTC");
    command
}

#[test]
fn relations_of_postgresql_are_cut_at_8_kib_and_its_log_is_not() {
    let folder = scratch();
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
    let data = folder.path().join("data");
    feed(postgres("initdb", folder.path()).args(["--no-sync", "-U", "me", "-D"]).arg(&data), "");
    let sql = "create table t as select n as k, md5(n::text) as v from generate_series(1, 20000) n;\n\
               create index on t (k);\ncreate index on t using hash (v);\ncreate index on t using gin (string_to_array(v, 'a'));\n\
               checkpoint;\n";
    feed(postgres("postgres", folder.path()).args(["--single", "-D"]).arg(&data).arg("template1"), sql);
    let relations = large_files(&data.join("base"));
    assert!(relations.len() > 10);
    for relation in relations {
        let name = relation.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            assert_eq!(chunker(&relation), Chunker::Pages8K, "{}", relation.display());
        }
    }
    let logs = large_files(&data.join("pg_wal"));
    assert!(!logs.is_empty());
    assert!(logs.iter().all(|log| chunker(log) == Chunker::Content));
}

fn tablespaces(page: &str, expected: Chunker) {
    let folder = scratch();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut server = Command::new("mariadbd");
    server.args(["--no-defaults", "--bootstrap", "--user=root", "--innodb-log-file-size=4M"]);
    server.arg(format!("--innodb-page-size={page}")).arg(format!("--datadir={}", data.display()));
    let compressed = if page == "64k" { "" } else { "page_compressed=1" };
    // Bootstrapping takes one statement a line.
    let sql = format!(
        "create database d;\n\
         create table d.plain (k int primary key, v varchar(200)) engine=innodb;\n\
         insert into d.plain select seq, repeat(md5(seq), 4) from d.seq_1_to_5000;\n\
         create table d.squeezed (k int primary key, v varchar(200)) engine=innodb {compressed};\n\
         insert into d.squeezed select seq, repeat(md5(seq), 4) from d.seq_1_to_5000;\n"
    );
    feed(&mut server, &sql);
    let is_tablespace = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".ibd") || name.starts_with("ibdata") || name.starts_with("undo")
    };
    let (spaces, others): (Vec<_>, Vec<_>) = large_files(&data).into_iter().partition(is_tablespace);
    assert!(spaces.len() >= 3, "{spaces:?}");
    spaces.iter().for_each(|space| assert_eq!(chunker(space), expected, "{}", space.display()));
    others.iter().for_each(|other| assert_eq!(chunker(other), Chunker::Content, "{}", other.display()));
}

#[test]
fn tablespaces_of_innodb_are_cut_at_their_pages() {
    tablespaces("16k", Chunker::Pages16K);
}

#[test]
fn tablespaces_of_other_page_sizes_are_cut_at_pages_too() {
    tablespaces("4k", Chunker::Pages8K);
    tablespaces("64k", Chunker::Pages16K);
}

#[test]
fn databases_of_sqlite_are_cut_at_their_pages() {
    let folder = scratch();
    for (page, expected) in [
        (1024, Chunker::Pages8K),
        (4096, Chunker::Pages8K),
        (32_768, Chunker::Pages16K),
        (65_536, Chunker::Pages16K),
    ] {
        let path = folder.path().join(page.to_string());
        let sql = format!(
            "pragma page_size={page}; create table t(k integer primary key, v);\n\
             with recursive n(k) as (values(1) union all select k + 1 from n where k < 5000)\n\
             insert into t select k, hex(randomblob(50)) from n;\n"
        );
        feed(Command::new("sqlite3").arg(&path), &sql);
        assert_eq!(chunker(&path), expected, "pages of {page}");
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_database_of_etcd_is_cut_at_pages() {
    let folder = scratch();
    let mut etcd = Command::new("etcd");
    etcd.args(["--data-dir=data", "--listen-client-urls"]);
    let (client, peer) = (free_address(), free_address());
    etcd.args([&client, "--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
    etcd.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")]);
    let log = File::create(folder.path().join("log")).unwrap();
    let mut etcd =
        etcd.current_dir(&folder).stdout(Stdio::null()).stderr(log).spawn().expect("etcd is installed");
    let database = folder.path().join("data/member/snap/db");
    // It makes its database before it answers anybody; what is in it does not matter here.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !std::fs::metadata(&database).is_ok_and(|found| found.len() >= 16 << 10) {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(etcd.try_wait().unwrap().is_none(), "etcd ended: {log}");
        assert!(std::time::Instant::now() < deadline, "etcd made no database: {log}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let found = chunker(&database);
    etcd.kill().unwrap();
    etcd.wait().unwrap();
    assert_eq!(found, Chunker::Pages8K);
}

#[test]
fn programs_archives_and_sources_are_cut_by_content() {
    let folder = scratch();
    let archive = folder.path().join("archive.tar");
    let mut tar = Command::new("tar");
    feed(tar.arg("-cf").arg(&archive).args(["--sort=name", "/usr/include/linux"]), "");
    let mut others = vec![archive, std::env::current_exe().unwrap()];
    ["/usr/include", "/usr/bin", "/usr/share/mime", "/usr/lib/x86_64-linux-gnu/perl"]
        .map(Path::new)
        .iter()
        .for_each(|folder| {
            if folder.is_dir() {
                files_below(folder, &mut others);
            }
        });
    assert!(others.len() > 50);
    others.iter().for_each(|other| assert_eq!(chunker(other), Chunker::Content, "{}", other.display()));
}
