"""Copies in meaning: SemDeDup (Abbas et al. 2023) over embeddings.

1. A sample of rows, chosen by keyed hash, gives the centroids: spherical k-means (Lloyd 1982, on unit vectors), started
   from rows far apart (Gonzalez 1985). It runs in the process that runs the pipeline.
2. Every row goes to the centroid that it is most similar to, with its embedding (an exchange by cluster).
3. Within a cluster rows are put in order, and each is compared with those before it by cosine similarity. A row that is
   more similar than ``1 - eps`` to one before it is a copy.

What the order and the comparison are, by name:

``keep="hard"``      rows far from the centroid come first and stay: paper (section 3) and released code
                     (facebookresearch/SemDeDup, semdedup.py), their default. ``"easy"``: near ones first. ``"random"``:
                     by keyed hash.
``against="any"``    with every row before it, copy or not: the paper's pseudo code and the released code (the maximum
                     of a column of the upper triangle). A chain a, b, c of neighbours leaves a alone, though c may be
                     far from it.
``against="kept"``   with the rows before it that stay: every row that goes has one that stays and is more similar than
                     ``1 - eps``. Fewer rows go.

A cluster of more than ``most`` rows is cut into runs of ``most`` in its order; rows of two runs are not compared.

Cost: ``rows * clusters * dimensions`` multiplications to find clusters, and half of ``rows ** 2 / clusters *
dimensions`` to compare, at about 5e9 a second and core; every embedding is exchanged once. Similarities are summed in
one fixed order, so that they depend neither on parts nor on buckets. Elsewhere: embeddings (``scorers.embedding``),
copies in words (``minhash``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.columns import ADDRESS, FLOAT32, INT64, KEY, UINT64
from curate.errors import BadData, UnknownSetting
from curate.hashing import halves, keyed
from curate.stage import Grain, PerPart, Rows, stage

KEEP = ("hard", "easy", "random")
AGAINST = ("any", "kept")


@dataclass(frozen=True, kw_only=True)
class Semantic:
    """How embeddings are clustered, and what counts as a copy.

    Args:
        column: the column of embeddings, float32 lists of ``dimensions``; rows where it is null, zero or not finite are
            in no cluster.
        dimensions: numbers in an embedding.
        clusters: centroids; about the square root of the number of rows balances the two costs. The paper takes 11,000
            for C4.
        sample: rows for each cluster that the centroids are learned from.
        rounds: of k-means.
        eps: a copy is more similar than ``1 - eps``, the cosine of the angle.
        keep: ``"hard"``, ``"easy"`` or ``"random"`` (see the module's story).
        against: ``"any"`` or ``"kept"``.
        most: rows of a cluster that are compared with each other.
        seed: the pipeline's seed.
        label: names the hash that chooses the sample and breaks ties.
    """

    column: str = "embedding"
    dimensions: int = 384
    clusters: int = 100
    sample: int = 64
    rounds: int = 10
    eps: float = 0.05
    keep: str = "hard"
    against: str = "any"
    most: int = 100_000
    seed: int = 0
    label: str = "semantic"

    def __post_init__(self) -> None:
        for name, known in (("keep", KEEP), ("against", AGAINST)):
            if getattr(self, name) not in known:
                raise UnknownSetting(
                    f"{name} is {getattr(self, name)!r}", where="Semantic", fix=f"use one of: {', '.join(known)}"
                )
        for name in ("dimensions", "clusters", "sample", "rounds", "most"):
            if getattr(self, name) < 1:
                raise UnknownSetting(f"{name} is {getattr(self, name)}", where="Semantic", fix="give 1 or more")
        if not 0 <= self.eps <= 2:
            raise UnknownSetting(f"eps is {self.eps}", where="Semantic", fix="give a number from 0 to 2")


# ---- kernels --------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _dot(a, b):  # type: ignore[no-untyped-def]
    """The product of two vectors, float32: eight sums side by side, then one of them, on every processor alike."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
    whole = len(a) - len(a) % 8
    for i in range(0, whole, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    for i in range(whole, len(a)):
        s0 += a[i] * b[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@njit(cache=True, nogil=True)
def _nearest(vectors, centroids):  # type: ignore[no-untyped-def]
    """For each vector the centroid that it is most similar to, int64 (n,), and the similarity, float32 (n,)."""
    which = np.empty(len(vectors), np.int64)
    similarity = np.empty(len(vectors), np.float32)
    for i in range(len(vectors)):
        best = np.float32(-2)
        for k in range(len(centroids)):
            now = _dot(vectors[i], centroids[k])
            if now > best:
                best = now
                which[i] = k
        similarity[i] = best
    return which, similarity


@njit(cache=True, nogil=True)
def _far_apart(vectors, most):  # type: ignore[no-untyped-def]
    """The first vector, then again and again the one least similar to all chosen before; int64, at most ``most``."""
    chosen = np.zeros(most, np.int64)
    nearest = np.full(len(vectors), np.float32(-2))
    count = 1
    while True:
        least = 0
        for i in range(len(vectors)):
            nearest[i] = max(nearest[i], _dot(vectors[i], vectors[chosen[count - 1]]))
            if nearest[i] < nearest[least]:
                least = i
        if count == most or nearest[least] > np.float32(0.999999):
            return chosen[:count]
        chosen[count] = least
        count += 1


@njit(cache=True, nogil=True)
def _most_similar(vectors, order, most, limit, kept_only):  # type: ignore[no-untyped-def]
    """For each vector the one before it in ``order`` that it is most similar to (-1: none), and the similarity.

    The cluster is cut into runs of ``most``. With ``kept_only``, those before it that are not themselves copies.
    """
    to = np.full(len(vectors), -1, np.int64)
    similarity = np.full(len(vectors), np.nan, np.float32)
    goes = np.zeros(len(vectors), np.bool_)
    for i in range(len(order)):
        best = np.float32(-2)
        at = -1
        for j in range(i - i % most, i):
            if kept_only and goes[order[j]]:
                continue
            now = _dot(vectors[order[i]], vectors[order[j]])
            if now > best:
                best = now
                at = order[j]
        if at >= 0:
            to[order[i]] = at
            similarity[order[i]] = best
            goes[order[i]] = best > limit
    return to, similarity, goes


# ---- vectors --------------------------------------------------------------------------------------------------------


def _vectors(column: pa.ChunkedArray, dimensions: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Embeddings as unit vectors, float32 (n, dimensions), and which of them are any, bool (n,)."""
    array = column.combine_chunks()
    valid = np.asarray(array.is_valid())
    flat = array.fill_null([0.0] * dimensions) if array.null_count else array
    raw = flat.flatten().fill_null(np.nan).to_numpy(zero_copy_only=False).reshape(-1, dimensions).astype(np.float64)
    length = np.sqrt((raw * raw).sum(axis=1))
    usable = valid & np.isfinite(length) & (length > 0)
    raw[~usable] = 0
    length[~usable] = 1
    return np.ascontiguousarray(raw / length[:, None], dtype=np.float32), usable


def _list(vectors: npt.NDArray[np.float32], dimensions: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), FLOAT32), dimensions)


# ---- centroids ------------------------------------------------------------------------------------------------------


def _sample(docs: pa.Table, given: tuple[Semantic, int]) -> pa.Table:
    """The rows of a part whose keyed hash lies below a limit, without equal embeddings twice."""
    config, limit = given
    vectors, usable = _vectors(docs[config.column], config.dimensions)
    hashes = keyed(halves(docs["key"]), label=config.label, seed=config.seed)
    at = np.flatnonzero(usable & (hashes <= np.uint64(limit)))
    return pa.table(
        {"hash": hashes[at], "key": docs["key"].take(pa.array(at)), "vector": _list(vectors[at], config.dimensions)}
    )


def centroids(vectors: npt.NDArray[np.float32], clusters: int, rounds: int) -> npt.NDArray[np.float32]:
    """Spherical k-means over unit vectors, float32 (n, d), n > 0, started from ones far apart; at most (clusters, d).

    A centroid that nobody is nearest to stays where it is.
    """
    centres = vectors[_far_apart(vectors, clusters)]
    for _ in range(rounds):
        which, _ = _nearest(vectors, centres)
        sums = np.zeros(centres.shape)
        np.add.at(sums, which, vectors)
        length = np.sqrt((sums * sums).sum(axis=1))
        moved = length > 1e-9
        after = centres.copy()
        after[moved] = (sums[moved] / length[moved, None]).astype(np.float32)
        if np.array_equal(after, centres):
            break
        centres = after
    return np.ascontiguousarray(centres)


# ---- comparison: by cluster -----------------------------------------------------------------------------------------


def _send(docs: pa.Table, given: tuple[Semantic, npt.NDArray[np.float32]]) -> pa.Table:
    config, centres = given
    vectors, usable = _vectors(docs[config.column], config.dimensions)
    at = np.flatnonzero(usable)
    which, similarity = _nearest(vectors[at], centres)
    return pa.table(
        {
            "cluster": which.astype(np.uint64),
            ADDRESS: docs[ADDRESS].to_numpy()[at],
            "key": docs["key"].take(pa.array(at)),
            "to_centroid": similarity,
            "vector": _list(vectors[at], config.dimensions),
        }
    )


def _compare(records: pa.Table, given: tuple[Semantic, npt.NDArray[np.float32]]) -> pa.Table:
    """Each cluster in order, and each row with those before it."""
    config, _ = given
    vectors = records["vector"].combine_chunks().flatten().to_numpy().reshape(-1, config.dimensions)
    cluster, address = records["cluster"].to_numpy(), records[ADDRESS].to_numpy()
    keys = halves(records["key"])
    ties = [keyed(keys, label=config.label, seed=config.seed), keys[:, 0], keys[:, 1], address]
    near = records["to_centroid"].to_numpy()
    first = {"hard": [near], "easy": [-near], "random": []}[config.keep]
    order = np.lexsort([*ties[::-1], *first, cluster])
    to = np.full(len(records), -1, dtype=np.int64)
    similarity = np.full(len(records), np.nan, dtype=np.float32)
    goes = np.zeros(len(records), dtype=bool)
    size = np.zeros(len(records), dtype=np.int64)
    starts = np.flatnonzero(np.diff(cluster[order], prepend=np.uint64(0)) != 0)
    starts = np.unique(np.append(starts, 0)) if len(order) else starts
    limit = np.float32(1 - config.eps)
    for start, stop in zip(starts, np.append(starts, len(order))[1:], strict=True):
        mine = order[start:stop]
        found, best, copy = _most_similar(
            vectors[mine], np.arange(len(mine)), config.most, limit, config.against == "kept"
        )
        to[mine] = np.where(found >= 0, mine[found], -1)
        similarity[mine], goes[mine], size[mine] = best, copy, len(mine)
    return pa.table(
        {
            ADDRESS: address,
            "semantic_copy_of": pa.array(address[to], UINT64, mask=~goes),
            "semantic_similarity": pa.array(similarity, FLOAT32, mask=to < 0),
            "semantic_cluster": pa.array(cluster.astype(np.int64), INT64),
            "semantic_cluster_size": pa.array(size, INT64),
        }
    )


ANSWERS: dict[str, pa.DataType] = {
    "semantic_copy_of": UINT64,
    "semantic_similarity": FLOAT32,
    "semantic_cluster": INT64,
    "semantic_cluster_size": INT64,
}


def _answer(docs: pa.Table, given: None, found: pa.Table) -> pa.Table:
    """The results of a part's rows, null for those in no cluster."""
    address, theirs = docs[ADDRESS].to_numpy(), found[ADDRESS].to_numpy()
    order = np.argsort(address)
    take = np.full(len(address), -1)
    take[order[np.searchsorted(address, theirs, sorter=order)]] = np.arange(len(theirs))
    return found.select(list(ANSWERS)).take(pa.array(take, mask=take < 0))


def _reads(config: Semantic) -> Mapping[str, pa.DataType]:
    return {config.column: pa.list_(FLOAT32, config.dimensions), "key": KEY}


@stage(reads=_reads, writes=ANSWERS, grain=Grain.GROUP, rounds=True, version="1")
def duplicates(rows: Rows, config: Semantic) -> PerPart:
    """Which row each row means the same as, by the order and the comparison that the settings name.

    ``semantic_copy_of`` is the address of the row before it that it is most similar to, null for a row that stays;
    ``semantic_similarity`` is that similarity, copy or not, null for the first row of a cluster (with ``against="any"``
    it does not depend on ``eps``, so that other values can be tried in a rule). ``semantic_cluster`` numbers the
    cluster, and ``semantic_cluster_size`` counts its rows. All are null for a row in no cluster.

    Raises:
        BadData: no row has an embedding, though there are rows.
    """
    wanted = config.clusters * config.sample
    limit = 2**64 - 1 if rows.count <= wanted else int(2**64 * wanted / rows.count)
    sampled = rows.map(_sample, reads=(config.column, "key"), label="sample", given=(config, limit))
    if rows.count and not any(len(t) for t in sampled):
        raise BadData(
            f"no row has an embedding in {config.column!r}",
            where="semantic.duplicates",
            fix="write it with embedding.embed first, and drop rows that have none",
        )
    centres = np.zeros((1, config.dimensions), dtype=np.float32)
    if rows.count:
        sample = pa.concat_tables(sampled).combine_chunks()
        keys = halves(sample["key"])
        order = np.lexsort([keys[:, 1], keys[:, 0], sample["hash"].to_numpy()])
        vectors = sample["vector"].combine_chunks().flatten().to_numpy().reshape(-1, config.dimensions)
        centres = centroids(np.ascontiguousarray(vectors[order]), config.clusters, config.rounds)
        rows.report({"clusters": len(centres), "sampled_rows": len(sample)})
    found = rows.exchange_to_parts(
        _send, _compare, reads=(config.column, "key"), by="cluster", label="clusters", given=(config, centres)
    )
    return PerPart(_answer, ("key",), None, found)
