//! Every bound that a decoder enforces before it allocates. Units are bytes unless the name says otherwise.
//!
//! A writer stays far below these; a reader refuses anything above them, so that memory is bounded on hostile bytes.

/// Longest chunk of plaintext. The default cut parameters end at 64 KiB.
pub const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// Longest plaintext of one region. Writers close a region at 2 MiB plus at most one chunk.
pub const REGION_PLAIN_BYTES_MAX: u32 = 4 << 20;
/// Longest stored form of one region: the plaintext if it does not shrink, its nonce and its tag.
pub const REGION_STORED_BYTES_MAX: u32 = REGION_PLAIN_BYTES_MAX + crate::seal::OVERHEAD_BYTES as u32;
/// Most chunks in one region.
pub const REGION_CHUNKS_MAX: u32 = 1 << 16;
/// Largest pack, and smallest and largest size that a repository's config may ask for.
pub const PACK_BYTES_MAX: u32 = 256 << 20;
/// Smallest pack size that a repository's config may ask for.
pub const PACK_BYTES_MIN: u32 = 1 << 20;
/// Most regions in one pack: a region's number fits 16 bits in the local index.
pub const PACK_REGIONS_MAX: u32 = 4096;
/// Most chunks in one pack.
pub const PACK_CHUNKS_MAX: u32 = 1 << 18;
/// Most envelopes in one pack.
pub const PACK_ENVELOPES_MAX: u32 = 1024;
/// Longest sealed directory of a pack, before and after decompression.
pub const DIRECTORY_BYTES_MAX: u32 = 4 << 20;
/// Longest index object, before and after decompression.
pub const INDEX_BYTES_MAX: u32 = 64 << 20;
/// Most packs that one index object describes.
pub const INDEX_PACKS_MAX: u32 = 1 << 16;
/// Longest serialized tree node or chunk list node: chunks of these kinds may be this long.
pub const NODE_BYTES_MAX: u32 = 4 << 20;
/// Deepest tree of nodes, leaves included.
pub const NODE_DEPTH_MAX: u8 = 16;
/// Longest path inside a source, separators included: 4,096 components of 255 bytes.
pub const PATH_BYTES_MAX: u32 = 1 << 20;
/// Longest name of one file, as on every Linux file system.
pub const NAME_BYTES_MAX: usize = 255;
/// Most components in a path.
pub const PATH_COMPONENTS_MAX: usize = 4096;
/// Most pieces of a file whose list stands in its entry.
pub const INLINE_PIECES_MAX: u32 = 256;
/// Longest hole or run of zeros in one piece of a chunk list; two bits of its length are taken by the piece's kind.
pub const PIECE_BYTES_MAX: u64 = (1 << 62) - 1;
/// Longest target of a symbolic link (Linux `PATH_MAX`).
pub const SYMLINK_BYTES_MAX: u32 = 4096;
/// Longest value of one extended attribute (Linux `XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: u32 = 64 << 10;
/// Most extended attributes of one entry; Linux lists at most 64 KiB of names.
pub const XATTRS_MAX: u32 = 32 << 10;
/// Extended attribute values above this are stored as chunks, so that nodes stay small.
pub const XATTR_INLINE_BYTES_MAX: u32 = 512;
/// Longest snapshot object, before and after decompression.
pub const SNAPSHOT_BYTES_MAX: u32 = 16 << 20;
/// Longest config, key slot, intent, fence.
pub const SMALL_OBJECT_BYTES_MAX: u32 = 1 << 20;
/// Most sources, tags, features or owners in one object.
pub const NAMES_MAX: u32 = 1 << 16;
/// Packs in a condemned list or a verdict: 1 MiB, and some room for its seal.
pub const LISTED_PACKS_MAX: u32 = 32_000;
/// Longest name of a host, user, tag, feature or source.
pub const TEXT_BYTES_MAX: u32 = 1 << 16;
/// Longest detail of a source, and longest claim of a snapshot.
pub const DETAIL_BYTES_MAX: u32 = 64 << 10;
/// Argon2id memory accepted from a key slot, in KiB: 1 GiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 1 << 20;
/// Argon2id memory below which no slot is written, in KiB: 64 MiB.
pub const ARGON2_MEMORY_KIB_MIN: u32 = 64 << 10;
/// Argon2id passes accepted from a key slot.
pub const ARGON2_PASSES_MAX: u32 = 16;
/// Argon2id lanes accepted from a key slot.
pub const ARGON2_LANES_MAX: u32 = 8;
/// Longest key slot in a bundle's header.
pub const BUNDLE_SLOT_BYTES_MAX: u32 = 64 << 10;
/// Longest plaintext of a bundle's frame of chunks, or of records: one entry is at most a node and a path long.
pub const BUNDLE_FRAME_BYTES_MAX: u32 = 8 << 20;
/// Most chunks in one frame of a bundle.
pub const BUNDLE_CHUNKS_MAX: u32 = 1 << 16;
/// Most items in one record of a bundle.
pub const BUNDLE_ITEMS_MAX: u32 = 1 << 16;
/// Longest name of a link group in a bundle: a path, two zero bytes and a number.
pub const LINK_NAME_BYTES_MAX: u32 = PATH_BYTES_MAX + 16;
/// Longest part of a skeleton: a full one, and the record that filled it.
pub const SKELETON_PART_BYTES_MAX: u32 = 4 << 20;
