"""What no file can see alone, what only a disk knows, and a daemon that goes on with what is valid."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.config.load import load, load_tolerant, warnings
from cluster.errors import ConfigErrors, UsageError
from cluster.peer import keys

REPOSITORY = Path(__file__).parents[2]
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def pem(seed: str) -> str:
    return CERTIFICATE.format(base64.b64encode(b"\x30\x03" + seed.encode()).decode())


def peer(name: str, certificate: str = "") -> str:
    file = certificate or f"{name}.pem"
    return f'[peer]\nurl = "https://{name}.example:8443"\nlisten = "0.0.0.0:8443"\ncertificate = "{file}"'


def test_the_shipped_cluster_is_valid_at_every_site():
    cluster = load(str(REPOSITORY))
    assert len(cluster.sites) == 3
    assert len(cluster.mirrors) >= 3
    assert len({m.origins[0].url for m in cluster.mirrors.values()}) == len(cluster.mirrors)
    for site in cluster.sites:
        seen = load(str(REPOSITORY), site)
        assert seen.mirrors_of(site)
        assert not any("not" in w and "machine" not in w for w in warnings(seen, site)), warnings(seen, site)


def test_a_cluster_loads_quickly_and_without_the_network_library():
    code = (
        "import sys, time; t = time.process_time(); from cluster.config.load import load;"
        f"load({str(REPOSITORY)!r}); print(time.process_time() - t);"
        "sys.exit(bool({'aiohttp', 'asyncio', 'pydantic'} & set(sys.modules)))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
        for _ in "ab"
    ]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert min(float(run.stdout) for run in runs) < 0.6  # s of processor time; measured 0.19


# -- HAZARDS 136 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        ("/debian", "/debian", "/debian is the same as /debian"),
        ("/debian", "/debian/pool", "/debian/pool is below /debian"),
        ("/pub/debian/pool", "/pub", "/pub is above /pub/debian/pool"),
        ("/deb", "/debian", None),
        ("/debian", "/debian-security", None),
        ("/pub/a", "/pub/b", None),
    ],
)
def test_public_paths_meet_by_components(folder, first, second, meet):
    folder.mirror("aaa", path=first)
    folder.mirror("bbb", path=second)
    folder.mirror("debian", path="/zzz")
    if meet is None:
        assert len(folder.load().mirrors) == 3
    else:
        assert folder.errors() == [
            f"config/mirrors/bbb.xml:2: <path>: {meet} of mirror aaa (config/mirrors/aaa.xml:2)"
        ]


def test_an_alias_meets_paths_as_well(folder):
    folder.mirror("debian", "<alias>/ctan</alias>")
    folder.mirror("ctan")
    assert folder.errors() == [
        (
            "config/mirrors/debian.xml:4: <alias>: /ctan is the same as /ctan of mirror ctan "
            "(config/mirrors/ctan.xml:2)"
        )
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "debian",
        "/.sideways",
        "/.sideways/x",
        "/debian/",
        "/a//b",
        "/a/../b",
        "/./a",
        "/-/wake",
        "/a b",
        "/é",
    ],
)
def test_a_path_that_is_no_public_folder_is_refused(folder, path):
    folder.mirror("debian", path=path)
    (line,) = folder.errors()
    assert line.startswith("config/mirrors/debian.xml:2: <path>: ")


@pytest.mark.parametrize(
    ("data", "state", "line"),
    [
        ("/srv/x", "/srv/x", "2: data: is the same folder as state (sites/kent.toml:3): /srv/x"),
        ("/srv/x", "/srv/x/state", "3: state: /srv/x/state lies inside data, /srv/x (sites/kent.toml:2)"),
        ("/srv/x/data", "/srv/x", "2: data: /srv/x/data lies inside state, /srv/x (sites/kent.toml:3)"),
        ("/", "/srv/x", None),
    ],
)
def test_data_and_state_do_not_lie_in_one_another(folder, data, state, line):
    folder.write("sites/kent.toml", f'name = "kent"\ndata = "{data}"\nstate = "{state}"\n')
    lines = folder.errors()
    assert line is None or lines == ["sites/kent.toml:" + line]


def test_data_and_state_beside_each_other_are_fine_and_relative_to_their_file(folder):
    folder.write("sites/kent.toml", 'name = "kent"\ndata = "../run/data"\nstate = "../run/data2"\n')
    site = folder.load().sites["kent"]
    assert (site.data, site.state) == (str(folder.root / "run/data"), str(folder.root / "run/data2"))


def test_data_that_is_a_link_is_refused_where_it_is_ones_own(folder):
    folder.site("oslo")
    (folder.root / "run/kent").mkdir(parents=True)
    (folder.root / "run/kent/data").symlink_to("elsewhere")
    (line,) = folder.errors("kent")
    assert line.endswith("/run/kent/data is a symbolic link; name the folder that it leads to")
    assert folder.errors() == [line]
    folder.load("oslo")


def test_a_link_above_does_not_hide_that_state_lies_in_data(folder):
    (folder.root / "real").mkdir()
    (folder.root / "link").symlink_to("real")
    folder.write(
        "sites/kent.toml", f'name = "kent"\ndata = "{folder.root}/real"\nstate = "{folder.root}/link/state"\n'
    )
    assert "state: " in folder.errors("kent")[0]


def test_another_file_system_inside_data_is_refused(folder):
    inside = next(name for name in ("shm", "pts", "mqueue") if os.path.ismount(f"/dev/{name}"))
    folder.write("sites/kent.toml", 'name = "kent"\ndata = "/dev"\nstate = "/nonexistent/state"\n')
    folder.mirror("debian", path=f"/{inside}")
    assert folder.errors("kent") == [
        (
            f"sites/kent.toml:2: data: /dev/{inside} is another file system than /dev; "
            "files could not be renamed into place"
        )
    ]


# -- siblings --------------------------------------------------------------------------------------


def test_certificates_are_read_and_two_are_allowed_while_rotating(folder):
    folder.site("kent", peer=peer("kent"))
    folder.write("sites/kent.pem", "old\n" + pem("a") + "\nnew\n" + pem("b"))
    found = folder.load().sites["kent"].peer
    assert found.certificates == (pem("a"), pem("b"))
    assert found.certificate_file == str(folder.root / "sites/kent.pem")


def test_a_missing_certificate_is_a_warning(folder):
    folder.site("kent", peer=peer("kent"))
    cluster = folder.load()
    assert cluster.sites["kent"].peer.certificates == ()
    line = "sites/kent.toml: peer.certificate: there is no kent.pem yet; run `sideways keys --site kent`"
    assert line in warnings(cluster)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "kent.pem holds 0 PEM blocks; allowed is one certificate, or two while rotating"),
        (pem("a") + pem("b") + pem("c"), "kent.pem holds 3 PEM blocks; allowed is one certificate, or two"),
        (
            pem("a").replace("CERTIFICATE", "PRIVATE KEY"),
            "kent.pem holds a private key; only the certificate",
        ),
        (pem("a") + pem("k").replace("CERTIFICATE", "EC PRIVATE KEY"), "kent.pem holds a private key"),
        (CERTIFICATE.format("AAAA"), "kent.pem is damaged: what it holds is no certificate"),
        (CERTIFICATE.format("MA=A"), "kent.pem is damaged: what it holds is no certificate"),
        (b"\xff\xfe\x00", "kent.pem holds 0 PEM blocks"),
    ],
)
def test_a_certificate_file_with_anything_else_is_refused(folder, content, message):
    folder.site("kent", peer=peer("kent"))
    folder.write("sites/kent.pem", content)
    (line,) = folder.errors()
    assert line.startswith(f"sites/kent.toml:8: peer.certificate: {message}")


def test_two_sites_are_told_apart_by_address_and_certificate(folder):
    folder.site("kent", peer=peer("kent"))
    folder.site("oslo", peer=peer("kent", "oslo.pem"))
    folder.write("sites/kent.pem", pem("a"))
    folder.write("sites/oslo.pem", pem("a"))
    assert folder.errors() == [
        (
            "sites/oslo.toml:6: peer.url: https://kent.example:8443 is the address of kent too "
            "(sites/kent.toml:6)"
        ),
        "sites/oslo.toml:8: peer.certificate: holds the certificate of kent (sites/kent.toml:8)",
    ]


def test_the_web_server_and_the_siblings_do_not_share_a_port(folder):
    folder.site("kent", 'web = "0.0.0.0:8443"', peer("kent"))
    assert folder.errors() == ["sites/kent.toml:7: peer.listen: 0.0.0.0:8443 is where web listens already"]


def test_a_cluster_has_sixteen_sites_at_most(folder):
    for n in range(16):
        folder.site(f"s{n:02}")
    assert folder.errors() == ["config/cluster.toml:1: 17 files in sites/; a cluster has 1 to 16"]


def test_defaults_of_sites_come_from_the_cluster(folder):
    folder.write(
        "config/cluster.toml",
        'name = "t"\n[defaults.site]\nstate = "../st"\npasses = 5\ncontact = "a@b.example"\n',
    )
    folder.write(
        "sites/kent.toml", 'name = "kent"\ndata = "/srv/x"\ncontact = "k@b.example"\nreserve = "1GiB"\n'
    )
    site = folder.load().sites["kent"]
    assert (site.passes, site.contact, site.reserve) == (5, "k@b.example", 2**30)
    assert site.state == str(folder.root / "st")


# -- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_refused(folder, mode):
    folder.mirror("debian", origin='<origin url="https://a/" credentials="debian.secret"/>')
    path = folder.write("config/mirrors/debian.secret", "bob:p4ss")
    path.chmod(mode)
    (line,) = folder.errors()
    assert line.endswith(f"<origin credentials>: {path} has mode {mode:04o}; a secret must have 0600")
    path.chmod(0o600)
    assert folder.load().mirrors["debian"].origins[0].credentials == str(path)


# -- a daemon --------------------------------------------------------------------------------------


def test_one_bad_descriptor_among_many_stops_only_itself(folder):
    for n in range(19):
        folder.mirror(f"m{n}")
    folder.mirror("debian", "<tilte/>")
    cluster, bad = load_tolerant(str(folder.root), "kent")
    assert sorted(cluster.mirrors) == sorted(f"m{n}" for n in range(19))
    assert {name: [str(e) for e in errors] for name, errors in bad.items()} == {
        "debian": ["config/mirrors/debian.xml:4: <tilte>: no such element; did you mean <title>?"]
    }


def test_two_mirrors_that_meet_are_both_left_out(folder):
    folder.mirror("ctan", path="/debian/x")
    folder.mirror("cpan")
    cluster, bad = load_tolerant(str(folder.root), "kent")
    assert list(cluster.mirrors) == ["cpan"]
    assert bad["ctan"] == bad["debian"]
    assert len(bad["ctan"]) == 1


@pytest.mark.parametrize(
    ("has", "wanted", "how"),
    [("/debian", "/debian", "the same as"), ("/debian", "/debian/x", "below"), ("/a/b", "/a", "above")],
)
def test_what_keeps_its_old_definition_keeps_its_path(folder, has, wanted, how):
    folder.mirror("debian", path=has)
    old = load_tolerant(str(folder.root), "kent")[0].mirrors
    folder.mirror("debian", "<tilte/>", path="/elsewhere")
    folder.mirror("new", path=wanted)
    cluster, bad = load_tolerant(str(folder.root), "kent", old)
    assert cluster.mirrors == old
    (error,) = map(str, bad["new"])
    assert error == (
        f"config/mirrors/new.xml:2: <path>: {wanted} is {how} {has} of mirror debian, "
        "whose old definition stays until its descriptor is valid"
    )
    folder.mirror("debian", path="/elsewhere")
    assert sorted(load_tolerant(str(folder.root), "kent", old)[0].mirrors) == ["debian", "new"]


def test_what_is_refused_a_path_keeps_its_own_which_others_do_not_get(folder):
    folder.mirror("debian")
    folder.mirror("next")
    folder.mirror("far", "<alias>/away</alias>")
    old = load_tolerant(str(folder.root), "kent")[0].mirrors
    folder.mirror("debian", "<tilte/>")
    folder.mirror("next", path="/debian/x")
    folder.mirror("far", path="/next")
    folder.mirror("free", path="/away/x")
    cluster, bad = load_tolerant(str(folder.root), "kent", old)
    assert {name: mirror.path for name, mirror in cluster.mirrors.items()} == {
        "debian": "/debian", "next": "/next", "far": "/far"
    }  # fmt: skip
    assert sorted(bad) == ["debian", "far", "free", "next"]


def test_a_siblings_bad_file_leaves_that_sibling_out(folder):
    folder.site("oslo", "passes = 0")
    folder.mirror("debian", '<sites><site name="oslo"/><site name="kent"/></sites>')
    cluster, bad = load_tolerant(str(folder.root), "kent")
    assert list(cluster.sites) == ["kent"]
    assert list(bad) == ["sites/oslo.toml"]
    assert cluster.siblings("kent", cluster.mirrors["debian"]) == []


@pytest.mark.parametrize(
    ("file", "content"), [("config/cluster.toml", ""), ("sites/kent.toml", 'name = "kent"')]
)
def test_a_daemon_needs_the_cluster_and_its_own_file(folder, file, content):
    folder.write(file, content)
    with pytest.raises(ConfigErrors):
        load_tolerant(str(folder.root), "kent")


def test_a_daemon_of_no_site_is_refused(folder):
    with pytest.raises(UsageError, match="no such site"):
        load_tolerant(str(folder.root), "bergen")


# -- warnings --------------------------------------------------------------------------------------


def test_what_is_valid_and_will_not_work_is_told(folder):
    folder.site("kent", 'public_url = "https://m.kent.example/"', peer("kent"))
    folder.site("oslo")
    folder.mirror(
        "debian",
        '<sites><site name="kent"/></sites>',
        origin='<origin url="http://a.example/" credentials="none.secret" paused="yes"/>',
    )
    folder.mirror("own", origin=f'<origin url="file://{folder.root}/run/kent/data/debian"/>')
    cluster, run = folder.load(), folder.root / "run"
    told = warnings(cluster, "kent")
    assert told[: len(told) - (os.geteuid() == 0)] == [
        "config/mirrors/debian.xml: origin http://a.example/: credentials are sent in clear; use https",
        (
            f"config/mirrors/debian.xml: origin http://a.example/: credentials file {folder.root}/config/"
            "mirrors/none.secret is not on this machine"
        ),
        "config/mirrors/debian.xml: every origin is paused",
        "sites/kent.toml: peer.certificate: there is no kent.pem yet; run `sideways keys --site kent`",
        f"sites/kent.toml: data: {run}/kent/data does not exist on this machine",
        f"sites/kent.toml: state: {run}/kent/state does not exist on this machine",
        (
            f"config/mirrors/own.xml: origin {run}/kent/data/debian lies in the data or state of kent: "
            "it would mirror itself"
        ),
        "sites/oslo.toml: public_url is missing: pages and front ends cannot name this site's address",
        "sites/oslo.toml: no [peer]: siblings can neither reach nor serve this site",
    ]
    assert any("running as root" in line for line in told) == (os.geteuid() == 0)


def test_a_keyring_without_a_key_is_told(folder):
    beside = folder.root / "config/mirrors"
    (beside / "page.gpg").write_text("<html>404 Not Found</html>")
    (beside / "alpine.pem").write_text("-----BEGIN PUBLIC KEY-----\nTUlJ\n-----END PUBLIC KEY-----\n")
    kinds = {"apt": "page.gpg", "alpine": "alpine.pem", "yum": "none.gpg", "arch": "alpine.pem"}
    below = [f'<repository type="{t}" path="{t}" keyring="{ring}"/>' for t, ring in kinds.items()]
    folder.site("kent")
    folder.mirror("m", "".join(below))
    told = [line for line in warnings(folder.load(), "kent") if line.startswith("config/")]
    label, junk = "config/mirrors/m.xml: ", "is no keyring: neither OpenPGP's packets nor armored keys"
    assert told == [
        f"{label}apt repository /apt: keyring {beside}/page.gpg: {junk}",
        f"{label}yum repository /yum: keyring {beside}/none.gpg is not on this machine",
        f"{label}arch repository /arch: keyring {beside}/alpine.pem: {junk}",
    ]


def test_what_sharing_an_origin_does_not_do_is_told(folder):
    folder.site("kent", peer=peer("kent"))
    folder.site("oslo")
    folder.site("york", peer=peer("york"))
    shared = '<limits connections="2" shared="yes"/>'
    folder.mirror("debian", shared)
    folder.mirror(
        "own", f'{shared}<sites><site name="kent"/></sites>', origin='<origin url="file:///srv/x"/>'
    )
    told = [line for line in warnings(folder.load()) if ": limits: " in line]
    assert told == [
        "config/mirrors/debian.xml: limits: 2 connections are shared by 3 sites: they take turns",
        (
            "config/mirrors/debian.xml: limits: oslo has no [peer]: nothing of its share is lent, and it is "
            "lent nothing"
        ),
        "config/mirrors/own.xml: limits: shared, but one site carries the mirror",
        (
            "config/mirrors/own.xml: limits: origin file:///srv/x/ is a folder of each machine: it is not "
            "shared"
        ),
    ]


@pytest.mark.parametrize(
    ("days", "word"), [(-11, None), (3500, None), (3600, "ends"), (3653, "ended"), (4000, "ended")]
)
def test_a_certificate_that_ends_soon_or_has_ended_is_told(folder, days, word):
    folder.site("kent", peer=peer("kent"))
    site, made = folder.load().sites["kent"], 1_700_000_000
    keys.make(site, str(folder.root), now=made)
    told = [line for line in warnings(folder.load(), now=made + days * 86_400 + 1) if "accept none" in line]
    line = (
        f"sites/kent.toml: peer.certificate: it {word} on 2033-11-14, and siblings accept none that has "
        "ended; run `sideways keys --site kent --rotate` there"
    )
    assert told == ([line] if word else [])


def test_a_site_that_no_mirror_names_is_told(folder):
    folder.site("oslo")
    folder.mirror("debian", '<sites><site name="kent"/></sites>')
    assert "sites/oslo.toml: no mirror names this site" in warnings(folder.load())


def test_a_large_descriptor_is_read_in_time(folder):
    folder.mirror("debian", "<select>" + '<exclude pattern="*.iso"/>' * 10_000 + "</select>")
    began = time.monotonic()
    assert len(folder.load().mirrors["debian"].select) == 10_000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("file", "suffix"),
    [
        ("config/mirrors/CTAN.XML", ".xml"),
        ("config/mirrors/ctan.toml", ".xml"),
        ("sites/X.XML", ".toml"),
        ("sites/oslo.Toml", ".toml"),
    ],
)
def test_a_file_that_only_looks_like_one_of_ours_is_warned_of(folder, file, suffix):
    folder.write(file, "")
    folder.write("sites/oslo.toml~", "")
    folder.write("config/mirrors/.ctan.XML", "")
    assert [line for line in warnings(folder.load()) if "not read" in line] == [
        f"{file}: is not read; what is read here ends in {suffix}"
    ]
