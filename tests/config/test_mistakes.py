"""The mistakes that operators make first, and the one line that each gives."""

from __future__ import annotations

import pytest

from cluster.config.load import load
from cluster.config.settings import REPOSITORIES
from cluster.errors import ConfigErrors
from cluster.repository.formats import FORMATS

ANY_URL = (
    "http://host/path or https://host/path or ftp://host/path or ftps://host/path or file:///path "
    "or rsync://host/path or rsyncs://host/path or rsync+ssh://host/path"
)
BELONGS = "belongs in the mirror's descriptor, config/mirrors/NAME.xml, since it is the same at every site"
HOURS = '{ from = "...", to = "...", bandwidth = "..." }'
NAMES = "it has a-z 0-9 . _ -, the first a letter or digit, at most 63"


@pytest.mark.parametrize(
    ("inside", "line"),
    [
        ("<tilte>Debian</tilte>", "<tilte>: no such element; did you mean <title>?"),
        ("<tilte/>", "<tilte>: no such element; did you mean <title>?"),
        ("<title>a</title><title>b</title>", "<title>: stands twice; first in line 4"),
        ("<title>a<b>c</b></title>", "<b>: no such element in <title>; nothing is allowed here"),
        ("hello", None),
        ('<limits conections="4"/>', "<limits conections>: no such attribute; did you mean connections?"),
        ('<limits connections="lots"/>', "<limits connections>: 'lots' is not a whole number from 1 to 64"),
        ('<limits connections="0"/>', "<limits connections>: '0' is not a whole number from 1 to 64"),
        (
            '<limits bandwidth="50MB"/>',
            "<limits bandwidth>: '50MB' is not a rate; write 50MB/s, 20MiB/s or 400Mbit/s",
        ),
        ('<limits><hours from="8:00" to="18:00" bandwidth="1MB/s"/></limits>', None),
        (
            '<limits><hours from="08:00" bandwidth="1MB/s"/></limits>',
            '<hours>: the attribute to="..." is missing',
        ),
        ("<repository/>", '<repository>: the attribute type="..." is missing'),
        ('<define name="a"/>', '<define>: the attribute values="..." is missing'),
        ('<downstream ssh="u@h"/>', '<downstream>: the attribute name="..." is missing'),
        (
            '<schedule every="6 hours"/>',
            "<schedule every>: '6 hours' is not a duration; write 90s, 20m, 6h, 3d or 1h30m",
        ),
        ('<schedule every="5s"/>', "<schedule every>: '5s' is not from 1m to 3660d"),
        ('<schedule every="6h" cron="0 4 * * *"/>', "<schedule cron>: either every or cron, not both"),
        (
            '<schedule cron="0 4 * *"/>',
            "<schedule cron>: '0 4 * *' is not a cron line of five fields; write 'H 4 * * *'",
        ),
        ('<schedule every="1h" jitter="2h"/>', "<schedule jitter>: 2h is longer than every, 1h"),
        (
            '<sideways trust="strict" listings="5m"/>',
            '<sideways listings>: goes with trust="siblings" only',
        ),
        ('<sideways listings="1h"/>', "<sideways listings>: '1h' is not from 1s to 15m"),
        (
            '<walk order="random"/>',
            "<walk order>: 'random' is not one of forward, backward, shuffled, rendezvous",
        ),
        (
            '<downstream name="a"/>',
            '<downstream>: either ssh="user@host" or webhook="https://...", not both and not neither',
        ),
        (
            '<downstream name="a" ssh="-oProxyCommand=x@host"/>',
            "<downstream>: '-oProxyCommand=x@host' is not an account; write user@host or user@host:port",
        ),
        (
            '<downstream name="a" webhook="https://a/"/>',
            "<downstream>: webhook goes with secret, the file of what signs it; ssh goes with key",
        ),
        (
            '<downstream name="a" ssh="u@h" type="some"/>',
            "<downstream>: 'some' is not one of all, staged, mhop",
        ),
        ('<storage once="always"/>', "<storage once>: 'always' is not one of no, reflink, yes"),
        ('<trace level="much"/>', "<trace level>: 'much' is not one of none, date, terse, full"),
        ("<walk/>", '<walk>: the attribute order="..." is missing'),
        ('<sideways enabled="true"/>', "<sideways enabled>: 'true' is neither yes nor no"),
        ('<sideways trust="all"/>', "<sideways trust>: 'all' is not one of siblings, strict"),
        (
            '<delete hold-share="10"/>',
            "<delete hold-share>: '10' is not a share; write a percentage from 0% to 100%",
        ),
        ('<sites><site name="kant"/></sites>', "<site name>: no such site: 'kant'; did you mean kent?"),
        ('<sites><site name="kent"/><site name="kent"/></sites>', "<sites>: names a site twice"),
        ("<sites/>", "<sites>: is empty; it holds <site> elements, or is left out"),
        (
            "<contact>Admin</contact>",
            "<contact>: 'Admin' is not a contact; write an e-mail address or an https URL",
        ),
        (
            '<select><exclude reason="x"/></select>',
            (
                "<exclude>: says of nothing what it is about; write pattern, regex, larger, smaller, older, "
                "newer or kind"
            ),
        ),
        ('<select><exclude pattern="[a"/></select>', "<exclude>: not a pattern: [a: '[' without ']'"),
        (
            '<select><exclude pattern="../x"/></select>',
            "<exclude>: '../x' is not a pattern: '.', '..' and '//' match nothing of an origin",
        ),
        ("<alias>debian</alias>", None),
        (
            '<repository type="apk"/>',
            "<repository>: 'apk' is not one of alpine, apt, arch, plain-digests, pypi, yum",
        ),
        (
            '<repository type="apt" path="../x"/>',
            "<repository>: '../x' is not a path below the origin; write it without a slash at its ends",
        ),
        (
            '<attributes modes="0644 0757"/>',
            "<attributes modes>: '0644 0757' lets everybody write; leave that bit out",
        ),
        (
            '<attributes modes="4755"/>',
            "<attributes modes>: '4755' is not a mode for files and one for directories; write 0644 0755",
        ),
        ('<hooks><hook on="later" command="x"/></hooks>', None),
        (
            '<hooks><hook on="after"/></hooks>',
            '<hook>: either command="..." or <arg> elements, not both and not neither',
        ),
        ("<path>/other</path>", "<path>: stands twice; first in line 2"),
    ],
)
def test_a_mistake_in_a_descriptor_is_one_line(folder, inside, line):
    folder.mirror("debian", inside)
    (error,) = folder.errors()
    start = "config/mirrors/debian.xml:" + ("1" if inside == "hello" else "4") + ": "
    assert error.startswith(start)
    assert line is None or error == start + line


PROXY = "only origins by http, https, rsync and rsyncs can be asked through a proxy; write none"
NO_COMMAND = "no FTP command can hold a line end or %00"
BIND = "only origins by http, https, ftp, ftps, rsync and rsync+ssh can be asked from an address"


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ("", "1: <mirror>: <origin> is missing"),
        ("<origin/>", '3: <origin>: the attribute url="..." is missing'),
        (
            '<origin url="gopher://a/"/>',
            "3: <origin url>: 'gopher://a/' is not a URL that can be used here; write " + ANY_URL,
        ),
        (
            '<origin\n  private="yes"\n  url="ftp.example.org/debian"/>',
            "5: <origin url>: 'ftp.example.org/debian' is not a URL that can be used here; write " + ANY_URL,
        ),
        (
            '<origin url="https:///debian/"/>',
            "3: <origin url>: 'https:///debian/': '' is not a host; write " + ANY_URL,
        ),
        (
            '<origin url="file://host/debian/"/>',
            "3: <origin url>: 'file://host/debian/' is not a folder of this machine; write file:///path/of/folder",
        ),
        (
            '<origin url="rsync://a/"/>',
            "3: <origin url>: 'rsync://a/': names no module; write rsync://host/module/path/",
        ),
        (
            '<origin url="rsync://a/debian/[a]*/"/>',
            None,
        ),
        (
            '<origin url="rsync://a/x*/"/>',
            (
                "3: <origin url>: 'rsync://a/x*/': '*', '?', '[', backslashes and '//' are not allowed in "
                "this path"
            ),
        ),
        (
            '<origin url="rsync://me:secret@a/debian/"/>',
            (
                "3: <origin url>: a user or password in a URL is not allowed; name a file of mode 0600: "
                'credentials="FILE"'
            ),
        ),
        ('<origin url="https://a/" marker="x"/>', "3: <origin marker>: only a file origin can have this"),
        (
            '<origin url="https://a/" index="../x"/>',
            "3: <origin index>: '../x' is not a path below the origin; write it without a slash at its ends",
        ),
        (
            '<origin url="https://a/" index="auto" index-age="soon"/>',
            "3: <origin index-age>: 'soon' is not a duration; write 90s, 20m, 6h, 3d or 1h30m",
        ),
        (
            '<origin url="https://b/"/><origin url="https://a/" role="bytes" index="auto"/>',
            "3: <origin index>: an origin for bytes alone is not asked what there is",
        ),
        (
            '<origin url="ftp://a/" proxy="http://p:3128"/>',
            f"3: <origin proxy>: {PROXY}",
        ),
        ('<origin url="ftps://a/" proxy="http://p:3128"/>', f"3: <origin proxy>: {PROXY}"),
        ('<origin url="rsync+ssh://a/b/" proxy="http://p:3128"/>', f"3: <origin proxy>: {PROXY}"),
        ('<origin url="file:///a/" proxy="http://p:3128"/>', f"3: <origin proxy>: {PROXY}"),
        ('<origin url="rsyncs://a/m/" bind="192.0.2.7"/>', f"3: <origin bind>: {BIND}"),
        ('<origin url="file:///a/" bind="192.0.2.7"/>', f"3: <origin bind>: {BIND}"),
        ('<origin method="command" command="/x" bind="192.0.2.7"/>', f"3: <origin bind>: {BIND}"),
        ('<origin url="ftp://a/%0D%0A"/>', f"3: <origin url>: 'ftp://a/%0D%0A': {NO_COMMAND}"),
        ('<origin url="ftp://a/b%0ADELE%20c/"/>', f"3: <origin url>: 'ftp://a/b%0ADELE%20c/': {NO_COMMAND}"),
        ('<origin url="ftps://a/%00/"/>', f"3: <origin url>: 'ftps://a/%00/': {NO_COMMAND}"),
        (
            '<origin url="https://a/"/><origin url="https://a"/>',
            "3: <origin url>: the same as the origin in line 3",
        ),
        (
            '<origin url="https://a/" role="bytes"/>',
            '3: <origin role>: one origin at least must have role="reference"',
        ),
        ('<origin url="https://a/" role="both"/>', "3: <origin role>: 'both' is not one of reference, bytes"),
        (
            '<origin url="https://a/" timezone="London"/>',
            "3: <origin timezone>: 'London' is not a time zone; write Europe/London or UTC",
        ),
        ('<origin url="https://a/" bind="eth0"/>', None),
    ],
)
def test_a_mistake_in_an_origin_is_one_line(folder, origin, line):
    folder.mirror("debian", origin=origin)
    (error,) = folder.errors()
    assert line is None or error == "config/mirrors/debian.xml:" + line


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ('pubic_url = "https://a"', "4: pubic_url: no such key; did you mean public_url?"),
        ('web = "8080"', "4: web: '8080' is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080"),
        ("passes = 2.5", "4: passes: '2.5' is neither text nor a whole number nor true or false"),
        ("passes = 0", "4: passes: '0' is not a whole number from 1 to 64"),
        ('reserve = "many"', "4: reserve: 'many' is not a size; write 64GiB, 500MB or a number of bytes"),
        ("peer = 1", "4: peer: is a table: write [peer]"),
        ('[peer]\nurl = "https://a:1"\nlisten = "0.0.0.0:1"', "4: peer: certificate is missing"),
        (
            '[peer]\nurl = "http://a:1"\nlisten = "0.0.0.0:1"\ncertificate = "k.pem"',
            "5: peer.url: 'http://a:1' is not a URL that can be used here; write https://host/path",
        ),
        (
            "[defaults.limits]\nconection = 4",
            "5: defaults.limits.conection: no such key; did you mean connections?",
        ),
        (
            "[defaults.limits]\nconnections = 99",
            "5: defaults.limits.connections: '99' is not a whole number from 1 to 64",
        ),
        ("[defaults.limitz]\nconnections = 9", "4: defaults.limitz: no such key; did you mean limits?"),
        (
            "[mirrors.debain.limits]\nconnections = 4",
            "4: mirrors.debain: no such mirror; did you mean debian?",
        ),
        (
            '[mirrors.debian]\npath = "/x"',
            "5: mirrors.debian.path: " + BELONGS,
        ),
        (
            '[mirrors.debian.limits]\nhours = [{ from = "08:00" }]',
            "5: mirrors.debian.limits.hours: has the keys from; write " + HOURS,
        ),
        ('web = "a:1', "4: not TOML: illegal character '\\n'"),
        ("data = 1", "4: not TOML: cannot overwrite a value"),
    ],
)
def test_a_mistake_in_a_site_file_is_one_line(folder, more, line):
    folder.site("kent", more)
    assert folder.errors() == ["sites/kent.toml:" + line]


def test_all_mistakes_of_all_files_come_at_once_in_order(folder):
    folder.write("config/cluster.toml", 'nome = "trial"\n')
    folder.mirror("debian", "<tilte/>\n<walk/>")
    folder.mirror("ctan", "<title>a</title>", origin="")
    folder.site("kent", "pases = 2")
    assert folder.errors() == [
        'config/cluster.toml:1: name: missing; write name = "my-cluster"',
        "config/cluster.toml:1: nome: no such key; did you mean name?",
        "config/mirrors/ctan.xml:1: <mirror>: <origin> is missing",
        "config/mirrors/debian.xml:4: <tilte>: no such element; did you mean <title>?",
        'config/mirrors/debian.xml:5: <walk>: the attribute order="..." is missing',
        "sites/kent.toml:4: pases: no such key; did you mean passes?",
    ]


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("sites/oslo.toml", 'name = "oslo"\ndata = 5\nstate = "/s"', "2: data: '5'"),
        ("sites/oslo.toml", 'name = "oslo"\ndata = "/d"\nstate = true', "3: state: 'true'"),
        ("sites/5.toml", 'name = 5\ndata = "/d"\nstate = "/s"', "1: name: '5'"),
        (
            "sites/oslo.toml",
            'name = "oslo"\ndata = "/d"\nstate = "/s"\n[mirrors.debian.origin]\ncredentials = 5',
            "5: mirrors.debian.origin.credentials: '5'",
        ),
        (
            "sites/oslo.toml",
            'name = "oslo"\ndata = "/d"\nstate = "/s"\n[defaults]\nselect = [{ exclude = 5 }]',
            "5: defaults.select: '5'",
        ),
    ],
)
def test_a_number_where_text_belongs_is_one_line(folder, file, text, line):
    folder.write(file, text)
    assert folder.errors() == [f"{file}:{line} is not text, which stands in quotes"]


def test_what_may_be_a_number_needs_no_quotes(folder):
    folder.site(
        "kent", "passes = 3\nreserve = 1000\n[mirrors.debian.limits]\nconnections = 7\nshared = false"
    )
    found = folder.load("kent")
    assert (found.sites["kent"].passes, found.sites["kent"].reserve) == (3, 1000)
    assert found.mirrors["debian"].limits.connections == 7


def test_a_name_is_the_name_of_its_file(folder):
    folder.write(
        "config/mirrors/ctan.xml", '<mirror name="cpan"><path>/c</path><origin url="https://a/"/></mirror>'
    )
    folder.write("config/mirrors/Big.xml", "<mirror/>")
    folder.write("config/mirrors/a\x1b[1mb.xml", "<mirror/>")
    folder.site("oslo").rename(folder.root / "sites/bergen.toml")
    assert folder.errors() == [
        "config/mirrors/Big.xml:1: a file's name is the mirror's name: 'Big' is not a name; " + NAMES,
        "config/mirrors/a\\x1b[1mb.xml:1: a file's name is the mirror's name: 'a\\x1b[1mb' is not a name; "
        + NAMES,
        "config/mirrors/ctan.xml:1: <mirror name>: 'cpan' is not the name of the file; write 'ctan'",
        "sites/bergen.toml:1: name: 'oslo' is not the name of the file; write 'bergen'",
    ]


def test_a_folder_without_configuration_says_what_is_meant(tmp_path):
    with pytest.raises(ConfigErrors, match=f"there is no folder config/ in {tmp_path}; -C names") as caught:
        load(str(tmp_path))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("config/cluster.toml:1: ")


def test_every_type_of_repository_that_is_read_can_be_named():
    assert set(REPOSITORIES) == set(FORMATS)
