"""What a repository's bytes are spent on; their sum is the length of all its objects."""

from __future__ import annotations

from collections import Counter

from repository import Repository
from primitives import CHUNK_ID_BYTES
from seals import DATA, INDEX, LIST, TREE

KINDS = {DATA: "data regions", TREE: "tree regions", LIST: "list regions"}
SEAL_BYTES = 40
HEADER_AND_TRAILER_BYTES = 12 + 32
ID_BYTES = CHUNK_ID_BYTES


def budget(repository: Repository) -> dict:
    spent: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    plain: Counter[str] = Counter()
    for pack in repository.packs.values():
        regions = pack.directory.regions
        stored = sum(region.stored_bytes for region in regions)
        for region in regions:
            name = KINDS[region.kind]
            spent[name] += region.stored_bytes - SEAL_BYTES
            plain[name] += region.plain_bytes
            chunks[name] += len(region.chunk_bytes)
        spent["nonces and tags of regions"] += SEAL_BYTES * len(regions)
        spent["padding"] += pack.directory.filler_bytes
        spent["headers and trailers of packs"] += HEADER_AND_TRAILER_BYTES
        spent["directories of packs"] += (
            pack.bytes - HEADER_AND_TRAILER_BYTES - stored - pack.directory.filler_bytes
        )
    index = sum(path.stat().st_size for _, path in repository.names(INDEX))
    spent["ids in the index"] = ID_BYTES * sum(len(pack.ids) for pack in repository.packs.values())
    spent["rest of the index"] = index - spent["ids in the index"]
    files = [path for path in repository.path.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    spent["all else"] = total - sum(spent.values())
    return {
        "bytes": dict(spent), "total": total, "objects": len(files),
        "folders": sum(path.is_dir() for path in repository.path.rglob("*")),
        "chunks": dict(chunks), "plain_bytes": dict(plain),
    }
