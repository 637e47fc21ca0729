//! The lifeboat command.

mod access;
mod args;
mod commands;
mod failure;
mod memory;
mod ui;

use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    memory::keep_little();
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::FAILED } else { failure::DONE });
        }
    };
    // A core file would hold keys.
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
    let interrupted = watch_signals();
    let json = cli.global.json;
    match commands::run(cli, &interrupted) {
        Ok(_) if !ui::output_is_whole() => {
            eprintln!("Error: standard output could not be written");
            ExitCode::from(failure::FAILED)
        }
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = failure::exit_code(&error);
            report(&error, code, json);
            ExitCode::from(code)
        }
    }
}

/// The first signal asks to stop in order; the second one stops at once.
fn watch_signals() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        let code = i32::from(failure::INTERRUPTED);
        let _ = signal_hook::flag::register_conditional_shutdown(signal, code, flag.clone());
        let _ = signal_hook::flag::register(signal, flag.clone());
    }
    flag
}

fn report(error: &anyhow::Error, code: u8, json: bool) {
    let lines = failure::chain(error);
    let hint = failure::hint(error);
    if json {
        let mut value =
            serde_json::json!({"message_type": "exit_error", "code": code, "message": lines.join(": ")});
        if let Some(hint) = hint {
            value["hint"] = serde_json::json!(hint);
        }
        eprintln!("{value}");
        return;
    }
    for (number, line) in lines.iter().enumerate() {
        eprintln!("{} {}", if number == 0 { "Error:" } else { "Caused by:" }, ui::escape(line.as_bytes()));
    }
    if let Some(hint) = hint {
        eprintln!("Hint: {hint}");
    }
}
