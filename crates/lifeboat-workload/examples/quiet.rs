//! Makes containers quiet for a while, as a capture does, and brings them back.
//!
//!     quiet STATE MILLISECONDS NAME=pause|stop...
//!
//! The engine is `DOCKER_HOST`'s. Prints a line for each step, so that whoever tests this can kill it at any of them.

use lifeboat_workload::engine::Engine;
use lifeboat_workload::facts::Facts;
use lifeboat_workload::journal::entry::Owed;
use lifeboat_workload::labels::Quiet;
use lifeboat_workload::quiesce::lifelines::Lifelines;
use lifeboat_workload::quiesce::plan::{Plan, Wish};
use lifeboat_workload::quiesce::session::{Options, Promises, Session};
use lifeboat_workload::{recover, supervisor};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["supervise", journal] => Ok(supervisor::supervise(Path::new(journal))?),
        ["recover", state] => recover_all(Path::new(state)),
        [state, time, ..] => quiet(state.into(), time.parse()?, &arguments[2..]),
        _ => Err("quiet STATE MILLISECONDS NAME=pause|stop...".into()),
    }
}

fn recover_all(state: &Path) -> Result<(), Box<dyn Error>> {
    for run in recover::recover(Some(&Engine::connect(None)?), state)? {
        println!("{run:?}");
    }
    Ok(())
}

fn quiet(state: PathBuf, millis: u64, wished: &[String]) -> Result<(), Box<dyn Error>> {
    let engine = Engine::connect(None)?;
    recover::recover_journals(&state)?;
    let mut around = Vec::new();
    for container in engine.containers(&[])? {
        around.push(Facts::read(&engine.container(&container.id)?.raw)?);
    }
    let mut wishes = Vec::new();
    let mut owed = Vec::new();
    for wish in wished {
        let (name, how) = wish.split_once('=').ok_or("a wish is NAME=pause or NAME=stop")?;
        let facts = around.iter().find(|facts| facts.name == name).ok_or("there is no such container")?;
        let quiet = if how == "stop" { Quiet::Stop } else { Quiet::Pause };
        let max_pause = std::env::var("MAX_PAUSE_MILLIS").ok().and_then(|text| text.parse().ok());
        wishes.push(Wish {
            container: facts.id.clone(),
            quiet,
            max_pause: max_pause.map(Duration::from_millis),
            is_database: false,
        });
        if let Ok(command) = std::env::var("OWED") {
            owed.push(Owed {
                number: u32::try_from(owed.len())?,
                container: facts.id.clone(),
                name: name.into(),
                argv: vec!["/bin/sh".into(), "-c".into(), command],
                user: None,
                timeout_millis: 10_000,
            });
        }
    }
    let plan = Plan::make(&around, &wishes, &Lifelines::default());
    let promises = Promises { owed, ..Promises::default() };
    let mut session = Session::begin(&engine, plan, promises, &Options::new(state))?;
    println!("begun {} {}", session.run(), session.supervisor().unwrap_or_default());
    let moment = session.quiet()?;
    println!("quiet {:?}", moment.containers);
    std::thread::sleep(Duration::from_millis(millis));
    println!("resuming {}", session.has_expired());
    let report = session.end()?;
    println!("ended {report:?}");
    Ok(())
}
