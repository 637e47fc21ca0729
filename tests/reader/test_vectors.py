"""Checks the reader against docs/format/vectors: every case, and the golden repository with what restoring it gives."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from blake3 import blake3

import bundle
import gzip_recipe
import image
import objects
import trees
from primitives import Damaged, FormatError, Reader
from seals import LIST, TREE, Binding, Envelope, Keys, Secret, check_name, open_box, open_slot, unframe

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "docs" / "format" / "vectors"
GOLDEN = VECTORS / "repository"
RECIPES = HERE.parent.parent / "crates" / "lifeboat-gzip" / "tests" / "vectors"


def plain(value):
    """A decoded value as the vectors state it."""
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def whole(data, read):
    reader = Reader(data, "vector")
    value = read(reader)
    reader.finish()
    return value


def path_order(case):
    keys = [bytes.fromhex(key) for key in case["keys"]]
    split = [trees.split_key(key) for key in keys]
    return "ascending" if keys == sorted(set(keys)) and split == sorted(split) else "not ascending"


def padme(size):
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    mask = (1 << max(exponent - max(exponent, 1).bit_length(), 0)) - 1
    return (size + mask) & ~mask


def config(case, keys, data):
    value, body, tag = objects.read_config(data)
    objects.check_config(keys, body, tag)
    return value


def slot(case, keys, data):
    passphrase, key_file = case.get("passphrase"), case.get("key_file")
    secret = Secret(passphrase=passphrase.encode()) if passphrase else Secret(key_file=bytes.fromhex(key_file))
    return open_slot(keys.repository, bytes.fromhex(case["id"]), secret, data)


def box(case, keys, data):
    binding = Binding(keys.repository, case["purpose"], bytes.fromhex(case["envelope"]),
                      bytes.fromhex(case["unique"]))
    return open_box(bytes.fromhex(case["key"]), binding, data, case["max"])


def envelope(case, keys, data):
    value = whole(data, Envelope.read)
    return {"id": value.id, "key": keys.session_key(value)}


def region(case, keys, data):
    fields = dict(case["region"], id=bytes.fromhex(case["region"]["id"]))
    value, wrapped = objects.Region(**fields), Envelope.read(Reader(bytes.fromhex(case["envelope"]), "envelope"))
    chunks = value.open(keys, wrapped, keys.session_key(wrapped), data)
    value.check(keys, chunks, [bytes.fromhex(chunk) for chunk in case["ids"]])
    return chunks


def pack(case, keys, data):
    check_name(data, bytes.fromhex(case["name"]), "pack")
    directory, ids = objects.read_directory(keys, data), []
    for value, offset in directory.spans():
        wrapped = directory.envelopes[value.envelope]
        stored = data[offset : offset + value.stored_bytes]
        chunks = value.open(keys, wrapped, keys.session_key(wrapped), stored)
        ids += [keys.chunk_id(value.kind, chunk) for chunk in chunks]
    return {"directory": directory, "ids": ids}


def index(case, keys, data):
    check_name(data, bytes.fromhex(case["name"]), "index object")
    return objects.read_index(keys, data)


def key_hash(case, keys, data):
    message = case["purpose"].encode() + b"\0" + bytes.fromhex(case["key"])
    return int.from_bytes(blake3(message, key=keys.cut).digest(length=8), "little")


def fetch_from(case, keys, kind):
    nodes = {keys.chunk_id(kind, node): node for node in map(bytes.fromhex, case["nodes"])}

    def fetch(kind, chunk_id):
        if chunk_id not in nodes:
            raise Damaged("a node is missing")
        return nodes[chunk_id]

    return fetch


def tree(case, keys, data):
    root = objects.Root(bytes.fromhex(case["root"]["id"]), case["root"]["height"], case["root"]["entries"])
    return [b"\0".join(names) for names, _ in trees.walk(fetch_from(case, keys, TREE), root)]


def file(case, keys, data):
    root = bytes.fromhex(case["root"]["id"]), case["root"]["height"]
    return list(trees.list_pieces(fetch_from(case, keys, LIST), *root, case["size"]))


DECODERS = {
    "varint": lambda case, keys, data: whole(data, Reader.varint),
    "signed": lambda case, keys, data: whole(data, Reader.signed),
    "string": lambda case, keys, data: whole(data, lambda reader: reader.string(case["max"])),
    "text": lambda case, keys, data: whole(data, Reader.text),
    "padme": lambda case, keys, data: padme(case["size"]),
    "tree_path": lambda case, keys, data: {"components": trees.split_key(data)},
    "path_order": lambda case, keys, data: path_order(case),
    "derive": lambda case, keys, data: keys.derive(case["context"]),
    "chunk_id": lambda case, keys, data: keys.chunk_id(case["kind"], bytes.fromhex(case["plain"])),
    "cut_bytes": lambda case, keys, data:
        blake3(case["purpose"].encode(), key=keys.cut).digest(length=case["length"]),
    "key_hash": key_hash,
    "frame": lambda case, keys, data: unframe(case["kind"], data),
    "config": config,
    "slot": slot,
    "box": box,
    "envelope": envelope,
    "region": region,
    "directory": lambda case, keys, data: whole(data, objects.Directory.read),
    "pack": pack,
    "index": index,
    "tree_node": lambda case, keys, data: trees.read_node(data),
    "tree": tree,
    "file": file,
    "list_node": lambda case, keys, data: trees.read_list(data, case["expected"]),
    "skeleton": lambda case, keys, data: image.read_skeleton(data),
    "snapshot": lambda case, keys, data:
        objects.read_snapshot(case["kind"], keys, bytes.fromhex(case["session"]), data),
    "intent": lambda case, keys, data: objects.read_intent(keys, bytes.fromhex(case["session"]), data),
    "bundle": lambda case, keys, data:
        bundle.read_bundle(data, Secret(key_file=bytes.fromhex(case["key_file"]))),
    "condemned": lambda case, keys, data:
        objects.read_condemned(case["kind"], keys, bytes.fromhex(case["session"]), data),
}


class Checks:
    """Counts; a failed check is printed and the rest goes on."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def check(self, good: bool, message: str) -> None:
        self.passed += good
        self.failed += not good
        if not good:
            print(f"FAILED {message}", file=sys.stderr)

    def topic(self, path: Path) -> None:
        topic = json.loads(path.read_text("utf-8"))
        keys = Keys(bytes.fromhex(topic["master"]), bytes.fromhex(topic["repository"]))
        self.check(bool(topic["cases"]), f"{path.name} has no cases")
        for number, case in enumerate(topic["cases"]):
            label = f"{path.stem} {number} ({case['decoder']}: {case.get('about') or case.get('reason')})"
            data = bytes.fromhex(case.get("bytes", ""))
            try:
                found = plain(DECODERS[case["decoder"]](case, keys, data))
            except FormatError as error:
                self.check(case.get("error") == error.kind, f"{label}: {type(error).__name__}: {error}")
            else:
                self.check("value" in case and found == case["value"], f"{label}: {found!r:.300}")

    def recipes(self) -> None:
        """What Go wrote comes of its plain bytes, of which a stream that was cut off has as many as can be read."""
        streams = sorted(RECIPES.glob("*.gz"))
        self.check(bool(streams), "there are no recipes")
        for path in streams:
            stream, recipe = path.read_bytes(), path.with_suffix(".recipe").read_bytes()
            unpacked = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(stream)
            try:
                found = gzip_recipe.recreate(unpacked, recipe)
            except FormatError as error:
                found = error
            self.check(found == stream, f"{path.name}: {found!r:.100}")
            for length in range(0, len(recipe), 1 + len(recipe) // 8):
                try:
                    gzip_recipe.recreate(unpacked[:1000], recipe[:length])
                    self.check(False, f"{path.name}: a recipe of {length} bytes is believed")
                except FormatError:
                    self.check(True, "")

    def run(self, *arguments: str, repository: Path = GOLDEN) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(HERE / "reader.py"), str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def golden(self, scratch: Path) -> None:
        manifest = json.loads((VECTORS / "repository.json").read_text("utf-8"))
        right, wrong = scratch / "password", scratch / "wrong"
        right.write_text(manifest["passphrase"] + "\n")
        wrong.write_text("incorrect horse\n")
        password, key = ("--password-file", str(right)), ("--key-file", str(VECTORS / "repository.key"))
        listed = self.run(*password, "list")
        ids = [json.loads(line)["id"] for line in listed.stdout.splitlines()]
        self.check(ids == [entry["snapshot"]["id"] for entry in manifest["snapshots"]], f"list: {listed}")
        self.check(self.run("--password-file", str(wrong), "list").returncode == 12, "a wrong password exits 12")
        for number, entry in enumerate(manifest["snapshots"]):
            for options in (password, (*key, "--from-packs")):
                out = scratch / f"out{number}{len(options)}"
                ran = self.run(*options, "restore", entry["snapshot"]["id"][:6], str(out))
                self.check(ran.returncode == 0, f"restore: {ran}")
                self.restored(os.fsencode(out), entry["files"])
        self.damage(scratch, key)

    def restored(self, out: bytes, files: list[dict]) -> None:
        found = {os.path.join(folder, name) for folder, *lists in os.walk(out) for name in sum(lists, [])}
        stated = {os.path.join(out, bytes.fromhex(file["path"])): file for file in files}
        parents = {path[: len(out) + 1 + at] for path in stated for at in
                   [at for at, byte in enumerate(path[len(out) + 1 :]) if byte == ord("/")]}
        devices = {path for path, file in stated.items() if file["type"].endswith("device")}
        self.check(found - devices == stated.keys() - devices | parents, f"{found ^ (stated.keys() | parents)}")
        inodes: dict[int, set[int]] = {}
        for path, file in stated.items():
            if not os.path.lexists(path) and path in devices:
                continue  # Making devices may be forbidden here, to root in a container too.
            self.file(path, file)
            if file["link"] is not None:
                inodes.setdefault(file["link"], set()).add(os.lstat(path).st_ino)
        self.check(all(len(numbers) == 1 for numbers in inodes.values()), f"hard links: {inodes}")

    def file(self, path: bytes, file: dict) -> None:
        status = os.lstat(path)
        formats = {"directory": stat.S_IFDIR, "file": stat.S_IFREG, "symlink": stat.S_IFLNK,
                   "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char_device": stat.S_IFCHR}
        found = {"type": stat.S_IFMT(status.st_mode), "mtime": status.st_mtime_ns}
        wanted = {"type": formats[file["type"]], "mtime": file["mtime"][0] * 10**9 + file["mtime"][1]}
        if file["type"] != "symlink":
            found["mode"], wanted["mode"] = stat.S_IMODE(status.st_mode), file["mode"]
        else:
            found["target"], wanted["target"] = os.readlink(path).hex(), file["target"]
        if os.geteuid() == 0:
            found["owner"], wanted["owner"] = (status.st_uid, status.st_gid), (file["uid"], file["gid"])
        if file["type"] == "file":
            content = Path(os.fsdecode(path)).read_bytes()
            found["size"], wanted["size"] = len(content), file["size"]
            found["blake3"], wanted["blake3"] = blake3(content).hexdigest(), file["blake3"]
            # Zeros that were allocated stay allocated, holes stay holes.
            found["holes"] = file["size"] - status.st_blocks * 512 >= file["hole_bytes"] - 16384
            wanted["holes"] = True
            found["zeros"] = status.st_blocks * 512 >= file["size"] - file["hole_bytes"]
            wanted["zeros"] = True
        for name, value in file["xattrs"].items():
            found[name], wanted[name] = os.getxattr(path, name).hex(), value
        self.check(found == wanted, f"{path!r}: {found} instead of {wanted}")

    def damage(self, scratch: Path, key: tuple[str, str]) -> None:
        """Wherever a bit of a needed object is flipped, or the object is gone, restoring says so and exits 1."""
        folders = ("config", "index", "packs", "snapshots")
        targets = [path for path in GOLDEN.rglob("*") if path.is_file()
                   and path.relative_to(GOLDEN).parts[0] in folders]
        for number, target in enumerate(sorted(targets)):
            for what in ("flipped", "truncated", "missing"):
                name = f"{target.relative_to(GOLDEN)} {what}"
                if what == "missing" and "snapshots" in target.parts:
                    continue  # A snapshot that is gone was forgotten.
                copy = scratch / f"damaged{number}{what}"
                shutil.copytree(GOLDEN, copy)
                victim, data = copy / target.relative_to(GOLDEN), bytearray(target.read_bytes())
                if what == "missing":
                    victim.unlink()
                else:
                    data[len(data) // 2] ^= 1
                    victim.write_bytes(data if what == "flipped" else data[:-1])
                codes = []
                for snapshot in ("5e", "4d"):
                    ran = self.run(*key, "restore", snapshot, str(copy / f"out{snapshot}"), repository=copy)
                    codes.append(ran.returncode)
                    self.check("Traceback" not in ran.stderr, f"{name}: {ran.stderr}")
                    self.check(ran.returncode == 0 or ran.stderr.startswith("read-repo: "), f"{name}: {ran}")
                self.check(1 in codes and set(codes) <= {0, 1}, f"{name}: exit codes {codes}")


def main() -> int:
    checks = Checks()
    for path in sorted(VECTORS.glob("*.json")):
        if path.name != "repository.json":
            checks.topic(path)
    checks.recipes()
    with tempfile.TemporaryDirectory() as scratch:
        checks.golden(Path(scratch))
    print(f"reader: {checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
