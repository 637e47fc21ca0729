//! What is taken for a page file and what is not. Real databases are in `tests/page_files.rs` of the whole project.

use super::*;
use proptest::prelude::*;

fn recognised(bytes: &[u8]) -> Chunker {
    recognise(bytes, bytes.len() as u64)
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

/// A relation: noise behind page headers as PostgreSQL writes them.
fn postgres(pages: usize, page: usize) -> Vec<u8> {
    let mut bytes = noise(pages * page);
    for page_bytes in bytes.chunks_exact_mut(page) {
        let header: Vec<u8> = [0, 40, 1000, page as u16 - 16, page as u16 | 4]
            .iter()
            .flat_map(|n: &u16| n.to_le_bytes())
            .collect();
        page_bytes[10..20].copy_from_slice(&header);
    }
    bytes
}

/// A tablespace: noise behind page headers as InnoDB writes them.
fn innodb(pages: usize, page: usize) -> Vec<u8> {
    let mut bytes = noise(pages * page);
    for (index, page_bytes) in bytes.chunks_exact_mut(page).enumerate() {
        page_bytes[4..8].copy_from_slice(&(index as u32).to_be_bytes());
        page_bytes[24..26].copy_from_slice(&if index == 0 { [0, 8] } else { [0x45, 0xbf] });
        page_bytes[34..38].copy_from_slice(&7u32.to_be_bytes());
        page_bytes[38..42].copy_from_slice(&7u32.to_be_bytes());
    }
    bytes
}

fn sqlite(pages: usize, page: usize) -> Vec<u8> {
    let mut bytes = noise(pages * page);
    bytes[..16].copy_from_slice(b"SQLite format 3\0");
    let size = if page == 65_536 { 1 } else { page as u16 };
    bytes[16..18].copy_from_slice(&size.to_be_bytes());
    bytes[18..24].copy_from_slice(&[2, 2, 0, 64, 32, 32]);
    bytes
}

#[test]
fn pages_of_every_size_are_recognised() {
    assert_eq!(
        [4, 8, 16, 32].map(|kib| recognised(&postgres(20, kib << 10))),
        [Chunker::Pages8K, Chunker::Pages8K, Chunker::Pages16K, Chunker::Pages16K]
    );
    assert_eq!(
        [4, 8, 16, 32, 64].map(|kib| recognised(&innodb(20, kib << 10))),
        [Chunker::Pages8K, Chunker::Pages8K, Chunker::Pages16K, Chunker::Pages16K, Chunker::Pages16K]
    );
    assert_eq!(
        [512, 4096, 8192, 16_384, 65_536].map(|page| recognised(&sqlite(20, page))),
        [Chunker::Pages8K, Chunker::Pages8K, Chunker::Pages8K, Chunker::Pages16K, Chunker::Pages16K]
    );
}

#[test]
fn a_relation_that_begins_with_an_empty_page_is_recognised() {
    let mut relation = postgres(40, 8192);
    relation[..8192].fill(0);
    assert_eq!(recognised(&relation), Chunker::Pages8K);
}

#[test]
fn a_further_file_of_the_system_tablespace_is_recognised() {
    let mut further = innodb(40, 16_384);
    for page in further.chunks_exact_mut(16_384) {
        page[34..38].fill(0);
    }
    assert_eq!(recognised(&further[20 * 16_384..]), Chunker::Pages16K);
}

#[test]
fn look_alikes_are_cut_by_content() {
    let text = [b"SQLite format 3\0 is how such a file begins. ".repeat(5000), vec![b'.'; 96]].concat();
    let mut swapped = innodb(20, 16_384);
    swapped.copy_within(3 * 16_384..4 * 16_384, 2 * 16_384);
    let mut one_page = postgres(20, 8192);
    one_page[8192..].copy_from_slice(&noise(19 * 8192));
    let mut broken = postgres(40, 8192);
    broken[2 * 8192 + 18] = 0;
    let mut log = noise(1 << 20);
    log.chunks_exact_mut(8192).for_each(|page| {
        page[..20].copy_from_slice(&[0x10, 0xd1, 2, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    });
    let others = [
        noise(1 << 20),
        vec![0; 1 << 20],
        text,
        swapped,
        one_page,
        broken,
        log,
        postgres(20, 8192)[100..].to_vec(),
    ];
    for (number, other) in others.iter().enumerate() {
        assert_eq!(recognised(other), Chunker::Content, "look-alike {number}");
    }
    // Cut off inside a page: whoever wrote it did not write a database.
    assert_eq!(recognised(&postgres(20, 8192)[..19 * 8192 + 100]), Chunker::Content);
}

proptest! {
    #[test]
    fn any_bytes_at_any_stated_size_are_looked_at_without_a_panic(bytes: Vec<u8>, size: u64) {
        let _ = recognise(&bytes[..], size);
        let _ = recognise(&bytes[..], bytes.len() as u64);
    }

    #[test]
    fn garbage_in_a_page_file_is_looked_at_without_a_panic(kind in 0u8..3, at in 0usize..150_000, garbage: [u8; 64], size: u64) {
        let mut bytes = match kind { 0 => postgres(20, 8192), 1 => innodb(10, 16_384), _ => sqlite(40, 4096) };
        bytes[at..at + 64].copy_from_slice(&garbage);
        let _ = recognised(&bytes);
        let _ = recognise(&bytes[..], size);
    }
}
