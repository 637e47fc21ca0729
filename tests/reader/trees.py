"""Tree nodes, entries and chunk lists. docs/format/tree.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from objects import Root
from primitives import CHUNK_ID_BYTES, MIB, NAMES_MAX, NODE_DEPTH_MAX, U32_MAX, Damaged, Reader
from seals import LIST, TREE

NODE_BYTES_MAX = 4 * MIB
TYPES = {1: "directory", 2: "file", 3: "symlink", 4: "fifo", 5: "socket", 6: "char_device", 7: "block_device"}
PIECES = {0: "chunk", 1: "hole", 2: "zeros"}

# Gives the chunk of a kind that has this id.
Fetch = Callable[[int, bytes], bytes]


def split_key(key: bytes) -> list[bytes]:
    """The names in a path's key; none for the root."""
    names = key.split(b"\0") if key else []
    good = len(key) <= MIB and len(names) <= 4096 and all(
        0 < len(name) <= 255 and name not in (b".", b"..") and b"/" not in name for name in names
    )
    if not good:
        raise Damaged(f"a path is damaged: {key[:300]!r}")
    return names


@dataclass(frozen=True)
class Xattr:
    """A value in place, or as a chunk of `bytes` bytes."""

    name: bytes
    value: bytes | None
    chunk: bytes | None
    bytes: int


@dataclass(frozen=True)
class Content:
    """One chunk, or a chunk list of that height cut in that way, or the few pieces themselves."""

    id: bytes | None
    list: dict[str, int] | None
    pieces: dict[str, Any] | None


@dataclass(frozen=True)
class Entry:
    type: str
    mode: int
    uid: int
    gid: int
    mtime: tuple[int, int]
    ctime: tuple[int, int]
    inode: int
    xattrs: list[Xattr]
    link: int | None
    torn: bool
    size: int
    content: Content | None
    target: bytes | None
    device: tuple[int, int] | None

    @staticmethod
    def read(reader: Reader) -> Entry:
        first = reader.unsigned(1)
        kind = TYPES.get(first & 7)
        if kind is None or first & 0xC0:
            raise reader.damaged("an entry has unknown flags or an unknown kind")
        mode, uid, gid = reader.varint(0o7777), reader.varint(U32_MAX), reader.varint(U32_MAX)
        mtime, ctime, inode = reader.time(), reader.time(), reader.varint()
        xattrs = read_xattrs(reader) if first & 0x10 else []
        link = reader.unsigned(8) if first & 0x08 else None
        size, content, target, device = 0, None, None, None
        if kind == "file":
            size = reader.varint((1 << 63) - 1)
            content = read_content(reader, size)
            if (size == 0) != (content is None):
                raise reader.damaged("a file's size and content disagree")
        elif kind == "symlink":
            target = reader.string(4096)
        elif kind in ("char_device", "block_device"):
            device = reader.varint(U32_MAX), reader.varint(U32_MAX)
        if kind == "directory" and link is not None:
            raise reader.damaged("a directory is hard-linked")
        return Entry(kind, mode, uid, gid, mtime, ctime, inode, xattrs, link, bool(first & 0x20),
                     size, content, target, device)


def read_xattrs(reader: Reader) -> list[Xattr]:
    xattrs: list[Xattr] = []
    for _ in range(reader.varint(32 << 10)):
        name, how = reader.string(255), reader.unsigned(1)
        if not name or b"\0" in name or (xattrs and xattrs[-1].name >= name):
            raise reader.damaged("attribute names are not sorted")
        if how == 0:
            value = reader.string(64 << 10)
            xattrs.append(Xattr(name, value, None, len(value)))
        elif how == 1:
            length = reader.varint(64 << 10)
            xattrs.append(Xattr(name, None, reader.bytes(CHUNK_ID_BYTES), length))
        else:
            raise reader.damaged("an attribute is of no known kind")
    if not xattrs:
        raise reader.damaged("an entry without attributes says it has some")
    return xattrs


def read_content(reader: Reader, size: int) -> Content | None:
    how = reader.unsigned(1)
    if how == 0:
        return None
    if how == 1:
        return Content(reader.bytes(CHUNK_ID_BYTES), None, None)
    height = reader.unsigned(1) if how == 2 else 0
    chunker = reader.unsigned(1) if how in (2, 3) else 0
    if how > 3 or height >= NODE_DEPTH_MAX or chunker > 3:
        raise reader.damaged("a file's content or chunker is of no known kind, or its list too high")
    if how == 2:
        return Content(reader.bytes(CHUNK_ID_BYTES), {"height": height, "chunker": chunker}, None)
    return Content(None, None, {"chunker": chunker, "items": read_pieces(reader, 0, 256, size)})


@dataclass(frozen=True)
class Leaf:
    key: bytes
    entry: Entry


@dataclass(frozen=True)
class Child:
    key: bytes
    id: bytes
    entries: int


@dataclass(frozen=True)
class Node:
    height: int
    items: list[Leaf | Child]


def read_node(data: bytes) -> Node:
    reader = Reader(data, "tree node")
    height, key = reader.unsigned(1), b""
    if height >= NODE_DEPTH_MAX or len(data) > NODE_BYTES_MAX:
        raise reader.damaged("it is too high or too long")
    items: list[Leaf | Child] = []
    for number in range(reader.varint()):
        shared, suffix = reader.varint(MIB), reader.string(MIB)
        if shared > len(key) or (number > 0 and suffix <= key[shared:]):
            raise reader.damaged("keys are not in order")
        key = key[:shared] + suffix
        split_key(key)
        if height == 0:
            items.append(Leaf(key, Entry.read(reader)))
        else:
            items.append(Child(key, reader.bytes(CHUNK_ID_BYTES), reader.varint()))
    reader.finish()
    return Node(height, items)


def walk(fetch: Fetch, root: Root) -> Iterator[tuple[list[bytes], Entry]]:
    """Every entry of a tree with its path, in order; parents before what is in them."""
    open_directories: list[bytes] = []
    last: bytes | None = None
    for leaf in walk_node(fetch, root.id, root.height, root.entries, None):
        names = split_key(leaf.key)
        if (last is None) != (not names) or (last is not None and leaf.key <= last):
            raise Damaged("a tree is damaged: its entries are not in order, or do not begin with the root")
        if names and (len(names) > len(open_directories) or names[:-1] != open_directories[1 : len(names)]):
            raise Damaged(f"a tree is damaged: the directory of {leaf.key!r} is missing")
        del open_directories[len(names) :]
        if leaf.entry.type == "directory":
            open_directories.append(names[-1] if names else b"")
        last = leaf.key
        yield names, leaf.entry
    if last is None:
        raise Damaged("a tree is damaged: it has no root")


def walk_node(fetch: Fetch, node_id: bytes, height: int, entries: int, first: bytes | None) -> Iterator[Leaf]:
    """The entries below a node, which must be what its parent says."""
    node = read_node(fetch(TREE, node_id))
    if node.height != height or (first is not None and (not node.items or node.items[0].key != first)):
        raise Damaged("a tree is damaged: a node is not what its parent says")
    found = 0
    for item in node.items:
        if isinstance(item, Leaf):
            found += 1
            yield item
        else:
            found += item.entries
            yield from walk_node(fetch, item.id, height - 1, item.entries, item.key)
    if found != entries:
        raise Damaged(f"a tree is damaged: a node has {found} entries instead of {entries}")


@dataclass(frozen=True)
class Piece:
    """A stretch of a file: chunk, hole, zeros, or (in an inner node) a node."""

    kind: str
    bytes: int
    id: bytes | None


@dataclass(frozen=True)
class List:
    height: int
    items: list[Piece]


def read_list(data: bytes, expected: int) -> List:
    reader = Reader(data, "chunk list")
    height = reader.unsigned(1)
    if height >= NODE_DEPTH_MAX:
        raise reader.damaged("it is too high")
    items = read_pieces(reader, height, NAMES_MAX, expected)
    reader.finish()
    return List(height, items)


def read_pieces(reader: Reader, height: int, most: int, expected: int) -> list[Piece]:
    """At most `most` items that stand for `expected` bytes of a file."""
    total, items = 0, []
    for _ in range(reader.varint(most)):
        head = reader.varint()
        if height > 0:
            piece = Piece("node", head, reader.bytes(CHUNK_ID_BYTES))
        else:
            kind = PIECES.get(head & 3)
            if kind is None or (kind == "chunk" and head >> 2 > MIB):
                raise reader.damaged("a piece is of no known kind or too long")
            piece = Piece(kind, head >> 2, reader.bytes(CHUNK_ID_BYTES) if kind == "chunk" else None)
        total += piece.bytes
        if piece.bytes == 0 or total > expected:
            raise reader.damaged("a piece is empty, or the list longer than its file")
        items.append(piece)
    if total != expected:
        raise reader.damaged(f"its pieces are {total} bytes long instead of {expected}")
    return items


def pieces(fetch: Fetch, entry: Entry) -> Iterator[Piece]:
    """The stretches of a regular file, in order."""
    if entry.content is None:
        return
    if entry.content.pieces is not None:
        yield from entry.content.pieces["items"]
    elif entry.content.list is None:
        yield Piece("chunk", entry.size, entry.content.id)
    else:
        yield from list_pieces(fetch, entry.content.id, entry.content.list["height"], entry.size)


def list_pieces(fetch: Fetch, node_id: bytes, height: int, expected: int) -> Iterator[Piece]:
    node = read_list(fetch(LIST, node_id), expected)
    if node.height != height:
        raise Damaged("a chunk list is damaged: a node has another height than its parent says")
    for item in node.items:
        if item.kind == "node":
            yield from list_pieces(fetch, item.id, height - 1, item.bytes)
        else:
            yield item
