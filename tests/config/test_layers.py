"""Defaults come from cluster.toml, are overridden per site, then per mirror."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.config.load import explain
from cluster.config.settings import FIELDS, LISTS, NAMED
from cluster.errors import UsageError
from cluster.model import (
    Attributes,
    CommandSpec,
    Deletion,
    Downstream,
    Hooks,
    HourRate,
    Limits,
    Mirror,
    Once,
    Order,
    OriginSpec,
    Probe,
    Pushed,
    Repository,
    Role,
    Rule,
    Schedule,
    Serve,
    Sideways,
    Storage,
    Told,
    Trace,
    Trust,
)

CLUSTER = 'name = "trial"\n[defaults.mirror.limits]\nconnections = 2\n'
SITE = "[defaults.limits]\nconnections = 3\n"
DESCRIPTOR = '<limits connections="5"/>'
OWN = "[mirrors.debian.limits]\nconnections = 7\n"


@pytest.mark.parametrize(
    ("cluster", "site", "descriptor", "value", "where"),
    [
        ("", "", "", "4", "built in"),
        (CLUSTER, "", "", "2", "config/cluster.toml:3"),
        (CLUSTER, SITE, "", "3", "sites/kent.toml:5"),
        ("", SITE, "", "3", "sites/kent.toml:5"),
        (CLUSTER, SITE, DESCRIPTOR, "5", "config/mirrors/debian.xml:4"),
        (CLUSTER, SITE + OWN, DESCRIPTOR, "7", "sites/kent.toml:7"),
        (CLUSTER, OWN, "", "7", "sites/kent.toml:5"),
    ],
)
def test_the_nearer_word_wins_and_is_named(folder, cluster, site, descriptor, value, where):
    folder.write("config/cluster.toml", cluster or 'name = "trial"\n')
    folder.site("kent", site)
    folder.mirror("debian", descriptor)
    rows = {key: (shown, at) for key, shown, at in explain(str(folder.root), "debian", "kent")}
    assert rows["limits.connections"] == (value, where)
    assert folder.load("kent").mirrors["debian"].limits.connections == int(value)


def test_one_site_is_not_heard_at_another_nor_without_a_site(folder):
    folder.site("kent", SITE)
    folder.site("oslo", OWN)
    assert [folder.load(s).mirrors["debian"].limits.connections for s in ("kent", "oslo", None)] == [3, 7, 4]


def test_a_cron_line_hides_the_interval_of_a_lower_layer_and_the_reverse(folder):
    folder.write(
        "config/cluster.toml", 'name = "t"\n[defaults.mirror.schedule]\nevery = "2h"\njitter = "5m"\n'
    )
    folder.mirror("debian", '<schedule cron="H 4 * * *"/>')
    folder.site("kent", '[mirrors.debian.schedule]\nevery = "3h"')
    assert folder.load().mirrors["debian"].schedule == Schedule(every=None, jitter=300, cron="H 4 * * *")
    assert folder.load("kent").mirrors["debian"].schedule == Schedule(every=10_800, jitter=300)


def test_a_list_replaces_the_list_below_it(folder):
    folder.write(
        "config/cluster.toml",
        'name = "t"\n[defaults.mirror]\nselect = [{ exclude = "*.tmp", reason = "junk" }]\n',
    )
    assert folder.load().mirrors["debian"].select == (Rule(False, "*.tmp", "junk"),)
    folder.mirror("debian", '<select><include pattern="a"/><exclude pattern="*"/></select>')
    assert folder.load().mirrors["debian"].select == (Rule(True, "a"), Rule(False, "*"))
    folder.mirror("debian", "<select/>")
    assert folder.load().mirrors["debian"].select == ()


def test_a_site_behind_a_proxy_says_so_once_for_every_origin(folder):
    folder.site("kent", '[defaults.origin]\nproxy = "http://proxy.kent.example:3128"\nfamily = "ipv4"')
    folder.site("oslo", '[mirrors.debian.origin]\nproxy = "http://proxy.oslo.example:3128"')
    folder.mirror("debian", origin='<origin url="https://a/" proxy="none"/><origin url="https://b/"/>')
    at = {site: [o.proxy for o in folder.load(site).mirrors["debian"].origins] for site in ("kent", "oslo")}
    assert at == {
        "kent": [None, "http://proxy.kent.example:3128"],
        "oslo": ["http://proxy.oslo.example:3128"] * 2,
    }


REPOSITORIES = (
    '<repository type="apt" keyring="keys/debian.gpg"/><repository type="plain-digests" path="/images/"/>'
)
FULL = f"""
<title>T</title><description>D</description><homepage>https://h/</homepage><category>c</category>
<contact>m@h.example</contact><alias>/pub/x</alias><alias>/y</alias>{REPOSITORIES}
<schedule jitter="1m" cron="H 4 * * *" window="22:00-06:00" webhook="hook.secret" paused="yes">
  <probe path="project/trace/master" every="5m"/>
</schedule>
<walk order="backward"/>
<select><include pattern="a b/**"/><exclude pattern="*.iso" reason="too large"/></select>
<limits connections="9" bandwidth="400Mbit/s" timeout="90s" retries="5" shared="yes" file-size="1GiB"
        directory-entries="10" depth="7" files="11"><hours from="22:00" to="06:00" bandwidth="0"/></limits>
<delete hold-files="1" hold-share="2.5%" sightings="3" grace="1h30m" emptied-after="2h" trash="1d" window="2d"
        window-share="4%"/>
<sideways trust="strict" enabled="no" patience="2.5s"/>
<publish last="dists/** *.html" lists="fullfiletimelist ls-lR"><last pattern="a b"/></publish>
<attributes owner="mirror" group="100" modes="0640 750"/>
<sites><site name="oslo"/><site name="kent"/></sites>
<storage once="reflink"/>
<serve http="no" ftp="no" rsync="no"/>
<trace level="terse" name="mirror.h.example"/>
<downstream name="leaf" type="staged" ssh="push@leaf.example:2222" key="secret/k" hosts="known" delay="5m"/>
<downstream name="hook" webhook="https://leaf.example/-/wake/m" secret="secret/c"/>
<hooks>
  <hook on="before" command="/bin/a 'b c'"/><hook on="before"><arg>/bin/b</arg><arg>$x; y</arg></hook>
  <hook on="after" command="c"/><hook on="publish" command="d"/><hook on="failure" command="e"/>
</hooks>
"""
ORIGIN = (
    '<origin url="https://h/%41+b/c" private="yes" proxy="http://p:1" bind="::1" family="ipv6"'
    '\n user-agent="x/1 (y)" credentials="secret/c" ca="/etc/ca.pem"'
    ' timezone="Europe/London" redirect-downgrade="yes" paused="yes" role="bytes"/>'
    '\n<origin url="file:///srv/x" watch="yes" marker="a/b"'
    ' index="ls-lR.gz" index-age="any" index-walk="2d"/>'
)


def test_every_setting_reaches_the_model(folder):
    folder.site("oslo")
    folder.mirror("debian", FULL, path="/pub/debian", origin=ORIGIN)
    beside = str(folder.root / "config/mirrors")
    mirror = folder.load().mirrors["debian"]
    assert mirror == Mirror(
        name="debian",
        path="/pub/debian",
        origins=(
            OriginSpec(
                "https://h/%41+b/c/",
                private=True,
                proxy="http://p:1",
                bind="::1",
                family="ipv6",
                user_agent="x/1 (y)",
                credentials=f"{beside}/secret/c",
                ca="/etc/ca.pem",
                timezone="Europe/London",
                downgrade=True,
                paused=True,
                role=Role.BYTES,
            ),
            OriginSpec(
                "file:///srv/x/",
                watch=True,
                marker="a/b",
                index="ls-lR.gz",
                index_age=None,
                index_walk=172_800.0,
            ),
        ),
        title="T",
        description="D",
        homepage="https://h/",
        category="c",
        contact="m@h.example",
        aliases=("/pub/x", "/y"),
        schedule=Schedule(
            None,
            60,
            "H 4 * * *",
            (1320, 360),
            (Probe(b"project/trace/master", 300),),
            f"{beside}/hook.secret",
            True,
        ),
        order=Order.BACKWARD,
        select=(Rule(True, "a b/**"), Rule(False, "*.iso", "too large")),
        limits=Limits(9, 50_000_000, (HourRate(1320, 360, 0),), 90, 5, 2**30, 10, 7, 11, True),
        delete=Deletion(1, 0.025, 3, 5400, 7200, 86_400, 172_800, 0.04),
        sideways=Sideways(Trust.STRICT, False, 2.5),
        last=("dists/**", "*.html", "a b"),
        lists=("fullfiletimelist", "ls-lR"),
        repositories=(
            Repository("apt", keyring=f"{beside}/keys/debian.gpg"),
            Repository("plain-digests", b"images"),
        ),
        attributes=Attributes("mirror", "100", 0o640, 0o750),
        sites=("kent", "oslo"),
        storage=Storage(Once.REFLINK),
        serve=Serve(False, False, False),
        hooks=Hooks((("/bin/a", "b c"), ("/bin/b", "$x; y")), (("c",),), (("d",),), (("e",),)),
        trace=Trace(Told.TERSE, "mirror.h.example"),
        downstreams=(
            Downstream(
                "leaf",
                Pushed.STAGED,
                "push@leaf.example:2222",
                key=f"{beside}/secret/k",
                hosts=f"{beside}/known",
                delay=300.0,
            ),
            Downstream("hook", webhook="https://leaf.example/-/wake/m", secret=f"{beside}/secret/c"),
        ),
    )


def test_no_field_of_the_model_is_out_of_reach():
    """A field that is added to the model needs a setting, and a value of its own in the tests above."""
    reachable = len(FIELDS) + len(LISTS) - sum(key.startswith("origin.") for key in FIELDS)
    groups = (Schedule, Limits, Deletion, Sideways, Attributes, Storage, Serve, Hooks, Trace)
    fields = sum(len(dataclasses.fields(group)) for group in groups) - 1  # one setting says both modes
    plain = {f.name for f in dataclasses.fields(Mirror)} - {"name", "origins", "schedule", "limits", "delete"}
    assert reachable == fields + len(plain - {"sideways", "attributes", "storage", "serve", "hooks", "trace"})
    origin = len(dataclasses.fields(OriginSpec)) - 2  # url and command are never defaults
    program = len(dataclasses.fields(CommandSpec)) - 2  # its arguments, and the folder that the site gives it
    assert sum(key.startswith("origin.") for key in FIELDS) == origin + program


def test_the_same_settings_in_toml_mean_the_same(folder):
    folder.mirror("debian", FULL, origin=ORIGIN)
    folder.site("oslo")
    said = folder.load().mirrors["debian"]
    folder.mirror("debian", FULL[: FULL.index("<schedule")], origin=ORIGIN)
    folder.site(
        "kent",
        """
[mirrors.debian]
walk.order = "backward"
select = [{ include = "a b/**" }, { exclude = "*.iso", reason = "too large" }]
publish.last = ["dists/**", "*.html", "a b"]
publish.lists = "fullfiletimelist ls-lR"
sideways = { trust = "strict", enabled = false, patience = "2.5s" }
attributes = { owner = "mirror", group = 100, modes = "0640 750" }
storage = { once = "reflink" }
serve = { http = false, ftp = false, rsync = "no" }
trace = { level = "terse", name = "mirror.h.example" }
[[mirrors.debian.downstream]]
name = "leaf"
type = "staged"
ssh = "push@leaf.example:2222"
key = "../config/mirrors/secret/k"
hosts = "../config/mirrors/known"
delay = "5m"
[[mirrors.debian.downstream]]
name = "hook"
webhook = "https://leaf.example/-/wake/m"
secret = "../config/mirrors/secret/c"
[mirrors.debian.schedule]
jitter = "1m"
cron = "H 4 * * *"
window = "22:00-06:00"
webhook = "../config/mirrors/hook.secret"
paused = true
probe = [{ path = "project/trace/master", every = "5m" }]
[mirrors.debian.limits]
connections = 9
shared = true
bandwidth = "400Mbit/s"
timeout = "90s"
retries = 5
file-size = 1073741824
directory-entries = 10
depth = 7
files = 11
hours = [{ from = "22:00", to = "06:00", bandwidth = 0 }]
[mirrors.debian.delete]
hold-files = 1
hold-share = "2.5%"
sightings = 3
grace = "1h30m"
emptied-after = "2h"
trash = "1d"
window = "2d"
window-share = "4%"
[mirrors.debian.hooks]
before = ["/bin/a 'b c'", ["/bin/b", "$x; y"]]
after = "c"
publish = [["d"]]
failure = ["e"]
""",
    )
    assert folder.load("kent").mirrors["debian"] == dataclasses.replace(said, elsewhere=(("oslo", ()),))


def test_every_effective_setting_is_explained_once(folder):
    folder.mirror("debian", FULL, origin=ORIGIN)
    folder.site("oslo")
    rows = explain(str(folder.root), "debian")
    shown = {key for key, _, _ in rows}
    assert shown == {k for k in (*FIELDS, *LISTS) if not k.startswith("origin.")} | {
        f"origin[{n}].{k.removeprefix('origin.')}"
        for n in (1, 2)
        for k in (*FIELDS, *(f"origin.{name}" for name in NAMED))
        if "origin." in k
    }
    assert ("limits.file-size", "1GiB", "config/mirrors/debian.xml:14") in rows
    assert ("limits.hours", "22:00-06:00 0", "config/mirrors/debian.xml:15") in rows
    assert ("origin[1].family", "ipv6", "config/mirrors/debian.xml:3") in rows
    assert all(value.isprintable() and where.isprintable() for _, value, where in rows)


def test_an_unknown_mirror_or_site_gets_a_suggestion(folder):
    with pytest.raises(UsageError, match=r"^'debain': no such mirror; did you mean debian\?$"):
        explain(str(folder.root), "debain")
    with pytest.raises(UsageError, match=r"^'kant': no such site; did you mean kent\?$"):
        folder.load("kant")


def test_asking_for_lists_says_nothing_of_what_is_published_last(folder):
    folder.write("config/cluster.toml", 'name = "t"\n[defaults.mirror.publish]\nlast = ["dists/**"]\n')
    folder.mirror("debian", '<publish lists="ls-lR"/>')
    folder.site("oslo")
    mirror = folder.load().mirrors["debian"]
    assert (mirror.last, mirror.lists) == (("dists/**",), ("ls-lR",))
