//! `--policy-file`.

use crate::args::PolicyFileArgs;
use crate::failure::Hinted;
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow};
use lifeboat::workload::policy::Policy;
use std::io::Read;

/// A longer file was hardly written as one.
const BYTES_MAX: u64 = 1 << 20;

/// The rules of the file that was named; none without one.
pub(super) fn read(arguments: &PolicyFileArgs) -> Result<Policy> {
    let Some(path) = &arguments.policy_file else { return Ok(Policy::default()) };
    let mut text = String::new();
    let mut read = || std::fs::File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text);
    let length = read().with_context(|| format!("read the policy file {}", path.display()))?;
    let policy = match length as u64 > BYTES_MAX {
        true => Err("it is larger than 1 MiB".to_owned()),
        false => Policy::parse(&text).map_err(|error| error.to_string()),
    };
    policy.map_err(|what| {
        anyhow!(Hinted::new(
            format!("the policy file {} cannot be read: {what}", path.display()),
            "printf 'containers:\\n  - name: \"*\"\\n    exclude: [/cache]\\n'    # prints one with one rule",
        ))
    })
}

/// Rules that are for none of the containers: a name may be mistyped.
pub(super) fn tell_unused(ui: &Ui, rules: &[String]) {
    for rule in rules {
        ui.notice(&format!("no container is called `{rule}`, for which the policy file has a rule"));
    }
}
