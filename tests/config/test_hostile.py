"""Files from an enemy, or from an editor gone wild: one line, at once, and nothing else is touched."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import pytest

from cluster.config import settings

BODY = '<path>/debian</path><origin url="https://ftp.example.org/"/>'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.fixture
def canary(tmp_path):
    """A local file and a local server that nobody may ask for."""
    (tmp_path / "secret").write_text("CANARY")
    server = socket.create_server(("127.0.0.1", 0))
    asked = threading.Event()

    def accept():
        try:
            server.accept()[0].close()
            asked.set()
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/x", f"file://{tmp_path}/secret"
    server.close()
    assert not asked.is_set()


def _attacks(url: str, file: str) -> dict[str, str | bytes]:
    xml = '<?xml version="1.0" encoding="UTF-8"?>\n'
    mirror = f'<mirror name="debian">{BODY}'
    title = f"{mirror}<title>&x;</title></mirror>"
    return {
        "doctype": f"{xml}<!-- x --><!DOCTYPE mirror>\n{mirror}</mirror>",
        "second doctype": f"<!-- <!DOCTYPE a> -->\n<!DOCTYPE mirror>{mirror}</mirror>",
        "external entity": f'{xml}<!DOCTYPE m [<!ENTITY x SYSTEM "{file}">]>{title}',
        "entity by http": f'{xml}<!DOCTYPE m [<!ENTITY x SYSTEM "{url}">]>{title}',
        "external subset": f'<!DOCTYPE m SYSTEM "{url}">{mirror}</mirror>',
        "parameter entity": f'<!DOCTYPE m [<!ENTITY % p SYSTEM "{url}">%p;]>{mirror}</mirror>',
        "billion laughs": f'<!DOCTYPE m [<!ENTITY l0 "ha">{LAUGHS}]>{mirror}<title>&l9;</title></mirror>',
        "quadratic": f'<!DOCTYPE m [<!ENTITY x "{"a" * 50_000}">]>' + title.replace("&x;", "&x;" * 9000),
        "undefined entity": f"{mirror}<title>&nbsp;</title></mirror>",
        "xinclude": f'{mirror}<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="{file}"/></mirror>',
        "schema location": '<mirror xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:noNamespaceSchemaLocation="{url}" name="debian">{BODY}</mirror>',
        "namespace": f'<mirror xmlns="urn:x" name="debian">{BODY}</mirror>',
        "huge attribute": f'<mirror name="{"a" * 900_000}">{BODY}</mirror>',
        "huge text": f"{mirror}<title>{'a' * 900_000}</title></mirror>",
        "many attributes": "<mirror " + " ".join(f'a{n}="1"' for n in range(50_000)) + "/>",
        "huge name": f"{mirror}<{'a' * 40_000}>",
        "depth": "<mirror>" * 100_000,
        "too large": b" " * (2**20 + 1),
        "UTF-16": ("\ufeff" + mirror + "</mirror>").encode("utf-16-le"),
        "UTF-16 without a mark": (mirror + "</mirror>").encode("utf-16-be"),
        "mislabelled": b'<?xml version="1.0" encoding="UTF-16"?>' + mirror.encode() + b"</mirror>",
        "latin-1": b'<?xml version="1.0" encoding="latin-1"?>' + mirror.encode() + b"</mirror>",
        "not UTF-8": mirror.encode() + b"<title>\xe9</title></mirror>",
        "NUL": mirror.encode() + b"<title>\x00</title></mirror>",
        "control character": mirror.encode() + b"<title>\x1b[1m</title></mirror>",
        "character reference": f"{mirror}<title>&#27;[1m</title></mirror>",
        "cut off": f"{mirror}<title>",
        "two roots": f"{mirror}</mirror><mirror/>",
        "another root": "<html/>",
        "empty": "",
    }


@pytest.mark.parametrize("attack", _attacks("", ""))
def test_hostile_xml_is_refused_in_one_line_at_once(folder, canary, attack):
    folder.write("config/mirrors/debian.xml", _attacks(*canary)[attack])
    began = time.monotonic()
    lines = folder.errors()
    assert time.monotonic() - began < 1
    assert all(line.startswith("config/mirrors/debian.xml:") and "CANARY" not in line for line in lines)
    if attack not in ("many attributes", "huge attribute", "depth", "schema location"):
        assert len(lines) == 1


def test_the_line_of_a_doctype_is_told(folder):
    folder.write(
        "config/mirrors/debian.xml", '<?xml version="1.0"?>\n<!-- a\nb -->\n<!DOCTYPE mirror>\n<mirror/>'
    )
    assert folder.errors() == [
        "config/mirrors/debian.xml:4: <!DOCTYPE>: not allowed in a descriptor; leave it out"
    ]


@pytest.mark.parametrize("file", ["config/cluster.toml", "config/mirrors/debian.xml", "sites/kent.toml"])
def test_a_file_over_1_mib_is_not_read(folder, file):
    folder.write(file, b" " * (2**20 + 1))
    assert folder.errors() == [f"{file}:1: larger than 1 MiB, which no such file is"]


def test_what_our_words_let_pass_the_schema_still_refuses(folder, monkeypatch):
    monkeypatch.setitem(settings.FIELDS, "limits.connections", settings.Field(lambda text: 4))
    folder.mirror("debian", '<title>a</title>\n<limits connections="lots"/>')
    (line,) = folder.errors()
    start = (
        "config/mirrors/debian.xml:5: not what the schema allows: Element 'limits', attribute 'connections': "
    )
    assert line.startswith(start)


def test_loading_a_good_descriptor_opens_only_what_it_names(folder):
    opened: list[str] = []
    watching = True

    def hook(event, args):
        if watching and event == "open" and isinstance(args[0], str | bytes):
            opened.append(os.fsdecode(args[0]))
        elif watching and event.startswith(("socket.", "subprocess.", "os.exec")):
            opened.append(event)

    folder.load()
    sys.addaudithook(hook)
    folder.load()
    watching = False
    assert opened
    assert all(name.startswith(str(folder.root)) for name in opened)


@pytest.mark.parametrize("file", ["config/cluster.toml", "sites/kent.toml"])
@pytest.mark.parametrize(
    "content",
    [b"a" * (2**20 + 1), b"\xff\xfea", b'name = "\x00"', b"a = [" * 5000, b"a.b.c = 1\na.b = 2", b"\x1b[1m"],
)
def test_hostile_toml_is_refused_in_one_line_at_once(folder, file, content):
    folder.write(file, content)
    began = time.monotonic()
    assert all(line.startswith(f"{file}:") for line in folder.errors())
    assert time.monotonic() - began < 1


def test_a_descriptor_that_is_no_file_is_refused(folder):
    os.mkfifo(folder.root / "config/mirrors/pipe.xml")
    (folder.root / "config/mirrors/folder.xml").mkdir()
    (folder.root / "config/mirrors/lost.xml").symlink_to("nowhere")
    assert {line.split(":")[0] for line in folder.errors()} == {
        f"config/mirrors/{name}.xml" for name in ("pipe", "folder", "lost")
    }


# HAZARDS 137. Text for people may hold an apostrophe, which every template must quote anyway; nothing else.
NASTY = [
    "\n",
    "\r",
    '"',
    "'",
    ";",
    "{",
    "}",
    "#",
    "$",
    "${PATH}",
    "%",
    "%VAR%",
    "\\",
    "<",
    "`",
    "\x1b",
    "\u202e",
    "\x85",
]


def _xml(text: str) -> str:
    return "".join(f"&#{ord(c)};" for c in text)


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize(
    "element",
    [
        "<alias>/pub/a{}b</alias>",
        "<contact>a{}b@example.org</contact>",
        "<contact>https://example.org/a{}b</contact>",
        "<category>a{}b</category>",
        "<homepage>https://a{}b.example/</homepage>",
        "<homepage>https://example.org/a{}b</homepage>",
        "<title>a{}b</title>",
        '<origin url="https://a{}b.example/"/>',
        '<origin url="https://example.org/a{}b/"/>',
        '<origin url="https://example.org/b/" user-agent="a{}b"/>',
        '<origin url="https://example.org/b/" proxy="http://a{}b:1"/>',
        '<origin url="https://example.org/b/" credentials="a{}b"/>',
        '<attributes owner="a{}b"/>',
        '<sites><site name="a{}b"/></sites>',
        '<select><exclude pattern="x" reason="a{}b"/></select>',
    ],
)
def test_what_could_become_a_directive_is_refused(folder, element, nasty):
    folder.mirror("debian", element.format(_xml(nasty)))
    if element.startswith("<title>") and nasty in "'\n\r":
        title = folder.load().mirrors["debian"].title
        assert title == ("a'b" if nasty == "'" else "a b")
    elif "reason" in element and nasty == "'":
        assert folder.load().mirrors["debian"].select[0].reason == "a'b"
    else:
        assert len(folder.errors()) == 1


@pytest.mark.parametrize("nasty", [n for n in NASTY if n not in "\n\r"])
@pytest.mark.parametrize(
    "line",
    [
        "contact = 'a{}b@example.org'",
        "title = 'a{}b'",
        "web = 'a{}b:80'",
        "public_url = 'https://a{}b/'",
        "[peer]\nurl = 'https://a{}b:1'\nlisten = '0.0.0.0:1'\ncertificate = 'x.pem'",
        "[peer]\nurl = 'https://a:1'\nlisten = '0.0.0.0:1'\ncertificate = 'a{}b'",
    ],
)
def test_what_could_become_a_directive_is_refused_in_a_site_file(folder, line, nasty):
    quoted = nasty.encode("unicode_escape").decode().replace("\\x", "\\u00").replace('"', '\\"')
    quoted = "\\\\" if nasty == "\\" else quoted
    folder.site("kent", line.replace("'", '"').format(quoted))
    if line.startswith("title") and nasty == "'":
        assert folder.load().sites["kent"].title == "a'b"
    else:
        assert len(folder.errors()) == 1


def test_a_title_that_was_wrapped_is_one_line(folder):
    folder.mirror("debian", "<title>\n  Debian's\n  archive\n</title>")
    assert folder.load().mirrors["debian"].title == "Debian's archive"


SECRET = "p4ss-canary"


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://bob:{SECRET}@host/",
        f"https://bob:{SECRET}@host/",
        f"https://{SECRET}@host/",
        f"https//bob:{SECRET}@host/",
        f"bob:{SECRET}@host",
        f"https://bob:{SECRET}@ho st/",
        f"https://bob:{SECRET}@[::/",
        f"https://bob:{SECRET}@host:99999/",
        f"https://host/?token={SECRET}",
        f"gopher://host/?token={SECRET}",
        f"https://bob:{SECRET}&#10;@host/",
        f"file://bob:{SECRET}@localhost/x",
    ],
)
def test_a_secret_in_a_url_is_refused_and_never_repeated(folder, url):
    folder.mirror("debian", origin=f'<origin url="{url}"/>')
    folder.site("kent", f'public_url = "{url.replace("&#10;", "")}"')
    lines = folder.errors()
    assert len(lines) == 2
    assert SECRET not in str(lines)
