"""Which files are keyrings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.repository.keyring import problem
from tests.signatures.keys import signers

PEM = b"-----BEGIN PUBLIC KEY-----\nTUlJ\n-----END PUBLIC KEY-----\n"


def test_gnupgs_keyrings_and_armored_keys_are_keyrings() -> None:
    with signers("one", "two") as (one, two):
        binary = [one.ring.read_bytes(), two.ring.read_bytes()]
        armored = [one.armored.read_bytes(), two.armored.read_bytes()]
        assert [problem(keys) for keys in (*binary, *armored, b"".join(binary), b"".join(armored))] == [
            ""
        ] * 6
        assert problem(binary[0][:-1]), "cut off"
        assert problem(binary[0] + b"\n<html>"), "with something behind it"
        assert problem(one.detached(b"x")) == "has no public key"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (b"junk\n", "is no keyring"),
        (b"<html><title>404 Not Found</title></html>", "is no keyring"),
        (b"\x95\x00\x01x", "a secret key"),
        (b"\x99\x00\x00", ""),
        (b"\0\0\0\x20\x01\x01\0\0KBXf", ""),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!\n-----END PGP PUBLIC KEY BLOCK-----\n", "damaged"),
        (PEM, "is no keyring"),
        (b"", "no public key"),
    ],
)
def test_what_else_a_file_may_have(keys: bytes, said: str) -> None:
    assert said in problem(keys) and bool(said) == bool(problem(keys))


@pytest.mark.parametrize(("keys", "good"), [(PEM, True), (PEM.replace(b"T", b"!"), False), (b"x", False)])
def test_alpines_keys_are_in_pem(keys: bytes, good: bool) -> None:
    assert (problem(keys, pem=True) == "") == good


@given(st.binary(max_size=50))
def test_any_bytes_are_judged(keys: bytes) -> None:
    problem(keys)
    problem(b"\x99" + keys)
