"""Write a site of the user's own into the dask configuration, where it is read from then on.

What stands in it is :mod:`dask_hpc.site.doctor.profile_text`'s business.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from dask_hpc.cluster.options import check_name
from dask_hpc.config import reader
from dask_hpc.errors import ConfigurationError
from dask_hpc.launch.rendezvous import write_atomically
from dask_hpc.site.doctor.profile_text import section

if TYPE_CHECKING:
    from dask_hpc.cluster.doctor import Diagnosis

_HEADER = """\
# Written by dask-hpc doctor --write-profile {name}; yours to change.
# HPCCluster("{name}") takes its defaults from here.  See docs/sites.md.
"""


def path_of(name: str) -> Path:
    """Where the site of this name is written."""
    import dask.config

    configured = Path(dask.config.PATH)  # may name one file; the other folder is read in any case
    folder = configured if configured.is_dir() else Path.home() / ".config" / "dask"
    return folder / f"dask-hpc-site-{name}.yaml"


def check_free(name: str, *, force: bool) -> None:
    """Refuse a name that cannot be one, or that is taken, before anything is looked at.

    Raises
    ------
    ConfigurationError
        If it is.
    """
    check_name(name)
    if force:
        return
    path = path_of(name)
    where = path if path.exists() else "your dask configuration"
    if path.exists() or name in reader.user_sites():
        raise ConfigurationError(
            f"there is a site {name} already, in {where}",
            hint="choose another name, or replace it: --force",
        )


def write(name: str, found: Diagnosis, *, force: bool) -> Path:
    """Write what was found.

    Parameters
    ----------
    name
        Of the site.
    found
        By the doctor.
    force
        Whether a site of this name is replaced.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ConfigurationError
        If the name is taken.
    OSError
        If it cannot be written.
    """
    check_free(name, force=force)
    values = section(
        name,
        asked=found.asked,
        queues=found.offer.queues,
        reports=found.reports,
        routes=found.result.routes if found.result else [],
        day=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    tree = {reader.SECTION: {"sites": {name: values}}}
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _HEADER.format(name=name) + yaml.safe_dump(tree, sort_keys=False))
    return path
