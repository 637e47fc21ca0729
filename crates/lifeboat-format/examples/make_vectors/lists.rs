//! Vectors for list nodes and whole chunk lists.

use crate::describe::{self, hex};
use crate::topic::{Topic, Wrong, keys};
use lifeboat_format::ChunkId;
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::Suite;
use lifeboat_format::wire::Write as _;
use serde_json::json;

const X: Suite = Suite::XChaCha20Poly1305;

pub(crate) fn lists() -> Topic {
    let mut topic = Topic::new("lists", "List nodes that stand for `expected` bytes of a file.");
    let id = ChunkId([6; ChunkId::BYTES]);
    let case = |bytes: &[u8], expected: u64| json!({ "bytes": hex(bytes), "expected": expected });
    let pieces = vec![
        Piece::Chunk(id, 1),
        Piece::Hole(1 << 50),
        Piece::Zeros(4096),
        Piece::Chunk(ChunkId([7; ChunkId::BYTES]), 1 << 20),
    ];
    let leaf = ListNode::Leaf(pieces);
    let total = 1 + (1 << 50) + 4096 + (1 << 20);
    topic.good("list_node", "a leaf", case(&leaf.encode(), total), describe::list_node(&leaf));
    let children =
        vec![ListChild { id, bytes: 1 << 40 }, ListChild { id: ChunkId([8; ChunkId::BYTES]), bytes: 5 }];
    let inner = ListNode::Inner(15, children);
    topic.good(
        "list_node",
        "an inner node",
        case(&inner.encode(), (1 << 40) + 5),
        describe::list_node(&inner),
    );
    let one = |piece| ListNode::Leaf(vec![piece]).encode();
    let mut many = vec![0];
    many.put_varint(65_537);
    let mut left_over = leaf.encode();
    left_over.push(0);
    let inner_of = |height, bytes| ListNode::Inner(height, vec![ListChild { id, bytes }; 2]).encode();
    let cut = &leaf.encode()[..40];
    for (reason, bytes, expected) in [
        ("one byte too long", leaf.encode(), total - 1),
        ("one byte too short", leaf.encode(), total + 1),
        ("an empty chunk", one(Piece::Chunk(id, 0)), 0),
        ("an empty hole", one(Piece::Hole(0)), 0),
        ("an empty child", inner_of(1, 0), 0),
        ("a chunk of 1 MiB and a byte", one(Piece::Chunk(id, (1 << 20) + 1)), (1 << 20) + 1),
        ("a piece of kind 3", vec![0, 1, 7], 1),
        ("lengths that overflow", inner_of(1, u64::MAX), u64::MAX),
        ("height 16", inner_of(16, 5), 10),
        ("65,537 items", many, 1),
        ("a byte is left over", left_over, total),
        ("it ends early", cut.to_vec(), total),
    ] {
        topic.bad("list_node", reason, Wrong::Damaged, case(&bytes, expected));
    }
    topic
}

/// Whole chunk lists: three leaves below two inner nodes, and what may not be right between them.
pub(crate) fn files() -> Topic {
    let mut topic = Topic::new(
        "files",
        "Whole chunk lists: the plaintexts of all nodes, and what an entry says of the root. Values are all pieces.",
    );
    let id_of = |node: &ListNode| keys(X).chunk_id(ChunkKind::List, &node.encode());
    let child = |node: &ListNode, bytes| ListChild { id: id_of(node), bytes };
    let case = |nodes: &[&ListNode], root: &ListNode, height: u8, size: u64| {
        let nodes: Vec<String> = nodes.iter().map(|node| hex(&node.encode())).collect();
        json!({ "nodes": nodes, "root": { "id": hex(&id_of(root).0), "height": height }, "size": size })
    };
    let pieces = [Piece::Chunk(ChunkId([1; ChunkId::BYTES]), 10), Piece::Hole(20), Piece::Zeros(30)];
    let leaves = pieces.map(|piece| ListNode::Leaf(vec![piece, piece]));
    let [one, two, three] = &leaves;
    let below = ListNode::Inner(1, vec![child(one, 20), child(two, 40)]);
    let beside = ListNode::Inner(1, vec![child(three, 60)]);
    let root = ListNode::Inner(2, vec![child(&below, 60), child(&beside, 60)]);
    let nodes = [one, two, three, &below, &beside, &root];
    let all: Vec<Piece> = pieces.iter().flat_map(|piece| [*piece, *piece]).collect();
    let value = describe::list_node(&ListNode::Leaf(all))["items"].clone();
    topic.good("file", "two levels of inner nodes", case(&nodes, &root, 2, 120), value);
    let one_value = describe::list_node(one)["items"].clone();
    topic.good("file", "a leaf alone", case(&[one], one, 0, 20), one_value);
    let skipping = ListNode::Inner(2, vec![child(one, 20)]);
    let lying = ListNode::Inner(1, vec![child(one, 19), child(two, 41)]);
    for (reason, case) in [
        ("a root of another height", case(&nodes, &root, 1, 120)),
        ("a leaf two levels below", case(&[one, &skipping], &skipping, 2, 20)),
        ("a file of another size", case(&nodes, &root, 2, 121)),
        ("a child of another length", case(&[one, two, &lying], &lying, 1, 60)),
        ("a node is missing", case(&nodes[1..], &root, 2, 120)),
    ] {
        topic.bad("file", reason, Wrong::Damaged, case);
    }
    topic
}
