"""One TLS identity per user, like an SSH key: made once, checked at each use, renewed in time.

It owns ``~/.dask-hpc`` (``home()``) and the files in ``~/.dask-hpc/tls``; ``dask_config`` tells
plain dask where they are.  What is written in a certificate is the business of
``certificates``; who connects to whom is decided elsewhere, and no socket is opened here.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dask_hpc.cluster import certificates
from dask_hpc.errors import ClusterDirectoryError, IdentityError
from dask_hpc.launch.rendezvous import write_atomically
from dask_hpc.model.tls import TLSFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate
    from distributed import Security

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

#: A certificate is renewed when less than this is left; no batch job runs longer.
RENEW_BELOW = timedelta(days=30)

_CA, _CA_KEY, _CERT, _KEY = _FILES = ("ca.pem", "ca-key.pem", "cert.pem", "key.pem")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


# --- private directories -------------------------------------------------------------------------


def home() -> Path:
    """Return where this user's identity and cluster directories lie.

    Returns
    -------
    Path
        ``$DASK_HPC_HOME``, or ``~/.dask-hpc``; it need not exist.
    """
    named = os.environ.get("DASK_HPC_HOME")
    return Path(named).expanduser().absolute() if named else Path.home() / ".dask-hpc"


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner can enter, or check that an existing one is such.

    A symbolic link is followed if we made it (homes are small, links to scratch common).

    Parameters
    ----------
    path
        The directory; missing parents are made as well, mode 0700 like itself.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ClusterDirectoryError
        If it cannot be made, is no directory, is not ours, or others have any permission on it.
    """
    try:
        for parent in reversed([path, *path.parents]):
            if not os.path.lexists(parent):
                parent.mkdir(mode=0o700, exist_ok=True)  # exist_ok: two first uses at once
        _check_private(path)
    except OSError as error:
        raise ClusterDirectoryError(
            f"directory {path} cannot be used: {error.strerror}",
            hint="make it possible to write there, or name another place: export DASK_HPC_HOME=DIR",
        ) from error
    return path


def _check_private(path: Path) -> None:
    link, status = path.lstat(), path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise ClusterDirectoryError(f"{path} is not a directory", hint="move it out of the way")
    for owner in (link.st_uid, status.st_uid):
        if owner != os.getuid():
            raise ClusterDirectoryError(
                f"directory {path} belongs to user id {owner}, not to you (user id {os.getuid()})",
                hint="whoever owns it could replace what is in it: use a directory of your own",
            )
    if status.st_mode & _OTHERS:
        raise ClusterDirectoryError(
            f"directory {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 700 {path}",
        )


# --- the identity --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Identity:
    ca: Certificate
    ca_key: EllipticCurvePrivateKey
    cert: Certificate
    key: EllipticCurvePrivateKey


def ensure_identity(now: datetime | None = None) -> TLSFiles:
    """Return this user's TLS identity: made at the first use, renewed when it is due.

    The authority holds ten years, the certificate one; it is renewed, with the same key, when
    less than 30 days are left.  An expired authority is moved aside and a new identity made.

    Parameters
    ----------
    now
        The time, with its zone; None reads the clock.

    Returns
    -------
    TLSFiles
        Paths in ``home() / "tls"``.

    Raises
    ------
    ClusterDirectoryError
        If ``home()`` or the directory in it is not ours alone.
    IdentityError
        If a file of it is missing, damaged, does not fit the others, or others may read it.
    """
    moment = now or datetime.now(UTC)
    folder = private_directory(home()) / "tls"
    if not os.path.lexists(folder):
        _make(folder, moment)
    identity = _load(folder)
    if identity.ca.not_valid_after_utc <= moment:
        _set_aside(folder, identity.ca)
        _make(folder, moment)
        identity = _load(folder)
    _check_begun(folder, identity, moment)
    _renew_if_due(folder, identity, moment)
    return TLSFiles(*(str(folder / name) for name in (_CA, _CERT, _KEY)))


def _make(folder: Path, now: datetime) -> None:
    """Make an identity completely, then give it its name: a second maker finds the first's."""
    try:
        with tempfile.TemporaryDirectory(
            prefix="tls.", dir=folder.parent, ignore_cleanup_errors=True
        ) as name:  # mode 0700
            temporary = Path(name)
            for file, content in _new_identity(now).items():
                _write_durably(temporary / file, content)
            _sync_directory(temporary)
            temporary.rename(folder)
            _sync_directory(folder.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise IdentityError(
                f"your TLS identity {folder} cannot be made: {error.strerror}",
                hint=f"free space in {folder.parent} (see your quota), or export DASK_HPC_HOME=DIR",
            ) from error
        logger.debug("%s was made by another process meanwhile", folder)


def _new_identity(now: datetime) -> dict[str, bytes]:
    ca_key, key = certificates.new_key(), certificates.new_key()
    ca = certificates.authority(ca_key, now)
    return {
        _CA: certificates.to_pem(ca),
        _CA_KEY: certificates.key_to_pem(ca_key),
        _CERT: certificates.to_pem(certificates.leaf(ca, ca_key, key, now)),
        _KEY: certificates.key_to_pem(key),
    }


def _write_durably(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _set_aside(folder: Path, ca: Certificate) -> None:
    # The name follows from the expired authority, not from today: of two processes that find it
    # expired, the later cannot move the earlier's new identity, because the name is taken.
    aside = folder.with_name(f"tls.expired-{ca.not_valid_after_utc:%Y-%m-%d}")
    try:
        folder.rename(aside)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
    else:
        logger.warning("TLS identity %s has expired: moved to %s, a new one is made", folder, aside)


def _renew_if_due(folder: Path, identity: _Identity, now: datetime) -> None:
    ends = identity.cert.not_valid_after_utc
    if ends - now >= RENEW_BELOW:
        return
    if ends >= identity.ca.not_valid_after_utc:  # a certificate cannot outlive its authority
        logger.warning(
            "TLS identity %s ends on %s; when no cluster of yours runs, move it aside: "
            "a new one is made at the next use",
            *(folder, f"{ends:%Y-%m-%d}"),
        )
        return
    renewed = certificates.leaf(identity.ca, identity.ca_key, identity.key, now)
    write_atomically(folder / _CERT, certificates.to_pem(renewed).decode("ascii"))


def page_certificate(folder: Path, now: datetime | None = None) -> Certificate:
    """Make a certificate for a web server on this machine, signed by this user's authority.

    Parameters
    ----------
    folder
        Private directory that gets ``page.pem`` and, new each time, ``page-key.pem``.
    now
        The time, with its zone; None reads the clock.

    Returns
    -------
    Certificate
        As it was written.

    Raises
    ------
    ClusterDirectoryError, IdentityError
        See :func:`ensure_identity`.
    OSError
        If they cannot be written.
    """
    moment = now or datetime.now(UTC)
    authority = _load(Path(ensure_identity(moment).cert).parent)
    key = certificates.new_key()
    made = certificates.page(authority.ca, authority.ca_key, key, moment)
    _write_durably(folder / "page.pem", certificates.to_pem(made))
    _write_durably(folder / "page-key.pem", certificates.key_to_pem(key))
    return made


# --- checks --------------------------------------------------------------------------------------


def _load(folder: Path) -> _Identity:
    try:
        _check_private(folder)
        contents = {name: _read_private(folder / name) for name in _FILES}
    except FileNotFoundError as error:
        raise _unusable(Path(error.filename), "is missing: the identity is half-made") from None
    except PermissionError as error:
        raise _unusable(Path(error.filename), "may not be read by you") from None
    identity = _Identity(
        ca=_parse(folder / _CA, certificates.from_pem, contents[_CA]),
        ca_key=_parse(folder / _CA_KEY, certificates.key_from_pem, contents[_CA_KEY]),
        cert=_parse(folder / _CERT, certificates.from_pem, contents[_CERT]),
        key=_parse(folder / _KEY, certificates.key_from_pem, contents[_KEY]),
    )
    _check_fit(folder, identity)
    return identity


def _read_private(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not hang us
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(path, "is not a plain file")
        if status.st_uid != os.getuid():
            raise _unusable(path, f"belongs to user id {status.st_uid}, not to you")
        if status.st_mode & _OTHERS:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise IdentityError(
                f"{path} of your TLS identity is open to others (mode {mode})",
                hint=f"chmod 600 {path}; if others may have read it, rather mv {path.parent} "
                f"{path.parent}.old for a new identity",
            )
        return stream.read()


def _parse(path: Path, parse: Callable[[bytes], _T], content: bytes) -> _T:
    try:
        return parse(content)
    except ValueError as error:
        raise _unusable(path, f"is damaged ({error})") from error


def _check_fit(folder: Path, identity: _Identity) -> None:
    if identity.ca_key.public_key() != identity.ca.public_key():
        raise _unusable(folder / _CA_KEY, f"is not the key of {_CA}")
    if identity.key.public_key() != identity.cert.public_key():
        raise _unusable(folder / _KEY, f"is not the key of {_CERT}")
    if not certificates.signed_by(identity.cert, identity.ca):
        raise _unusable(folder / _CERT, f"was not signed by {_CA}")


def _check_begun(folder: Path, identity: _Identity, now: datetime) -> None:
    for name, certificate in ((_CA, identity.ca), (_CERT, identity.cert)):
        begins = certificate.not_valid_before_utc
        if begins > now:
            raise IdentityError(
                f"{folder / name} is valid from {begins:%Y-%m-%d %H:%M} UTC on, "
                f"and here it is {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
                hint="the clock of this machine, or of the one that made it, is wrong: ask its "
                "administrators",
            )


def _unusable(path: Path, what: str) -> IdentityError:
    return IdentityError(
        f"{path} {what}; your TLS identity cannot be used",
        hint=f"restore it, or mv {path.parent} {path.parent}.old: a new identity is made at the "
        "next use (running clusters keep the old one and must be started again)",
    )


# --- what the engine is told ---------------------------------------------------------------------


def engine_security(tls: TLSFiles) -> Security:
    """Build the engine's security: this identity in all three roles, nothing unencrypted.

    Parameters
    ----------
    tls
        Of the cluster's owner.

    Returns
    -------
    distributed.Security
        For a Scheduler, Worker, Nanny or Client.
    """
    from distributed import Security

    roles = {
        f"tls_{role}_{part}": path
        for role in ("client", "scheduler", "worker")
        for part, path in (("cert", tls.cert), ("key", tls.key))
    }
    return Security(require_encryption=True, tls_ca_file=tls.ca_file, **roles)
