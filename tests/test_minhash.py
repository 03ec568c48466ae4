"""Near copies: the curve, the shingles, the pairs and the clusters, against definitions and slow references."""

import hashlib
import re
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curate import minhash
from curate.columns import INT64, KEY, TEXT, UINT64
from curate.errors import RunError, UnknownSetting
from curate.minhash import (
    MinHash,
    collision,
    collision_table,
    half_point,
    near_duplicates,
    near_pairs,
    signatures,
)
from curate.near import at_scale, candidates, verification
from curate.near import clusters as near_clusters
from curate.near.clusters import components
from curate.near.signing import sets_of
from curate.testing import MemoryResults, MemoryRows, run_rounds

law = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])  # compiles

# So many bands of one row that a pair of similarity 0.5 is missed with probability 2**-64.
EVERY_PAIR = MinHash(bands=64, rows=1, ngram=2, threshold=0.5, bucket_cap=1000)


# ---- slow references ----------------------------------------------------------------------------------------------


def shingles(text: str | None, n: int = 5) -> set[tuple[str, ...]]:
    """A document's set, by definition."""
    words = re.findall(r"\w+", (text or "").lower().replace("ς", "σ"))
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


def jaccard(a: str, b: str, n: int = 5) -> float:
    x, y = shingles(a, n), shingles(b, n)
    return len(x & y) / len(x | y)


def connected(items: list[str], edges: set[frozenset[str]]) -> set[frozenset[str]]:
    """Connected components of two or more items, by repeated merging."""
    groups = [{i} for i in items]
    for edge in edges:
        merged = set().union(*(g for g in groups if g & edge))
        groups = [g for g in groups if not g & edge] + [merged]
    return {frozenset(g) for g in groups if len(g) > 1}


def docs(texts: list[str | None], config: MinHash) -> pa.Table:
    ids = [f"doc{i}" for i in range(len(texts))]
    table = pa.table(
        {
            "id": pa.array(ids, TEXT),
            "key": pa.array([hashlib.md5(i.encode()).digest() for i in ids], KEY),
            "text": pa.array(texts, TEXT),
            "text_bytes": pa.array([len((t or "").encode()) for t in texts], INT64),
        }
    )
    signed = signatures(table.select(["text"]), config)
    for name in signed.column_names:
        table = table.append_column(name, signed[name])
    return table


def clusters(parts: list[pa.Table], config: MinHash) -> tuple[dict[str, str | None], set[frozenset[str]], dict]:
    """For each row of a cluster the id it is a copy of; the clusters as sets of ids; the report."""
    answer, rows = run_rounds(near_duplicates, parts, config)
    assert answer.schema == pa.schema({"address": UINT64, **near_duplicates.writes(config)})
    name = {a: i for t in rows.parts for a, i in zip(t["address"].to_pylist(), t["id"].to_pylist(), strict=True)}
    copy_of, members = {}, {}
    for row in answer.to_pylist():
        copy_of[name[row["address"]]] = name.get(row["near_copy_of"])
        members.setdefault((row["near_cluster"], row["near_cluster_size"]), set()).add(name[row["address"]])
    for (first, size), ids in members.items():
        assert len(ids) == size >= 2
        assert name[first] in ids
        kept = [i for i in ids if copy_of[i] is None]
        assert len(kept) == 1
        assert {copy_of[i] for i in ids} == {None, kept[0]}
    return copy_of, {frozenset(ids) for ids in members.values()}, rows.reported


# Variations of a few base texts, so that similar pairs and chains of them occur.
vocabulary = [f"w{i}" for i in range(12)]
bases = [" ".join(vocabulary[i:] + vocabulary[:i]) for i in (0, 4, 8)]


@st.composite
def documents(draw: st.DrawFn) -> str | None:
    words = draw(st.sampled_from(bases)).split()
    for _ in range(draw(st.integers(0, 4))):
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(["x", "y", "W3", "w3."]))
    return draw(st.sampled_from([" ".join(words)] * 8 + ["", None, "short", "!?"]))


# ---- the curve ----------------------------------------------------------------------------------------------------


def test_curve_of_fineweb():
    """With 14 bands of 8, documents of similarity 0.7, 0.75, 0.8 and 0.85 are found with a probability of 56 %, 77 %,
    92 % and 98.8 % (Penedo et al. 2024, FineWeb, on deduplication).
    """
    assert [round(100 * collision(s, 14, 8)) for s in (0.7, 0.75, 0.8)] == [56, 77, 92]
    assert round(100 * collision(0.85, 14, 8), 1) == 98.8


@pytest.mark.parametrize(
    ("bands", "rows", "quoted", "half", "at_08"),
    [(14, 8, 0.719, 0.685, 0.924), (20, 13, 0.794, 0.771, 0.677), (26, 11, 0.744, 0.718, 0.903)],
)
def test_curves_of_published_settings(bands, rows, quoted, half, at_08):
    """FineWeb's, NeMo Curator's and Dolma 3's bands; the formulas worked out with a calculator."""
    assert (1 / bands) ** (1 / rows) == pytest.approx(quoted, abs=5e-4)
    assert collision(quoted, bands, rows) == pytest.approx(0.64, abs=0.01)
    assert half_point(bands, rows) == pytest.approx(half, abs=5e-4)
    assert collision(0.8, bands, rows) == pytest.approx(at_08, abs=5e-4)


def test_the_table_holds_the_half_point_in_its_place():
    table = collision_table(14, 8)
    similarity = table["similarity"].to_pylist()
    assert similarity == sorted(similarity)
    assert {0.0, 0.5, 1.0} <= set(similarity)
    assert table["probability"].to_pylist()[similarity.index(half_point(14, 8))] == pytest.approx(0.5)
    named = {row["point"]: row["probability"] for row in table.to_pylist() if row["point"]}
    assert named == {"half of the pairs": pytest.approx(0.5), "(1/b)^(1/r)": pytest.approx(1 - (1 - 1 / 14) ** 14)}


def test_the_plan_tells_the_curve():
    """14 bands of 8: 50 % at 0.685, and 1 - (13/14)**14 = 64.6 % at (1/14)**(1/8) = 0.719."""
    told = MinHash(bands=14, rows=8).explain()
    assert "half of them at 0.685" in told
    assert "65% at (1/b)^(1/r) = 0.719" in told
    assert "0.80: 92.4%" in told
    assert "not verified" in MinHash(verify=False).explain()


def test_signatures_follow_the_curve():
    """600 pairs of 100 words each, 82 shared: Jaccard 82 / 118 = 0.695, so 0.545 of them share a band, +- 0.02 (one
    standard deviation of a fair draw); and 600 pairs at 50 / 150 = 0.333, where 0.2 % do.
    """
    config = MinHash(ngram=1, bands=14, rows=8)
    for shared, low, high in ((82, 0.465, 0.625), (50, 0.0, 0.02)):
        pairs = [[f"{p}s{i}" for i in range(shared)] for p in range(600)]
        texts = [" ".join([*common, *(f"{p}{side}{i}" for i in range(100 - shared))])
                 for p, common in enumerate(pairs) for side in "ab"]
        keys = np.array(signatures(pa.table({"text": pa.array(texts, TEXT)}), config)["minhash"].to_pylist(), np.uint64)
        assert low <= (keys[0::2] == keys[1::2]).any(axis=1).mean() <= high


# ---- shingles -----------------------------------------------------------------------------------------------------


awkward = st.text(alphabet=st.sampled_from("aAb_1 .\n'éÉßİıΣςσ٣中文ाक𝐀😀K"), max_size=40)


@law
@given(st.lists(awkward | st.text(max_size=40), max_size=4))
@example(["İstanbul ΟΔΟΣ οδος snake_case 4,5 don't"])
@example(["abcdefgh abcdefghi abcdefg h", "abcdefgh"])
@example(["a" * 5000 + " b c d e f " + "é" * 3000])
def test_shingles_are_those_of_the_definition(texts):
    table = pa.table({"text": pa.array(["x", *texts], TEXT)}).slice(1)
    assert signatures(table, MinHash())["shingles"].to_pylist() == [len(shingles(t)) for t in texts]


@law
@given(st.lists(documents(), min_size=2, max_size=2))
def test_shared_shingles_are_those_of_the_definition(texts):
    sets, at = sets_of(pa.array(texts, TEXT), MinHash(ngram=3))
    x, y = (set(sets[at[i] : at[i + 1]].tolist()) for i in range(2))
    assert len(x & y) == len(shingles(texts[0], 3) & shingles(texts[1], 3))


PIECES = ["a", "Word_7", "sixteen_letters_", "É", "“Quoted”", "İİ", "中文，字", "ΑΣ", "x" * 65, " ", "-", "@[`{/:\x7f"]


@law
@given(st.lists(st.sampled_from(PIECES), max_size=30), st.integers(0, 140))
def test_where_a_text_lies_in_memory_says_nothing(pieces, before):
    """64 bytes are looked at together; a word may lie across them, or at either end of what there is."""
    text = "".join(pieces)
    values, ends = sets_of(pa.array([text, "b" * before, text, " " * before + text], TEXT), MinHash(ngram=1))
    sets = [values[ends[i] : ends[i + 1]].tolist() for i in range(4)]
    assert sets[0] == sets[2] == sets[3]
    assert len(sets[0]) == len(shingles(text, 1))
    for i in (0, 2, 3):
        alone, _ = sets_of(pa.array([" " * before + text if i == 3 else text], TEXT), MinHash(ngram=1))
        assert alone.tolist() == sets[i]


def test_case_and_punctuation_do_not_count_but_order_and_number_of_words_do():
    texts = ["The cat sat.", "the CAT -- sat", "sat the cat", "the cat", "the cat sat sat"]
    keys = signatures(pa.table({"text": pa.array(texts, TEXT)}), MinHash())["minhash"].to_pylist()
    assert keys[0] == keys[1]
    assert len({tuple(k) for k in keys}) == 4


def test_a_text_without_words_has_no_signature():
    got = signatures(pa.table({"text": pa.array(["", None, "¡!", "a"], TEXT)}), MinHash())
    assert got["minhash"].is_null().to_pylist() == [True, True, True, False]
    assert got["shingles"].to_pylist() == [0, 0, 0, 1]


def test_no_two_bands_share_a_key():
    keys = signatures(pa.table({"text": pa.array(["a b c d e f g"], TEXT)}), MinHash(bands=50, rows=1))["minhash"]
    assert len(set(keys.to_pylist()[0])) == 50


@law
@given(st.lists(documents(), max_size=8), st.data())
def test_a_cut_changes_no_signature(texts, data):
    table = pa.table({"text": pa.array(texts, TEXT)})
    cut = data.draw(st.integers(0, len(texts)))
    pieces = [signatures(table.slice(0, cut), MinHash()), signatures(table.slice(cut), MinHash())]
    assert pa.concat_tables(pieces).to_pylist() == signatures(table, MinHash()).to_pylist()


def test_another_seed_gives_other_signatures():
    table = pa.table({"text": pa.array(["a b c d e f g"], TEXT)})
    assert signatures(table, MinHash())["minhash"] != signatures(table, MinHash(seed=-1))["minhash"]


# ---- pairs --------------------------------------------------------------------------------------------------------


def test_jaccard_by_hand():
    """Two of four shingles shared is 0.5; the bound stops exactly below the threshold and never at it."""
    x, y = np.array([1, 2, 5], np.uint64), np.array([2, 5, 9], np.uint64)
    assert verification.jaccard_index(x, y, 0.5) == 0.5
    assert verification.jaccard_index(x, y, 0.51) == -1
    assert verification.jaccard_index(x, x, 1.0) == 1
    assert verification.jaccard_index(x, x[:2], 1.0) == -1


@law
@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30), min_size=1), st.integers(1, 20))
def test_jaccard_against_sets(x, y, twentieths):
    threshold = twentieths / 20
    true = len(x & y) / len(x | y)
    got = verification.jaccard_index(np.array(sorted(x), np.uint64), np.array(sorted(y), np.uint64), threshold)
    assert got == (true if true >= threshold else -1)


def test_a_pair_at_the_threshold_is_a_pair():
    """Nine words make five shingles; the tenth word adds one: 5 of 6. Without the tenth and first: 4 of 6."""
    texts = ["a b c d e f g h i j", "a b c d e f g h i", "b c d e f g h i k"]
    config = MinHash(threshold=5 / 6, bands=64, rows=1)
    pairs, _ = near_pairs(MemoryRows([docs(texts, config)]), config)
    assert pairs.to_pylist() == [{"a": 0, "b": 1, "jaccard": 5 / 6}]


def bucket(order: list[int], shingle_counts: list[int], config: MinHash) -> list[tuple[int, int, int]]:
    """What one bucket makes of rows with these places in signature order, addresses 10, 11, ..."""
    n = len(order)
    records = pa.table(
        {
            "band": pa.array([7] * n, UINT64),
            "address": pa.array(range(10, 10 + n), UINT64),
            "order": pa.array(order, UINT64),
            "shingles": pa.array(shingle_counts, pa.int32()),
        }
    )
    return sorted(tuple(row.values()) for row in candidates.meet(records, config).to_pylist())


def test_a_bucket_compares_all_pairs_up_to_the_cap():
    assert bucket([3, 1, 2], [5, 5, 5], MinHash(bucket_cap=3)) == [(10, 11, 5), (10, 12, 5), (11, 12, 5)]


def test_counts_that_rule_the_threshold_out_make_no_pair():
    """4 of 5 shingles can reach 0.8; 3 of 5 cannot."""
    assert bucket([1, 2], [4, 5], MinHash()) == [(10, 11, 5)]
    assert bucket([1, 2], [3, 5], MinHash()) == []


def test_an_oversized_bucket_pairs_neighbours_and_counts_what_it_leaves_out():
    """Five rows, cap 2, one neighbour: in signature order 12 11 14 10 13 there are 4 pairs of neighbours; 6 of the 10
    pairs are left out.
    """
    got = bucket([4, 2, 1, 5, 3], [5] * 5, MinHash(bucket_cap=2, neighbours=1))
    assert got == [(10, 10, 6), (10, 13, 5), (10, 14, 5), (11, 12, 5), (11, 14, 5)]


def test_in_an_oversized_bucket_one_row_stands_for_those_of_its_signature():
    """Rows 10, 12 and 13 have one signature: 10 meets them, and alone meets row 11. Nothing is left out."""
    got = bucket([1, 2, 1, 1], [5] * 4, MinHash(bucket_cap=3))
    assert got == [(10, 11, 5), (10, 12, 5), (10, 13, 5)]


# ---- components ---------------------------------------------------------------------------------------------------


@law
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)).filter(lambda p: p[0] != p[1]), max_size=25))
def test_components_against_repeated_merging(edges):
    a, b = (np.array([e[k] for e in edges], np.uint64) * np.uint64(1 << 33) for k in (0, 1))
    rows, at_a, at_b, root = components(a, b)
    assert (rows[at_a] == a).all()
    assert (rows[at_b] == b).all()
    got = {}
    for row, first in zip(rows.tolist(), rows[root].tolist(), strict=True):
        got.setdefault(first, set()).add(str(row >> 33))
    assert all(str(first >> 33) in members and first >> 33 == min(map(int, members)) for first, members in got.items())
    nodes = sorted({str(n) for e in edges for n in e})
    assert {frozenset(g) for g in got.values()} == connected(nodes, {frozenset(map(str, e)) for e in edges})


def test_too_many_rows_for_one_process_is_an_error(monkeypatch):
    monkeypatch.setattr(near_clusters, "LIMIT", 3)
    with pytest.raises(RunError, match="4 rows have a candidate partner"):
        components(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4], np.uint64))


# ---- clusters -----------------------------------------------------------------------------------------------------


@law
@given(st.lists(documents(), min_size=1, max_size=10))
def test_clusters_are_the_components_over_true_pairs(texts):
    """With every pair a candidate, the result is that of comparing all documents with all."""
    table = docs(texts, EVERY_PAIR)
    ids = dict(zip(table["id"].to_pylist(), texts, strict=True))
    wordy = [i for i in ids if shingles(ids[i])]
    edges = {frozenset((i, j)) for i, j in combinations(wordy, 2) if jaccard(ids[i], ids[j], 2) >= 0.5}
    _, got, report = clusters([table], EVERY_PAIR)
    assert got == connected(wordy, edges)
    assert report["verified_pairs"] == len(edges)
    assert report["pairs_not_compared"] == 0


@law
@given(st.lists(documents(), min_size=1, max_size=10), st.integers(1, 3))
def test_every_cluster_is_held_together_by_true_pairs(texts, cap):
    """Whatever the bands find and the cap leaves out, no cluster joins documents without a chain of true pairs."""
    config = MinHash(bands=8, rows=2, ngram=2, threshold=0.5, bucket_cap=cap, neighbours=1)
    table = docs(texts, config)
    ids = dict(zip(table["id"].to_pylist(), texts, strict=True))
    _, got, _ = clusters([table], config)
    for cluster in got:
        true = {frozenset((i, j)) for i, j in combinations(sorted(cluster), 2) if jaccard(ids[i], ids[j], 2) >= 0.5}
        assert connected(sorted(cluster), true) == {cluster}


@law
@given(
    st.lists(documents(), min_size=1, max_size=10),
    st.integers(0, 10), st.integers(0, 10), st.randoms(use_true_random=False),
)
def test_neither_parts_nor_order_change_the_result(texts, first, second, random):
    config = MinHash(bands=20, rows=2, ngram=2, threshold=0.5, keep_by=("-text_bytes",))
    table = docs(texts, config)
    order = list(range(len(texts)))
    random.shuffle(order)
    shuffled = table.take(pa.array(order, pa.int64()))
    low, high = sorted((first, second))
    parts = [shuffled.slice(0, low), shuffled.slice(low, high - low), shuffled.slice(high)]
    assert clusters(parts, config) == clusters([table], config)


def chain(n: int) -> list[str]:
    """Texts, each like the next in 11 of 13 shingles of two words, and unlike those further off."""
    return [" ".join(f"w{i}" for i in range(start, start + 13)) for start in range(n)]


def test_blocks_change_nothing(monkeypatch):
    """One component of 30 rows and 12 shingles each, verified as a whole and in blocks of a few rows."""
    table = docs([*chain(30), "something else altogether"], EVERY_PAIR)
    rows = MemoryRows([table])
    whole, numbers = near_pairs(rows, EVERY_PAIR)
    monkeypatch.setattr(verification, "BLOCK", 60)
    trips, _ = verification.itinerary(rows.exchange(candidates.band_records, candidates.meet, by="band", label="bands",
                                                    reads=["minhash", "shingles"], given=EVERY_PAIR))
    visited = trips["blocks"].to_pylist()
    assert len({b for blocks in visited for b in blocks}) > 5
    assert max(map(len, visited)) > 1
    blocks, same_numbers = near_pairs(rows, EVERY_PAIR)
    assert blocks.equals(whole)
    assert same_numbers == numbers
    assert numbers["components"] == 1
    assert numbers["largest_component"] == 30


def test_a_chain_is_one_cluster_though_its_ends_share_nothing():
    """Neighbours share 11 of 13 shingles: 0.846."""
    copy_of, got, report = clusters([docs(chain(20), EVERY_PAIR)], MinHash(bands=64, rows=1, ngram=2, threshold=0.8))
    assert got == {frozenset(f"doc{i}" for i in range(20))}
    assert report["clusters"] == 1
    assert report["largest_cluster"] == 20
    assert sum(v is None for v in copy_of.values()) == 1


@law
@given(st.lists(documents(), min_size=1, max_size=12), st.integers(1, 60), st.integers(1, 3), st.booleans())
def test_at_scale_the_result_is_the_same(texts, block, cap, verify):
    """With everything left in files, in large components and small ones; what is not told is left out."""
    config = MinHash(bands=20, rows=2, ngram=2, threshold=0.5, bucket_cap=cap, neighbours=1, verify=verify)
    table = docs(texts, config)
    parts = [table.slice(0, 4), table.slice(4)]
    copy_of, whole, report = clusters(parts, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "AT_ONCE", -1)
        patch.setattr(verification, "BLOCK", block)
        got = clusters(parts, config)
    assert got[:2] == (copy_of, whole)
    for name in ("candidate_pairs", "buckets_over_cap", "pairs_not_compared", "clusters", "clustered_rows",
                 "largest_cluster", *(["verified_pairs", "candidate_rows"] if verify else [])):  # fmt: skip
        assert got[2][name] == report[name]
    for name in (n for n in report if n.startswith("cluster ")):
        assert got[2][name].split("; ")[1:] == report[name].split("; ")[1:]


@law
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_stars_against_repeated_merging(edges):
    pairs = pa.table({c: pa.array([e[k] for e in edges], UINT64) for k, c in enumerate("ab")})
    found = at_scale.components(MemoryRows([]), MemoryResults(pairs), "test").table
    nodes = sorted({str(n) for e in edges if e[0] != e[1] for n in e})
    groups = connected(nodes, {frozenset(map(str, e)) for e in edges if e[0] != e[1]})
    got = dict(zip(found["address"].to_pylist(), found["component"].to_pylist(), strict=True))
    assert sorted(got) == sorted(map(int, nodes))
    assert all(got[int(n)] == min(map(int, group)) for group in groups for n in group)


def test_a_long_chain_takes_few_rounds():
    """1,000 rows in a line, in no order: with labels handed on one step a round it would be hundreds of rounds."""
    order = np.random.default_rng(0).permutation(1000).astype(np.uint64)
    rows = MemoryRows([])
    labels = []
    exchange = rows.exchange_in_files
    rows.exchange_in_files = lambda *a, **k: labels.append(k["label"]) or exchange(*a, **k)
    found = at_scale.components(rows, MemoryResults(pa.table({"a": order[1:], "b": order[:-1]})), "test").table
    assert set(found["component"].to_pylist()) == {0}
    assert len(labels) < 2 * 15


def test_the_report_shows_the_largest_clusters():
    """A chain of 3 whose neighbours share 11 of 13 shingles (0.846), and a pair of equal texts; what is kept first."""
    config = MinHash(bands=64, rows=1, ngram=2, keep_by=("id",))
    _, _, report = clusters([docs([*chain(3), "one two three", "One two three!"], config)], config)
    assert report["cluster 1"].startswith("3 rows, every row joined by pairs of 0.846 or more; 'doc0' stays; 'doc")
    assert report["cluster 2"] == "2 rows, every row joined by pairs of 1.000 or more; 'doc3' stays; 'doc4'"
    assert "cluster 3" not in report


@law
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 9)), min_size=1, max_size=14))
def test_weakest_links_against_every_threshold(edges):
    """The highest threshold at which the pairs that reach it still hold the cluster together."""
    edges = [(x, y, j / 10) for x, y, j in edges if x != y]
    a, b = (np.array([e[k] for e in edges], np.uint64) for k in (0, 1))
    rows, at_a, at_b, root = components(a, b)
    found = np.unique(root)
    links = near_clusters.weakest_links(at_a, at_b, np.array([e[2] for e in edges]), root, found)
    for cluster, link in zip(found, links, strict=True):
        members = {str(r) for r in rows[root == cluster]}
        held = [t for t in sorted({e[2] for e in edges})
                if frozenset(members) in connected(sorted(members), {frozenset((str(x), str(y))) for x, y, j in edges
                                                                     if j >= t and str(x) in members})]  # fmt: skip
        assert link == max(held)


def test_what_a_has_is_removed_from_b_and_a_stays_whole():
    """Rows of wiki stay, copies of each other or not; those of web go where wiki has them, else by the policy."""
    texts = ["a b c d e f g", "A b c d e f g", "a b c d e f g!", "h i j k l m n", "h i j k l m n."]
    config = MinHash(keep_whole=("wiki",), keep_by=("id",))
    table = docs(texts, config).append_column("source", pa.array(["web", "wiki", "wiki", "web", "web"], TEXT))
    assert clusters_whole([table], config) == {"doc0": "doc1", "doc1": None, "doc2": None, "doc3": None, "doc4": "doc3"}
    gold = docs(texts, MinHash()).append_column("gold", pa.array([None, True, True, False, False]))
    assert clusters_whole([gold], MinHash(keep_where="gold", keep_by=("id",)))["doc0"] == "doc1"


def clusters_whole(parts, config):
    answer, rows = run_rounds(near_duplicates, parts, config)
    name = {a: i for t in rows.parts for a, i in zip(t["address"].to_pylist(), t["id"].to_pylist(), strict=True)}
    return {name[row["address"]]: name.get(row["near_copy_of"]) for row in answer.to_pylist()}


def test_without_verification_every_candidate_joins():
    """Texts with one of many words in common: 63 of 64 minima differ, a band of one minimum may agree."""
    texts = ["a b c d e f", "a b c d e g", "x y z"]
    config = MinHash(bands=200, rows=1, ngram=1, verify=False)
    _, got, report = clusters([docs(texts, config)], config)
    assert got == {frozenset({"doc0", "doc1"})}
    assert report["candidate_pairs"] == 1
    assert "verified_pairs" not in report
    assert "joined by pairs" not in report["cluster 1"]


def test_the_policy_chooses_what_is_kept():
    text = "a b c d e f g h i j k l m n o p"
    table = docs([text, text + "!!!", text + "!"], MinHash())
    assert clusters([table], MinHash(keep_by=("-text_bytes",)))[0] == {"doc0": "doc1", "doc1": None, "doc2": "doc1"}
    assert clusters([table], MinHash(keep_by=("id",)))[0] == {"doc0": None, "doc1": "doc0", "doc2": "doc0"}


def test_short_texts_match_only_when_their_words_are_the_same():
    table = docs(["one two", "One, two!", "one two three", "two one"], MinHash())
    assert clusters([table], MinHash(keep_by=("id",)))[0] == {"doc0": None, "doc1": "doc0"}


@pytest.mark.parametrize("texts", [[], ["", None], ["only one text"], ["two texts", "without a pair"]])
def test_nothing_in_common_is_no_answer(texts):
    copy_of, got, report = clusters([docs(texts, MinHash())], MinHash())
    assert (copy_of, got) == ({}, set())
    assert report["candidate_pairs"] == report["clusters"] == report["largest_cluster"] == 0


@pytest.mark.parametrize(
    "setting", [{"bands": 0}, {"neighbours": 0}, {"threshold": 0.0}, {"threshold": 1.5}, {"keep_by": ("x:y",)}]
)
def test_settings_that_make_no_sense(setting):
    with pytest.raises(UnknownSetting, match="fix: "):
        MinHash(**setting)
