"""An independent reader of lifeboat repositories in local directories: lists and restores snapshots.

It exists so that the format, not the program, is what keeps data readable: it was written from docs/format and shares
no code with lifeboat. It reads plainly rather than fast, and writes nothing into the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

from budget import budget
from bundle import entries, read_bundle
from image import write_archive
from objects import Snapshot, Source
from primitives import FormatError, WrongKey
from repository import Repository
from restore import Restore
from seals import Secret


def read_secret(password_file: str | None, key_file: str | None) -> Secret:
    if password_file is not None:
        line, end, _ = Path(password_file).read_bytes().partition(b"\n")
        return Secret(passphrase=line.removesuffix(b"\r") if end else line)
    match = re.fullmatch(r"lifeboat-key-1 ([0-9a-f]{64})\n?", Path(key_file).read_text("utf-8"))
    if match is None:
        raise FormatError(f"{key_file} is not a key file: it has one line, `lifeboat-key-1` and 64 digits")
    return Secret(key_file=bytes.fromhex(match[1]))


def hexed(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def describe_source(source: Source) -> dict:
    return {
        "kind": source.kind, "name": os.fsdecode(source.name), "root": source.root.id.hex(),
        "entries": source.root.entries, "snapshot_kind": source.snapshot_kind,
        "parent": hexed(source.parent), "errors": source.errors, "bytes": source.bytes, "detail": source.detail,
    }


def describe(session: bytes, snapshot: Snapshot) -> dict:
    return {
        "id": hexed(snapshot.id), "session": session.hex(), "complete": snapshot.complete,
        "started": snapshot.started, "finished": snapshot.finished,
        "host": snapshot.host, "host_id": snapshot.host_id.hex(), "user": snapshot.user,
        "sequence": snapshot.sequence, "previous": hexed(snapshot.previous),
        "tags": snapshot.tags, "program": snapshot.program,
        "sources": [describe_source(source) for source in snapshot.sources],
        "unhealthy": snapshot.unhealthy, "consistency": snapshot.consistency,
        "revision": snapshot.revision, "pinned": snapshot.pinned,
        "lacking": snapshot.lacking,
    }


def choose(repository: Repository, wanted: str) -> Snapshot:
    snapshots = [snapshot for _, snapshot in repository.snapshots()]
    if wanted == "latest" and snapshots:
        return max(snapshots, key=lambda snapshot: (snapshot.started, snapshot.finished))
    found = [snapshot for snapshot in snapshots if snapshot.id.hex().startswith(wanted)]
    if len(found) != 1:
        raise FormatError(f"{len(found)} snapshots have ids that begin with {wanted!r}")
    return found[0]


def show_bundle(bundle: dict) -> None:
    base = bundle["manifest"].base
    print(json.dumps(describe(bytes(16), bundle["manifest"].snapshot) | {"base": hexed(base and base.id)}))
    for source, entry, digest in entries(bundle):
        path = os.fsdecode(entry["key"].replace(b"\0", b"/"))
        print(json.dumps({"source": source, "path": path, "type": entry["type"], "size": entry["size"],
                          "mtime": entry["mtime"], "blake3": digest}))


def run(arguments: argparse.Namespace) -> None:
    secret = read_secret(arguments.password_file, arguments.key_file)
    if arguments.command == "bundle":
        show_bundle(read_bundle(Path(arguments.repository).read_bytes(), secret))
        return
    repository = Repository(Path(arguments.repository), secret, arguments.from_packs)
    if arguments.command == "list":
        snapshots = sorted(repository.snapshots(), key=lambda pair: pair[1].started)
        for session, snapshot in snapshots:
            print(json.dumps(describe(session, snapshot)))
    elif arguments.command == "budget":
        print(json.dumps(budget(repository), indent=2))
    else:
        Restore(repository, arguments.out).run(choose(repository, arguments.snapshot))
    if arguments.command == "image":
        out = Path(arguments.out)
        write_archive(out / f"image:{arguments.name}", out / "image.tar")


def main() -> int:
    parser = argparse.ArgumentParser(prog="read-repo", description=__doc__.splitlines()[0])
    parser.add_argument("repository", metavar="REPO")
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--password-file", metavar="F", help="file that holds the passphrase")
    secret.add_argument("--key-file", metavar="F", help="key file")
    parser.add_argument("--from-packs", action="store_true", help="do without the index objects")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print one JSON line for each snapshot")
    commands.add_parser("budget", help="print what the repository's bytes are spent on")
    commands.add_parser("bundle", help="verify REPO, which is a bundle, and print a JSON line for each entry in it")
    restore = commands.add_parser("restore", help="recreate a snapshot's sources below OUT")
    restore.add_argument("snapshot", metavar="SNAPSHOT", help="beginning of its id, or `latest`")
    restore.add_argument("out", metavar="OUT", help="a new or empty directory")
    image = commands.add_parser("image", help="write the archive of an image for `docker load`")
    image.add_argument("snapshot", metavar="SNAPSHOT", help="beginning of its id, or `latest`")
    image.add_argument("name", metavar="NAME", help="the image as it was called in the snapshot")
    image.add_argument("out", metavar="OUT", help="a new or empty directory, for the parts and `image.tar`")
    try:
        run(parser.parse_args())
    except WrongKey as error:
        print(f"read-repo: {error}", file=sys.stderr)
        return 12
    except (FormatError, OSError) as error:
        print(f"read-repo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
