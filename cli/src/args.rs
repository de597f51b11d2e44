//! The command line's grammar: global flags and the list of commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use duka_config::LogFormat;

use crate::commands;

/// Publishes files that no single host, company or country can switch off.
///
///     duka up album/                           publish a folder, run a node, print its links
///     duka publish album/ --product album      publish a new version
///     duka get http://127.0.0.1:8899/ipns/k51…/album
///
/// Exit codes: 0 done, 1 other, 2 wrong command line, 3 not found, 4 wrong bytes, 5 try again,
/// 6 trying again does not help, 7 only a part, 8 signature refused, 9 disk full, 10 limit reached,
/// 11 another process has the data directory or the output, 124 --timeout, 130 Ctrl-C, 143 SIGTERM.
#[derive(Debug, Parser)]
#[command(
    name = "duka",
    verbatim_doc_comment,
    disable_version_flag = true,
    arg_required_else_help = true,
    propagate_version = false,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Data directory [default: $XDG_DATA_HOME/duka]
    #[arg(long, global = true, value_name = "DIR", env = "DUKA_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Settings file [default: $XDG_CONFIG_HOME/duka/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "DUKA_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Print events as JSON, one a line; the last one is the result or the error
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print no messages and no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Log more: -v info, -vv debug, -vvv trace
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to show progress
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) progress: When,

    /// No colours; NO_COLOR and CLICOLOR_FORCE count too
    #[arg(long, global = true)]
    pub(crate) no_color: bool,

    /// Use no network: work with what is stored here, and refuse --mirror. A node that runs already
    /// keeps its own setting
    #[arg(long, global = true)]
    pub(crate) offline: bool,

    /// Answer yes to every question
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,

    /// Give up after this long, such as 90s or 10m
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,

    /// What is logged: error, warn, info, debug, trace, or directives as in RUST_LOG
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormatArg>,

    /// Print the version
    #[arg(long, short = 'V')]
    pub(crate) version: bool,
}

/// When to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// When standard error is a terminal.
    Auto,
    /// Always: as lines where there is no terminal.
    Always,
    /// Never.
    Never,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormatArg {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(arg: LogFormatArg) -> Self {
        match arg {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(commands::up::Up),
    Publish(Box<commands::publish::Publish>),
    Get(commands::get::Get),
    Serve(commands::serve::Serve),
    Init(commands::init::Init),
    Id(commands::id::Id),
    #[command(subcommand)]
    Product(commands::product::Product),
    Search(commands::search::Search),
    #[command(subcommand)]
    Channel(commands::channel::Channel),
    Rollback(commands::rollback::Rollback),
    Yank(commands::yank::Yank),
    #[command(subcommand)]
    Shop(commands::shop::Shop),
    #[command(subcommand)]
    Pin(commands::pin::Pin),
    #[command(subcommand)]
    Mirror(commands::mirror::Mirror),
    Add(commands::add::Add),
    Cat(commands::cat::Cat),
    Ls(commands::ls::Ls),
    #[command(subcommand)]
    Car(commands::car::Car),
    #[command(subcommand)]
    Name(commands::name::Name),
    #[command(subcommand)]
    Key(commands::key::Key),
    #[command(subcommand)]
    Swarm(commands::swarm::Swarm),
    Verify(commands::verify::Verify),
    Stat(commands::stat::Stat),
    Fsck(commands::fsck::Fsck),
    Gc(commands::gc::Gc),
    Backup(commands::backup::Backup),
    Restore(commands::restore::Restore),
    Rebuild(commands::rebuild::Rebuild),
    #[command(subcommand)]
    Config(commands::config::Config),
    Completion(commands::completion::Completion),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command shows its examples before anything else.
    #[test]
    fn help_of_every_command_begins_with_three_examples() {
        fn check(command: &clap::Command) {
            command.get_subcommands().for_each(check);
            let help = command.get_long_about().map(ToString::to_string);
            let examples = help.iter().flat_map(|text| text.lines());
            let examples = examples
                .filter(|line| line.starts_with("    ") && line.contains("duka "))
                .count();
            assert!(
                examples >= 3,
                "{} has {examples} examples",
                command.get_name()
            );
        }
        check(&Cli::command());
    }
}
