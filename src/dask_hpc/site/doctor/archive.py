"""The probe as one file that any Python runs: an archive of its modules, like a zipapp.

One file is one look-up on a shared file system, and needs nothing to be installed on the node.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

_PROBE = Path(__file__).with_name("probe")
#: What runs before our modules: every Python since 2.7 must understand it, to be told apart.
_MAIN = """\
import json, os, platform, socket, sys, time

if sys.version_info < (3, 9):
    directory, name = sys.argv[1], ".".join(sys.argv[2:])
    report = {
        "name": name,
        "host": socket.gethostname().split(".")[0],
        "time": time.time(),
        "python": {
            "version": platform.python_version(),
            "executable": os.path.realpath(sys.executable),
            "prefix": os.path.realpath(sys.prefix),
        },
    }
    draft = os.path.join(directory, ".report-" + name)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        json.dump(report, stream)
    os.rename(draft, os.path.join(directory, "report-" + name + ".json"))
    sys.exit(0)

from pathlib import Path
from dask_hpc_probe.entry import main

sys.exit(main(Path(sys.argv[1]), ".".join(sys.argv[2:])))
"""


def build() -> bytes:
    """The archive: ``python FILE DIRECTORY NAME`` runs it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _MAIN)
        for path in sorted(_PROBE.glob("*.py")):
            archive.writestr(f"dask_hpc_probe/{path.name}", path.read_bytes())
    return held.getvalue()
