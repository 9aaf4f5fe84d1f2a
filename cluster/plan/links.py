"""Which symbolic links of an origin are made here."""

from __future__ import annotations

from cluster.model import depth


def refusal(directory: bytes, target: bytes) -> str:
    """Why a link in `directory` with this target is not made, or "".

    A link that is made resolves inside the mirror whatever other links lead through it: `..` may only
    stand at the beginning, where it climbs real directories, and not above the root. By induction no
    chain of such links leaves the tree (CVE-2024-12088, HAZARDS 16, 17).
    """
    if not target:
        return "link without a target"
    if b"\0" in target:
        return "link target holds NUL"
    if target.startswith(b"/"):
        return "link to an absolute path"
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    ups = 0
    while ups < len(parts) and parts[ups] == b"..":
        ups += 1
    if b".." in parts[ups:]:
        return "link with '..' after a name"
    if ups > depth(directory):
        return "link out of the mirror"
    return ""
