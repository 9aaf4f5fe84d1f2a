"""The site's figures in the text format of Prometheus (version 0.0.4). Values in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from cluster.plan.shares import Standing
from cluster.store.summary import MirrorSummary
from cluster.web.view import Progress, SiblingSummary

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]

# name, what it says, how it is read from a mirror's line; None leaves the sample out
_GAUGES: tuple[tuple[str, str, Callable[[MirrorSummary], float | None]], ...] = (
    ("files", "Files held.", lambda line: line.files),
    ("bytes", "Bytes held.", lambda line: line.bytes),
    ("fresh_timestamp_seconds", "Start of the last complete pass.", lambda line: line.fresh),
    ("last_pass_timestamp_seconds", "End of the last pass.", lambda line: line.ended),
    ("failed_updates", "Updates that failed and have not succeeded since.", lambda line: line.errors),
    (
        "last_pass_saved_bytes",
        "Bytes of new files that were here, in older versions or under other names.",
        lambda line: line.saved_bytes,
    ),
    (
        "last_pass_shared_bytes",
        "Bytes of new files that take no room of their own.",
        lambda line: line.shared_bytes,
    ),
    ("held_files", "Files in a deletion plan that waits for approval.", lambda line: line.held),
)

_BUDGETS: tuple[tuple[str, str, Callable[[Standing], float]], ...] = (
    ("budget", "What all may use together; bandwidth in thousandths.", lambda one: one.budget),
    ("fair", "This site's own share of it.", lambda one: one.fair),
    ("allowed", "What this site may use now.", lambda one: one.allowed),
    ("used", "What this site uses (connections only).", lambda one: one.used),
    ("lent", "What siblings use of this site's share.", lambda one: one.lent),
    ("borrowed", "What this site has of its siblings' shares.", lambda one: one.borrowed),
    ("silent_sites", "Sites that share it and are not heard.", lambda one: len(one.silent)),
)


def render(
    mirrors: Mapping[str, MirrorSummary],
    running: Mapping[str, Progress],
    siblings: Mapping[str, SiblingSummary],
    config_errors: int,
    responses: Mapping[int, int],
    budgets: Iterable[Standing] = (),
) -> str:
    """One gauge or counter per fact, sorted. A mirror whose records cannot be read shows only that."""
    known = {name: line for name, line in sorted(mirrors.items()) if not line.problem}
    readable: list[Sample] = [({"mirror": name}, int(name in known)) for name in sorted(mirrors)]
    at_work: list[Sample] = [({"mirror": name}, int(name in running)) for name in sorted(mirrors)]
    received: list[Sample] = []
    in_all: list[Sample] = []
    outcomes: list[Sample] = []
    for name, line in known.items():
        received.append(({"mirror": name, "source": "origin"}, line.origin_bytes))
        received.append(({"mirror": name, "source": "sideways"}, line.sideways_bytes))
        in_all.append(({"mirror": name, "source": "origin"}, line.received.origin))
        in_all.append(({"mirror": name, "source": "sideways"}, line.received.sideways))
        if line.outcome:
            outcomes.append(({"mirror": name, "outcome": line.outcome}, 1))
    up: list[Sample] = [({"site": name}, int(sibling.up)) for name, sibling in sorted(siblings.items())]
    sent: list[Sample] = [({"status": str(status)}, count) for status, count in sorted(responses.items())]

    lines: list[str] = []
    lines += _metric("mirror_readable", "gauge", "Whether the mirror's records can be read.", readable)
    lines += _metric("mirror_running", "gauge", "Whether a pass is running.", at_work)
    for gauge, what, read in _GAUGES:
        values = ((name, read(line)) for name, line in known.items())
        samples: list[Sample] = [({"mirror": name}, value) for name, value in values if value is not None]
        lines += _metric(f"mirror_{gauge}", "gauge", what, samples)
    lines += _metric(
        "mirror_last_pass_bytes", "gauge", "Bytes of files that the last pass received.", received
    )
    lines += _metric(
        "received_bytes_total",
        "counter",
        "Bytes of files that passes received since the records began.",
        in_all,
    )
    lines += _metric("mirror_last_pass_info", "gauge", "Outcome of the last pass.", outcomes)
    lines += _metric("sibling_up", "gauge", "Whether the sibling answers.", up)
    standings = [({"host": one.host, "sort": one.sort}, one) for one in budgets]
    for gauge, what, of in _BUDGETS:
        told: list[Sample] = [(labels, of(one)) for labels, one in standings]
        lines += _metric(f"shared_{gauge}", "gauge", what, told)
    lines += _metric("config_errors", "gauge", "Invalid files of the configuration.", [({}, config_errors)])
    lines += _metric("web_responses_total", "counter", "Answers of the web server, by status.", sent)
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, what: str, samples: Iterable[Sample]) -> list[str]:
    rows = [f"sideways_{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return [f"# HELP sideways_{name} {what}", f"# TYPE sideways_{name} {kind}", *rows]


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)
