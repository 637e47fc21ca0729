//! How long a user waits for the list of snapshots.

use crate::bench::Bench;
use crate::meter::Call;
use crate::results::RowResult;
use crate::rounds::Participant;
use crate::tools::{Home, Kind, fresh, quietly};
use anyhow::Result;

/// Snapshots in the repository.
const SNAPSHOTS: u64 = 3;

pub(crate) fn latency(bench: &Bench) -> Result<RowResult> {
    let source = bench.work.join("tree");
    fresh(&source)?;
    for number in 0..100u64 {
        std::fs::write(source.join(format!("file-{number}")), number.to_string())?;
    }
    let mut participants = Vec::new();
    for tool in bench.tools()? {
        let home = bench.home(&tool, "list");
        tool.init(&home)?;
        for number in 0..SNAPSHOTS {
            std::fs::write(source.join("changing"), number.to_string())?;
            quietly(&mut tool.backup(&home, &source))?;
        }
        let label = match tool.kind {
            Kind::Lifeboat => "lifeboat, key file".to_owned(),
            _ => tool.name().to_owned(),
        };
        participants.push(Participant::new(label, move |_| bench.time(&Call::new(tool.list(&home)))));
    }
    participants.push(with_password(bench, &source)?);
    let data = format!("{SNAPSHOTS} snapshots of 101 small files");
    bench.row("latency", data, participants)
}

fn with_password<'b>(bench: &'b Bench, source: &std::path::Path) -> Result<Participant<'b>> {
    let tool = bench.lifeboat();
    let home = Home(bench.work.join("lifeboat-password"));
    fresh(&home.0)?;
    quietly(tool.command_with_password(&home).arg("init"))?;
    for _ in 0..SNAPSHOTS {
        quietly(tool.command_with_password(&home).arg("snapshot").arg(source))?;
    }
    Ok(Participant::new("lifeboat, password", move |_| {
        let mut command = tool.command_with_password(&home);
        command.arg("snapshots");
        bench.time(&Call::new(command))
    }))
}
