"""Keys and certificates: made once, and refused in one clear line when they cannot be right (HAZARDS 134)."""

import datetime as dt
import os
from dataclasses import replace

import pytest
from cryptography import x509

from cluster.errors import ConfigError, UsageError
from cluster.peer import keys
from tests.peer.cluster import make_cluster, with_keys


@pytest.fixture
def site(cluster):
    return cluster.sites["kent"]


def text(path):
    with open(path) as file:
        return file.read()


def test_a_key_is_for_its_owner_only_and_its_certificate_for_everybody(site):
    assert os.stat(keys.key_path(site.state)).st_mode & 0o777 == 0o600
    assert os.stat(site.peer.certificate_file).st_mode & 0o777 == 0o644
    assert keys.load(site, site.state) == (keys.key_path(site.state), site.peer.certificate_file)


def test_a_certificate_is_valid_since_yesterday_and_for_ten_years(site):
    with open(site.peer.certificate_file, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    now = dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=23) < now - certificate.not_valid_before_utc < dt.timedelta(hours=25)
    assert abs(certificate.not_valid_after_utc - now - dt.timedelta(days=3653)) < dt.timedelta(hours=1)
    assert certificate.public_key().curve.name == "secp256r1"


def test_an_existing_key_is_not_replaced_unless_asked(site):
    before = text(keys.key_path(site.state))
    with pytest.raises(UsageError, match="exists already"):
        keys.make(site, site.state)
    assert text(keys.key_path(site.state)) == before


def test_a_replaced_key_keeps_the_certificate_before_it(site):
    old = keys.fingerprint(site.peer.certificates[0])
    fingerprint, path = keys.make(site, site.state, replace=True)
    both = keys.certificates(text(path))
    assert [keys.fingerprint(pem) for pem in both] == [fingerprint, old]
    third, _ = keys.make(site, site.state, replace=True)
    both = keys.certificates(text(path))
    assert [keys.fingerprint(pem) for pem in both] == [third, fingerprint]


def test_a_site_without_a_peer_table_has_no_keys(site):
    with pytest.raises(UsageError, match=r"kent: its site file has no \[peer\]"):
        keys.make(replace(site, peer=None), site.state)
    with pytest.raises(ConfigError, match=r"no .peer. table"):
        keys.load(replace(site, peer=None), site.state)


def test_a_folder_that_cannot_be_written_is_named(site, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        keys.make(site, str(tmp_path / "file" / "state"), replace=True)


def break_nothing_yet(site, tmp_path):
    os.unlink(keys.key_path(site.state))
    os.unlink(site.peer.certificate_file)
    return site


def break_key_lost(site, tmp_path):
    os.unlink(keys.key_path(site.state))
    return site


def break_certificate_lost(site, tmp_path):
    os.unlink(site.peer.certificate_file)
    return site


def break_mode(site, tmp_path):
    os.chmod(keys.key_path(site.state), 0o644)
    return site


def break_pair(site, tmp_path):
    (tmp_path / "other").mkdir()
    other = make_cluster(str(tmp_path / "other")).sites["kent"]
    os.replace(keys.key_path(other.state), keys.key_path(site.state))
    return site


def break_known(site, tmp_path):
    with_keys(site, replace=True)  # made anew, and the cluster was never told
    return site


def break_certificate(site, tmp_path):
    with open(site.peer.certificate_file, "w") as file:
        file.write("nothing")
    return site


@pytest.mark.parametrize(
    ("breaking", "says"),
    [
        (break_nothing_yet, "No such file or directory; run `sideways keys --site kent`"),
        (
            break_key_lost,
            r"peer.key:1: .*bring it back, or make a new pair: `sideways keys --site kent --rotate`",
        ),
        (break_certificate_lost, r"kent.pem:1: .*bring it back, or make a new pair: .* --rotate`$"),
        (break_mode, r"peer.key:1: mode 0644: a key is for its owner only \(0600\)"),
        (break_pair, "peer.key:1: is not the key of the first certificate in"),
        (break_known, "is not the certificate that the cluster knows kent by"),
        (break_certificate, "holds no PEM certificate"),
    ],
)
def test_a_site_whose_key_cannot_be_right_does_not_start(site, tmp_path, breaking, says):
    with pytest.raises(ConfigError, match=says) as caught:
        keys.load(breaking(site, tmp_path), site.state)
    assert "\n" not in str(caught.value)
