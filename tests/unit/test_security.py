"""One identity per user: made once whatever happens, checked at each use, renewed in time."""

from __future__ import annotations

import multiprocessing
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dask.config
import pytest
import yaml
from cryptography import x509

from dask_hpc.cluster import certificates, dask_config, security
from dask_hpc.errors import ClusterDirectoryError, IdentityError

if TYPE_CHECKING:
    from dask_hpc.model.tls import TLSFiles

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FILES = ("ca.pem", "ca-key.pem", "cert.pem", "key.pem")

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, and a dask configuration of its own, for each test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "hpc"))
    monkeypatch.setattr(dask.config, "PATH", str(tmp_path / ".config" / "dask"))
    with dask.config.set({f"distributed.comm.tls.{key}": None for key in keys()}):
        yield tmp_path / "hpc"


def keys() -> list[str]:
    roles = [
        f"{role}.{part}" for role in ("scheduler", "worker", "client") for part in ("cert", "key")
    ]
    return ["ca-file", *roles]


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def first_use(barrier, results) -> None:
    """Run in a process of its own, as a user's first jobs do."""
    barrier.wait(30)
    tls = security.ensure_identity()
    results.put(Path(tls.cert).read_bytes())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestHome:
    def test_home_is_named_by_the_environment(self, tmp_path):
        """DASK_HPC_HOME names the home."""
        assert security.home() == tmp_path / "hpc"

    def test_home_is_a_hidden_directory_by_default(self, tmp_path, monkeypatch):
        """Without DASK_HPC_HOME it is ~/.dask-hpc."""
        monkeypatch.delenv("DASK_HPC_HOME")
        assert security.home() == tmp_path / ".dask-hpc"


class TestPrivateDirectory:
    def test_it_is_made_with_its_parents_for_the_owner_only(self, tmp_path):
        """A missing directory and its missing parents get mode 0700."""
        path = security.private_directory(tmp_path / "a" / "b")
        assert [mode(path), mode(path.parent)] == [0o700, 0o700]

    def test_an_existing_private_directory_is_kept(self, tmp_path):
        """Asking twice changes nothing."""
        path = security.private_directory(tmp_path / "a")
        (path / "file").write_text("kept")
        assert (security.private_directory(path) / "file").read_text() == "kept"

    @pytest.mark.parametrize("bits", [0o750, 0o705, 0o710, 0o701, 0o720])
    def test_one_open_to_others_is_refused(self, tmp_path, bits):
        """Any permission of group or others is refused, with the command that mends it."""
        (tmp_path / "a").mkdir()
        (tmp_path / "a").chmod(bits)
        with pytest.raises(ClusterDirectoryError, match=f"chmod 700 {tmp_path / 'a'}"):
            security.private_directory(tmp_path / "a")

    @as_root
    def test_another_users_directory_is_refused(self, tmp_path):
        """A directory of another owner is refused even if its mode is right."""
        (tmp_path / "a").mkdir(mode=0o700)
        os.chown(tmp_path / "a", 12345, 12345)
        with pytest.raises(ClusterDirectoryError, match="12345"):
            security.private_directory(tmp_path / "a")

    @as_root
    def test_another_users_link_is_refused(self, tmp_path):
        """A link that another user can turn elsewhere is refused, even if it leads to us today."""
        (tmp_path / "ours").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "ours")
        os.lchown(tmp_path / "link", 12345, 12345)
        with pytest.raises(ClusterDirectoryError, match="12345"):
            security.private_directory(tmp_path / "link")

    def test_our_own_link_to_our_own_directory_is_followed(self, tmp_path):
        """A user may keep the directory on scratch and link to it."""
        (tmp_path / "scratch").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "scratch")
        assert security.private_directory(tmp_path / "link") == tmp_path / "link"

    def test_a_link_to_nowhere_is_refused(self, tmp_path):
        """A dangling link is reported, not followed."""
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        with pytest.raises(ClusterDirectoryError, match="cannot be used"):
            security.private_directory(tmp_path / "link")

    def test_a_file_is_refused(self, tmp_path):
        """A file in the directory's place is reported."""
        (tmp_path / "a").write_text("")
        with pytest.raises(ClusterDirectoryError, match="not a directory"):
            security.private_directory(tmp_path / "a")

    def test_one_that_cannot_be_made_says_so(self, tmp_path):
        """The file system's refusal is told with the path."""
        (tmp_path / "a").write_text("")
        with pytest.raises(ClusterDirectoryError, match="DASK_HPC_HOME"):
            security.private_directory(tmp_path / "a" / "b")


class TestMaking:
    def test_first_use_makes_four_private_files(self, home):
        """Authority, its key, certificate and its key, mode 0600 in a directory of mode 0700."""
        tls = security.ensure_identity()
        assert sorted(p.name for p in (home / "tls").iterdir()) == sorted(FILES)
        assert {mode(path) for path in (home / "tls").iterdir()} == {0o600}
        assert mode(home / "tls") == 0o700
        assert tls.cert == str(home / "tls" / "cert.pem")

    def test_second_use_changes_nothing(self, home):
        """The same files are used again."""
        tls = security.ensure_identity()
        before = {name: (home / "tls" / name).read_bytes() for name in FILES}
        assert security.ensure_identity() == tls
        assert {name: (home / "tls" / name).read_bytes() for name in FILES} == before

    def test_nothing_else_is_left(self, home):
        """The temporary directory becomes the identity."""
        security.ensure_identity()
        assert [path.name for path in home.iterdir()] == ["tls"]

    def test_lives_are_ten_years_and_one(self, home):
        """The authority holds ten years, the certificate one, both from an hour ago on."""
        security.ensure_identity(NOW)
        ca, cert = certificate(home / "tls/ca.pem"), certificate(home / "tls/cert.pem")
        assert ca.not_valid_after_utc == NOW + 3650 * DAY
        assert cert.not_valid_after_utc == NOW + 365 * DAY
        assert cert.not_valid_before_utc == ca.not_valid_before_utc == NOW - timedelta(hours=1)

    def test_two_first_uses_at_once_agree(self, home):
        """Of many processes that start together one makes the identity and all use it."""
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(4), context.SimpleQueue()
        arguments = (barrier, results)
        processes = [context.Process(target=first_use, args=arguments) for _ in range(4)]
        for process in processes:
            process.start()
        seen = {results.get() for _ in processes}
        for process in processes:
            process.join(10)
            process.close()
        results.close()
        assert seen == {(home / "tls/cert.pem").read_bytes()}
        assert [path.name for path in home.iterdir()] == ["tls"]

    def test_the_loser_of_the_race_uses_the_winners(self, home, monkeypatch):
        """An identity that appears while ours is being made is the one."""
        make = security._make
        monkeypatch.setattr(security, "_make", lambda *args: (make(*args), make(*args)))
        tls = security.ensure_identity()
        assert security.ensure_identity() == tls
        assert [path.name for path in home.iterdir()] == ["tls"]

    def test_a_full_disk_leaves_nothing_behind(self, home, monkeypatch):
        """A failure while writing is told with the remedy, and the next use starts afresh."""

        def full(*args):
            raise OSError(122, "Disk quota exceeded")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(IdentityError, match="quota exceeded"):
                security.ensure_identity()
        assert list(home.iterdir()) == []
        security.ensure_identity()

    def test_strict_verification_accepts_both_ends(self):
        """OpenSSL's strict check, the default of Python 3.13, accepts the chain at both ends."""
        tls = security.ensure_identity()
        client = strict(tls, ssl.Purpose.SERVER_AUTH)
        client.check_hostname = True
        assert shake_hands(client, strict(tls, ssl.Purpose.CLIENT_AUTH))


def strict(tls: TLSFiles, purpose: ssl.Purpose) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=tls.ca_file)
    context.load_cert_chain(tls.cert, tls.key)
    context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    """Run a handshake in memory; an ssl.SSLError says why there is none."""
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(one, other, server_hostname="dask-hpc"),
        server.wrap_bio(other, one, server_side=True),
    ]
    for _ in range(6):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    return not ends


class TestDamage:
    @pytest.mark.parametrize("name", FILES)
    def test_a_missing_file_is_named(self, home, name):
        """A half-made identity is never mended silently: its parts belong together."""
        security.ensure_identity()
        (home / "tls" / name).unlink()
        with pytest.raises(IdentityError, match=rf"tls/{name} is missing.*\n.*mv "):
            security.ensure_identity()

    def test_an_empty_directory_is_half_made(self, home):
        """Not even an empty directory is filled: somebody made it."""
        security.private_directory(home / "tls")
        with pytest.raises(IdentityError, match=r"ca.pem is missing"):
            security.ensure_identity()

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB"])
    def test_a_damaged_file_is_named(self, home, name, content):
        """A file cut short is found and named, with the remedy."""
        security.ensure_identity()
        (home / "tls" / name).write_bytes(content)
        with pytest.raises(IdentityError, match=rf"tls/{name} is damaged.*\n.*mv "):
            security.ensure_identity()

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("key.pem", "is not the key of cert.pem"),
            ("ca-key.pem", "is not the key of ca.pem"),
        ],
    )
    def test_a_key_of_another_identity_is_named(self, home, name, what):
        """Keys must match their certificates."""
        security.ensure_identity()
        (home / "tls" / name).write_bytes(certificates.key_to_pem(certificates.new_key()))
        with pytest.raises(IdentityError, match=rf"tls/{name} {what}"):
            security.ensure_identity()

    def test_a_certificate_of_another_authority_is_named(self, home):
        """The certificate must be signed by the authority beside it."""
        tls = security.ensure_identity()
        key = certificates.key_from_pem(Path(tls.key).read_bytes())
        ca_key = certificates.new_key()
        stranger = certificates.leaf(certificates.authority(ca_key, NOW), ca_key, key, NOW)
        Path(tls.cert).write_bytes(certificates.to_pem(stranger))
        with pytest.raises(IdentityError, match=r"cert.pem was not signed by ca.pem"):
            security.ensure_identity()

    def test_a_key_with_a_password_is_named(self, home):
        """A key that needs a password cannot be used by a job."""
        from cryptography.hazmat.primitives import serialization

        security.ensure_identity()
        locked = certificates.new_key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        (home / "tls/key.pem").write_bytes(locked)
        with pytest.raises(IdentityError, match=r"key.pem is damaged \(no readable key"):
            security.ensure_identity()

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_open_to_others_is_refused(self, home, name):
        """Others may have read it: refused, with the command that closes it."""
        security.ensure_identity()
        (home / "tls" / name).chmod(0o640)
        with pytest.raises(IdentityError, match=f"chmod 600 {home / 'tls' / name}"):
            security.ensure_identity()

    def test_an_open_directory_is_refused(self, home):
        """The directory must be the owner's alone as well."""
        security.ensure_identity()
        (home / "tls").chmod(0o755)
        with pytest.raises(ClusterDirectoryError, match=f"chmod 700 {home / 'tls'}"):
            security.ensure_identity()

    @as_root
    @pytest.mark.parametrize("name", FILES)
    def test_another_users_file_is_refused(self, home, name):
        """Whoever owns a file of the identity can replace it."""
        security.ensure_identity()
        os.chown(home / "tls" / name, 12345, 12345)
        with pytest.raises(IdentityError, match=f"tls/{name} belongs to user id 12345"):
            security.ensure_identity()

    def test_a_pipe_does_not_hang(self, home):
        """Only plain files are read."""
        security.ensure_identity()
        (home / "tls/ca.pem").unlink()
        os.mkfifo(home / "tls/ca.pem", 0o600)
        with pytest.raises(IdentityError, match="not a plain file"):
            security.ensure_identity()

    def test_a_wrong_clock_is_told(self):
        """An identity from the future is the clock's fault, and said to be."""
        security.ensure_identity(NOW)
        with pytest.raises(IdentityError, match="clock"):
            security.ensure_identity(NOW - DAY)

    def test_a_clock_behind_by_less_than_an_hour_does_not_matter(self):
        """Nodes' clocks differ."""
        security.ensure_identity(NOW)
        security.ensure_identity(NOW - timedelta(minutes=59))


class TestRenewal:
    def test_the_certificate_is_kept_while_a_month_is_left(self, home):
        """No renewal before it is due."""
        security.ensure_identity(NOW)
        before = (home / "tls/cert.pem").read_bytes()
        security.ensure_identity(NOW + 335 * DAY)
        assert (home / "tls/cert.pem").read_bytes() == before

    def test_the_certificate_is_renewed_in_its_last_month(self, home):
        """Same key, same authority, a year from now, mode 0600."""
        security.ensure_identity(NOW)
        before = {name: (home / "tls" / name).read_bytes() for name in FILES}
        later = NOW + 336 * DAY
        security.ensure_identity(later)
        after = {name: (home / "tls" / name).read_bytes() for name in FILES}
        assert [name for name in FILES if before[name] != after[name]] == ["cert.pem"]
        assert certificate(home / "tls/cert.pem").not_valid_after_utc == later + 365 * DAY
        assert mode(home / "tls/cert.pem") == 0o600
        assert sorted(p.name for p in (home / "tls").iterdir()) == sorted(FILES)

    def test_an_expired_certificate_is_renewed(self, home):
        """A user who was away for years gets a new certificate of the same authority."""
        security.ensure_identity(NOW)
        ca = (home / "tls/ca.pem").read_bytes()
        security.ensure_identity(NOW + 1000 * DAY)
        assert (home / "tls/ca.pem").read_bytes() == ca
        assert certificate(home / "tls/cert.pem").not_valid_after_utc == NOW + 1365 * DAY

    def test_a_certificate_never_outlives_its_authority(self, home):
        """In the authority's last year the certificate ends with it."""
        security.ensure_identity(NOW)
        security.ensure_identity(NOW + 3500 * DAY)
        assert certificate(home / "tls/cert.pem").not_valid_after_utc == NOW + 3650 * DAY

    def test_the_authoritys_last_month_is_told(self, home, caplog):
        """Nothing can be renewed then: the user is told what to do, and all works."""
        security.ensure_identity(NOW)
        security.ensure_identity(NOW + 3500 * DAY)
        before = (home / "tls/cert.pem").read_bytes()
        security.ensure_identity(NOW + 3640 * DAY)
        assert "move it aside" in caplog.text
        assert (home / "tls/cert.pem").read_bytes() == before

    def test_an_expired_authority_means_a_new_identity(self, home):
        """The old one is moved aside under the date of its end."""
        security.ensure_identity(NOW)
        old = (home / "tls/ca.pem").read_bytes()
        security.ensure_identity(NOW + 3650 * DAY)
        assert (home / "tls/ca.pem").read_bytes() != old
        aside = home / f"tls.expired-{NOW + 3650 * DAY:%Y-%m-%d}"
        assert (aside / "ca.pem").read_bytes() == old

    def test_a_new_identity_is_not_moved_aside_by_a_late_process(self, home):
        """A process that saw the expired one, and comes second, leaves the new one alone."""
        security.ensure_identity(NOW)
        expired = certificate(home / "tls/ca.pem")
        security.ensure_identity(NOW + 3651 * DAY)
        new = (home / "tls/ca.pem").read_bytes()
        security._set_aside(home / "tls", expired)
        assert (home / "tls/ca.pem").read_bytes() == new


class TestEngine:
    def test_all_roles_show_the_identity_and_need_encryption(self):
        """Scheduler, worker and client use the same files; nothing goes unencrypted."""
        tls = security.ensure_identity()
        made = security.engine_security(tls)
        assert made.require_encryption is True
        for role in ("scheduler", "worker", "client"):
            config = made.get_tls_config_for_role(role)
            assert (config["ca_file"], config["cert"], config["key"]) == (
                *(tls.ca_file, tls.cert, tls.key),
            )


class TestDaskConfiguration:
    @pytest.fixture
    def tls(self):
        return security.ensure_identity()

    def test_the_yaml_names_the_identity(self, tls, tmp_path):
        """Paths of the authority, and of certificate and key for each role."""
        path = dask_config.name_in_dask_config(tls)
        assert path == tmp_path / ".config/dask" / dask_config.CONFIG_FILE
        pair = {"cert": tls.cert, "key": tls.key}
        named = {"ca-file": tls.ca_file, "scheduler": pair, "worker": pair, "client": pair}
        assert yaml.safe_load(path.read_text()) == {"distributed": {"comm": {"tls": named}}}

    def test_the_yaml_says_what_it_is(self, tls):
        """Whoever finds it reads what it is for and that it may be removed."""
        text = dask_config.name_in_dask_config(tls).read_text()
        assert text.startswith("# Written by dask-hpc")
        assert "Removing this file is safe" in text

    def test_this_process_knows_it_at_once(self, tls):
        """No new process is needed."""
        dask_config.name_in_dask_config(tls)
        values = [dask.config.get(f"distributed.comm.tls.{key}") for key in keys()]
        assert values == [tls.ca_file, *[tls.cert, tls.key] * 3]

    def test_the_same_content_is_not_written_again(self, tls):
        """The file is touched only when it changes."""
        path = dask_config.name_in_dask_config(tls)
        os.utime(path, (1, 1))
        assert dask_config.name_in_dask_config(tls) == path
        assert path.stat().st_mtime == 1

    def test_another_home_takes_its_place(self, tls, tmp_path, monkeypatch):
        """An identity that moved is named at its new place: the old name was ours."""
        dask_config.name_in_dask_config(tls)
        monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "other"))
        moved = security.ensure_identity()
        path = dask_config.name_in_dask_config(moved)
        assert tls.ca_file not in path.read_text()
        assert dask.config.get("distributed.comm.tls.ca-file") == moved.ca_file

    @pytest.mark.parametrize("key", keys())
    def test_the_users_own_identity_wins(self, tls, tmp_path, caplog, key):
        """If the user's configuration names an identity, nothing is written and the log says so."""
        with dask.config.set({f"distributed.comm.tls.{key}": "/site/own.pem"}):
            assert dask_config.name_in_dask_config(tls) is None
            assert dask.config.get(f"distributed.comm.tls.{key}") == "/site/own.pem"
        assert "/site/own.pem" in caplog.text
        assert not (tmp_path / ".config").exists()

    def test_a_file_of_the_users_own_is_not_overwritten(self, tls, tmp_path, caplog):
        """A file of that name without our first line is somebody else's."""
        path = tmp_path / ".config/dask" / dask_config.CONFIG_FILE
        path.parent.mkdir(parents=True)
        path.write_text("distributed: {}\n")
        assert dask_config.name_in_dask_config(tls) is None
        assert path.read_text() == "distributed: {}\n"
        assert "not ours" in caplog.text

    def test_a_damaged_file_of_ours_is_written_again(self, tls):
        """A yaml of ours that cannot be read is replaced."""
        path = dask_config.name_in_dask_config(tls)
        before = path.read_text()
        path.write_text(before + "{")
        assert dask_config.name_in_dask_config(tls).read_text() == before

    def test_a_configuration_directory_of_the_users_choice_is_used(
        self, tls, tmp_path, monkeypatch
    ):
        """$DASK_CONFIG, if it is a directory, is where the yaml goes."""
        (tmp_path / "chosen").mkdir()
        monkeypatch.setattr(dask.config, "PATH", str(tmp_path / "chosen"))
        assert dask_config.name_in_dask_config(tls).parent == tmp_path / "chosen"

    def test_a_configuration_file_of_the_users_choice_is_left_alone(
        self, tls, tmp_path, monkeypatch
    ):
        """$DASK_CONFIG may be one file: the yaml goes to the directory that is always read."""
        (tmp_path / "one.yaml").write_text("{}\n")
        monkeypatch.setattr(dask.config, "PATH", str(tmp_path / "one.yaml"))
        assert dask_config.name_in_dask_config(tls).parent == tmp_path / ".config" / "dask"

    def test_a_read_only_home_is_told_and_does_not_stop_us(self, tls, tmp_path, caplog):
        """The yaml is a convenience: a cluster starts without it."""
        (tmp_path / ".config").write_text("in the way")
        assert dask_config.name_in_dask_config(tls) is None
        assert "cannot write" in caplog.text
        assert dask.config.get("distributed.comm.tls.ca-file") == tls.ca_file
