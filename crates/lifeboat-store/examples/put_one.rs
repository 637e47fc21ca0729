//! One call on a local store, so that `tests/syscalls.rs` can look at its system calls.
//!
//! ```text
//! put_one create DIR      makes a store in DIR whose only object is its config
//! put_one put DIR KIND    puts one object of 100,000 bytes
//! put_one spool DIR KIND  the same, through a spool, 20 MB
//! put_one twice DIR KIND  puts it, says how that ended, and puts it again
//! put_one delete DIR KIND deletes it
//! put_one list DIR KIND   lists the objects of a kind, and whether each has the right bytes
//! ```
//! It prints `ok`, or `KIND: message` of the error and exits with 1.

use lifeboat_format::{ObjectKey, ObjectKind};
use lifeboat_store::{Error, ErrorKind, LocalStore, Store};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["create", path] => {
            LocalStore::create(path).and_then(|store| store.put(&ObjectKey::config(), b"config"))
        }
        [act, path, folder] => act_on(act, path, folder),
        _ => Err(usage("put_one create|put|spool|twice|delete|list DIR [KIND]")),
    };
    match done {
        Ok(()) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            println!("{:?}: {error}{cause}", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn act_on(act: &str, path: &str, folder: &str) -> Result<(), Error> {
    // Every object of the example has the same name, whatever its bytes.
    let kind = ObjectKind::ALL.into_iter().find(|kind| kind.folder() == folder);
    let kind = kind.ok_or_else(|| usage("KIND is a folder's name, such as `packs`"))?;
    let key = ObjectKey::new(kind, &vec![0xab; kind.name_bytes()]);
    let small = vec![7; 100_000];
    let large = vec![7; 20_000_000];
    let store = LocalStore::open(path)?;
    match act {
        "put" => store.put(&key, &small),
        "spool" => {
            let mut spool = store.spool()?;
            large.chunks(1 << 20).try_for_each(|piece| spool.append(piece))?;
            spool.commit(&key)
        }
        "twice" => {
            let first = store.put(&key, &small);
            println!(
                "first {}",
                first.map_or_else(|error| format!("{:?}", error.kind()), |()| "ok".to_owned())
            );
            store.put(&key, &small)
        }
        "delete" => store.delete(&key),
        "list" => store.list(kind)?.iter().try_for_each(|found| {
            let bytes = store.get(&found.key)?;
            println!("{:?} {}", found.key, if bytes == small || bytes == large { "whole" } else { "TORN" });
            Ok(())
        }),
        _ => Err(usage("the first word is create, put, spool, twice, delete or list")),
    }
}

fn usage(message: &str) -> Error {
    Error::Other { kind: ErrorKind::Usage, message: message.to_owned(), source: None }
}
