"""The job script: one template for every batch system.

Pure text.  Every value is quoted here, so nothing a user types reaches the shell as code, except
what is code by intent: directives, prologue and epilogue.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import TYPE_CHECKING

from dask_hpc.drivers import warning
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import ON_NODE

if TYPE_CHECKING:
    from pathlib import Path

    import jinja2

    from dask_hpc.drivers.base import Driver
    from dask_hpc.model.job import JobSpec

#: In a command, this word becomes the worker name prefix that the shell of the job knows.
WORKER_PREFIX = "@worker-prefix@"
#: And this one what tells the nodes of a job apart, where it has several.
NODE = "@node@"

_TEMPLATE = """\
{{ shebang }}
{% for directive in directives %}
{{ prefix }} {{ directive }}
{% endfor %}

{% for line in opening %}
{{ line }}
{% endfor %}
{% for name, value in environment %}
export {{ name }}={{ value }}
{% endfor %}
{% if directory %}
cd {{ directory }} 2>/dev/null || :
{% endif %}
{% for line in prologue %}
{{ line }}
{% endfor %}
{% for line in command %}
{{ line }}
{% endfor %}
{% if epilogue %}
{% for line in epilogue %}
{{ line }}
{% endfor %}
exit "$dask_hpc_status"
{% endif %}
"""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@cache
def _template() -> jinja2.Template:
    import jinja2  # late: `dask-hpc --help` needs no template

    environment = jinja2.Environment(  # noqa: S701  (a shell script: quoted below, not HTML)
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_TEMPLATE)


def all_directives(spec: JobSpec, driver: Driver) -> list[str]:
    """Directives of a job: the driver's, less what is to be skipped, then the user's own.

    Raises
    ------
    ConfigurationError
        If one would break out of its line.
    """
    ours = (*driver.directives(spec), *warning.directives(spec, driver))
    generated = [line for line in ours if _option(line) not in spec.directives_skip]
    directives = [*generated, *(line for line in spec.directives if line.strip())]
    for line in directives:
        _check_directive(line, driver.directive_prefix)
    return directives


def arguments(spec: JobSpec, driver: Driver) -> list[str]:
    """All directives as arguments, for a submit command that reads none in the script.

    Raises
    ------
    ConfigurationError
        If one has a quotation mark without its partner.
    """
    return [word for line in all_directives(spec, driver) for word in split(line)]


def run_by_interpreter(spec: JobSpec, script: Path) -> tuple[str, ...]:
    """Argument list that runs a script which is not executable: its shebang, then its path."""
    return (*split(spec.shebang.removeprefix("#!")), str(script))


def split(line: str) -> list[str]:
    """Words of a line, as a shell takes them.

    Raises
    ------
    ConfigurationError
        If a quotation mark has no partner.
    """
    try:
        return shlex.split(line)
    except ValueError:
        raise ConfigurationError(
            f"a quotation mark is open at the end of {line!r}",
            hint="write a single one as \\' or within the other kind",
        ) from None


def job_script(spec: JobSpec, driver: Driver) -> str:
    """Write the script that every job of a pool runs.

    Parameters
    ----------
    spec
        What the job asks for and runs.
    driver
        Whose directives are written.

    Returns
    -------
    str
        A shell script that ends as its command does.  With no epilogue the command replaces the
        shell (``exec``), so that signals of the batch system reach it and one process less runs on
        the node.  ``directives_skip`` leaves out what the driver writes, never `spec.directives`.
        With `spec.launch` it starts itself on each node, so that all of it holds there as well.

    Raises
    ------
    ConfigurationError
        If a value would break out of its line, or a name or value cannot be in a script.
    """
    job = "$dask_hpc_job" if spec.launch else driver.worker_prefix
    known = {WORKER_PREFIX: f'"{job}"', NODE: '"$dask_hpc_node"'}
    command = " ".join(known.get(word) or shlex.quote(word) for word in spec.command)
    for name, _ in spec.environment:
        if _VARIABLE.fullmatch(name) is None:
            raise ConfigurationError(f"not a name of an environment variable: {name!r}")
    variables = (*warning.exported(spec, driver), *spec.environment)  # the user's come last
    script = _template().render(
        shebang=spec.shebang,
        prefix=driver.directive_prefix,
        directives=all_directives(spec, driver),
        opening=_opening(spec, driver),
        environment=[(name, shlex.quote(value)) for name, value in variables],
        directory=shlex.quote(str(spec.directory)) if spec.directory else "",
        prologue=spec.prologue,
        epilogue=spec.epilogue,
        command=warning.forward(command) if spec.epilogue else [f"exec {command}"],
    )
    if "\0" in script:
        raise ConfigurationError("a job script cannot hold a null character")
    return script


def _opening(spec: JobSpec, driver: Driver) -> list[str]:
    """Lines that open the log, after starting the script on each node, which has its own log."""
    logs, name = shlex.quote(f"{spec.log_directory}/"), f'"{driver.worker_prefix}"'
    log = [f"exec >>{logs}{name}.log 2>&1"] if driver.opens_log else []
    if spec.launch is None:
        return log
    lines = [f"dask_hpc_job={name}"]
    if spec.launch.lines:
        launching = (*log, "trap : TERM USR1 USR2", *lines, *spec.launch.lines)
        lines = [f'if [ "${{1-}}" != {ON_NODE} ]; then', *(f"    {each}" for each in launching)]
        lines += ["fi", "dask_hpc_job=$2"]
    node_log = f'{logs}"$dask_hpc_job.$dask_hpc_node".log'
    return [*lines, f"dask_hpc_node={spec.launch.node}", f"exec >>{node_log} 2>&1"]


def _option(directive: str) -> str:
    """Name of a directive's option: ``--mem`` of ``--mem=4G``, ``-l`` of ``-l select=1``."""
    return re.split(r"[=\s]", directive.strip(), maxsplit=1)[0]


def _check_directive(line: str, prefix: str) -> None:
    if "\n" in line or "\r" in line:
        raise ConfigurationError(
            f"a directive must be one line, not {line!r}",
            hint="pass several directives as several list items",
        )
    if line.lstrip().startswith("#"):  # the batch system would take it for a comment, silently
        raise ConfigurationError(
            f"write a directive without its prefix {prefix}: {line!r}",
            hint="for example --exclusive",
        )
