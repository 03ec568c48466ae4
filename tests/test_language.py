"""Languages: what CLD2 and a fastText model say, in which codes, and the rules over them."""

import math

import polars as pl
import pyarrow as pa
import pytest
import tiny_fasttext

from curate import language
from curate.errors import BadInput, UnknownSetting
from curate.language import FastText, Language

PLAIN = {
    "en": "The weather was fine this morning, and so we walked down to the river with the children.",
    "de": "Heute Morgen war das Wetter schön, deshalb sind wir mit den Kindern zum Fluss gegangen.",
    "fr": "Il faisait beau ce matin, alors nous sommes descendus à la rivière avec les enfants.",
    "he": "הבוקר היה מזג אוויר יפה ולכן ירדנו עם הילדים אל הנהר.",
    "ja": "今朝は天気がよかったので、子どもたちと川まで歩いていきました。",
    "ru": "Сегодня утром была хорошая погода, и мы пошли с детьми к реке.",
    "el": "Σήμερα το πρωί ο καιρός ήταν καλός και πήγαμε με τα παιδιά στο ποτάμι.",
    "sw": "Leo asubuhi hali ya hewa ilikuwa nzuri, kwa hiyo tulikwenda mtoni pamoja na watoto wetu.",
}


def docs(*texts):
    return pa.table({"text": pa.array(texts, pa.large_string())})


def asked(*texts, **settings):
    return language.identify(docs(*texts), Language(**settings)).to_pylist()


# ── CLD2 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plain_sentences():
    found = asked(*PLAIN.values())
    assert [row["language"] for row in found] == list(PLAIN)
    assert all(row["language_score"] > 0.9 and row["language_reliable"] for row in found)


def test_chinese_has_two_scripts():
    simplified, traditional = asked("今天天气很好，所以我们带着孩子去河边。", "今天天氣很好，所以我們帶著孩子去河邊。")
    assert (simplified["language"], simplified["language_script"]) == ("zh", "Hans")
    assert (traditional["language"], traditional["language_script"]) == ("zh", "Hant")


@pytest.mark.parametrize("text", ["", " \n", "12 + 3 = 15", "!?", "\x00\x01"])
def test_no_letters_no_language(text):
    assert asked(text) == [
        {"language": "und", "language_score": 0.0, "language_script": None, "language_reliable": False}
    ]


def test_a_null_text_has_no_language():
    assert asked(None, PLAIN["de"])[0] == dict.fromkeys(
        ("language", "language_score", "language_script", "language_reliable")
    )


def test_the_score_is_a_share_of_bytes():
    """Half of the text is in another language: the score says so, and it is no probability."""
    mixed = asked(PLAIN["en"] * 8 + "\n\n" + PLAIN["ru"] * 3)[0]
    assert mixed["language"] == "en"
    english, russian = len(PLAIN["en"].encode()) * 8, len(PLAIN["ru"].encode()) * 3
    assert math.isclose(mixed["language_score"], english / (english + russian), abs_tol=0.1)


def test_addresses_do_not_count():
    text = "Lizenz: https://help.example.com/articles/licensing/where-does-the-license-live-on-my-repository " * 3
    text += "Die Lizenz steht in der Datei neben dem Quelltext."
    assert asked(text, links=True)[0]["language"] == "en"
    assert asked(text)[0]["language"] == "de"


def test_only_the_first_characters():
    text = PLAIN["de"] + PLAIN["ja"] * 20
    assert asked(text)[0]["language"] == "ja"
    assert asked(text, characters=len(PLAIN["de"]))[0]["language"] == "de"


@pytest.mark.parametrize("point", [0x00, 0x0B, 0x1F, 0x7F, 0x9F, 0xFDD0, 0xFFFE, 0xFFFF, 0x1FFFF, 0x10FFFF])
def test_code_points_that_cld2_refuses_do_not_stop_it(point):
    assert asked(chr(point) + PLAIN["fr"] + chr(point))[0]["language"] == "fr"


def test_every_code_is_iso_639():
    pycld2 = pytest.importorskip("pycld2")
    codes = {language._code(code)[0] for _, code in pycld2.LANGUAGES}
    assert all(2 <= len(code) <= 3 and code.isalpha() and code.islower() for code in codes)
    assert {"he", "jv", "zh", "und"} <= codes
    assert not codes & {"iw", "jw", "un", "mo", "bh"}


def test_columns_may_have_another_name():
    table = language.identify(docs(PLAIN["en"]), Language(name="cld2"))
    assert table.column_names == ["cld2", "cld2_score", "cld2_script", "cld2_reliable"]


def test_settings_are_checked():
    with pytest.raises(UnknownSetting):
        Language(characters=0)


# ── fastText ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    tiny_fasttext.write(tmp_path / "tiny.bin")
    return tmp_path


def predicted(folder, *texts, **settings):
    config = FastText(**settings)
    return language.fasttext(docs(*texts), config, language.open_model(config, folder)).to_pylist()


def test_fasttext_is_a_softmax_of_mean_words(folder):
    """cat is (2, 0), hund (0, 2): softmax(2, 0) = 0.8808; two cats and a hund are (4/3, 2/3): 1 / (1 + e**(-2/3))."""
    cat, hund, three = predicted(folder, "cat", "hund", "cat cat hund")
    assert (cat["language"], hund["language"]) == ("en", "de")
    assert math.isclose(cat["language_score"], 1 / (1 + math.exp(-2)), abs_tol=1e-4)
    assert math.isclose(three["language_score"], 1 / (1 + math.exp(-2 / 3)), abs_tol=1e-4)


def test_a_newline_is_a_space_to_fasttext(folder):
    """fastText stops at the first newline; the line after it counts here, as it does in datatrove."""
    assert predicted(folder, "cat\nhund\nhund") == predicted(folder, "cat hund hund")
    assert predicted(folder, "cat\nhund\nhund")[0]["language"] == "de"


def test_fasttext_null_and_head(folder):
    assert predicted(folder, None)[0] == dict.fromkeys(("language", "language_score", "language_script"))
    assert predicted(folder, "cat hund hund", characters=3)[0]["language"] == "en"


def test_a_label_with_a_script(tmp_path):
    tiny_fasttext.write(tmp_path / "glot.bin", labels=("__label__eng_Latn", "__label__deu_Latn"))
    assert predicted(tmp_path, "hund")[0] | {"language_score": 0} == {
        "language": "deu", "language_script": "Latn", "language_score": 0,
    }  # fmt: skip


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(BadInput, match="holds 0"):
        language.open_model(FastText(), tmp_path)
    (tmp_path / "a.bin").write_bytes(b"no model")
    with pytest.raises(BadInput, match="not a fastText model"):
        language.open_model(FastText(), tmp_path)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def kept(rule, rows):
    frame = pl.DataFrame(rows, schema={"language": pl.String, "language_score": pl.Float64}, orient="row")
    return frame.select(rule.keep)["language"].to_list()


def test_fineweb_wants_more_than_065():
    (rule,) = language.profile("fineweb")
    assert kept(rule, [("en", 0.65), ("en", 0.650001), ("de", 0.99), (None, None)]) == [False, True, False, None]
    assert rule.because == "language"


def test_several_languages():
    rows = [("en", 0.1), ("de", 0.9), ("fr", 0.9)]
    assert kept(language.only("en", "de"), rows) == [True, True, False]


@pytest.mark.parametrize(
    ("languages", "above", "fix"),
    [
        (("English",), 0.5, "'en' is its code"),
        (("eng_Latn",), 0.5, "language_script"),
        (("EN",), 0.5, "pl.col('language') == 'EN'"),
        ((), 0.5, "only('en')"),
        (("en",), 65, "above=0.65"),
        (("en",), 1.0, "below 1"),
    ],
)
def test_a_rule_that_would_drop_every_text_is_refused(languages, above, fix):
    """The rules are well-formed, and no text would pass them."""
    with pytest.raises(UnknownSetting) as told:
        language.only(*languages, above=above)
    assert fix in told.value.fix


def test_an_unknown_profile_names_a_near_one():
    with pytest.raises(UnknownSetting, match="fineweb"):
        language.profile("finewep")
