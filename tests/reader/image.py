"""Puts the archive of a container image together from its source, restored to a directory. docs/format/image.md.

Written from docs/format alone; it shares no code with the program that it checks.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path, PurePosixPath

import gzip_recipe
from primitives import MIB, Damaged, Reader, Unsupported

PART_BYTES_MAX = 4 * MIB


def read_skeleton(data: bytes) -> list[dict]:
    """The records of one part."""
    if len(data) > PART_BYTES_MAX:
        raise Damaged("a part of a skeleton is too long")
    reader, records = Reader(data, "skeleton"), []
    if reader.bytes(4) != b"LBSK":
        raise Damaged("it does not begin like a skeleton")
    version = reader.unsigned(1)
    if version != 1:
        raise Unsupported(f"skeleton version {version}")
    while reader.remaining():
        records.append({"raw": reader.string(PART_BYTES_MAX), "content_bytes": reader.varint()})
    return records


def join(folder: Path, output) -> None:
    """Writes the file that was taken apart into `folder`."""
    contents = iter(sorted((folder / "data").iterdir()) if (folder / "data").exists() else [])
    for part in sorted((folder / "skeleton").iterdir()):
        for record in read_skeleton(part.read_bytes()):
            output.write(record["raw"])
            if record["content_bytes"]:
                content = next(contents, None)
                if content is None or content.stat().st_size != record["content_bytes"]:
                    raise Damaged(f"{folder}: content is missing or has another length")
                output.write(content.read_bytes())
    if next(contents, None) is not None:
        raise Damaged(f"{folder}: content is left over")


def remade(folder: Path, joined: io.BytesIO, taken: int) -> bytes:
    """The gzip stream that was taken apart into `folder`."""
    recipe = b"".join(part.read_bytes() for part in sorted((folder / "recipe").iterdir()))
    return gzip_recipe.recreate(joined.getvalue()[:taken], recipe)


def checked(path: str) -> str:
    if not path or str(PurePosixPath(path)) != path or path.startswith("/") or ".." in path.split("/"):
        raise Damaged(f"{path!a} is no name in an image's archive")
    return path


def write_archive(folder: Path, out: Path) -> None:
    """Writes the archive that `docker load` takes."""
    description = json.loads((folder / "image.json").read_text("utf-8"))
    if description["version"] > 1:
        raise Unsupported(f"image version {description['version']}")
    with tarfile.open(out, "w") as archive:
        for file in description["files"]:
            member = tarfile.TarInfo(checked(file["path"]))
            if "link" in file:
                member.type, member.linkname = tarfile.SYMTYPE, file["link"]
                archive.addfile(member)
                continue
            content = io.BytesIO()
            if file.get("split"):
                join(folder / "split" / file["path"], content)
                if "recipe" in file:
                    content = io.BytesIO(remade(folder / "split" / file["path"], content, file["recipe"]))
            else:
                content.write((folder / "archive" / file["path"]).read_bytes())
            data = content.getvalue()
            if (len(data), hashlib.sha256(data).hexdigest()) != (file["bytes"], file["sha256"]):
                raise Damaged(f"{file['path']} is not what it was")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
