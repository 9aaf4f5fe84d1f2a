"""Every message of a sibling with one thing in it changed: it is read, or refused in one line.

HAZARDS 124, 125: what arrives has a valid certificate and any bytes at all.
"""

import functools
import hashlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import MAX_TOLD, PeerBroke
from cluster.model import Claim, Entry, Kind, Listing, Rejected, Row, Stamp
from cluster.peer import agreedwire, bundlewire, linewire, listingwire, partwire, walkwire, wire
from cluster.peer.client import Parts, Through, Wish
from cluster.peer.codec import WireError
from cluster.plan.saving import Received
from cluster.store.agreement import Agreed
from tests.peer.cluster import held

STAMP = Stamp(1_700_000_000 * 10**9, 10**9)
DIGEST = hashlib.sha256(b"x").digest()
CLAIM = Claim(b"a", Row(5, None, STAMP), received=1, started=True, first=0, end=9, etag='"v"')
RECORD = wire.Record(7, 1_700_000_000, "publish", b"pool/a", Kind.FILE, 5, DIGEST, "origin")
ENTRIES = (
    Entry(b"a", Kind.FILE, 5, "5", STAMP, 0o644, 0, 0, link="1:2", links=2),
    Entry(b"l", Kind.SYMLINK, target=b"a"),
)
LISTING = Listing(
    ENTRIES, (Rejected(b"x\n", "odd", Kind.FILE),), True, "html", 99, own=ENTRIES[0], token=b"t"
)
WISHES = [Wish(b"pool", Entry(b"a", Kind.FILE, 5, None, STAMP), send=True)]
CARRIED = wire.Carried(
    "debian", DIGEST, "e", 9, 1, 2, 3, 4, "complete", received=Received(1, 2), days={5: Received(1, 2)}
)
SHARE = linewire.Share("connections", "host", 8, 1, 1, 0, 0)
ROWS = listingwire.packed(LISTING) or b""
HELD = held(b"a", b"12345")


MESSAGES = {
    "hello": (wire.hello(wire.Hello("oslo", "test", 8)), wire.hello_read),
    "mirrors": (wire.carried([CARRIED]), wire.carried_read),
    "directory": (
        wire.page([HELD, replace(HELD, name=b"b")], [CLAIM], known=True, more=True),
        wire.page_read,
    ),
    "journal": (
        wire.journal([RECORD], "e", 9, lost=False, more=True),
        functools.partial(wire.journal_read, after=3),
    ),
    "digests": (
        wire.digests(wire.Digests(DIGEST, DIGEST, ((b"a", DIGEST), (b"b", None)))),
        wire.digests_read,
    ),
    "wake": (wire.wake(wire.Wake("debian", b"a/b")), wire.wake_read),
    "parts": (
        partwire.told(Parts(((0, 5), (6, 9)), (CLAIM,), True, DIGEST)),
        functools.partial(partwire.told_read, size=9),
    ),
    "listing": (
        listingwire.told(3.0, b"t", ROWS),
        listingwire.told_read,
    ),
    "agreement": (
        agreedwire.told(Through(1.0, b"r"), Agreed(DIGEST, DIGEST, ((b"a", DIGEST),), True)),
        agreedwire.told_read,
    ),
    "question": (bundlewire.question("debian", WISHES), bundlewire.question_read),
    "greeting": (linewire.greeting(linewire.Greeting("oslo", "test")), linewire.read),
    "sign": (linewire.sign(linewire.Sign(wanted=True)), linewire.read),
    "fetching": (next(linewire.fetching([("debian", b"pool", CLAIM)])), linewire.read),
    "gone": (next(linewire.gone([("debian", b"pool", (b"a", 0))])), linewire.read),
    "cleared": (linewire.cleared("debian"), linewire.read),
    "follow": (linewire.follow(linewire.Follow("debian", "e", 3)), linewire.read),
    "news": (linewire.news("debian", "e", 9, [RECORD])[0], linewire.read),
    "walk": (
        walkwire.walk(walkwire.Walk("debian", 1, "http://a/", b"pool", 2, 3, True, True)),
        linewire.read,
    ),
    "listed": (
        next(walkwire.listed("debian", "http://a/", [walkwire.Word(b"pool", 5, b"t", ROWS)])),
        linewire.read,
    ),
    "known": (walkwire.known(walkwire.Known("debian", 1, True)), linewire.read),
    "rows": (b"\x94" + ROWS, lambda data: listingwire.rows_read(data[1:], b"t")),
    "shares": (linewire.shares(linewire.Shares(1, 2, 3, 4, (("york", 5),), (SHARE,))), linewire.read),
}

NUMBERS = [None, True, -1, 0, 1, 256, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.5]
NUMBERS += [float("nan"), float("inf")]
SHAPES = [[], {}, [[]], {"v": 1}, [0] * 10_001, {f"k{n}": 0 for n in range(65)}]
SHAPES += [msgpack.ExtType(1, b"x"), msgpack.Timestamp(1)]
TEXTS = ["", "x" * 4096, "x" * 5000, "a\nb", "\x1b[31m", "٣", "debian", "delete"]
NAMES = [b"", b".", b"..", b"a/b", b"/a", b"a//b", b"a\0", b"x" * 255, b"x" * 256, b"x" * 5000, bytes(32)]
ODD = st.sampled_from([*NUMBERS, *SHAPES, *TEXTS, *NAMES])


def places(value: object, at: tuple = ()) -> list[tuple]:
    """Every place inside a message, as the keys that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def changed(value: object, place: tuple, what: str, odd: object) -> object:
    if not place:
        return odd
    inside = dict(value) if isinstance(value, dict) else list(value)
    if len(place) > 1 or what == "replace":
        inside[place[0]] = changed(inside[place[0]], place[1:], what, odd)
    elif what == "remove":
        del inside[place[0]]
    elif isinstance(inside, list):
        inside.insert(place[0], inside[place[0]])  # the same twice
    else:
        inside[f"{place[0]}2"] = odd
    return inside


@pytest.mark.parametrize("what", MESSAGES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_message_with_something_else_in_it_is_read_or_refused_in_one_line(what, data):
    message, read = MESSAGES[what]
    whole = msgpack.unpackb(message, raw=False)
    place = data.draw(st.sampled_from(places(whole)))
    how = data.draw(st.sampled_from(["replace", "remove", "twice"]))
    packed = msgpack.packb(changed(whole, place, how, data.draw(ODD)))
    cut = data.draw(st.one_of(st.just(len(packed)), st.integers(0, len(packed))))
    try:
        read(packed[:cut])
    except WireError as error:
        told = str(PeerBroke("oslo", str(error)))
        assert told.isprintable()
        assert len(told) < MAX_TOLD + 20


@pytest.mark.parametrize("what", MESSAGES)
def test_what_is_mutated_here_is_a_message(what):
    message, read = MESSAGES[what]
    assert read(message) is not None


def test_what_an_error_quotes_is_one_line_of_a_bounded_length():
    """A version that is an array of ten thousand strings, and a name of another cluster."""
    with pytest.raises(WireError) as caught:
        wire.message(msgpack.packb({"v": [["x" * 80] * 10_000, 0]}))
    assert len(str(PeerBroke("oslo", str(caught.value)))) < MAX_TOLD + 20
    assert str(PeerBroke("oslo", "no\nway\x1b[31m")) == r"oslo: no way\x1b[31m"
