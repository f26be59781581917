"""Keywords of dask-jobqueue in our words: the same, renamed, without meaning, or refused.

Pure.  `docs/compatibility.md` is the table for users; a test holds the two together.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_hpc.errors import ConfigurationError

#: Older names of keywords.
ALIASES = {
    "project": "account",
    "job_extra": "job_extra_directives",
    "header_skip": "job_directives_skip",
    "env_extra": "job_script_prologue",
    "extra": "worker_extra_args",
    "log_dir": "log_directory",
}

#: Understood, and without an effect here; each with the reason.
MEANINGLESS = {
    "shared_temp_directory": "no key is handed to jobs: your identity is in ~/.dask-hpc/tls",
}
#: The same where one batch system has no such thing, by its name.
MEANINGLESS_ON = {
    "local": {
        "resource_spec": "the local batch system takes cores and memory",
        "queue": "the local batch system has one queue",
        "account": "nobody is charged on your own machine",
    },
}

#: Not offered; each with what to do instead.
REFUSED = {
    "scheduler_cls": "the scheduler is the engine's; plugins go in distributed.scheduler.preload",
    "job_cls": "a batch system is a driver here: name it with batch=",
}

#: What the engine's scheduler takes and where it is set here.
_SCHEDULER_HINTS = {
    "idle_timeout": 'dask.config.set({"distributed.scheduler.idle-timeout": ...})',
    "allowed_failures": 'dask.config.set({"distributed.scheduler.allowed-failures": ...})',
    "preload": 'dask.config.set({"distributed.scheduler.preload": [...]})',
    "preload_argv": 'dask.config.set({"distributed.scheduler.preload-argv": [...]})',
    "scheduler_file": "cluster.scheduler_file is the path of the one that every cluster writes",
}
_SCHEDULER_RENAMED = {"interface": "scheduler_interface", "port": "scheduler_port"}
_SCHEDULER_SAME = ("host", "dashboard", "dashboard_address", "protocol", "security")

#: The worker command that dask-jobqueue starts unless told otherwise.
_STANDARD_WORKERS = ("distributed.cli.dask_worker", "dask worker", "dask-worker")
_ADDRESS = re.compile(r"(?:.*:)?(\d{1,5})")


@dataclass(slots=True)
class Translated:
    """Keywords in our words.

    Parameters
    ----------
    values
        By our name.
    ignored
        Keywords without a meaning here, each with the reason.
    """

    values: dict[str, Any] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)


def translate(
    keywords: Mapping[str, Any],
    *,
    batch: str,
    own: Collection[str] = (),
    newer_wins: bool = False,
) -> Translated:
    """Put keywords in our words.

    Parameters
    ----------
    keywords
        As the user wrote them; None means not given.
    batch
        Name of the batch system.
    own
        Its own keywords: what they are called is not changed.
    newer_wins
        Whether an older name yields to the newer one beside it, as in dask-jobqueue's own
        configuration; else that is an error.

    Raises
    ------
    ConfigurationError
        For what is not offered, with what to do instead; for two words of the same meaning.
    """
    done = Translated()
    for name, value in keywords.items():
        if value is None:
            continue
        if name in own:
            _put(done.values, name, value, name, newer_wins=newer_wins)
        elif name in REFUSED:
            raise ConfigurationError(f"{name}= is not offered", hint=REFUSED[name])
        elif name in _READERS:
            for new, found in _READERS[name](value).items():
                _put(done.values, new, found, name, newer_wins=newer_wins)
        else:
            _put(done.values, ALIASES.get(name, name), value, name, newer_wins=newer_wins)
    senseless = MEANINGLESS | MEANINGLESS_ON.get(batch, {})
    for name in set(done.values) & senseless.keys():
        if name not in own:
            done.ignored[name] = senseless[name]
            del done.values[name]
    if batch == "htcondor" and "condor_submit" in str(done.values.get("shebang", "")):
        del done.values["shebang"]  # of its submit file; ours is a shell script
    return done


def _put(values: dict[str, Any], new: str, value: Any, name: str, *, newer_wins: bool) -> None:
    if new not in values:
        values[new] = value
    elif newer_wins:
        values[new] = value if name == new else values[new]
    elif values[new] != value:
        raise ConfigurationError(f"{name}= and {new}= mean the same", hint=f"keep {new}=")


def warn_ignored(ignored: Mapping[str, str]) -> None:
    """Say which keywords have no effect here."""
    for name, why in ignored.items():
        warnings.warn(f"{name}= has no effect here: {why}", UserWarning, stacklevel=5)


def log_level(level: Any) -> int:
    """Read a level of ``silence_logs``: a number, or a word such as ``"error"``.

    Raises
    ------
    ConfigurationError
        If there is no such level.
    """
    found = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(found, int):
        raise ConfigurationError(
            f"silence_logs={level!r}: no such level", hint='for example "error" or logging.ERROR'
        )
    return found


# -- readers: a keyword's value in, keywords of ours out ------------------------------------------


def _security(value: Any) -> dict[str, Any]:
    if value is False:
        return {"insecure": True}
    if value is True:
        return {}
    raise ConfigurationError(
        "security= takes True or False: every cluster uses your own identity",
        hint="leave it out: TLS is on, and your identity is made on first use",
    )


def _protocol(value: Any) -> dict[str, Any]:
    word = str(value).removesuffix("://")
    return {} if word == "tls" else {"protocol": word}


def _nanny(value: Any) -> dict[str, Any]:
    if value:
        return {}
    raise ConfigurationError(
        "nanny=False is not offered: without one, no worker comes back after it was killed",
        hint="leave it out; a nanny costs no process of its own here",
    )


def _worker_command(value: Any) -> dict[str, Any]:
    words = value if isinstance(value, str) else " ".join(map(str, value))
    if words in _STANDARD_WORKERS:
        return {}
    raise ConfigurationError(
        f"worker_command={value!r} is not offered: each node starts dask-hpc's own supervisor",
        hint='worker_extra_args=["--worker-class", "module.Class"] names another worker class',
    )


def _cancel_command_extra(value: Any) -> dict[str, Any]:
    if not value:
        return {}
    raise ConfigurationError(
        f"cancel_command_extra={value!r} is not offered: jobs are cancelled after a crash as well",
        hint="what condor_rm is to do differently, its configuration says (_CONDOR_SCHEDD_NAME)",
    )


def _dashboard_address(value: Any) -> dict[str, Any]:
    if value is False or value == "":
        return {"dashboard": False}
    match = _ADDRESS.fullmatch(str(value))
    if match is None:
        raise ConfigurationError(
            f"dashboard_address={value!r} has no port",
            hint="the dashboard is on localhost, behind a token: give dashboard_port=",
        )
    return {"dashboard_port": int(match[1])}


def _scheduler_options(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"scheduler_options= must be a dict, not {value!r}")
    found: dict[str, Any] = {}
    for name, each in value.items():
        if each is None:
            continue
        if name not in _SCHEDULER_RENAMED and name not in _SCHEDULER_SAME:
            hint = _SCHEDULER_HINTS.get(name) or (
                f"understood: {', '.join(sorted((*_SCHEDULER_SAME, *_SCHEDULER_RENAMED)))}"
            )
            raise ConfigurationError(
                f"scheduler_options: {name!r} has no equivalent here", hint=hint
            )
        if name in _READERS:
            found |= _READERS[name](each)
        else:
            found[_SCHEDULER_RENAMED.get(name, str(name))] = each
    return found


_READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "security": _security,
    "protocol": _protocol,
    "nanny": _nanny,
    "worker_command": _worker_command,
    "cancel_command_extra": _cancel_command_extra,
    "dashboard_address": _dashboard_address,
    "scheduler_options": _scheduler_options,
}
