"""What a JupyterLab server is told: its configuration and its environment.

Pure: values in, plain values out.  The user's own Jupyter settings hold wherever they do not
decide who may enter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_hpc.jupyter.reach import LOOPBACK, Listen

#: Name of the proxy's entry: the dashboard is at this path of the server.
DASHBOARD = "dask"
#: In the server's private directory.
LAB_SOCKET, DASHBOARD_SOCKET = "lab.sock", "dask.sock"
#: What finds the cluster in kernels and terminals; a path is no secret.
_SCHEDULER_FILE = "DASK_HPC_SCHEDULER_FILE"
#: Of a notebook that the head may run in, or of the hub above it: another server's business.
_FOREIGN = ("JPY_", "JUPYTERHUB_", "JUPYTER_TOKEN", "JUPYTER_PORT")
#: jupyter_server.serverapp.DEFAULT_JUPYTER_SERVER_PORT, which cannot be imported here.
_UNUSED_PORT = 8888
#: What matplotlib shall use in a notebook's kernel; kernels of ours are told anew.
_INLINE = "module://"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for browsers: paths of PEM files, and its fingerprint.

    Parameters
    ----------
    cert, key
        The certificate, with mode 0600 like its key.
    fingerprint
        SHA-256, in pairs of hexadecimal digits.
    """

    cert: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What one server is to be.

    Parameters
    ----------
    runtime
        Private directory of its sockets and those of its kernels.
    root
        Directory that it shows.
    scheduler_file
        Of the cluster.
    token, dashboard_token
        Secrets: the server's own; what the dashboard asks for, if it does.
    listen
        Where.
    address
        To listen at, unless at a socket.
    certificate
        For browsers, unless at a socket.
    """

    runtime: Path
    root: Path
    scheduler_file: Path
    token: str
    dashboard_token: str
    listen: Listen
    address: str = LOOPBACK
    certificate: Certificate | None = None

    @property
    def socket(self) -> str:
        """Path of the socket to listen at, or empty."""
        return str(self.runtime / LAB_SOCKET) if self.listen is Listen.SOCKET else ""


def config(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return what goes before every other configuration of the server, by Jupyter's classes.

    Parameters
    ----------
    settings
        What the server is to be.

    Returns
    -------
    dict
        Plain values; it holds secrets.
    """
    one_secret = {"token": settings.token}
    ipc = {"transport": "ipc"}
    return {
        "ServerApp": {**_listening(settings), **_DOOR, **_place(settings)},
        # Subclasses' sections go before their base's: both are named.
        "IdentityProvider": one_secret,
        "PasswordIdentityProvider": {
            **one_secret,
            "hashed_password": "",  # nosec: none, the token is the only key
            "password_required": False,
            "allow_password_change": False,
        },
        # By default kernels publish on TCP ports of this machine, where any user can read along.
        "ConnectionFileMixin": ipc,
        "KernelManager": ipc,
        "ServerProxy": {"servers": {DASHBOARD: _dashboard(settings)}},
    }


#: Who may enter, and from which pages.
_DOOR: dict[str, Any] = {
    "identity_provider_class": "jupyter_server.auth.identity.PasswordIdentityProvider",
    "allow_unauthenticated_access": False,
    "allow_remote_access": False,  # by the Host header: a tunnel's near end is localhost
    "local_hostnames": ["localhost"],
    "allow_origin": "",
    "allow_origin_pat": "",
    "allow_credentials": False,
    "disable_check_xsrf": False,
    "trust_xheaders": False,
    "client_ca": "",
}


def _listening(settings: Settings) -> dict[str, Any]:
    certificate = settings.certificate
    return {
        "sock": settings.socket,
        "sock_mode": "0600",
        "ip": LOOPBACK if settings.socket else settings.address,
        # At a socket it must be Jupyter's default, whatever the user's own; serve finds a free one.
        "port": _UNUSED_PORT,
        "certfile": certificate.cert if certificate else "",
        "keyfile": certificate.key if certificate else "",
        "ssl_options": {},
    }


def _place(settings: Settings) -> dict[str, Any]:
    return {
        "root_dir": str(settings.root),
        "preferred_dir": str(settings.root),  # the user's own may be outside of it: an error
        "base_url": "/",
        "open_browser": False,
        "allow_root": True,  # who may not be root has said so already, where the head was started
        "jpserver_extensions": {"jupyter_server_proxy": True},
    }


def _dashboard(settings: Settings) -> dict[str, Any]:
    token = settings.dashboard_token
    return {
        # Not the dashboard's port: the proxy asks "localhost", and whoever listens at [::1] of
        # that port would be sent the token.
        "unix_socket": str(settings.runtime / DASHBOARD_SOCKET),
        "request_headers_override": {"Authorization": f"Bearer {token}"} if token else {},
        "launcher_entry": {"title": "Dask dashboard", "path_info": f"{DASHBOARD}/status"},
    }


def environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server, its kernels and its terminals; no secret is in it.

    Parameters
    ----------
    settings
        What the server is to be.
    inherited
        Of the head.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(_FOREIGN)}
    if kept.get("MPLBACKEND", "").startswith(_INLINE):
        del kept["MPLBACKEND"]
    return {
        **kept,
        _SCHEDULER_FILE: str(settings.scheduler_file),
        "JUPYTER_RUNTIME_DIR": str(settings.runtime),
    }


def to_json(settings: Settings) -> dict[str, Any]:
    """Return what the server's process reads at its start: the configuration and what to check."""
    return {
        "config": config(settings),
        "runtime": str(settings.runtime),
        "token": settings.token,
        "socket": settings.socket,
        "address": "" if settings.socket else settings.address,
        "tls": settings.certificate is not None,
    }


def usable_root(wanted: str | os.PathLike[str] | None) -> Path:
    """Return the directory that the server shows.

    Parameters
    ----------
    wanted
        By the user, or None: where the head was started, or home if that is no place for notebooks.
    """
    if wanted is not None:
        return Path(wanted).expanduser().absolute()
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return Path.home()
    return here if here != Path("/") and os.access(here, os.W_OK) else Path.home()
