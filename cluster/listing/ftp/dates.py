"""Dates as `ls` prints them: months in the server's language, and no year where the file is young.

The wall clock is that of the server's zone, which no row names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cluster.listing.times import day_ns
from cluster.model import DAY, MINUTE, SECOND, Stamp

AHEAD = 2 * DAY  # a zone's 14 h and a server's clock that is a day fast (HAZARDS 50)
_YEAR = 366 * DAY

_ENGLISH = "jan feb mar apr may jun jul aug sep,sept oct nov dec"
_MONTHS = {  # glibc's and ICU's abbreviations; a comma joins those of one month
    "en": _ENGLISH,
    "de": "jan,jän feb mär,mrz,märz apr mai jun,juni jul,juli aug sep,sept okt nov dez",
    "fr": "jan,janv fév,févr,fevr mar,mars avr,avril mai juin juil aoû,août,aout sep,sept oct nov déc,dec",
    "es": "ene feb mar abr may jun jul ago sep,sept oct nov dic",
    "it": "gen feb mar apr mag giu lug ago set,sett ott nov dic",
    "pt": "jan fev mar abr mai jun jul ago set out nov dez",
    "nl": "jan feb mrt,maa apr mei jun jul aug sep okt nov dec",
    "da": "jan feb mar apr maj jun jul aug sep okt nov dec",
    "sv": "jan feb mar,mars apr,april maj jun,juni jul,juli aug sep okt nov dec",
    "nb": "jan feb mar,mars apr mai jun,juni jul,juli aug sep,sept okt nov des",
    "fi": "tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu",
    "et": "jaan veebr märts apr,aprill mai juuni juuli aug sept okt nov dets",
    "pl": "sty lut mar kwi maj cze lip sie wrz paź lis gru",
    "cs": "led úno bře dub kvě čen,čer čec srp zář říj lis pro",
    "sk": "jan feb mar apr máj jún júl aug sep okt nov dec",
    "hu": "jan,jan febr,feb márc,már ápr máj jún júl aug szept,sze okt nov dec",
    "hr": "sij vel ožu tra svi lip srp kol ruj lis stu pro",
    "ro": "ian feb mar apr mai iun iul aug sep,sept oct noi,nov dec",
    "tr": "oca şub mar nis may haz tem ağu eyl eki kas ara",
    "ca": "gen febr,feb març abr maig juny jul ag,ago set oct nov des",
    "ru": "янв фев,февр мар,марта апр май,мая июн,июня июл,июля авг сен,сент окт ноя,нояб дек",
    "uk": "січ лют бер кві тра чер лип сер вер жов лис гру",
    "bg": "яну фев мар апр май юни юли авг сеп окт ное дек",
    "el": "ιαν φεβ μαρ,μάρ απρ μαι,μάι,μαΐ ιουν,ιούν ιουλ,ιούλ αυγ,αύγ σεπ οκτ νοε,νοέ δεκ",
    "ja": " ".join(f"{month}月,{month:02}月" for month in range(1, 13)),
    "ko": " ".join(f"{month}월,{month:02}월" for month in range(1, 13)),
}
_WEST, _EAST = ("latin-1", "cp850"), ("iso8859-2", "cp1250")
_ENCODINGS = {  # besides UTF-8
    **dict.fromkeys(("de", "fr", "es", "pt", "fi", "et", "ca"), _WEST),
    **dict.fromkeys(("pl", "cs", "sk", "hu", "hr"), _EAST),
    "tr": ("iso8859-9",),
    **dict.fromkeys(("ru", "uk", "bg"), ("koi8-u", "cp1251", "iso8859-5", "cp866")),
    "el": ("iso8859-7",),
    "ja": ("euc_jp", "shift_jis", "gb18030", "big5"),
    "ko": ("euc_kr",),
}


def _marks(japanese: str, korean: str) -> bytes:
    """A pattern of what follows a number in these languages."""
    spelt = {japanese.encode(e) for e in ("utf-8", *_ENCODINGS["ja"])}
    spelt |= {korean.encode(e) for e in ("utf-8", *_ENCODINGS["ko"])}
    return b"(?:" + b"|".join(map(re.escape, sorted(spelt))) + b")?"


_DAY, _YEAR_MARK = _marks("日", "일"), _marks("年", "년")


def _spellings() -> dict[bytes, dict[str, int]]:
    """Every spelling in bytes, with the month that it is in each language that has it."""
    spellings: dict[bytes, dict[str, int]] = {}
    for language, months in _MONTHS.items():
        for month, words in enumerate(months.split(), 1):
            for word in words.split(","):
                for text in (word, word.capitalize(), word.upper()):
                    for encoding in ("utf-8", *_ENCODINGS.get(language, ())):
                        try:
                            spellings.setdefault(text.encode(encoding), {})[language] = month
                        except UnicodeEncodeError:
                            continue
    return spellings


_SPELLINGS = _spellings()
_MONTH = rb"(?:\d{1,2})?[A-Za-z\x80-\xff][A-Za-z\x80-\xff.]*"
_MINUTES = rb"(\d{1,2}):(\d\d)"
_FRACTION = rb"(?:[.,]\d{1,9})?"
# Of every hand of `ls`, with 17 groups. One space follows, and the name.
DATE = (
    rb"(?:(?:(%b) +(\d{1,2})%b|(\d{1,2})\.?%b +(%b))( +)(?:%b(?::(\d\d)%b(?: +(\d{4}))?)?|(\d{4,12})%b)"
    % (_MONTH, _DAY, _DAY, _MONTH, _MINUTES, _FRACTION, _YEAR_MARK)
    + rb"|(?:(\d{4})-)?(\d\d)-(\d\d)(?: +%b(?::(\d\d)%b)?(?: ([+-]\d{4}))?|(?<=\d\d\d\d-\d\d-\d\d) ))"
    % (_MINUTES, _FRACTION)
)


def dated(
    search: Callable[[bytes, int], re.Match[bytes] | None], line: bytes, start: int
) -> re.Match[bytes] | None:
    """The first match from `start` on of one group and `DATE` that has a month where that stands: an owner
    between two numbers looks like one."""
    found = search(line, start)
    while found is not None:
        word = found[2] or found[5]
        if word is None or word.rstrip(b".") in _SPELLINGS:
            return found
        found = search(line, found.start() + 1)
    return None


class Date(NamedTuple):
    """A date as it was printed. `month` is a word where its language decides; `time` has its precision."""

    year: int | None
    month: bytes | int
    day: int
    time: tuple[int, int] | None
    offset: int | None  # ns east of UTC
    left_aligned: bool = False  # a year with the blank that pads it to the width of a clock behind it


class Dates:
    """The dates of one listing. `zoned`: every one of them names its zone."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._words: set[bytes] = set()
        self._months: dict[bytes, int | None] = {}
        self._read: dict[bytes, Date | None] = {}  # files come in bunches
        self._stamps: dict[Date, Stamp | None] = {}
        self.zoned = True

    def read(self, found: re.Match[bytes]) -> Date | None:
        """The date that the groups of `DATE` behind the first one are, or None where no clock or calendar
        shows such a one."""
        text = found.string[found.end(1) : found.end()]
        if text not in self._read:
            self._read[text] = self._dated(found.groups()[1:])
        return self._read[text]

    def _dated(self, printed: tuple[bytes | None, ...]) -> Date | None:
        date = _worded(*printed[:10]) if printed[1] or printed[2] else _numbered(*printed[10:])
        if date is None:
            return None
        self.zoned = self.zoned and date.offset is not None
        if isinstance(date.month, bytes):
            self._words.add(date.month)
        return date

    def one_language(self) -> bool:
        """To be asked once all were read: whether one language has the months of them all."""
        months = months_of(self._words)
        self._months = months or {}
        return months is not None

    def stamp(self, date: Date) -> Stamp | None:
        """None where the day does not exist, cannot be told, or is none that a record can hold."""
        if date not in self._stamps:
            self._stamps[date] = self._stamp(date)
        return self._stamps[date]

    def _stamp(self, date: Date) -> Stamp | None:
        month = self._months[date.month] if isinstance(date.month, bytes) else date.month
        if month is None:
            return None
        if date.year is not None:
            midnight = day_ns(date.year, month, date.day)
        else:
            midnight = recent_day(month, date.day, self._now)
        if midnight is None:
            return None
        if date.time is None:
            return Stamp(midnight, DAY)
        return Stamp(midnight + date.time[0] - (date.offset or 0), date.time[1])


def _worded(
    month: bytes | None,
    day: bytes | None,
    first_day: bytes | None,
    last_month: bytes | None,
    pad: bytes | None,
    hour: bytes | None,
    minute: bytes | None,
    second: bytes | None,
    late_year: bytes | None,
    year: bytes | None,
) -> Date | None:
    word = (month or last_month or b"").rstrip(b".")
    number = int(day or first_day or b"0")
    told = year or late_year
    time = clock(hour, minute or b"", second) if hour else None
    if not 1 <= number <= 31 or (hour and time is None):
        return None
    aligned = year is not None and len(year) == 4 and pad == b" "
    return Date(int(told) if told else None, word, number, time, None, aligned)


def _numbered(
    year: bytes | None,
    month: bytes | None,
    day: bytes | None,
    hour: bytes | None,
    minute: bytes | None,
    second: bytes | None,
    zone: bytes | None,
) -> Date | None:
    time = clock(hour, minute or b"", second) if hour else None
    number, day_number = int(month or b"0"), int(day or b"0")
    if not (1 <= number <= 12 and 1 <= day_number <= 31) or (hour and time is None):
        return None
    offset = None
    if zone:
        offset = (int(zone[1:3]) * 60 + int(zone[3:])) * (MINUTE if zone[:1] == b"+" else -MINUTE)
    return Date(int(year) if year else None, number, day_number, time, offset)


def months_of(words: Iterable[bytes]) -> dict[bytes, int | None] | None:
    """What each word means in the one language that has them all, or None where there is none.

    A word that several such languages understand differently (`lis` is November in Polish and October in
    Croatian) means no month.
    """
    read = {word: _SPELLINGS[word] for word in words}
    if not read:
        return {}
    languages = set.intersection(*(set(meanings) for meanings in read.values()))
    if not languages:
        return None
    agreed: dict[bytes, int | None] = {}
    for word, meanings in read.items():
        months = {meanings[language] for language in languages}
        agreed[word] = months.pop() if len(months) == 1 else None
    return agreed


def recent_day(month: int, day: int, now: int) -> int | None:
    """Midnight of the latest such day that is at most two days after `now`, in ns, or None for no such day.

    `ls` leaves the year out for the last half year, and some servers always. A 29 February further back than
    a year is the one nearest to `now`.
    """
    year = 1970 + now // _YEAR
    candidates = [day_ns(y, month, day) for y in range(year + 10, year - 10, -1)]
    days = [midnight for midnight in candidates if midnight is not None]
    past = [midnight for midnight in days if midnight <= now + AHEAD]
    if not past:
        return None
    if now - past[0] <= _YEAR:
        return past[0]
    return min(days, key=lambda midnight: abs(midnight - now))


def clock(hour: bytes, minute: bytes, second: bytes | None = None) -> tuple[int, int] | None:
    """Since midnight in ns, and how precise they are; None where no clock shows such a time."""
    h, m, s = int(hour), int(minute), int(second or b"0")
    if h > 23 or m > 59 or s > 60:
        return None
    return (h * 60 + m) * MINUTE + s * SECOND, SECOND if second else MINUTE
