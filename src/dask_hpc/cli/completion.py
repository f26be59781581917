"""``dask-hpc completion``: the lines with which a shell completes our commands: click's own."""

from __future__ import annotations

import click

_VARIABLE = "_DASK_HPC_COMPLETE"


_HELP = """Print what makes SHELL complete commands, options and names of clusters.

\b
bash: eval "$(dask-hpc completion bash)"       in ~/.bashrc
zsh:  eval "$(dask-hpc completion zsh)"        in ~/.zshrc
fish: dask-hpc completion fish | source        in ~/.config/fish/config.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print click's own script for a shell."""
    from click.shell_completion import get_completion_class

    from dask_hpc.cli.entry import hpc

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  (of those above, click has all)
    click.echo(kind(hpc, {}, "dask-hpc", _VARIABLE).source())
