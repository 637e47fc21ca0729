"""Recreates the sources of a snapshot below a directory. docs/format/tree.md, section "Restoring"."""

from __future__ import annotations

import os
import stat
import sys

from objects import Snapshot, Source
from primitives import Damaged
from repository import Repository
from seals import DATA
from trees import Entry, pieces, split_key, walk

ZEROS = bytes(1 << 20)
SPECIAL = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK,
           "char_device": stat.S_IFCHR, "block_device": stat.S_IFBLK}


def place(source: Source) -> list[bytes]:
    """Where a source goes: its own path; for a stream the last component of its name; else `volume:NAME` and so on."""
    names = [name for name in source.name.split(b"/") if name]
    split_key(b"\0".join(names))
    if source.kind == "path":
        return names
    if not names:
        raise Damaged("a source has no name")
    if source.kind in ("stdin", "command"):
        return names[-1:]
    return [source.kind.encode() + b":" + names[0], *names[1:]]


class Restore:
    """One run; `warnings` counts what this system would not let us recreate."""

    def __init__(self, repository: Repository, out: str) -> None:
        self.repository, self.out, self.warnings = repository, os.fsencode(out), 0
        self.directories: list[tuple[bytes, Entry]] = []

    def run(self, snapshot: Snapshot) -> None:
        os.makedirs(self.out, exist_ok=True)
        if os.listdir(self.out):
            raise OSError(f"{os.fsdecode(self.out)} is not empty")
        for source in snapshot.sources:
            self.source(source)
        # Last, and the innermost first: writing into a directory changes its time and may need its permissions.
        for path, entry in reversed(self.directories):
            self.metadata(path, entry)

    def source(self, source: Source) -> None:
        base, links = place(source), {}
        self.parents(base[:-1])
        for names, entry in walk(self.repository.fetch, source.root):
            path = os.path.join(self.out, *base, *names)
            if self.create(path, entry, links):
                self.metadata(path, entry)

    def parents(self, names: list[bytes]) -> None:
        """Makes what leads to a source; never through a link that another source put there."""
        path = self.out
        for name in names:
            path = os.path.join(path, name)
            if not os.path.lexists(path):
                os.mkdir(path)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise Damaged(f"{os.fsdecode(path)} is no directory, but a source lies below it")

    def create(self, path: bytes, entry: Entry, links: dict[int, tuple[bytes, Entry]]) -> bool:
        """Creates a file; whether its metadata is to be set now."""
        if entry.type == "directory":
            if not os.path.isdir(path) or os.path.islink(path):
                os.mkdir(path, 0o700)
            self.directories.append((path, entry))
            return False
        if os.path.lexists(path):
            os.unlink(path)
        known = links.setdefault(entry.link, (path, entry)) if entry.link is not None else (path, entry)
        same = (known[1].type, known[1].size, known[1].content) == (entry.type, entry.size, entry.content)
        if known[0] != path and same:
            os.link(known[0], path, follow_symlinks=False)
        elif entry.type == "file":
            self.file(path, entry)
        elif entry.type == "symlink":
            os.symlink(entry.target, path)
        else:
            return self.special(path, entry)
        return True

    def file(self, path: bytes, entry: Entry) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces(self.repository.fetch, entry):
                if piece.kind == "chunk":
                    chunk = self.repository.fetch(DATA, piece.id)
                    if len(chunk) != piece.bytes:
                        raise Damaged(f"chunk {piece.id.hex()} has {len(chunk)} bytes instead of {piece.bytes}")
                    file.write(chunk)
                elif piece.kind == "hole":
                    file.seek(piece.bytes, os.SEEK_CUR)
                else:
                    for start in range(0, piece.bytes, len(ZEROS)):
                        file.write(ZEROS[: piece.bytes - start])
            file.truncate(entry.size)

    def special(self, path: bytes, entry: Entry) -> bool:
        device = os.makedev(*entry.device) if entry.device else 0
        try:
            os.mknod(path, SPECIAL[entry.type] | 0o600, device)
        except OSError as error:
            self.warn(path, f"{entry.type} cannot be made: {error.strerror}")
            return False
        return True

    def metadata(self, path: bytes, entry: Entry) -> None:
        # In this order: a change of owner clears setuid and capabilities, a change of mode alters ACLs.
        if os.geteuid() == 0:
            self.attempt(path, lambda: os.chown(path, entry.uid, entry.gid, follow_symlinks=False))
        if entry.type != "symlink":
            self.attempt(path, lambda: os.chmod(path, entry.mode))
        for xattr in entry.xattrs:
            value = xattr.value if xattr.chunk is None else self.repository.fetch(DATA, xattr.chunk)
            if len(value) != xattr.bytes:
                raise Damaged(f"an attribute of {os.fsdecode(path)} has {len(value)} bytes, not {xattr.bytes}")
            self.attempt(path, lambda: os.setxattr(path, xattr.name, value, follow_symlinks=False))
        time = entry.mtime[0] * 1_000_000_000 + entry.mtime[1]
        self.attempt(path, lambda: os.utime(path, ns=(time, time), follow_symlinks=False))

    def attempt(self, path: bytes, act) -> None:
        try:
            act()
        except (OSError, OverflowError) as error:
            self.warn(path, str(error))

    def warn(self, path: bytes, message: str) -> None:
        self.warnings += 1
        print(f"read-repo: {os.fsdecode(path)!a}: {message}", file=sys.stderr)
