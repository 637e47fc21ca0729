"""Framing, keys and seals. docs/format: README.md (section "Objects"), keys.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from Crypto.Cipher import AES, ChaCha20_Poly1305

from primitives import CHUNK_ID_BYTES, MIB, Damaged, Reader, Unsupported, WrongKey

CONFIG, SLOT, PACK, INDEX, SNAPSHOT, DRAFT, CHECKPOINT, INTENT = 1, 2, 3, 4, 5, 6, 7, 8
CONDEMNED, VERDICT = 10, 11
FOLDERS = {CONFIG: "config", SLOT: "keys", PACK: "packs", INDEX: "index", SNAPSHOT: "snapshots",
           DRAFT: "drafts", CHECKPOINT: "checkpoints", INTENT: "intents", 9: "fences",
           CONDEMNED: "condemned", VERDICT: "verdicts"}
SIZES_MAX = {PACK: 256 * MIB, INDEX: 64 * MIB, SNAPSHOT: 16 * MIB, DRAFT: 16 * MIB, CHECKPOINT: 16 * MIB}
SEAL_DIRECTORY, SEAL_INDEX, SEAL_ENVELOPE, SEAL_SLOT, SEAL_INTENT = 4, 5, 7, 8, 9
SEAL_CONDEMNED = {CONDEMNED: 12, VERDICT: 13}
SEAL_SNAPSHOT = {SNAPSHOT: 6, DRAFT: 10, CHECKPOINT: 11}
DATA, TREE, LIST = 1, 2, 3

# Framing: README.md, "Objects".


def strip_header(kind: int, data: bytes) -> bytes:
    reader = Reader(data, FOLDERS[kind])
    if reader.bytes(8) != b"lifeboat":
        raise reader.damaged("it does not begin with `lifeboat`")
    found, version, reserved = reader.unsigned(1), reader.unsigned(1), reader.unsigned(2)
    if version != 1:
        raise Unsupported(f"{reader.what} is of format version {version}")
    if found != kind or reserved != 0:
        raise reader.damaged(f"it is an object of kind {found}, or its reserved bytes are not zero")
    return reader.rest()


def unframe(kind: int, data: bytes) -> bytes:
    if len(data) > SIZES_MAX.get(kind, MIB):
        raise Damaged(f"{FOLDERS[kind]}: {len(data)} bytes are too many")
    if kind in (PACK, INDEX):
        return strip_header(kind, data)
    if len(data) < 32:
        raise Damaged(f"{FOLDERS[kind]}: it is shorter than its checksum")
    body = strip_header(kind, data[:-32])
    if blake3(data[:-32]).digest() != data[-32:]:
        raise Damaged(f"{FOLDERS[kind]}: its checksum differs")
    return body


def check_name(data: bytes, name: bytes, what: str) -> None:
    if blake3(data).digest() != name:
        raise Damaged(f"{what} {name.hex()} is damaged: its bytes have another hash")


# Keys and seals: keys.md.


@dataclass(frozen=True)
class Binding:
    """What a seal is bound to besides its codec and length."""

    repository: bytes
    purpose: int
    envelope: bytes
    unique: bytes


def unseal(suite: int, key: bytes, binding: Binding, codec: int, plain_bytes: int, sealed: bytes) -> bytes:
    """Authenticates, decrypts and decompresses: exactly `plain_bytes` bytes come out."""
    if suite not in (1, 2):
        raise Unsupported(f"cipher suite {suite}")
    if codec not in (0, 1):
        raise Unsupported(f"codec {codec}")
    if len(sealed) < 40:
        raise Damaged("a seal is shorter than its nonce and tag")
    nonce, body, tag = sealed[:24], sealed[24:-16], sealed[-16:]
    if suite == 1:
        cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)
    else:
        derived = blake3(b"lifeboat v1 aes-256-gcm nonce" + nonce[:12], key=key).digest()
        cipher = AES.new(derived, AES.MODE_GCM, nonce=nonce[12:])
    cipher.update(b"lifeboat" + bytes([1, binding.purpose, suite, codec]) + plain_bytes.to_bytes(4, "little")
                  + binding.repository + binding.envelope + binding.unique)
    try:
        plain = cipher.decrypt_and_verify(body, tag)
    except ValueError:
        raise Damaged(f"a seal of purpose {binding.purpose} cannot be authenticated") from None
    if codec == 1:
        plain = decompress(plain, plain_bytes)
    if len(plain) != plain_bytes:
        raise Damaged("a sealed length differs from the one stated")
    return plain


def decompress(frame: bytes, plain_bytes: int) -> bytes:
    try:
        # A frame that states a greater length would be given that much memory.
        stated = zstandard.get_frame_parameters(frame).content_size
        if stated not in (plain_bytes, zstandard.CONTENTSIZE_UNKNOWN):
            raise Damaged(f"a zstd frame holds {stated} bytes instead of {plain_bytes}")
        return zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=max(plain_bytes, 1), allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Damaged(f"a zstd frame is damaged: {error}") from None


def open_box(key: bytes, binding: Binding, box: bytes, plain_bytes_max: int) -> bytes:
    reader = Reader(box, "a sealed box")
    suite, codec, plain_bytes = reader.unsigned(1), reader.unsigned(1), reader.unsigned(4)
    if suite not in (1, 2) or codec not in (0, 1):
        raise Unsupported(f"cipher suite {suite}, codec {codec}")
    if plain_bytes > plain_bytes_max:
        raise reader.damaged(f"{plain_bytes} bytes are more than {plain_bytes_max}")
    return unseal(suite, key, binding, codec, plain_bytes, reader.rest())


@dataclass(frozen=True)
class Envelope:
    id: bytes
    recipient: int
    wrapped: bytes

    @staticmethod
    def read(reader: Reader) -> Envelope:
        return Envelope(reader.bytes(16), reader.unsigned(1), reader.string(4096))


class Keys:
    """Everything that is derived from the master key."""

    def __init__(self, master: bytes, repository: bytes) -> None:
        self.master, self.repository = master, repository
        kinds = {DATA: "data", TREE: "tree", LIST: "list"}
        self.ids = {kind: self.derive(f"lifeboat v1 chunk id {word}") for kind, word in kinds.items()}
        self.cut, self.index = self.derive("lifeboat v1 cut"), self.derive("lifeboat v1 index")
        self.read, self.config = self.derive("lifeboat v1 read"), self.derive("lifeboat v1 config")

    def derive(self, context: str) -> bytes:
        return blake3(self.master, derive_key_context=context).digest()

    def chunk_id(self, kind: int, plain: bytes) -> bytes:
        return blake3(plain, key=self.ids[kind]).digest(length=CHUNK_ID_BYTES)

    def open_index(self, purpose: int, unique: bytes, box: bytes, max: int) -> bytes:
        return open_box(self.index, Binding(self.repository, purpose, bytes(16), unique), box, max)

    def session_key(self, envelope: Envelope) -> bytes:
        if envelope.recipient != 1:
            raise Unsupported(f"envelope recipient {envelope.recipient}")
        binding = Binding(self.repository, SEAL_ENVELOPE, bytes(16), envelope.id)
        key = open_box(self.read, binding, envelope.wrapped, 32)
        if len(key) != 32:
            raise Damaged("an envelope is damaged: its key is not 32 bytes long")
        return key


@dataclass(frozen=True)
class Secret:
    """Either a passphrase or the 32 bytes of a key file."""

    passphrase: bytes | None = None
    key_file: bytes | None = None


@dataclass(frozen=True)
class Bundle:
    role: int
    master: bytes
    label: str
    created: tuple[int, int]


def open_slot(repository: bytes, slot_id: bytes, secret: Secret, data: bytes) -> Bundle:
    reader = Reader(unframe(SLOT, data), "key slot")
    derivation = reader.unsigned(1)
    if derivation not in (1, 2):
        raise Unsupported(f"key derivation {derivation}")
    memory, passes, lanes = (reader.unsigned(4) for _ in range(3)) if derivation == 1 else (8, 1, 1)
    if not (8 * max(lanes, 1) <= memory <= MIB and 1 <= passes <= 16 and 1 <= lanes <= 8):
        raise reader.damaged("its derivation costs are outside the limits")
    salt, sealed = reader.bytes(32), Reader(reader.string(MIB), "key slot")
    reader.finish()
    if derivation == 1 and secret.passphrase is not None:
        key = hash_secret_raw(secret.passphrase, salt, passes, memory, lanes, 32, Type.ID, 19)
    elif derivation == 2 and secret.key_file is not None:
        key = blake3(secret.key_file + salt, derive_key_context="lifeboat v1 key file").digest()
    else:
        raise WrongKey("this slot needs the other sort of secret")
    suite, body = sealed.unsigned(1), sealed.rest()
    binding = Binding(repository, SEAL_SLOT, bytes(16), slot_id)
    try:
        plain = unseal(suite, key, binding, 0, max(len(body) - 40, 0), body)
    except Damaged:
        raise WrongKey("wrong password or key") from None
    return read_bundle(Reader(plain, "role bundle"))


def fields(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """Tag, length, value, until the end."""
    while reader.remaining():
        yield reader.varint(), reader.string(16 * MIB)


def read_bundle(reader: Reader) -> Bundle:
    role = reader.unsigned(1)
    if role != 1:
        raise Unsupported(f"role {role}")
    master, label, created = None, "", (0, 0)
    for tag, value in fields(reader):
        field = Reader(value, "role bundle")
        if tag == 1:
            master = field.bytes(32)
        elif tag == 2:
            label = value.decode("utf-8", "replace")
        elif tag == 3:
            created = field.time()
    if master is None:
        raise reader.damaged("it has no master key")
    return Bundle(role, master, label, created)
