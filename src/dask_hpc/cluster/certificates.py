"""What stands in a user's certificates: one authority, one certificate signed by it, and their PEM.

Pure: bytes, keys and times in, bytes and certificates out.  Files, owners and renewal must not live
here (see ``security``).  ``cryptography`` is imported late: it costs more than most commands.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, KeyUsage, Name

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
#: Nodes' clocks differ: a certificate made this minute must hold on one that is behind.
CLOCK_SKEW = timedelta(hours=1)


def new_key() -> EllipticCurvePrivateKey:
    """Make a private key on P-256: the curve with the fastest handshake."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def authority(key: EllipticCurvePrivateKey, now: datetime) -> Certificate:
    """Make an authority, signed by itself, that may sign certificates of peers and nothing else.

    Parameters
    ----------
    key
        Of the authority.
    now
        The time, with its zone.

    Returns
    -------
    Certificate
        Valid ten years.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    # A name of its own, so that a stranger's certificate fails as "unknown authority".
    name = _name(f"dask-hpc authority {os.urandom(8).hex()} of user {os.getuid()}")
    public = key.public_key()
    return (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def leaf(
    ca: Certificate, ca_key: EllipticCurvePrivateKey, key: EllipticCurvePrivateKey, now: datetime
) -> Certificate:
    """Make the certificate that scheduler, workers and clients show, for both ends of a connection.

    Parameters
    ----------
    ca, ca_key
        The authority and its key.
    key
        That the certificate is for.
    now
        The time, with its zone.

    Returns
    -------
    Certificate
        Valid a year, or as long as its authority if that is shorter.
    """
    return _signed(ca, ca_key, key, now, names=("dask-hpc",), connects=True)


def page(
    ca: Certificate, ca_key: EllipticCurvePrivateKey, key: EllipticCurvePrivateKey, now: datetime
) -> Certificate:
    """Make the certificate that a web server on this machine shows; it lets nobody connect.

    Parameters
    ----------
    ca, ca_key, key, now
        See :func:`leaf`.

    Returns
    -------
    Certificate
        For ``localhost``, which is this machine or the near end of a tunnel to it.
    """
    return _signed(ca, ca_key, key, now, names=("localhost",), connects=False)


def _signed(
    ca: Certificate,
    ca_key: EllipticCurvePrivateKey,
    key: EllipticCurvePrivateKey,
    now: datetime,
    *,
    names: Sequence[str],
    connects: bool,
) -> Certificate:
    """It has every extension that RFC 5280 asks for: Python 3.13 verifies strictly."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    public = key.public_key()
    issuer = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, *[ExtendedKeyUsageOID.CLIENT_AUTH] * connects]
    subject = _name(f"dask-hpc user {os.getuid()}")
    return (
        x509.CertificateBuilder(ca.subject, subject, public, x509.random_serial_number())
        .not_valid_before(max(now - CLOCK_SKEW, ca.not_valid_before_utc))
        .not_valid_after(min(now + LEAF_LIFE, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_id, critical=False)
        .add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def fingerprint(certificate: Certificate) -> str:
    """Return the SHA-256 of a certificate as browsers show it: ``"3F:A0:…"``."""
    from cryptography.hazmat.primitives import hashes

    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _name(common: str) -> Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _key_usage(*, signs_certificates: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def signed_by(certificate: Certificate, ca: Certificate) -> bool:
    """Whether an authority signed a certificate."""
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):  # another issuer; another kind of key
        return False
    return True


def to_pem(certificate: Certificate) -> bytes:
    """Write a certificate as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def from_pem(content: bytes) -> Certificate:
    """Read a certificate from PEM.

    Raises
    ------
    ValueError
        If there is none in it.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise ValueError(f"no certificate in its {len(content)} bytes") from None


def key_to_pem(key: EllipticCurvePrivateKey) -> bytes:
    """Write a private key as PEM, without a password: the file's mode protects it."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_from_pem(content: bytes) -> EllipticCurvePrivateKey:
    """Read a private key from PEM.

    Raises
    ------
    ValueError
        If there is none in it, it has a password, or it is of another kind than we make.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        raise ValueError(f"no readable key in its {len(content)} bytes") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError("its key is not of the kind that dask-hpc makes")  # noqa: TRY004
    return key
