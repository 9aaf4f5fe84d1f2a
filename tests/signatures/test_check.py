"""Signatures that GnuPG and OpenSSL make, and those that they did not make."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import BadSignature, Unverifiable
from cluster.signatures.check import signed
from tests.signatures import keys

TEXT = b"Origin: Test\nSuite: stable\nSHA256:\n " + b"a" * 64 + b" 1 main/x\n- dash\n"
PATH = b"dists/stable/InRelease"


@pytest.fixture(scope="module")
def two() -> Iterator[list[keys.Signer]]:
    with keys.signers("kent", "lancaster") as made:
        yield made


def test_what_gpgv_found_signed_is_what_counts(two):
    kent, _ = two
    body = kent.inline(TEXT)
    found = signed(PATH, body, None, str(kent.ring))
    assert found.text.rstrip() == TEXT.rstrip()
    assert len(found.by) == 40


def test_armored_keys_and_several_in_one_file_are_a_keyring_too(two, tmp_path):
    kent, lancaster = two
    ring = tmp_path / "ring.asc"
    ring.write_bytes(b"A comment.\n\n" + lancaster.armored.read_bytes() + kent.armored.read_bytes())
    for signer in two:
        assert signed(PATH, signer.inline(TEXT), None, str(ring)).text.rstrip() == TEXT.rstrip()


@pytest.mark.parametrize("options", [[], ["--armor"]])
def test_a_detached_signature_covers_the_whole_file(two, options):
    kent, _ = two
    content = bytes(range(256)) * 1000
    assert signed(b"core.db", content, kent.detached(content, *options), str(kent.ring)).text == content


def test_wrong_keys_and_changed_contents_are_told_apart(two):
    kent, lancaster = two
    body = kent.inline(TEXT)
    with pytest.raises(BadSignature, match="key that the keyring does not have"):
        signed(PATH, body, None, str(lancaster.ring))
    with pytest.raises(BadSignature, match="not what was signed"):
        signed(PATH, body.replace(b"stable", b"stolen"), None, str(kent.ring))
    with pytest.raises(BadSignature, match="not what was signed"):
        signed(b"Release", TEXT + b"x", kent.detached(TEXT), str(kent.ring))


def test_a_message_signed_by_two_needs_one_good_key_and_no_bad_signature(two):
    kent, lancaster = two
    both = kent.detached(TEXT) + lancaster.detached(TEXT)
    for signer in two:
        assert signed(b"Release", TEXT, both, str(signer.ring)).text == TEXT
    spoilt = kent.detached(TEXT) + kent.detached(b"other")
    with pytest.raises(BadSignature):
        signed(b"Release", TEXT, spoilt, str(kent.ring))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: TEXT,
        lambda body: b"",
        lambda body: b"Suite: evil\n" + body,
        lambda body: body + b"Suite: evil\n",
        lambda body: body + body,
        lambda body: body[: len(body) // 2],
        lambda body: b"-----BEGIN PGP SIGNED MESSAGE-----\n\nSuite: evil\n" + body,
    ],
)
def test_nothing_may_stand_beside_the_signed_message(two, spoil):
    kent, _ = two
    with pytest.raises(BadSignature):
        signed(PATH, spoil(kent.inline(TEXT)), None, str(kent.ring))


def test_a_signature_with_a_weak_digest_is_none(two):
    kent, _ = two
    with pytest.raises(BadSignature):
        signed(
            b"Release",
            TEXT,
            kent.detached(TEXT, "--digest-algo", "SHA1", "--allow-weak-digest-algos"),
            str(kent.ring),
        )


def test_a_key_that_has_expired_signs_nothing():
    with keys.signers("old", expires="20200102T000000", now="20200101T000000") as (old,):
        made = old.detached(TEXT)
        with pytest.raises(BadSignature, match="expired"):
            signed(b"Release", TEXT, made, str(old.ring))


def test_a_keyring_that_is_not_there_or_none_is_this_machines_fault(two, tmp_path, monkeypatch):
    kent, _ = two
    body = kent.inline(TEXT)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "damaged").write_bytes(
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n???\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )
    for ring in ("absent", "empty", "damaged", "."):
        with pytest.raises(Unverifiable):
            signed(PATH, body, None, str(tmp_path / ring))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unverifiable, match="gpgv is not installed"):
        signed(PATH, body, None, str(kent.ring))


# -- Alpine ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rsa")
    for name in ("one", "two"):
        private, public = str(folder / f"{name}.pem"), str(folder / f"{name}.pub")
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
        subprocess.run(
            ["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True
        )
    return folder


def segment(name: str, content: bytes) -> bytes:
    """A tar segment as abuild makes it: one file, no end."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(file.getvalue()[: 512 + (len(content) + 511) // 512 * 512])


def index(
    folder: Path, key: str = "one", algorithm: str = "sha1", said: str = "RSA", tail: bytes = b""
) -> bytes:
    content = gzip.compress(b"index" * 100)
    command = ["openssl", "dgst", f"-{algorithm}", "-sign", str(folder / f"{key}.pem")]
    signature = subprocess.run(command, input=content, capture_output=True, check=True).stdout
    return segment(f".SIGN.{said}.{key}.rsa.pub", signature) + content + tail


APKINDEX = b"main/x86_64/APKINDEX.tar.gz"


@pytest.mark.parametrize("algorithm, said", [("sha1", "RSA"), ("sha256", "RSA256"), ("sha512", "RSA512")])
def test_an_apkindex_is_checked_with_rsa(rsa, algorithm, said, tmp_path):
    ring = tmp_path / "ring"
    ring.write_bytes((rsa / "two.pub").read_bytes() + (rsa / "one.pub").read_bytes())
    body = index(rsa, "one", algorithm, said)
    found = signed(APKINDEX, body, None, str(ring))
    assert (found.text, found.by) == (body, "one.rsa.pub")


def test_an_apkindex_that_was_changed_or_is_signed_by_another_is_refused(rsa):
    ring = str(rsa / "one.pub")
    for body in (
        index(rsa, "two"),
        index(rsa, tail=b"x"),
        index(rsa, algorithm="sha256"),
        gzip.compress(b"index"),
        b"\x1f\x8b",
    ):
        with pytest.raises(BadSignature):
            signed(APKINDEX, body, None, ring)


def test_keys_of_the_other_kind_judge_nothing(rsa, two):
    kent, _ = two
    with pytest.raises(Unverifiable):
        signed(APKINDEX, index(rsa), None, str(kent.ring))
    with pytest.raises(BadSignature):
        signed(PATH, kent.inline(TEXT), None, str(rsa / "one.pub"))
