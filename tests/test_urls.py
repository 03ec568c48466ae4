"""Addresses: hosts and domains by the public suffix list, and three published ways to compare them with lists."""

import gzip

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import urls
from curate.errors import BadInput, UnknownSetting

law = settings(deadline=None, max_examples=100)


def table(*addresses):
    return pa.table({"url": pa.array(addresses, pa.large_string())})


# ── hosts and domains ────────────────────────────────────────────────────────────────────────────────────────────────

DOMAINS = [
    ("https://news.bbc.co.uk/sport", "news.bbc.co.uk", "bbc.co.uk"),
    ("http://WWW.Example.COM:8080/?q=http://other.org", "www.example.com", "example.com"),
    ("//cdn.example.net/x", "cdn.example.net", "example.net"),
    ("example.org/path", "example.org", "example.org"),
    ("ftp://user:pw@files.example.de#top", "files.example.de", "example.de"),
    ("http://example.com./", "example.com", "example.com"),
    ("http://localhost:80/", "localhost", None),
    ("http://93.184.216.34/", "93.184.216.34", None),
    ("http://[2001:db8::1]:80/", "[2001:db8::1]", None),
    ("http://co.uk/", "co.uk", None),
    ("http://someone.github.io/", "someone.github.io", "github.io"),     # a private suffix is a domain like any other
    ("http://www.ck/", "www.ck", "www.ck"),                              # *.ck, but not www.ck
    ("http://a.b.ck/", "a.b.ck", "a.b.ck"),
    ("http://x.city.kawasaki.jp/", "x.city.kawasaki.jp", "city.kawasaki.jp"),
    ("http://x.other.kawasaki.jp/", "x.other.kawasaki.jp", "x.other.kawasaki.jp"),
    ("http://食狮.公司.cn/", "食狮.公司.cn", "食狮.公司.cn"),
    ("http://a.xn--85x722f.xn--55qx5d.cn/", "a.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
    ("http://a.unknownsuffix/", "a.unknownsuffix", None),
    ("http://a..com/", "a..com", None),
    ("", None, None),
    (None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("address", "host", "domain"), DOMAINS, ids=[str(d[0]) for d in DOMAINS])
def test_hosts_and_domains(address, host, domain):
    pytest.importorskip("tld")
    assert urls.parse(table(address), urls.Parse()).to_pylist() == [{"url_host": host, "url_domain": domain}]


def test_another_column():
    pytest.importorskip("tld")
    docs = pa.table({"page": pa.array(["http://a.example.com"], pa.large_string())})
    assert urls.parse(docs, urls.Parse(column="page")).to_pylist() == [
        {"page_host": "a.example.com", "page_domain": "example.com"}
    ]


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "domains").write_text("# UT1\nbad.com\nsub.worse.co.uk\n\nShop.example.de\n")
    (tmp_path / "adult" / "urls").write_text("example.com/bad/page\n")
    (tmp_path / "hard_words.txt.gz").write_bytes(gzip.compress(b"evil\n#off\n"))
    (tmp_path / "soft_words").write_text("slot\nbet\ncasino\n")
    (tmp_path / "substrings.txt").write_text("free pills\n")
    (tmp_path / "README").write_text("nothing\n")
    return tmp_path


def asked(folder, *addresses, like="curate"):
    config = urls.Urls(like=like)
    return urls.measure(table(*addresses), config, urls.open_lists(config, folder)).to_pylist()


def reasons(folder, *addresses, like):
    config = urls.Urls(like=like)
    frame = pl.from_arrow(urls.measure(table(*addresses), config, urls.open_lists(config, folder)))
    failing = pl.lit(None, dtype=pl.String)
    for rule in reversed(urls.profile(like)):
        failing = pl.when(rule.keep).then(failing).otherwise(pl.lit(rule.because))
    return frame.select(because=failing)["because"].to_list()


NONE = {
    "url_domain_listed": False, "url_host_listed": False, "url_listed": False,
    "url_hard_words": 0, "url_soft_words": 0, "url_substrings": 0,
}  # fmt: skip


def test_no_address_is_on_no_list(folder):
    for like in urls.WAYS:
        if like != "datatrove":
            assert asked(folder, None, "", "https://good.org/", like=like) == [NONE] * 3


@pytest.mark.parametrize(
    ("address", "column", "value"),
    [
        ("http://bad.com/", "url_host_listed", True),
        ("http://very.BAD.com:80/", "url_host_listed", True),
        ("http://notbad.com/", "url_host_listed", False),
        ("http://bad.com.org/", "url_host_listed", False),
        ("http://worse.co.uk/", "url_host_listed", False),
        ("http://a.sub.worse.co.uk/", "url_host_listed", True),
        ("http://shop.example.de/", "url_host_listed", True),
        ("https://www.example.com/bad/page/", "url_listed", True),
        ("https://www.example.com/bad/page/2", "url_listed", False),
        ("http://x.org/EVIL-thing", "url_hard_words", 1),
        ("http://x.org/devil", "url_hard_words", 0),
        ("http://x.org/off", "url_hard_words", 0),
        ("http://x.org/slot/bet-slot", "url_soft_words", 2),
        ("http://x.org/free-pills", "url_substrings", 1),
        ("http://x.org/getFREE.PILLSnow", "url_substrings", 1),
    ],
)
def test_our_way(folder, address, column, value):
    (row,) = asked(folder, address)
    assert row[column] == value


def test_datatrove_gives_its_reasons(folder):
    """In its order; words with their case; the address as written."""
    pytest.importorskip("tld")
    cases = {
        "http://very.bad.com/evil": "domain",
        "http://sub.worse.co.uk/": "subdomain",
        "http://a.sub.worse.co.uk/": None,                 # neither the domain nor the host
        "http://BAD.com/": None,                           # the case as written
        "example.com/bad/page": "url",
        "http://example.com/bad/page": None,
        "http://x.org/evil": "hard_blacklisted",
        "http://x.org/EVIL": None,
        "http://x.org/bet/slot": "soft_blacklisted",
        "http://x.org/bet/bet": None,
        "http://x.org/getfree-pillsnow": "blacklisted_subword",
        "http://x.org/GETFREE": None,
    }  # fmt: skip
    assert dict(zip(cases, reasons(folder, *cases, like="datatrove"), strict=True)) == cases


def test_dclm_compares_in_its_own_way(folder):
    """The host with its port and without "www" wherever it stands; words between word boundaries, "_" is a letter."""
    cases = {
        "http://bad.com/": "banned_domain",
        "http://bad.com:80/": None,
        "http://wwwbad.com/": "banned_domain",
        "http://www.bad.com/": None,                       # ".bad.com" is left
        "http://very.bad.com/": None,
        "http://x.org/EVIL": "banned_hard_word",
        "http://x.org/evil_thing": None,
        "http://x.org/bet/slot": "banned_soft_words",
        "http://x.org/get free p-i.lls": "banned_substring",
        "http://x.org/freepills": None,                    # its list has a space
    }  # fmt: skip
    assert dict(zip(cases, reasons(folder, *cases, like="dclm"), strict=True)) == cases


def test_dclm_words_may_hold_marks(tmp_path):
    (tmp_path / "soft.txt").write_text("web-cam\nlive chat\n")
    config = urls.Urls(like="dclm")
    rows = urls.measure(table("http://x/web-cam/live chat", "http://x/web-camera", "x"), config,
                        urls.open_lists(config, tmp_path))  # fmt: skip
    assert rows["url_soft_words"].to_pylist() == [2, 0, 0]


def test_a_folder_without_lists(tmp_path):
    with pytest.raises(BadInput, match="holds no list"):
        urls.open_lists(urls.Urls(), tmp_path)
    with pytest.raises(BadInput, match="no list to compare"):
        urls.open_lists(urls.Urls())


def test_settings_and_profiles_are_checked():
    with pytest.raises(UnknownSetting):
        urls.Urls(like="dolma")
    with pytest.raises(UnknownSetting, match="datatrove"):
        urls.profile("datatrov")


@pytest.mark.slow
def test_the_lists_of_datatrove():
    pytest.importorskip("datatrove")
    lists = urls.open_lists(urls.DATATROVE)
    assert len(lists.domains) > 4_000_000 and len(lists.urls) > 10_000
    assert len(lists.hard) > 100 and len(lists.soft) > 50 and len(lists.substrings) > 100


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

LABELS = st.lists(st.sampled_from(["bad", "com", "co", "uk", "sub", "worse", "", "ü", "BAD"]), min_size=1, max_size=5)


@law
@given(st.lists(LABELS.map(".".join), max_size=6))
def test_a_host_is_listed_with_what_lies_under_it(hosts):
    """Against the obvious reference: try every suffix."""
    listed = {"bad.com", "sub.worse.co.uk", "ü", "co"}
    config = urls.Urls()
    none = urls._hashes(pl.Series([], dtype=pl.String))
    lists = urls.Lists(urls._hashes(pl.Series(sorted(listed))), none, (), (), ())
    got = urls.measure(table(*(f"http://{h}/" for h in hosts)), config, lists)["url_host_listed"].to_pylist()
    for host, found in zip(hosts, got, strict=True):
        labels = host.lower().rstrip(".").split(".")
        assert found == any(".".join(labels[i:]) in listed for i in range(len(labels)))


@law
@given(st.lists(st.text("abc-./_ ", max_size=12), max_size=6), st.sets(st.text("abc", min_size=1, max_size=2)))
def test_words_and_substrings_are_counted_once_each(texts, items):
    words = tuple(sorted(items))
    counted = urls._count_words(pl.Series(texts, dtype=pl.String), words, "curate").to_list()
    inside = urls._count_substrings(pl.Series(texts, dtype=pl.String), words).to_list()
    for text, n, m in zip(texts, counted, inside, strict=True):
        tokens = "".join(c if c.isalnum() else " " for c in text).split()
        assert n == len(items & set(tokens))
        assert m == sum(item in text for item in items)
