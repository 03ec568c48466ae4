"""The report: it says what was done, what strangers wrote stays text, and what is too much is left out aloud."""

import json
import re
from html import escape

import polars as pl
import pytest
from finished import CONFIG, IMAGE, SCRIPT, TOKEN, Reader, finished, score
from toys import Lists, letters, words

from curate import card, report, select
from curate.engines.local import Local
from curate.explain import stories
from curate.plan import plan, read, write
from curate.run import run
from curate.store import Store
from curate.telling import exhibits


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(done):
    store, outcome = done
    return report.page(store, outcome.folder, outcome.manifest)


def section(page, title):
    """The text of one section."""
    [found] = re.findall(rf"<section><h2[^>]*>{title}</h2>(.*?)</section>", page, flags=re.DOTALL)
    return " ".join(" ".join(Reader(found).said).split())


def test_the_headline_is_the_verdict(page):
    assert "<h1>top: closer to the target (ngram alone)</h1>" in page
    assert re.search(r'<p class="lead">Bits per byte saved against random: ngram \+10\.\d\d %', page)
    assert "it beats its controls" in section(page, "Verdict")


def test_the_funnel(page):
    """32 rows; three have fewer than three letters a, two are copies; the mixes have 8 and 5 rows."""
    text = section(page, "From source to mix")
    assert "read mixed 3 rows quarantined, byte ranges that cannot be counted: 1 32 100.0 %" in text
    assert "keep (too_few_letters) dropped: too_few_letters 3 29 90.6 %" in text
    assert "keep (exact_duplicate) dropped: exact_duplicate 2 27 84.4 %" in text
    assert "mix top 8 25.0 %" in text
    assert "mix random 5 15.6 %" in text


def test_the_cut_and_the_documents_beside_it(page):
    """Scores 29 to 22 are the eight best; doc 20 has none, so below the cut stand 21, 19 and 18."""
    text = section(page, "Scores and the cut")
    assert "cut 22" in text
    assert "25 documents; percentiles" in text
    assert "2 have no score." in text
    above, below = text.split("Not in the mix, just below the cut")
    assert re.findall(r"doc \d\d", above.split("just above the cut")[1]) == ["doc 22", "doc 23", "doc 24"]
    assert re.findall(r"doc \d\d", below.split("The best")[0]) == ["doc 21", "doc 19", "doc 18"]
    assert "number 22: aaaaaaaaaaaaaaaaaaaaaa" in above


def test_what_was_dropped_is_shown_with_what_the_rule_saw(page):
    text = section(page, "What was dropped")
    assert re.search(r"Dropped as too_few_letters doc 0\d · \w+ · \d+ B · letters [012]", text)
    assert re.search(r"Dropped as exact_duplicate (copy|doc 25) · web", text)
    assert re.search(r"exact_copy_of (copy|doc 25)", text)


def test_rules_are_shown_where_the_manifest_has_them(done):
    store, outcome = done
    manifest = json.loads(json.dumps(outcome.manifest))
    step = next(s for s in manifest["steps"] if s["label"] == "keep (too_few_letters)")
    step["rules"] = [{"because": "too_few_letters", "keep": '[(col("letters")) >= (dyn int: 3)]'}]
    text = section(report.page(store, outcome.folder, manifest), "What was dropped")
    assert "kept are rows with" in text
    assert "too_few_letters letters >= 3 3 " in text
    dropped = "- `too_few_letters` dropped 3 of 32 documents; kept are rows with `letters >= 3`."
    assert dropped in card.card(manifest, "top", store)


def test_copies_name_the_row_that_is_kept(page):
    text = section(page, "Copies")
    assert re.search(r"rows kept copies 3 (copy|doc 25) (web|books) number 25: a+", text)
    assert "Clusters by size: 3 to 5 rows: 1." in text


def test_sources_before_and_after(page):
    text = section(page, "Sources")
    assert re.search(r"forum 35\.3 % 38\.0 % × 1\.08", text)
    assert f"{IMAGE} 4.6 % 0.0 % × 0.00" in text


def test_the_quarantine_says_file_place_and_error(page):
    text = section(page, "Quarantine")
    assert "byte 77 not JSON: <script>alert('pwned')</script> 2 –" in text
    assert "byte 90 cut off 0 1" in text
    assert "row 4 text is null 1 –" in text


def test_the_trial_is_told(page):
    text = section(page, "Verdict")
    assert "A/A: random against random'" in text
    assert "top against random" in text
    assert "Instrument: ngram" in text and "its inverse top against random" in text
    assert "Learning curves" in text
    assert "2,000" in text
    assert "zz 80.0 %, <img src=x onerror=alert(1)> 20.0 %" in text
    assert "Not tested: task accuracy" in text


def test_steps_and_settings(page, done):
    text = section(page, "Steps")
    assert "toys.letters stage 32 32 0" in text
    assert done[1].manifest["values"] in page
    assert "budget = 12" in section(page, "What was run")


# ── hostile texts ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_of_a_document_is_markup(page):
    found = Reader(page)
    assert {"script", "img", "iframe", "link", "object", "form", "base"}.isdisjoint(found.tags)
    assert escape(SCRIPT) in page
    assert escape(IMAGE) in page
    assert not [k for k, _ in found.attributes if k.startswith("on") or k in ("src", "srcset", "action")]
    assert all(v.startswith("#") for k, v in found.attributes if k == "href")


def test_the_page_needs_nothing_but_itself(page):
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src &#x27;none&#x27;" in page
    assert len(page) < 500_000


def test_no_secret_is_on_the_page(page):
    for secret in ("hunter2", "user:pass", "user:secret", TOKEN, "abc123"):
        assert secret not in page
        assert secret in CONFIG + f"user:secret {TOKEN} abc123"


# ── less than everything ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_trial_nothing_is_claimed(tmp_path):
    store, outcome = finished(tmp_path, judged=False)
    page = report.page(store, outcome.folder, outcome.manifest)
    assert "<h1>8 of 32 documents were selected for top (292 B of text), and 1 other mix</h1>" in page
    assert "No trial was run" in page
    assert ">Verdict<" not in page


def test_a_limit_is_said(done, monkeypatch):
    store, outcome = done
    monkeypatch.setattr(exhibits, "SCORE_ROWS", 20)
    monkeypatch.setattr(exhibits, "DROP_PARTS", 1)
    monkeypatch.setattr(exhibits, "TEXT_PARTS", 0)
    page = report.page(store, outcome.folder, outcome.manifest)
    assert section(page, "Scores and the cut").count("Read from 1 of 2 parts, evenly spread.") == 1
    assert "(not read: too many parts)" in page
    assert "Examples: Read from 1 of 2 parts" in section(page, "What was dropped")
    assert "Read from 1 of 2 parts" in section(page, "Copies")
    assert "Read from 1 of 2 parts" in section(page, "Sources")


def test_a_text_whose_file_is_gone_is_said_to_be(tmp_path):
    store, outcome = finished(tmp_path, judged=False)
    (tmp_path / "data" / "a.parquet").unlink()
    page = report.page(store, outcome.folder, outcome.manifest)
    assert "the text is not at hand" in page
    (tmp_path / "data" / "a.parquet").write_bytes(b"something else")
    assert "the text is not at hand" in report.page(store, outcome.folder, outcome.manifest)


def test_rows_that_were_replaced_are_in_the_funnel(tmp_path):
    """Of six documents one is empty and leaves no row; the others have seven words, two of them with an a."""
    files = {"one": ("an apple", "b", "", "c d"), "two": ("fig", "olive")}
    frame = read(Lists(files)).then(words).then(letters).then(score).keep(pl.col("letters") > 0, because="no_a")
    mix = frame.select(select.uniform(label="u"), rows=1)
    store = Store(str(tmp_path))
    outcome = run(plan(write({"m": mix})), name="w", store=store, open_engine=Local)
    text = section(report.page(store, outcome.folder, outcome.manifest), "From source to mix")
    assert "toys.words 6 rows were replaced by 7 7" in text
    assert "keep (no_a) dropped: no_a 5 2" in text
    assert "mix m 1" in text


def test_a_run_over_nothing_has_a_page_and_a_card(tmp_path):
    frame = read(Lists({"empty": ()})).then(letters).then(score).keep(pl.col("letters") > 0, because="no_a")
    mix = frame.select(select.top("score"), rows=1)
    store = Store(str(tmp_path))
    outcome = run(plan(write({"m": mix})), name="w", store=store, open_engine=Local)
    page = report.page(store, outcome.folder, outcome.manifest)
    assert "0 of 0 documents were selected for m" in page
    assert "0 documents (0 B) for training" in card.card(outcome.manifest, "m", store)
    assert stories(store, outcome.manifest, "x") == []
