"""The card: the Hub can read its header, people its body, and the three ways to load the data are carried out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from finished import IMAGE, TOKEN, finished
from huggingface_hub import DatasetCard

from curate import card

GIVEN = {"license": "cc-by-4.0", "language": ["en", "de"], "tags": ["web"], "pretty_name": "Letters: a"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run with its cards, published as ``curate run`` does."""
    store, outcome = finished(tmp_path_factory.mktemp("card"), card=GIVEN)
    for mix in outcome.manifest["mixes"]:
        text = card.card(outcome.manifest, mix, store)
        store.publish(f"{outcome.folder}/mixes/{mix}/README.md", text.encode())
    return store, outcome


@pytest.fixture(scope="module")
def folder(done):
    store, outcome = done
    return Path(store.full(f"{outcome.folder}/mixes/top"))


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "README.md").read_text()


def test_the_hub_reads_the_header(text):
    data = DatasetCard(text).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["language"] == ["en", "de"]
    assert data["tags"] == ["curate", "web"]
    assert data["pretty_name"] == "Letters: a"
    assert data["task_categories"] == ["text-generation"]
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    assert data["dataset_info"]["splits"] == [{"name": "train", "num_bytes": 292, "num_examples": 8}]


def test_features_are_those_of_the_files(text, folder):
    header = yaml.safe_load(text.split("---")[1])
    schema = pq.read_schema(next(folder.glob("data/*.parquet")))
    found = {f["name"]: f["dtype"] for f in header["dataset_info"]["features"]}
    assert list(found) == schema.names
    assert found["text"] == "large_string"
    assert found["score"] == "float32"
    assert found["grade"] == "int64"


@pytest.mark.parametrize(
    ("rows", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10_000, "10K<n<100K"), (10**6, "1M<n<10M"),
     (10**12, "n>1T"), (10**15, "n>1T")],
)  # fmt: skip
def test_sizes_have_the_hubs_names(rows, name):
    assert card.size_category(rows) == name


def test_what_it_is_and_what_was_proved(text):
    assert "8 documents (292 B) for training language models, chosen from 32 documents (901 B, 214 tokens): " in text
    assert "the rows with the highest `score`, at least 22 letters, up to 8 rows." in text
    assert "**top: closer to the target (ngram alone). Bits per byte saved against random: ngram +10." in text
    assert "- Not tested: task accuracy" in text


def test_the_funnel_and_the_thresholds(text):
    assert "| keep (exact\\_duplicate) | 27 | " in text
    assert "| **mix top** | 8 | 292 B |" in text
    assert "cut value 22" in text
    assert "- `too_few_letters` dropped 3 of 32 documents" in text
    assert "- `exact.duplicates`: normalise no" in text or "- `exact.duplicates`: keep by ()" in text
    assert "| forum | 3 | 111 B | 38.0 % | 35.3 % |" in text


def test_a_mix_that_nobody_judged_says_so(done):
    store, outcome = done
    text = card.card(outcome.manifest, "random", store)
    assert "The run's trial did not judge this mix, so nothing is claimed" in text
    assert "a random draw by keyed hash (label 'random', seed 0), up to 5 rows." in text


def test_nothing_secret_and_nothing_hostile(text):
    for secret in ("hunter2", "user:pass", TOKEN):
        assert secret not in text
    assert IMAGE not in text
    assert "budget = 12" in text


def test_a_hostile_source_stays_a_cell(done, monkeypatch):
    store, outcome = done
    holding = card.lookup.Holding(1, 10)
    name = f"a|b\n`c` **d** {IMAGE} [e](javascript:f)"
    monkeypatch.setattr(card.lookup, "by_source", lambda *_: {"": {name: holding}, "top": {name: holding}})
    text = card.card(outcome.manifest, "top", store)
    escaped = r"a\|b \`c\` \*\*d\*\* &lt;img src=x onerror=alert(1)&gt; \[e\](javascript:f)"
    assert f"| {escaped} | 1 | 10 B | 100.0 % | 100.0 % |" in text


def test_code_is_fenced_by_more_than_it_holds():
    assert card.fenced("a\n````\nb", "toml") == ["`````toml", "a", "````", "b", "`````"]
    assert card.code("a`b") == "`` a`b ``"


LOAD = """
import json, sys
found = []
for block in json.load(sys.stdin):
    names = {}
    exec(block, names)
    documents = names["documents"]
    found += [len(documents), documents[0][2] if isinstance(documents, list) else documents["text"][0]]
print(json.dumps(found))
"""


def test_every_way_to_load_it_works(text, folder, tmp_path):
    """The blocks of the card, as they stand, beside the folder of the card and without a network."""
    blocks = [part.split("```")[0] for part in text.split("```python")[1:]]
    assert len(blocks) == 3
    env = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], check=False, capture_output=True, text=True, cwd=folder.parent, env=env,
        input=json.dumps(blocks),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Ignoring" not in done.stderr  # the header is understood in full
    first = pq.read_table(sorted(folder.glob("data/*.parquet"))[0])["text"][0].as_py()
    assert json.loads(done.stdout.splitlines()[-1]) == [8, first] * 3


def test_an_empty_mix_has_a_card(done):
    store, outcome = done
    manifest = json.loads(json.dumps(outcome.manifest))
    manifest["mixes"]["top"] |= {"shards": [], "rows": 0, "text_bytes": 0}
    assert yaml.safe_load(card.card(manifest, "top", store).split("---")[1])["dataset_info"]["download_size"] == 0
