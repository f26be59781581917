"""The small yaml that tells plain dask where this user's TLS identity is.

Written to the user's dask configuration directory, and only there; other dask use on the account is
unchanged by it.  The identity itself is the business of ``security``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dask_hpc.launch.rendezvous import write_atomically
from dask_hpc.model.tls import TLSFiles

logger = logging.getLogger(__name__)

#: Not ``dask-hpc.yaml``: that name is the user's, for settings of this package.
CONFIG_FILE = "dask-hpc-tls.yaml"
_MARK = "# Written by dask-hpc"
_HEADER = f"""\
{_MARK}; do not edit, it is written again when it differs.
# Names your TLS identity, so that dask.distributed.Client(scheduler_file=...) can connect to the
# clusters that you start with dask-hpc.  Clusters without TLS work as before.
# Removing this file is safe.  If you remove the files named below, remove this file as well.
"""

_WITHOUT = "plain dask clients need security= to connect to clusters of dask-hpc"


def name_in_dask_config(tls: TLSFiles) -> Path | None:
    """Tell plain dask where the identity is, on disk and in this process.

    Afterwards ``dask.distributed.Client(scheduler_file=F)`` connects to a cluster with TLS, with no
    import of ours.  Encryption is not required: other dask clusters work as before.

    Parameters
    ----------
    tls
        Of this user.

    Returns
    -------
    Path or None
        The yaml file; None if nothing was written, because the user's own configuration names an
        identity already or the file cannot be written.  The log says which.
    """
    import dask.config

    path = _config_folder(Path(dask.config.PATH)) / CONFIG_FILE
    before = _written_before(path)
    if before is None:
        logger.warning("%s is not ours and stays as it is: %s", path, _WITHOUT)
        return None
    wanted = dict(_keys(tls))
    theirs = {
        key: value
        for key in wanted
        if (value := dask.config.get(key, None)) not in (None, wanted[key], before.get(key))
    }
    if theirs:
        key, value = next(iter(theirs.items()))
        logger.warning("your dask configuration sets %s to %s: %s", key, value, _WITHOUT)
        return None
    dask.config.set(wanted)
    return _write_config(path, _HEADER + _yaml(wanted))


def _config_folder(configured: Path) -> Path:
    # $DASK_CONFIG may name one file; this folder is read in any case.
    return configured if configured.is_dir() else Path.home() / ".config" / "dask"


def _written_before(path: Path) -> Mapping[str, str] | None:
    """Return the keys that an earlier run of ours set, or None for a file that is not ours."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except OSError:  # missing; or unreadable, and then the engine ignores it as well
        return {}
    if not text.startswith(_MARK):
        return None
    try:
        return dict(_flat(yaml.safe_load(text)))
    except yaml.YAMLError:
        return {}


def _flat(tree: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(tree)


def _keys(tls: TLSFiles) -> Iterator[tuple[str, str]]:
    yield "distributed.comm.tls.ca-file", tls.ca_file
    for role in ("scheduler", "worker", "client"):
        yield f"distributed.comm.tls.{role}.cert", tls.cert
        yield f"distributed.comm.tls.{role}.key", tls.key


def _yaml(values: Mapping[str, str]) -> str:
    import dask.config
    import yaml

    tree: dict[str, Any] = {}
    dask.config.set(values, config=tree)
    return str(yaml.safe_dump(tree, sort_keys=False))


def _write_config(path: Path, text: str) -> Path | None:
    try:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
    except OSError as error:
        logger.warning("cannot write %s (%s): %s", path, error.strerror, _WITHOUT)
        return None
    return path
