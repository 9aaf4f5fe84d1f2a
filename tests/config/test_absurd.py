"""Every element and attribute of a descriptor with words that nobody means: one line each, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

import pytest

from cluster.config.advice import warnings
from cluster.config.descriptor import Grammar, grammar
from cluster.errors import ConfigErrors

ABSURD = {
    "nothing": "",
    "a blank": " ",
    "a line break": "a\nb",
    "a no-break space": "\u00a0",
    "NUL": "\0",
    "an escape": "\x1b[1m",
    "100 000 letters": "a" * 100_000,
    "less than none": "-1",
    "more than there is": "9" * 30,
    "no number": "nan",
    "the way up": "../../etc/passwd",
    "an open list": "${x",
    "an open bracket": "[(",
    "the other way round": "\u202eabc",
    "other digits": "١٢",
}
NEEDED = {  # what an element must have beside the attribute that is tried
    "define": {"name": "x", "values": "a"},
    "downstream": {"name": "d", "ssh": "u@h"},
    "repository": {"type": "apt"},
    "probe": {"path": "p", "every": "1h"},
    "hours": {"from": "01:00", "to": "02:00", "bandwidth": "1MB/s"},
    "hook": {"on": "after", "command": "/bin/true"},
    "origin": {"url": "https://ftp.example.org/x/"},
    "mirror": {"name": "debian"},
}


def places(rule: Grammar, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a word may stand: the elements from the top, and the attribute or nothing for text."""
    if rule.text:
        yield above, ""
    for attribute in rule.attributes:
        yield above, attribute
    for name, below in rule.children.items():
        yield from places(below, (*above, name))


def word(text: str, attribute: str) -> str:
    """As XML; what XML does not allow is there as it is."""
    if "\0" in text or "\x1b" in text:
        return f'"{text}"' if attribute else text
    return quoteattr(text, {"\u00a0": "&#160;"}) if attribute else text


def written(elements: tuple[str, ...], attribute: str, text: str) -> str:
    *above, last = elements
    attributes = {name: quoteattr(value) for name, value in NEEDED.get(last, {}).items()}
    if attribute:
        attributes.pop("pattern" if attribute == "regex" else "", "")
        attributes[attribute] = word(text, attribute)
    said = "".join(f" {name}={value}" for name, value in attributes.items())
    inside = f"<{last}{said}>{'' if attribute else word(text, '')}</{last}>"
    for name in reversed(above):
        kept = NEEDED.get(name, {}) if name != "hook" else {"on": "after"}
        said = "".join(f" {key}={quoteattr(value)}" for key, value in kept.items())
        inside = f"<{name}{said}>\n{inside}</{name}>"
    return inside


def descriptor(elements: tuple[str, ...], attribute: str, text: str) -> str:
    rest = '<path>/debian</path>\n<origin url="https://a/"/>\n'
    if len(elements) == 1:
        return f"<mirror {attribute}={word(text, attribute)}>\n{rest}</mirror>"
    inside = written(elements[1:], attribute, text)
    first = elements[1]
    if first in ("path", "origin"):
        rest = rest.replace("<path>/debian</path>" if first == "path" else '<origin url="https://a/"/>', "")
    return f'<mirror name="debian">\n{rest}{inside}\n</mirror>'


@pytest.mark.parametrize("kind", ABSURD)
def test_an_absurd_word_is_nothing_or_one_line_that_names_its_element(folder, kind):
    text, refused = ABSURD[kind], 0
    for elements, attribute in places(grammar()[1], ("mirror",)):
        folder.write("config/mirrors/debian.xml", descriptor(elements, attribute, text))
        try:
            assert all(line.isprintable() for line in warnings(folder.load()))
        except ConfigErrors as caught:
            refused += 1
            for error in caught.errors:
                line = str(error)
                assert error.file == "config/mirrors/debian.xml" and line.isprintable(), (elements, line)
                assert len(line) < 350, (elements, attribute, line)
                named = [f"<{name}" in line for name in elements[-2 if elements[-1] == "arg" else -1 :]]
                assert any(named) or kind in ("NUL", "an escape"), (elements, attribute, line)
    assert refused


@pytest.mark.parametrize(
    ("inside", "error"),
    [
        (
            '<publish lists="ls-lR RECENT"/>',
            "<publish lists>: 'RECENT' is not one of ls-lR, fullfiletimelist",
        ),
        ('<publish last="pool/${arch"/>', "<publish last>: not a pattern: pool/${arch: '${' without '}'"),
        ('<select><exclude pattern="${a"/></select>', "<exclude>: ${a: '${' without '}'"),
        ('<select><exclude regex="^${a/"/></select>', "<exclude>: ^${a/: '${' without '}'"),
        ('<select><exclude pattern="${a}"/></select>', "<exclude>: no list is called 'a'; <define name="),
        ('<select><exclude pattern="x" site="&#160;"/></select>', "is not a name"),
        ('<select><exclude smaller="0"/></select>', "<exclude>: nothing is smaller than 0 bytes"),
        ('<define name="a" values="b&#160;c"/>', "is not a value"),
        ('<define name="a" values="b"/>\n<define name="a" values="c"/>', "stands twice; first in line 4"),
        ('<repository type="apt"/>\n<repository type="apt"/>', "<repository>: stands twice; first in line 4"),
        (
            '<downstream name="a" ssh="u@h"/>\n<downstream name="a" ssh="v@h"/>',
            "<downstream>: stands twice; first in line 4",
        ),
        (
            '<schedule><probe path="a" every="1h"/>\n<probe path="a" every="2h"/></schedule>',
            "<probe>: stands twice; first in line 4",
        ),
        ('<schedule cron="0 0 30 2 *"/>', "<schedule cron>: '0 0 30 2 *' is not a cron line"),
        ("<alias>/debian</alias>", "<alias>: /debian is the same as /debian of mirror debian"),
        ('<hooks><hook on="after"><arg> </arg></hook></hooks>', "<hook>: a command has a program"),
        ('<repository type="apt" path=""/>', "<repository>: path is empty; leave it out"),
        (
            "<title>&#27;</title>",
            "not well-formed XML: &#27; is a control character, which XML does not allow",
        ),
    ],
)
def test_what_cannot_be_meant_is_said(folder, inside, error):
    folder.mirror("debian", inside)
    (line,) = folder.errors()
    assert error in line


@pytest.mark.parametrize(
    ("inside", "warning"),
    [
        ('<downstream name="a" webhook="https://a/" secret="no"/>', "downstream a: secret file "),
        ('<downstream name="a" ssh="u@h" key="no"/>', "downstream a: key file "),
        ('<downstream name="a" ssh="u@h" hosts="no"/>', "downstream a: hosts file "),
        ('<hooks><hook on="after" command="/no/program -x"/></hooks>', "hooks: /no/program is not a program"),
        ('<attributes owner="no-such-user"/>', "attributes: there is no owner no-such-user"),
        ('<attributes group="no-such-group"/>', "attributes: there is no group no-such-group"),
    ],
)
def test_what_this_machine_lacks_is_a_warning(folder, inside, warning):
    folder.mirror("debian", inside)
    told = [line for line in warnings(folder.load()) if warning in line]
    assert len(told) == 1 and told[0].startswith("config/mirrors/debian.xml: ")
    assert "on this machine" in told[0]
