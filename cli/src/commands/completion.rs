//! `duka completion`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CliError;
use crate::ui::Ui;

/// Print the completion script of a shell
///
///     duka completion bash > ~/.local/share/bash-completion/completions/duka
///     duka completion zsh > ~/.zfunc/_duka
///     duka completion fish > ~/.config/fish/completions/duka.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completion {
    /// Shell
    shell: Shell,
}

/// Prints the script, with `--json` too.
pub(crate) fn run(args: &Completion, ui: &mut Ui) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "duka", &mut script);
    ui.bytes(&script)
}
