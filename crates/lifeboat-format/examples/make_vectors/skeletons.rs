//! Vectors for parts of skeletons.

use crate::describe::hex;
use crate::topic::{Topic, Wrong};
use lifeboat_format::skeleton::Builder;
use lifeboat_format::wire::Write as _;
use serde_json::json;

pub(crate) fn skeletons() -> Topic {
    let mut topic =
        Topic::new("skeletons", "Parts of skeletons: what stands around the contents of an archive.");
    let case = |bytes: &[u8]| json!({ "bytes": hex(bytes) });
    let record = |raw: &[u8], content: u64| json!({ "raw": hex(raw), "content_bytes": content });
    let mut builder = Builder::default();
    // Nothing is full yet.
    let _ = (builder.raw(b"head"), builder.content(300), builder.content(1), builder.raw(&[0; 200]));
    let part = builder.finish();
    let records = json!([record(b"head", 300), record(b"", 1), record(&[0; 200], 0)]);
    topic.good("skeleton", "two contents and an end", case(&part), records);
    topic.good("skeleton", "nothing", case(b"LBSK\x01"), json!([]));
    let mut long = b"LBSK\x01".to_vec();
    long.put_varint(3);
    for (reason, wrong, bytes) in [
        ("another magic", Wrong::Damaged, b"LBSL\x01".to_vec()),
        ("version 2", Wrong::Unsupported, b"LBSK\x02".to_vec()),
        ("no version", Wrong::Damaged, b"LBSK".to_vec()),
        ("bytes are missing", Wrong::Damaged, [&long[..], b"ab"].concat()),
        ("a length is missing", Wrong::Damaged, [&long[..], b"abc"].concat()),
        ("a length in a longer form", Wrong::Damaged, [&long[..], b"abc\x80\x00"].concat()),
        ("it ends early", Wrong::Damaged, part[..part.len() - 1].to_vec()),
    ] {
        topic.bad("skeleton", reason, wrong, case(&bytes));
    }
    topic
}
