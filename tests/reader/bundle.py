"""Bundles: docs/format/bundle.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3

from objects import SNAPSHOT_KINDS, Snapshot, read_snapshot_body
from primitives import MIB, NAMES_MAX, U32_MAX, Damaged, Reader, Unsupported
from seals import Binding, Secret, fields, open_box, open_slot
from trees import TYPES, split_key

MANIFEST, CHUNKS, RECORDS, END = 1, 2, 3, 4
PLAIN_MAX = {MANIFEST: 16 * MIB, CHUNKS: 8 * MIB, RECORDS: 8 * MIB, END: 1024}
SEAL_BUNDLE = 14
SORTS = {0: "chunk", 1: "hole", 2: "zeros", 3: "chunk"}


@dataclass(frozen=True)
class Base:
    id: bytes
    chunks: int
    digest: bytes
    host: str
    started: tuple[int, int]


@dataclass(frozen=True)
class Manifest:
    snapshot: Snapshot
    base: Base | None
    kind: str


def read_manifest(plain: bytes) -> Manifest:
    snapshot, base, kind = None, None, 1
    chunks, digest, host, started = 0, bytes(32), "", (0, 0)
    for tag, value in fields(Reader(plain, "bundle")):
        part = Reader(value, "bundle")
        match tag:
            case 1:
                snapshot = read_snapshot_body(value)
            case 2:
                base = part.bytes(16)
            case 3:
                chunks = part.varint()
            case 4:
                digest = part.bytes(32)
            case 5:
                host = value.decode("utf-8", "replace")
            case 6:
                started = part.time()
            case 7:
                kind = part.unsigned(1)
    if snapshot is None or kind not in SNAPSHOT_KINDS or chunks > (1 << 62) - 1:
        raise Damaged("the bundle's manifest names no snapshot, or an unknown kind, or too many chunks")
    return Manifest(snapshot, base and Base(base, chunks, digest, host, started), SNAPSHOT_KINDS[kind])


def frames(data: bytes, secret: Secret) -> Iterator[tuple[int, bytes]]:
    """The sort and the plaintext of every frame, in order; the last one is the end."""
    reader = Reader(data, "bundle")
    if reader.bytes(8) != b"lifeboat":
        raise reader.damaged("it does not begin with `lifeboat`")
    kind, version = reader.unsigned(1), reader.unsigned(1)
    if version != 1:
        raise Unsupported(f"a bundle of format version {version}")
    if kind != 32 or reader.unsigned(2) != 0:
        raise reader.damaged("it is something else, or its reserved bytes are not zero")
    bundle, length = reader.bytes(16), reader.unsigned(4)
    if not 1 <= length <= 64 << 10:
        raise reader.damaged("its key slot is empty or too long")
    master = open_slot(bundle, bundle, secret, reader.bytes(length)).master
    key = blake3(master, derive_key_context="lifeboat v1 bundle").digest()
    number, sort = 0, 0
    while sort != END:
        sort, length = reader.unsigned(1), reader.unsigned(4)
        if sort not in PLAIN_MAX or length > PLAIN_MAX[sort] + 46:
            raise reader.damaged("a frame is of no known sort, or too long")
        unique = number.to_bytes(8, "little") + bytes([sort]) + bytes(7)
        binding = Binding(bundle, SEAL_BUNDLE, bytes(16), unique)
        plain = open_box(key, binding, reader.bytes(length), PLAIN_MAX[sort])
        if (number == 0) != (sort == MANIFEST):
            raise reader.damaged("it does not begin with its manifest")
        yield sort, plain
        number += 1
    reader.finish()


def read_chunks(plain: bytes) -> list[bytes]:
    reader = Reader(plain, "a bundle's chunks")
    lengths = [reader.varint(MIB) for _ in range(reader.varint(NAMES_MAX))]
    if 0 in lengths or sum(lengths) != reader.remaining():
        raise reader.damaged("they are empty or do not add up")
    return [reader.bytes(length) for length in lengths]


class Records:
    """What is counted from record to record: `docs/format/bundle.md`, "Numbers"."""

    def __init__(self, base_chunks: int) -> None:
        self.base_chunks, self.used, self.follows, self.key = base_chunks, 0, 0, b""

    def read(self, plain: bytes) -> Iterator[dict]:
        reader = Reader(plain, "a bundle's records")
        while reader.remaining():
            match reader.unsigned(1):
                case 1:
                    self.key = b""
                    base = reader.varint(U32_MAX)
                    yield {"record": "source", "base": base - 1 if base else None}
                case 2:
                    yield {"record": "removed", "key": self.path(reader)}
                case 3:
                    yield self.entry(reader)
                case 4:
                    yield {"record": "items", "items": self.items(reader)}
                case other:
                    raise reader.damaged(f"there is no record {other}")

    def path(self, reader: Reader) -> bytes:
        shared = reader.varint(MIB)
        if shared > len(self.key):
            raise reader.damaged("a path shares more than the last one has")
        self.key = self.key[:shared] + reader.string(MIB)
        split_key(self.key)
        return self.key

    def entry(self, reader: Reader) -> dict:
        key, first = self.path(reader), reader.unsigned(1)
        word = TYPES.get(first & 7)
        if first & 0xC0:
            raise reader.damaged("an entry has unknown flags")
        entry = {"record": "entry", "key": key, "type": word, "mode": reader.varint(0o7777),
                 "uid": reader.varint(U32_MAX), "gid": reader.varint(U32_MAX), "mtime": reader.time(),
                 "ctime": reader.time(), "inode": reader.varint()}
        entry["xattrs"] = self.xattrs(reader) if first & 0x10 else []
        entry["link"] = reader.string(MIB + 16) if first & 0x08 else None
        entry |= {"torn": bool(first & 0x20), "size": 0, "chunker": None, "items": [], "target": None,
                  "device": None}
        if word == "file":
            entry["size"], entry["chunker"] = reader.varint((1 << 63) - 1), reader.unsigned(1)
            if entry["chunker"] > 3:
                raise reader.damaged("a file was cut in no known way")
            entry["items"] = self.items(reader)
        elif word == "symlink":
            entry["target"] = reader.string(4096)
        elif word in ("char_device", "block_device"):
            entry["device"] = (reader.varint(U32_MAX), reader.varint(U32_MAX))
        elif word is None or (word == "directory" and entry["link"] is not None):
            raise reader.damaged("an entry is of no known kind, or a directory hard-linked")
        return entry

    def xattrs(self, reader: Reader) -> list[dict]:
        xattrs: list[dict] = []
        for _ in range(reader.varint(32 << 10)):
            name, how = reader.string(255), reader.unsigned(1)
            if not name or b"\0" in name or (xattrs and xattrs[-1]["name"] >= name):
                raise reader.damaged("attribute names are not sorted")
            if how == 0:
                xattrs.append({"name": name, "value": reader.string(64 << 10), "chunk": None})
            elif how == 1:
                item = self.item(reader)
                if item[0] != "chunk" or item[2] > 64 << 10:
                    raise reader.damaged("an attribute's value is no chunk, or too long")
                xattrs.append({"name": name, "value": None, "chunk": item})
            else:
                raise reader.damaged("an attribute is of no known kind")
        if not xattrs:
            raise reader.damaged("an entry without attributes says it has some")
        return xattrs

    def items(self, reader: Reader) -> list[tuple]:
        return [self.item(reader) for _ in range(reader.varint(NAMES_MAX))]

    def item(self, reader: Reader) -> tuple[str, int | None, int]:
        head = reader.varint()
        sort, length, number = head & 3, head >> 2, None
        if length == 0 or (SORTS[sort] == "chunk" and length > MIB):
            raise reader.damaged("an item is empty, or a chunk too long")
        if sort == 0:
            number = self.base_chunks + self.used
            self.used += 1
        elif sort == 3:
            number = self.follows + reader.signed()
            if not 0 <= number < self.base_chunks + self.used:
                raise reader.damaged("there is no chunk of that number yet")
            self.follows = number + 1
        return SORTS[sort], number, length


def read_bundle(data: bytes, secret: Secret) -> dict:
    """All of a bundle, decoded."""
    bundle = {"manifest": None, "chunks": [], "records": [], "end": None}
    for sort, plain in frames(data, secret):
        if sort == MANIFEST:
            bundle["manifest"] = read_manifest(plain)
            base = bundle["manifest"].base
            records = Records(base.chunks if base else 0)
        elif sort == CHUNKS:
            bundle["chunks"] += read_chunks(plain)
        elif sort == RECORDS:
            bundle["records"] += records.read(plain)
        else:
            reader = Reader(plain, "a bundle's end")
            bundle["end"] = [reader.varint() for _ in range(4)]
    return bundle


def entries(bundle: dict) -> Iterator[tuple[int, dict, str | None]]:
    """Every entry with the number of its source, and the BLAKE3 of its content where no chunk of it is the base's.

    Sees that the bundle makes sense: order, lengths, counts.
    """
    manifest, chunks = bundle["manifest"], bundle["chunks"]
    base_chunks = manifest.base.chunks if manifest.base else 0
    source, last, entry, removed, count, used = -1, None, None, 0, 0, set()

    def content(item: tuple) -> bytes | None:
        sort, number, length = item
        if sort != "chunk":
            return bytes(length)
        if number < base_chunks:
            return None
        used.add(number)
        if number - base_chunks >= len(chunks) or len(chunks[number - base_chunks]) != length:
            raise Damaged("a chunk is used that is not there, or has another length")
        return chunks[number - base_chunks]

    for record in [*bundle["records"], {"record": "source", "base": None}]:
        kind = record["record"]
        if entry is not None and kind != "items":
            raise Damaged("a file's items end early")
        if kind == "source":
            source, last = source + 1, None
            if record["base"] is not None and manifest.base is None:
                raise Damaged("a source needs a base, and none is named")
            continue
        if kind == "items":
            items = record["items"]
            if entry is None:
                raise Damaged("items belong to no file")
        else:
            if source < 0 or (last is not None and last >= record["key"]):
                raise Damaged("an entry belongs to no source, or paths do not ascend")
            last = record["key"]
            if kind == "removed":
                removed += 1
                continue
            count += 1
            for xattr in record["xattrs"]:
                if xattr["chunk"] is not None:
                    content(xattr["chunk"])
            if record["type"] != "file":
                yield source, record, None
                continue
            entry, items, lacks, hasher = record, record["items"], record["size"], blake3()
        for item in items:
            lacks -= item[2]
            plain = content(item)
            if hasher is not None and plain is not None:
                hasher.update(plain)
            else:
                hasher = None
        if lacks < 0:
            raise Damaged("a file is longer than it says")
        if lacks == 0:
            yield source, entry, hasher and hasher.hexdigest()
            entry = None
    sums = [len(chunks), sum(map(len, chunks)), count, removed]
    if source != len(manifest.snapshot.sources) or sums != bundle["end"] or len(used) != len(chunks):
        raise Damaged("the bundle does not hold what its end says")
