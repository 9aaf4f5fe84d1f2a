"""`<origin method="command">` as operators write it."""

import pytest

from cluster.config.advice import warnings
from cluster.model import CommandSpec, OriginSpec

GIVEN = 'method="command" command="/usr/bin/fetch --from \'a b\'"'


def test_a_program_has_limits_a_name_and_a_folder_at_each_site(folder):
    folder.site("kent", '[mirrors.debian.origin]\ntime = "1h"')
    folder.mirror(
        "debian", origin=f'<origin {GIVEN} space="5GB" memory="1GB" processes="20" user="fetch" time="2h"/>'
    )
    arguments = ("/usr/bin/fetch", "--from", "a b")
    made = CommandSpec(arguments, 7200.0, 5 * 10**9, 10**9, 20, "fetch")
    assert folder.load().mirrors["debian"].origins == (OriginSpec("command:fetch", command=made),)
    (here,) = folder.load("kent").mirrors["debian"].origins
    assert here.command.time == 3600.0
    assert here.command.folder == f"{folder.root}/run/kent/state/commands/debian/1"


def test_without_limits_a_program_has_six_hours(folder):
    folder.mirror("debian", origin=f"<origin {GIVEN}/>")
    (made,) = folder.load().mirrors["debian"].origins
    assert made.command == CommandSpec(("/usr/bin/fetch", "--from", "a b"), 21_600.0)


@pytest.mark.parametrize(
    ("origin", "error"),
    [
        ("<origin/>", '<origin>: the attribute url="..." is missing'),
        ('<origin method="command"/>', '<origin>: the attribute command="..." is missing'),
        (f'<origin url="https://a/" {GIVEN}/>', "<origin url>: what a program makes has no address"),
        ('<origin url="https://a/" space="1GB"/>', '<origin space>: goes with method="command"'),
        ('<origin url="https://a/" command="/x"/>', '<origin command>: goes with method="command"'),
        ('<origin method="command" command="fetch"/>', "is not a command; write /usr/local/bin/program"),
        ('<origin method="command" command="/fetch \'a"/>', "is not a command: No closing quotation"),
        ('<origin method="magic" url="https://a/"/>', "is not one of url, command"),
        (f"<origin {GIVEN}/><origin {GIVEN}/>", "the same as the origin in line 3"),
    ],
)
def test_a_program_that_cannot_be_meant_is_one_line(folder, origin, error):
    folder.mirror("debian", origin=origin)
    (line,) = folder.errors()
    assert line.startswith("config/mirrors/debian.xml:3: ") and error in line


def test_a_program_is_no_default(folder):
    folder.site("kent", '[mirrors.debian.origin]\ncommand = "/bin/x"')
    (line,) = folder.errors()
    assert "belongs in the mirror's descriptor" in line


def test_a_program_that_is_not_on_this_machine_is_a_warning(folder):
    gone = folder.root / "fetch"
    folder.mirror("debian", origin=f'<origin method="command" command="{gone} --all"/>')
    said = f"config/mirrors/debian.xml: origin command:fetch: {gone} is not a program on this machine"
    assert said in warnings(folder.load())
    gone.write_text("#!/bin/sh\n")
    gone.chmod(0o755)
    assert said not in warnings(folder.load())
