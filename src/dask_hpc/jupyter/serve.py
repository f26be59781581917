"""The server's own process: JupyterLab with our configuration before every other.

``python -m dask_hpc.jupyter.serve HEAD_PID`` reads the settings from standard input, where no other
user can look, serves until it is told to end or the head dies, and writes one line of JSON to
standard output once it can be reached.  Jupyter's own log goes to standard error.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
from typing import Any, TextIO

_PR_SET_PDEATHSIG = 1  # prctl(2)
#: Seconds between two tries to reach ourselves.
_LOOK_EVERY = 0.02


def main() -> None:
    """Serve."""
    _end_with(int(sys.argv[1]))
    settings = json.load(sys.stdin)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123  (for good)
    ready = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what extensions print belongs to the log
    # Until the server listens to signals itself.
    signal.signal(signal.SIGTERM, lambda *_: _vanish(settings))
    app = _lab(settings["config"])
    check(app, settings)
    app.io_loop.add_callback(_tell, ready, app, settings)
    app.start()
    _clear(settings)  # told to end: perhaps by the death of the head, which cannot do it any more


def _clear(settings: dict[str, Any]) -> None:
    """Leave nothing behind; whoever ends by an error leaves its log for the head to read."""
    shutil.rmtree(settings["runtime"], ignore_errors=True)


def _vanish(settings: dict[str, Any]) -> None:
    _clear(settings)
    os._exit(0)


def _end_with(parent: int) -> None:
    """Be told to end the moment the head dies, however it dies: kernels are to be ended as well."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it died before prctl was called
        sys.exit(1)


def _lab(config: dict[str, Any]) -> Any:
    from jupyterlab.labapp import LabApp
    from traitlets.config import Config

    server = config["ServerApp"]
    if not server["sock"]:  # Jupyter itself tells the port it got for 0 in late versions only
        with socket.create_server((server["ip"], 0), family=_family(server["ip"])) as probe:
            server["port"] = probe.getsockname()[1]
    # As if it stood on the command line, which goes before all files: there, others could read it.
    app = LabApp.initialize_server(argv=[], config=_beside_the_users(Config(config)))
    app.no_browser_open_file = True  # a page with the token, of mode 0644; no option of Jupyter's
    return app


def _beside_the_users(config: Any) -> Any:
    """Add our entry of the proxy to those of the user's files: a plain dict would replace them."""
    servers = config["ServerProxy"].pop("servers")
    config.ServerProxy.servers.update(servers)  # a lazy value: merged with what the files say
    return config


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def check(app: Any, settings: dict[str, Any]) -> None:
    """See that nothing undid what decides who may enter: before the first connection.

    Parameters
    ----------
    app
        The server, before its event loop runs.
    settings
        See :func:`~dask_hpc.jupyter.settings.to_json`.

    Raises
    ------
    SystemExit
        If something did.
    """
    provider = app.identity_provider
    holds = {
        "ServerApp.identity_provider_class": type(provider).__name__ == "PasswordIdentityProvider",
        "IdentityProvider.token": provider.token == settings["token"],
        "PasswordIdentityProvider.hashed_password": not provider.hashed_password,
        "ServerApp.sock": app.sock == settings["socket"],
        "ServerApp.ip": bool(app.sock) or app.ip == settings["address"],
        "ServerApp.certfile": bool(app.ssl_options) == settings["tls"],
        "ServerApp.allow_unauthenticated_access": not app.allow_unauthenticated_access,
        "ServerApp.allow_remote_access": not app.allow_remote_access,
        "ServerApp.disable_check_xsrf": not app.disable_check_xsrf,
        "ServerApp.allow_origin": not (app.allow_origin or app.allow_origin_pat),
        "jupyter_server_proxy": "jupyter_server_proxy" in app.extension_manager.extensions,
    }
    if wrong := [name for name, right in holds.items() if not right]:
        sys.exit(f"dask-hpc: this Jupyter server is not as it must be: {', '.join(wrong)}")


async def _tell(ready: TextIO, app: Any, settings: dict[str, Any]) -> None:
    """Say that we can be reached, once we can: the server binds after its loop has begun."""
    while not await _answers(settings["socket"], app.ip, app.port):  # noqa: ASYNC110  (no event)
        await asyncio.sleep(_LOOK_EVERY)
    with ready:
        json.dump({"port": app.port}, ready)


async def _answers(path: str, address: str, port: int) -> bool:
    try:
        opening = (
            asyncio.open_unix_connection(path) if path else asyncio.open_connection(address, port)
        )
        _, writer = await opening
    except OSError:
        return False
    writer.close()
    return True


if __name__ == "__main__":
    main()
