//! The `duka` command line.
#![allow(
    rustdoc::invalid_rust_codeblocks,
    reason = "the doc of a command is its help, with examples for a shell"
)]

mod args;
mod commands;
mod confirm;
mod context;
mod error;
mod gateways;
mod logging;
mod price;
mod reference;
mod shop;
mod state;
mod stdin;
mod ui;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use duka_config::Environment;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use args::Cli;
use context::Context;
use error::CliError;
use ui::Ui;

/// Runs the command line.
fn main() -> ExitCode {
    keep_freed_memory();
    allow_open_files();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // Variables such as DUKA_DATA_DIR count as arguments for clap, which then finds no fault.
    if cli.command.is_none() && !cli.global.version {
        return usage(&Cli::command().error(ErrorKind::MissingSubcommand, "a command is missing"));
    }
    let mut ui = Ui::new(&cli.global);
    let result = Context::load(
        &cli.global,
        &Environment::of_process(),
        cli.command.as_ref(),
    )
    .and_then(|context| run(cli, &context, &mut ui));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.fail(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli, context: &Context, ui: &mut Ui) -> Result<(), CliError> {
    logging::start(&context.settings.config.log)?;
    for warning in &context.settings.warnings {
        ui.warn(warning)?;
    }
    let Some(command) = cli.command else {
        return commands::version(ui);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("starting the runtime failed", &error))?;
    let result = runtime.block_on(commands::run(command, context, ui));
    // Nothing is left to wait for.
    runtime.shutdown_background();
    result
}

/// Help goes to standard output, a wrong command line to standard error, or with `--json` to standard
/// output as the last event.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        // The first paragraph: what is wrong, and with which arguments.
        let lines = text.lines().map(str::trim);
        let said: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let message = said.join(" ");
        let message = message.trim_start_matches("error: ");
        Ui::json().fail(&CliError::usage(message).hint("`duka help` shows the commands"));
        return ExitCode::from(error::USAGE);
    }
    // A closed pipe on the way out is no failure of its own.
    let _printed = error.print();
    ExitCode::from(if error.use_stderr() { error::USAGE } else { 0 })
}

/// glibc gives freed memory back to the system at once, and getting its pages again was half of the
/// system time of a node that receives blocks. After a program has freed one large block, glibc
/// keeps twice as much for the next use (`mallopt(3)`, `M_MMAP_THRESHOLD`).
fn keep_freed_memory() {
    const LARGE: usize = 8 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}

/// Every connection is an open file, and shells and systemd let a process have 1,024 until it asks for more.
fn allow_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Without it, connections wait until others are closed.
    let _raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
