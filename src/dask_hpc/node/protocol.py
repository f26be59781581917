"""Protocols of the engine: which are encrypted, which need a package, what must be said first.

No engine is imported: a wrong word must show before anything starts.
"""

from __future__ import annotations

from dask_hpc.errors import ConfigurationError

#: With encryption and authentication.
ENCRYPTED = ("tls", "wss")
#: The engine's own for several processes.
_ENGINES = (*ENCRYPTED, "tcp", "ws")
#: The engine finds others by this entry point.
_GROUP = "distributed.comm.backends"
UCX = ("ucx", "ucxx")
_PACKAGE = (
    "distributed-ucxx (pip install distributed-ucxx-cu12 or -cu13, by your CUDA; or from"
    " conda-forge)"
)


def scheme(wish: str | None, *, insecure: bool) -> str:
    """Name the protocol to use.

    Parameters
    ----------
    wish
        As the user wrote it, ``"ucxx"`` or ``"ucxx://"``; None is tls, or tcp if `insecure`.
    insecure
        Whether no encryption is accepted.

    Raises
    ------
    ConfigurationError
        If it has no encryption and nobody said that it may, or it is not installed here.
    """
    if wish is None:
        return "tcp" if insecure else "tls"
    word = wish.removesuffix("://")
    if word not in ENCRYPTED and not insecure:
        raise ConfigurationError(
            f"protocol {word!r} has neither encryption nor authentication: who reaches"
            " the cluster runs code as you",
            hint="leave it out, or say --insecure (insecure=True) as well",
        )
    if word in ENCRYPTED and insecure:
        raise ConfigurationError(
            f"protocol {word!r} is encrypted, and insecure asks for none", hint="give one of them"
        )
    check_installed(word)
    return word


def check_installed(word: str) -> None:
    """Refuse a protocol that the engine does not know.

    Raises
    ------
    ConfigurationError
        It names the package.
    """
    if word in _ENGINES:
        return
    from importlib.metadata import entry_points

    found = entry_points(group=_GROUP)
    if word in found.names:
        return
    known = ", ".join(sorted({*_ENGINES, *found.names}))
    raise ConfigurationError(
        f"protocol {word!r} is not known to the dask of this Python environment",
        hint=f"it needs the package {_PACKAGE} on every host"
        if word in UCX
        else f"there are: {known}",
    )
