"""What one site knows."""

from __future__ import annotations

from cluster.plan.steal import Backlog, Piece
from cluster.simulate.knowledge import Fact, News, View

A, B, C = Piece(b"d/a", 10), Piece(b"d/b", 20), Piece(b"e/c", 40)


def view() -> View:
    return View("kent", [(A, "kent"), (B, "oslo"), (C, "oslo")])


def tell(news: News, piece: Piece, site: str = "oslo", **more) -> Fact:
    return Fact(0.0, news, site, piece, **more)


def open_pieces(of: View) -> dict[str, list[Piece]]:
    return {owner: list(work) for owner, work in of.open.items() if work}


def test_what_is_on_its_way_or_here_is_open_no_more_until_it_breaks_off():
    found = view()
    found.begin(B)
    assert found.left == {"kent": 10, "oslo": 40}
    found.broke_off(B)
    assert open_pieces(found) == {"kent": [A], "oslo": [C, B]}
    assert found.left == {"kent": 10, "oslo": 60}
    found.begin(A)
    found.arrived(A, first=True)
    assert open_pieces(found) == {"oslo": [C, B]}
    assert not found.complete


def test_what_a_sibling_holds_is_offered_until_it_is_lost():
    found = view()
    found.learn(tell(News.HELD, C, first=True))
    assert (list(found.offered), found.source(C)) == ([C], "oslo")
    assert found.backlogs(2.0) == {"kent": Backlog(10, 0.0), "oslo": Backlog(20, 20.0)}
    found.lose("oslo")
    assert (list(found.offered), found.source(C)) == ([], None)
    assert open_pieces(found) == {"kent": [A], "oslo": [B, C]}
    found.learn(tell(News.HELD, B))
    assert not found.offered


def test_a_copy_from_the_origin_is_taken_before_a_copy_of_a_copy():
    found = view()
    found.learn(tell(News.HELD, C, "lima"))
    found.learn(tell(News.HELD, C, "oslo", first=True))
    assert found.source(C) == "oslo"


def test_claims_stand_until_they_are_dropped_or_kept():
    found = view()
    found.learn(tell(News.CLAIMED, B))
    found.learn(tell(News.CLAIMED, B, "lima"))
    assert [c.site for c in found.claims(B.path, lambda site: 7.0)] == ["oslo", "lima"]
    found.learn(tell(News.DROPPED, B))
    assert [(c.site, c.seen) for c in found.claims(B.path, lambda site: 7.0)] == [("lima", 7.0)]
    found.learn(tell(News.HELD, B, "lima"))
    assert not found.claims(B.path, lambda site: 7.0)


def test_work_is_divided_anew_in_the_order_of_paths():
    found = view()
    found.begin(C)
    found.divide_anew(lambda piece: "kent")
    found.broke_off(C)
    assert open_pieces(found) == {"kent": [A, B, C]}
    assert found.left == {"kent": 70}
    assert [list(work) for work in found.tails().values()] == []
