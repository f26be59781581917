"""The job script: one template for every batch system.

Pure text.  Every value is quoted here, so nothing a user types reaches the shell as code, except
what is code by intent: directives, prologue and epilogue.
"""

from __future__ import annotations

import shlex
from functools import cache
from typing import TYPE_CHECKING

from dask_hpc.drivers.base import Driver
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import JobSpec

if TYPE_CHECKING:
    import jinja2

#: In a command, this word becomes the worker name prefix that the shell of the job knows.
WORKER_PREFIX = "@worker-prefix@"

_TEMPLATE = """\
{{ shebang }}
{% for directive in directives %}
{{ prefix }} {{ directive }}
{% endfor %}

{% for name, value in environment %}
export {{ name }}={{ value }}
{% endfor %}
{% for line in prologue %}
{{ line }}
{% endfor %}
{{ command }}
{% for line in epilogue %}
{{ line }}
{% endfor %}
"""


@cache
def _template() -> jinja2.Template:
    import jinja2  # late: `dask-hpc --help` needs no template

    environment = jinja2.Environment(  # noqa: S701  (a shell script: quoted below, not HTML)
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_TEMPLATE)


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
        A shell script.  With no epilogue its command replaces the shell (``exec``), so that
        signals of the batch system reach it and one process less runs on the node.

    Raises
    ------
    ConfigurationError
        If a value would break out of its line.
    """
    words = [
        f'"${{{driver.job_name_variable}}}-${{{driver.index_variable}}}"'
        if word == WORKER_PREFIX
        else shlex.quote(word)
        for word in spec.command
    ]
    command = " ".join(words)
    directives = [
        directive
        for directive in (*driver.directives(spec), *spec.directives)
        if directive.replace("=", " ").split()[0] not in spec.directives_skip
    ]
    _reject_line_breaks(directives)
    return _template().render(
        shebang=spec.shebang,
        prefix=driver.directive_prefix,
        directives=directives,
        environment=[(name, shlex.quote(value)) for name, value in spec.environment],
        prologue=spec.prologue,
        epilogue=spec.epilogue,
        command=command if spec.epilogue else f"exec {command}",
    )


def _reject_line_breaks(directives: list[str]) -> None:
    for directive in directives:
        if "\n" in directive or "\r" in directive:
            raise ConfigurationError(
                f"a directive must be one line, not {directive!r}",
                hint="pass several directives as several list items",
            )
