//! Explores the model of the collection protocol with more processes than a test has time for: three collectors that move
//! what they find twice, or, with the argument `writers`, both writers and two collectors that move nothing.
//! `cargo run --release -p lifeboat-repo --example collection_model`

// The tests name the mutations; here the protocol is as it should be.
#[allow(dead_code)]
#[path = "../tests/collection_model/model.rs"]
mod model;

use model::Collection;
use stateright::{Checker, Model};

fn main() {
    let has_writers = std::env::args().nth(1).is_some_and(|argument| argument == "writers");
    let model = Collection {
        writers: if has_writers { vec![true, false] } else { Vec::new() },
        collectors: if has_writers { 2 } else { 3 },
        forgets_child: has_writers,
        copies: !has_writers,
        twin: !has_writers,
        dead_collector: None,
        mutation: None,
    };
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states, {} steps", checker.unique_state_count(), checker.state_count());
    checker.assert_properties();
}
