//! Explores the model of the collection protocol with both writers and both collectors: more states than a test has time
//! for. `cargo run --release -p lifeboat-repo --example collection_model`

// The tests name the mutations; here the protocol is as it should be.
#[allow(dead_code)]
#[path = "../tests/collection_model/model.rs"]
mod model;

use model::Collection;
use stateright::{Checker, Model};

fn main() {
    let model = Collection {
        writers: vec![true, false],
        collectors: 2,
        forgets_child: true,
        dead_collector: None,
        mutation: None,
    };
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states, {} steps", checker.unique_state_count(), checker.state_count());
    checker.assert_properties();
}
