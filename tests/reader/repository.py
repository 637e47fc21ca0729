"""A repository in a local directory: finds keys, snapshots and chunks, and checks all that it touches."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from objects import (
    Directory, IndexedPack, Snapshot, check_config, read_config, read_directory, read_index, read_snapshot,
)
from primitives import Damaged, FormatError, Unsupported, WrongKey
from seals import FOLDERS, INDEX, PACK, SLOT, SNAPSHOT, Keys, Secret, check_name, open_slot

NAME_BYTES = {SLOT: 16, PACK: 32, INDEX: 32, SNAPSHOT: 16}


class Repository:
    """`from_packs` ignores the index objects and finds out from the packs alone what lies where."""

    def __init__(self, path: Path, secret: Secret, from_packs: bool = False) -> None:
        self.path = path
        config, body, tag = read_config((path / "config").read_bytes())
        self.keys = Keys(self.master(config.repository, secret), config.repository)
        check_config(self.keys, body, tag)
        self.packs: dict[bytes, IndexedPack] = {}
        self.chunks: dict[bytes, tuple[bytes, int, int]] = {}
        self.directories = lru_cache(maxsize=None)(self.check_pack)
        self.regions = lru_cache(maxsize=64)(self.open_region)
        for pack in self.scan_packs() if from_packs else self.indexed_packs():
            self.add(pack)

    def names(self, kind: int) -> Iterator[tuple[bytes, Path]]:
        """The objects of one kind; what has another name is somebody's temporary file."""
        folder = self.path / FOLDERS[kind]
        for path in sorted(folder.glob("?/*" if kind == PACK else "*")):
            text = path.name
            if len(text) == 2 * NAME_BYTES[kind] and set(text) <= set("0123456789abcdef") and path.is_file():
                if kind != PACK or path.parent.name == text[:1]:
                    yield bytes.fromhex(text), path

    def master(self, repository: bytes, secret: Secret) -> bytes:
        problems: list[FormatError] = []
        for name, path in self.names(SLOT):
            try:
                return open_slot(repository, name, secret, path.read_bytes()).master
            except WrongKey:
                continue
            except (Damaged, Unsupported) as error:
                problems.append(error)
        raise WrongKey("; ".join(["wrong password or key", *map(str, problems)]))

    def add(self, pack: IndexedPack) -> None:
        ids, position = iter(pack.ids), 0
        self.packs[pack.name] = pack
        for number, region in enumerate(pack.directory.regions):
            for ordinal in range(len(region.chunk_bytes)):
                self.chunks.setdefault(next(ids), (pack.name, number, ordinal))
                position += 1

    def indexed_packs(self) -> Iterator[IndexedPack]:
        for name, path in self.names(INDEX):
            data = path.read_bytes()
            check_name(data, name, "index object")
            yield from read_index(self.keys, data).packs

    def scan_packs(self) -> Iterator[IndexedPack]:
        for name, _ in self.names(PACK):
            data, directory = self.directories(name)
            ids: list[bytes] = []
            for number, region in enumerate(directory.regions):
                ids += [self.keys.chunk_id(region.kind, chunk) for chunk in self.open_region(name, number)]
            yield IndexedPack(name, len(data), directory, ids)

    def check_pack(self, name: bytes) -> tuple[mmap.mmap, Directory]:
        """A pack's bytes and its own directory; the whole pack is hashed, once."""
        path = self.path / "packs" / name.hex()[:1] / name.hex()
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise Damaged(f"pack {name.hex()} is missing") from None
        except ValueError:
            raise Damaged(f"pack {name.hex()} is empty") from None
        check_name(data, name, "pack")
        directory = read_directory(self.keys, data)
        known = self.packs.get(name)
        if known is not None and (known.bytes != len(data) or known.directory != directory):
            raise Damaged(f"pack {name.hex()} is not what an index object says of it")
        return data, directory

    def open_region(self, pack: bytes, number: int) -> list[bytes]:
        data, directory = self.directories(pack)
        region, offset = list(directory.spans())[number]
        envelope = directory.envelopes[region.envelope]
        stored = data[offset : offset + region.stored_bytes]
        return region.open(self.keys, envelope, self.keys.session_key(envelope), stored)

    def fetch(self, kind: int, chunk_id: bytes) -> bytes:
        """A chunk, its id recomputed."""
        if chunk_id not in self.chunks:
            raise Damaged(f"chunk {chunk_id.hex()} is missing: no pack is known to hold it")
        pack, number, ordinal = self.chunks[chunk_id]
        chunk = self.regions(pack, number)[ordinal]
        if self.keys.chunk_id(kind, chunk) != chunk_id:
            raise Damaged(f"pack {pack.hex()} has other bytes where chunk {chunk_id.hex()} should be")
        return chunk

    def snapshots(self) -> Iterator[tuple[bytes, Snapshot]]:
        """Every listed snapshot with its session: of several objects of one snapshot the newest, see snapshot.md."""
        newest: dict[bytes | None, tuple[bytes, Snapshot]] = {}
        for session, path in self.names(SNAPSHOT):
            found = session, read_snapshot(SNAPSHOT, self.keys, session, path.read_bytes())
            known = newest.get(found[1].id, found)
            older, newer = sorted([known, found], key=lambda pair: (pair[1].revision, pair[0]))
            if known is not found and older[1].revision == newer[1].revision:
                newer[1].pinned |= older[1].pinned
                newer[1].lacking |= older[1].lacking
                newer[1].tags = sorted({*newer[1].tags, *older[1].tags})
            newest[found[1].id] = newer
        yield from newest.values()
