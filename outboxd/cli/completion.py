"""``outboxd completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_OUTBOXD_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands and options.

    \b
      bash   eval "$(outboxd completion bash)"         in ~/.bashrc
      zsh    eval "$(outboxd completion zsh)"          in ~/.zshrc, after compinit
      fish   outboxd completion fish > ~/.config/fish/completions/outboxd.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "outboxd", _VARIABLE).source())
