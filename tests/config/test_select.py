"""`<select>` and `<define>` as operators write them."""

import pytest

from cluster.model import Kind, Rule
from cluster.plan.select import Selection, reason_of

DAY = 86_400


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ('pattern="*.iso"', Rule(False, "*.iso")),
        (
            'pattern="*.iso" larger="4GB"',
            Rule(False, "*.iso", "larger than 4GB, and matches *.iso", larger=4 * 10**9),
        ),
        ('smaller="1KiB"', Rule(False, "**", "smaller than 1KiB", smaller=1024)),
        ('older="5y"', Rule(False, "**", "older than 5y", older=5 * 365 * DAY)),
        ('newer="1y30d" reason="too fresh"', Rule(False, "**", "too fresh", newer=395 * DAY)),
        ('regex="\\.(iso|img)$"', Rule(False, "", regex=r"\.(iso|img)$")),
        ('kind="link"', Rule(False, "**", kind=Kind.SYMLINK)),
    ],
)
def test_a_rule_says_which_names_how_large_how_old_and_of_what_kind(folder, written, rule):
    folder.mirror("debian", f"<select><exclude {written}/></select>")
    assert folder.load().mirrors["debian"].select == (rule,)


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ("", "says of nothing what it is about"),
        ('pattern="a" regex="b"', "either pattern or regex, not both"),
        ('regex="("', "not a regular expression"),
        ('regex="(?=a)"', "not a regular expression"),
        ('larger="2GB" smaller="1GB"', "nothing is larger than that and smaller than this"),
        ('older="2y" newer="1y"', "nothing is older than that and newer than this"),
        ('older="6h"', "is not an age; write 90d, 5y or 1y30d"),
        ('larger="huge"', "is not a size"),
        ('kind="pipe" pattern="*"', "is not one of file, directory, link"),
        ('kind="directory" larger="1GB"', "sizes and ages are of files and links"),
        ('kind="link" larger="1GB"', "sizes are of files"),
        ('pattern="iso/" larger="1GB"', "matches directories only; write iso/** for what is in them"),
        ('pattern="*" site="osol"', "no such site: 'osol'"),
        ('pattern="*_${arch}.deb"', "no list is called 'arch'; did you mean archs?"),
        ('pattern="${!archs}-${!archs}"', "stands twice"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_one_line(folder, written, error):
    folder.site("oslo")
    folder.mirror(
        "debian", f'<define name="archs" values="amd64"/>\n<select>\n<exclude {written}/>\n</select>'
    )
    (line,) = folder.errors()
    assert line.startswith("config/mirrors/debian.xml:6: ") and error in line


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ('name="Arch" values="amd64"', "is not the name of a list"),
        ('name="arch" values="a/b"', "'a/b' is not a value"),
        ('name="arch" values=" "', "at least one value"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_line(folder, written, error):
    folder.mirror("debian", f"<define {written}/>")
    assert [error in line for line in folder.errors()] == [True]


def test_lists_are_replaced_one_by_one_by_cluster_mirror_and_site(folder):
    folder.write(
        "config/cluster.toml",
        'name = "t"\n[defaults.mirror]\ndefine = [{ name = "arch", values = "i386" }, '
        '{ name = "suite", values = "sid" }]\n',
    )
    folder.site("kent", '[mirrors.debian]\ndefine = [{ name = "arch", values = "amd64" }]')
    folder.site("oslo")
    folder.mirror(
        "debian",
        """<define name="arch" values="amd64 arm64"/>
        <select><exclude pattern="dists/${suite}/binary-${!arch}/"/></select>""",
    )
    lists = {s: dict(folder.load(s).mirrors["debian"].select[0].lists) for s in ("kent", "oslo")}
    assert lists == {
        "kent": {"suite": ("sid",), "arch": ("amd64",)},
        "oslo": {"suite": ("sid",), "arch": ("amd64", "arm64")},
    }
    assert reason_of(folder.load("oslo").mirrors["debian"].select[0]) == (
        "excluded by dists/${suite}/binary-${!arch}/, suite: sid, arch: amd64 arm64"
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('kind="link"', "links are excluded"),
        ('kind="file" pattern="*.iso"', "files are excluded by *.iso"),
        (r'kind="link" regex="\.iso$"', r"links are excluded by \.iso$"),
        ('kind="link" pattern="debug/**" reason="no links"', "no links"),
    ],
)
def test_users_are_told_of_which_kind_a_rule_is(folder, said, told):
    folder.mirror("debian", f"<select><exclude {said}/></select>")
    assert reason_of(folder.load("kent").mirrors["debian"].select[0]) == told


def test_a_rule_for_one_site_is_known_to_its_siblings(folder):
    for name in ("oslo", "york"):
        folder.site(name)
    folder.mirror(
        "debian",
        '<select><exclude pattern="*.tmp"/><exclude pattern="iso/" site="oslo york"/></select>',
    )
    every, iso = Rule(False, "*.tmp"), Rule(False, "iso/", sites=("oslo", "york"))
    kent, oslo = (folder.load(site).mirrors["debian"] for site in ("kent", "oslo"))
    assert (kent.select, kent.elsewhere) == ((every,), (("oslo", (every, iso)), ("york", (every, iso))))
    assert (oslo.select, oslo.elsewhere) == ((every, iso), (("kent", (every,)),))


def test_rules_in_toml_say_the_same(folder):
    folder.site(
        "kent",
        """[mirrors.debian]
define = [{ name = "arch", values = "amd64" }]
select = [
  { include = "a" }, { exclude = true, larger = "4GB", older = "5y" }, { exclude = true, regex = "x$" },
]
""",
    )
    assert folder.load("kent").mirrors["debian"].select == (
        Rule(True, "a"),
        Rule(False, "**", "larger than 4GB, older than 5y", larger=4 * 10**9, older=5 * 365 * DAY),
        Rule(False, "", regex="x$"),
    )
    folder.site("kent", '[mirrors.debian]\nselect = [{ reason = "nothing" }]')
    assert ["write { include or exclude" in line for line in folder.errors()] == [True]


# What docs/operators/moving-from.md translates: the rules, what is mirrored by them, what is left out.
TRANSLATED = [
    (  # ftpsync: ARCH_INCLUDE="amd64 arm64 source"
        """<define name="arch" values="all amd64 arm64"/>
        <select>
          <exclude pattern="dists/**/binary-${!arch}/"/>
          <exclude pattern="dists/**/installer-${!arch}/"/>
          <exclude pattern="dists/**/Contents-${!arch}.gz"/>
          <exclude pattern="dists/**/Contents-udeb-${!arch}.gz"/>
          <exclude pattern="pool/**/*_${!arch}.deb"/>
          <exclude pattern="pool/**/*_${!arch}.udeb"/>
        </select>""",
        """dists/sid/main/binary-amd64/ dists/sid/main/source/ dists/sid/main/Contents-all.gz
        dists/sid/Release
        pool/main/a/apt/apt_2.6_amd64.deb pool/main/a/apt/apt_2.6.dsc pool/main/a/apt/apt-doc_2.6_all.deb""",
        """dists/sid/main/binary-i386/ dists/sid/main/installer-s390x/ dists/sid/main/Contents-hurd-i386.gz
        pool/main/a/apt/apt_2.6_i386.deb pool/main/a/apt/x_1_hurd-amd64.udeb""",
    ),
    (  # ftpsync: ARCH_EXCLUDE="i386 source"
        """<define name="unwanted" values="i386 armel"/>
        <select>
          <exclude pattern="dists/**/binary-${unwanted}/"/>
          <exclude pattern="pool/**/*_${unwanted}.deb"/>
          <exclude pattern="dists/**/source/"/>
          <exclude regex="^pool/.*\\.(dsc|(orig|debian)[^/]*\\.tar\\.[^/]*|diff\\.gz)$"/>
        </select>""",
        "dists/sid/main/binary-amd64/ pool/main/a/apt_2.6_amd64.deb pool/main/a/apt_2.6_all.deb",
        """dists/sid/main/binary-i386/ dists/sid/main/source/ pool/main/a/apt_2.6_armel.deb
        pool/main/a/apt_2.6.dsc pool/main/a/apt_2.6.orig.tar.xz pool/main/a/apt_2.6.debian.tar.xz""",
    ),
    (  # tunasync: an exclude_file of rsync
        """<select>
          <include pattern="/releases/current/"/>
          <exclude pattern="/releases/"/>
          <exclude pattern="*.~tmp~"/>
          <exclude pattern="debug/"/>
        </select>""",
        "releases/current/x.iso os/releases/a os/x86_64/a.rpm",
        "releases/9/x.iso a/b.~tmp~ os/x86_64/debug/",
    ),
    (  # tsumugu: --exclude '^[^/]+/(${UBUNTU_LTS})...' and --include
        """<define name="lts" values="focal jammy noble"/>
        <select>
          <include regex="^dists/${lts}(-[a-z]+)?/"/>
          <exclude regex="^dists/[^/]+/."/>
        </select>""",
        "dists/noble/Release dists/jammy-updates/main/x pool/x",
        "dists/mantic/Release dists/trusty/main/x",
    ),
    (  # mirror.pl: get_patt=\\.(tar\\.gz|zip)$ exclude_patt=(^|/)\\.
        """<select>
          <exclude regex="(^|/)\\.[^/]*$"/>
          <include regex="\\.(tar\\.gz|zip)$"/>
          <exclude pattern="**" kind="file"/>
        </select>""",
        "pub/a.tar.gz pub/ a.zip",
        "pub/a.txt .cache/ pub/.hidden.zip",
    ),
]


@pytest.mark.parametrize(("inside", "mirrored", "left_out"), TRANSLATED)
def test_what_other_tools_select_can_be_said(folder, inside, mirrored, left_out):
    from cluster.model import Entry, split

    folder.mirror("debian", inside)
    selection = Selection(folder.load().mirrors["debian"].select)

    def decided(words: str) -> set[str]:
        found = set()
        for word in words.split():
            path, kind = word.rstrip("/").encode(), Kind.DIRECTORY if word.endswith("/") else Kind.FILE
            by = selection.deciding(path, Entry(split(path)[1], kind))
            found |= {word} if by is None or by[1].include else set()
        return found

    assert decided(mirrored) == set(mirrored.split())
    assert decided(left_out) == set()
