"""Dates: the forms in which addresses and columns say them, and what is not plausible."""

import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import attributes
from curate.attributes import Dates
from curate.errors import UnknownSetting


def asked(url=None, date=None, **config):
    docs = pa.table({"url": pa.array([url], pa.large_string()), "date": pa.array([date], pa.large_string())})
    config = Dates(**{"urls": ("url",), "dates": ("date",), "name": "said"} | config)
    return attributes.date(docs.select(list({**dict.fromkeys((*config.urls, *config.dates))})), config).to_pylist()[0]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://a.org/2019/05/12/title", "2019-05-12"),
        ("https://a.org/2019/5/2/", "2019-05-02"),
        ("https://a.org/news/2019/05/title.html", "2019-05"),
        ("https://a.org/news/2019/05", "2019-05"),
        ("https://a.org/2019-05-12-title.md", "2019-05-12"),
        ("https://a.org/posts/title-2019-05-12.html", "2019-05-12"),
        ("https://a.org/20190512/x", "2019-05-12"),
        ("a.org/2019/05/12/", "2019-05-12"),
        ("https://a.org/2019/02/30/", "2019-02"),
        ("https://a.org/2019/13/01/", None),
        ("https://a.org/1066/10/14/", None),
        ("https://a.org/2919/05/12/", None),
        ("https://a.org/2019/", None),
        ("https://a.org/item/201905123", None),
        ("https://a.org/?d=/2019/05/12/", None),
        ("https://2019/05/12", None),
        ("https://a.org/x#/2019/05/12/", None),
        ("", None),
        (None, None),
    ],
)
def test_addresses(url, said):
    year = said and int(said[:4])
    assert asked(url=url) == {"said": said, "said_year": year, "said_from": said and "url"}


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("2019-05-12", "2019-05-12"),
        ("2019-05-12T23:59:59Z", "2019-05-12"),
        ("2019-05-12 10:00:00+02:00", "2019-05-12"),
        (" 2019-05 ", "2019-05"),
        ("2019", "2019"),
        ("20190512", "2019-05-12"),
        ("20190512103000", "2019-05-12"),
        ("Sun, 12 May 2019 10:00:00 GMT", "2019-05-12"),
        ("Sunday, 02-May-2019", "2019-05-02"),
        ("2 May 2019", "2019-05-02"),
        ("1557655200", "2019-05-12"),
        ("1557655200.25", "2019-05-12"),
        ("2019-02-29", None),
        ("1875", None),
        ("12/05/2019", None),
        ("12 Foo 2019", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_columns(date, said):
    assert asked(date=date)["said"] == said


def test_the_address_is_asked_first():
    assert asked("https://a.org/2015/03/", "2019-05-12")["said_from"] == "url"
    assert asked("https://a.org/x", "2019-05-12")["said_from"] == "date"
    assert asked("https://a.org/1815/03/", "2019-05-12")["said"] == "2019-05-12"


def test_years_may_be_other_ones():
    assert asked(date="1875", earliest=1800)["said_year"] == 1875


def test_default_names():
    docs = pa.table({"url": pa.array(["http://a.org/2015/03/04/"], pa.large_string())})
    assert attributes.date(docs, Dates()).to_pylist() == [{"date": "2015-03-04", "year": 2015, "date_from": "url"}]


def test_settings_are_checked():
    with pytest.raises(UnknownSetting):
        Dates(urls=())
    with pytest.raises(UnknownSetting):
        Dates(earliest=2020, latest=2019)


@settings(deadline=None, max_examples=100)
@given(st.dates(datetime.date(1990, 1, 1), datetime.date(2030, 12, 31)), st.text(max_size=8))
def test_every_day_is_read_in_every_form(day, noise):
    said = day.isoformat()
    months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    http = f"Mon, {day.day:02} {months[day.month - 1]} {day.year} 00:00:00 GMT"
    for form in (said, f"{said}T{noise.replace(chr(10), '')}", day.strftime("%Y%m%d"), http):
        assert asked(date=form)["said"] == said
    assert asked(url=f"http://a.org/{day.year}/{day.month}/{day.day}/{noise.replace('/', '')}")["said"] == said
