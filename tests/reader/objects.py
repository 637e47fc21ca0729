"""The config, packs, index objects and snapshots. docs/format: config.md, pack.md, index.md, snapshot.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from primitives import CHUNK_ID_BYTES, MIB, NAMES_MAX, NODE_DEPTH_MAX, U32_MAX, Damaged, Reader, Unsupported
from seals import (
    CONFIG, DATA, INDEX, INTENT, LIST, PACK, SEAL_CONDEMNED, SEAL_DIRECTORY, SEAL_INDEX, SEAL_INTENT, SEAL_SNAPSHOT,
    TREE,
    Binding, Envelope, Keys, fields, open_box, strip_header, unframe, unseal,
)

REGION_PLAIN_MAX = 4 * MIB
LISTED_PACKS_MAX = 32_000
SOURCE_KINDS = {1: "path", 2: "stdin", 3: "command", 4: "volume", 5: "container", 6: "tar", 7: "image", 8: "project"}
DETAIL_MAX = 65536
SNAPSHOT_KINDS = {1: "full", 2: "incremental", 3: "differential"}


# The config: config.md.


@dataclass(frozen=True)
class Config:
    repository: bytes
    created: tuple[int, int]
    features: dict[str, list[str]]
    parameters: dict[str, int]


def read_config(data: bytes) -> tuple[Config, bytes, bytes]:
    """The config, and its body and tag for `check_config`: it is not authenticated yet."""
    framed = unframe(CONFIG, data)
    if len(framed) < 32:
        raise Damaged("config is damaged: it is too short")
    body, tag = framed[:-32], framed[-32:]
    reader = Reader(body, "config")
    repository, created = reader.bytes(16), reader.time()
    features = {word: [reader.text() for _ in range(reader.varint(NAMES_MAX))]
                for word in ("read", "write", "optional")}
    if features["read"]:
        raise Unsupported(f"reading this repository needs `{features['read'][0]}`")
    names = ("bytes_min", "bytes_mask", "bytes_max", "region_bytes", "pack_bytes")
    parameters = {name: reader.unsigned(4) for name in names} | {"suite": reader.unsigned(1)}
    least, mask, most, region, pack = (parameters[name] for name in names)
    if parameters["suite"] not in (1, 2):
        raise Unsupported(f"cipher suite {parameters['suite']}")
    if not (64 <= least <= MIB // 4 and least % 2 == 0
            and 256 <= mask <= MIB // 4 and mask & (mask - 1) == 0
            and max(least, 1024) <= most <= MIB and most % 2 == 0
            and 4096 <= region <= 3 * MIB and MIB <= pack <= 256 * MIB
            and region + most + 65536 <= pack):
        raise reader.damaged("its parameters are outside the limits")
    reader.finish()
    return Config(repository, created, features, parameters), body, tag


def check_config(keys: Keys, body: bytes, tag: bytes) -> None:
    if blake3(body, key=keys.config).digest() != tag:
        raise Damaged("config cannot be authenticated")


# Packs and index objects: pack.md, index.md.


@dataclass(frozen=True)
class Region:
    kind: int
    suite: int
    codec: int
    envelope: int
    id: bytes
    stored_bytes: int
    plain_bytes: int
    chunk_bytes: list[int]

    @staticmethod
    def read(reader: Reader) -> Region:
        kind, suite, codec = reader.bytes(3)
        if kind not in (DATA, TREE, LIST) or suite not in (1, 2) or codec not in (0, 1):
            raise Unsupported(f"a region of kind {kind}, suite {suite}, codec {codec}")
        envelope, region_id = reader.varint(0xFFFF), reader.bytes(16)
        stored, plain = reader.varint(REGION_PLAIN_MAX + 40), reader.varint(REGION_PLAIN_MAX)
        if stored < 40 or (codec == 0 and stored - 40 != plain):
            raise reader.damaged("a region's lengths are inconsistent")
        lengths = [reader.varint(REGION_PLAIN_MAX) for _ in range(reader.varint(NAMES_MAX))]
        if 0 in lengths or sum(lengths) != plain:
            raise reader.damaged("a region's chunks are empty or do not add up")
        return Region(kind, suite, codec, envelope, region_id, stored, plain, lengths)

    def open(self, keys: Keys, envelope: Envelope, session_key: bytes, stored: bytes) -> list[bytes]:
        """The region's chunks."""
        if len(stored) != self.stored_bytes:
            raise Damaged(f"a region has {len(stored)} bytes instead of {self.stored_bytes}")
        binding = Binding(keys.repository, self.kind, envelope.id, self.id)
        plain = Reader(
            unseal(self.suite, session_key, binding, self.codec, self.plain_bytes, stored), "region"
        )
        return [plain.bytes(length) for length in self.chunk_bytes]

    def check(self, keys: Keys, chunks: list[bytes], ids: list[bytes]) -> None:
        if [keys.chunk_id(self.kind, chunk) for chunk in chunks] != ids:
            raise Damaged("a region is damaged: its chunks are not those of its directory")


@dataclass(frozen=True)
class Directory:
    envelopes: list[Envelope]
    filler_bytes: int
    regions: list[Region]

    @staticmethod
    def read(reader: Reader) -> Directory:
        envelopes = [Envelope.read(reader) for _ in range(reader.varint(1024))]
        filler_bytes = reader.unsigned(4)
        regions, chunks = [], 0
        for _ in range(reader.varint(4096)):
            region = Region.read(reader)
            regions.append(region)
            chunks += len(region.chunk_bytes)
            if region.envelope >= len(envelopes) or chunks > 1 << 18:
                raise reader.damaged("a region names no envelope, or there are too many chunks")
        directory = Directory(envelopes, filler_bytes, regions)
        if directory.stored_bytes() + filler_bytes >= 256 * MIB:
            raise reader.damaged("its regions are longer than a pack")
        return directory

    def stored_bytes(self) -> int:
        return sum(region.stored_bytes for region in self.regions)

    def spans(self) -> Iterator[tuple[Region, int]]:
        """Every region with its offset in the pack."""
        offset = 12
        for region in self.regions:
            yield region, offset
            offset += region.stored_bytes


def read_directory(keys: Keys, pack: bytes) -> Directory:
    """The directory of a whole pack."""
    strip_header(PACK, pack[:12])
    if len(pack) < 44:
        raise Damaged("pack is damaged: it is shorter than its header and trailer")
    reader = Reader(pack[-32:], "pack")
    length, reserved, unique, magic = reader.unsigned(4), reader.unsigned(4), reader.bytes(16), reader.bytes(8)
    if magic != b"boatlife" or reserved != 0:
        raise reader.damaged("it does not end with a trailer")
    if length > min(len(pack) - 44, 4 * MIB):
        raise reader.damaged("its directory is longer than it can be")
    plain = keys.open_index(SEAL_DIRECTORY, unique, pack[len(pack) - 32 - length : -32], 4 * MIB)
    reader = Reader(plain, "pack directory")
    directory = Directory.read(reader)
    reader.finish()
    if 44 + directory.stored_bytes() + directory.filler_bytes + length != len(pack):
        raise reader.damaged("its regions, filler and directory do not fill the pack")
    return directory


@dataclass(frozen=True)
class IndexedPack:
    name: bytes
    bytes: int
    directory: Directory
    ids: list[bytes]


@dataclass(frozen=True)
class Index:
    author: bytes
    signature: bytes
    packs: list[IndexedPack]


def read_index(keys: Keys, data: bytes) -> Index:
    reader = Reader(unframe(INDEX, data), "index object")
    author, signature = reader.bytes(16), reader.string(1024)
    reader = Reader(keys.open_index(SEAL_INDEX, author, reader.rest(), 64 * MIB), "index object")
    packs = []
    for _ in range(reader.varint(NAMES_MAX)):
        name, pack_bytes = reader.bytes(32), reader.unsigned(4)
        if pack_bytes > 256 * MIB:
            raise reader.damaged("a pack is too long")
        directory = Directory.read(reader)
        count = sum(len(region.chunk_bytes) for region in directory.regions)
        packs.append(IndexedPack(name, pack_bytes, directory, [reader.bytes(CHUNK_ID_BYTES) for _ in range(count)]))
    reader.finish()
    return Index(author, signature, packs)


# Snapshots: snapshot.md.


@dataclass(frozen=True)
class Root:
    id: bytes
    height: int
    entries: int


@dataclass(frozen=True)
class Source:
    kind: str
    name: bytes
    root: Root
    snapshot_kind: str
    parent: bytes | None
    errors: int
    bytes: int
    users: list[tuple[int, bytes]]
    groups: list[tuple[int, bytes]]
    detail: str

    @staticmethod
    def read(reader: Reader) -> Source:
        kind, name = reader.unsigned(1), reader.string(MIB)
        if kind not in SOURCE_KINDS:
            raise Unsupported(f"source kind {kind}")
        root = Root(reader.bytes(CHUNK_ID_BYTES), reader.unsigned(1), reader.varint())
        snapshot_kind, parent = reader.unsigned(1), reader.string(16)
        if root.height >= NODE_DEPTH_MAX or snapshot_kind not in SNAPSHOT_KINDS or len(parent) not in (0, 16):
            raise reader.damaged("a source's tree is too high, or its kind or parent is not one")
        errors, size = reader.varint(), reader.varint()
        users, groups = ([(reader.varint(U32_MAX), reader.string(1024)) for _ in range(reader.varint(NAMES_MAX))]
                         for _ in range(2))
        detail = reader.string(DETAIL_MAX) if reader.remaining() else b""
        try:
            text = detail.decode("utf-8")
        except UnicodeDecodeError:
            raise reader.damaged("a source's detail is not UTF-8") from None
        return Source(SOURCE_KINDS[kind], name, root, SNAPSHOT_KINDS[snapshot_kind], parent or None,
                      errors, size, users, groups, text)


@dataclass
class Snapshot:
    id: bytes | None = None
    complete: bool = False
    host_id: bytes = bytes(16)
    host: str = ""
    user: str = ""
    sequence: int = 0
    previous: bytes | None = None
    started: tuple[int, int] = (0, 0)
    finished: tuple[int, int] = (0, 0)
    tags: list[str] = field(default_factory=list)
    program: str = ""
    sources: list[Source] = field(default_factory=list)
    statistics: list[int] = field(default_factory=lambda: [0] * 12)
    unhealthy: list[str] = field(default_factory=list)
    consistency: str = ""
    revision: int = 0
    pinned: bool = False
    lacking: bool = False
    author: bytes = bytes(16)
    signature: bytes = b""


def read_snapshot(kind: int, keys: Keys, session: bytes, data: bytes) -> Snapshot:
    reader = Reader(unframe(kind, data), "snapshot")
    envelope = Envelope.read(reader)
    snapshot = Snapshot(author=reader.bytes(16), signature=reader.string(1024))
    binding = Binding(keys.repository, SEAL_SNAPSHOT[kind], envelope.id, session)
    plain = open_box(keys.session_key(envelope), binding, reader.rest(), 16 * MIB)
    body = read_snapshot_body(plain)
    body.author, body.signature = snapshot.author, snapshot.signature
    return body


def read_snapshot_body(plain: bytes) -> Snapshot:
    snapshot = Snapshot()
    reader = Reader(plain, "snapshot")
    for tag, value in fields(Reader(plain, "snapshot")):
        read_snapshot_field(snapshot, tag, value)
        if max(len(snapshot.sources), len(snapshot.tags), len(snapshot.unhealthy)) > NAMES_MAX:
            raise reader.damaged("it has too many sources, tags or unhealthy services")
    if snapshot.id is None:
        raise reader.damaged("it has no id")
    return snapshot


def read_snapshot_field(snapshot: Snapshot, tag: int, value: bytes) -> None:
    part = Reader(value, "snapshot")
    if tag in (4, 5, 10, 11, 14, 15):
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            raise part.damaged("text is not UTF-8") from None
    match tag:
        case 1:
            snapshot.id = part.bytes(16)
        case 2:
            snapshot.complete = part.unsigned(1) == 1
        case 3:
            snapshot.host_id = part.bytes(16)
        case 4:
            snapshot.host = text
        case 5:
            snapshot.user = text
        case 6:
            snapshot.sequence = part.varint()
        case 7:
            snapshot.previous = part.bytes(16)
        case 8:
            snapshot.started = part.time()
        case 9:
            snapshot.finished = part.time()
        case 10:
            snapshot.tags.append(text)
        case 11:
            snapshot.program = text
        case 12:
            snapshot.sources.append(Source.read(part))
        case 13:
            snapshot.statistics = [part.varint() for _ in range(12)]
        case 14:
            snapshot.unhealthy.append(text)
        case 15:
            if len(value) > DETAIL_MAX:
                raise part.damaged("its claim is too long")
            snapshot.consistency = text
        case 16:
            snapshot.revision = part.varint()
        case 17:
            snapshot.pinned = part.unsigned(1) == 1
        case 18:
            snapshot.lacking = part.unsigned(1) == 1


# Intents: session.md.


@dataclass(frozen=True)
class Intent:
    session: bytes
    counter: int
    host: bytes
    parents: list[bytes]


def read_intent(keys: Keys, session: bytes, data: bytes) -> Intent:
    reader = Reader(keys.open_index(SEAL_INTENT, session, unframe(INTENT, data), MIB), "intent")
    host, counter = reader.bytes(16), reader.unsigned(4)
    parents = [reader.bytes(CHUNK_ID_BYTES) for _ in range(reader.varint(NAMES_MAX))]
    reader.finish()
    return Intent(session, counter, host, parents)


# Condemned lists and verdicts: session.md.


@dataclass(frozen=True)
class Condemned:
    packs: list[bytes]


def read_condemned(kind: int, keys: Keys, session: bytes, data: bytes) -> Condemned:
    reader = Reader(keys.open_index(SEAL_CONDEMNED[kind], session, unframe(kind, data), MIB), "condemned list")
    packs = [reader.bytes(32) for _ in range(reader.varint(LISTED_PACKS_MAX))]
    reader.finish()
    if any(first >= second for first, second in zip(packs, packs[1:])):
        raise reader.damaged("its packs are not in order")
    return Condemned(packs)
