"""The curve of banding: how likely documents of a given similarity are to become a candidate pair.

With b bands of r minima, documents of Jaccard index s share a band with probability ``1 - (1 - s**r)**b`` (Leskovec,
Rajaraman and Ullman 2014, section 3.4.2). The ``(1/b)**(1/r)`` that is often quoted as the threshold is where about
64 % of the pairs meet (``1 - 1/e`` for many bands); half of them do at a lower similarity, ``half_point``.
"""

import pyarrow as pa

from curate.columns import FLOAT64, TEXT

SHOWN = (0.6, 0.7, 0.8, 0.9)


def collision(similarity: float, bands: int, rows: int) -> float:
    """Probability that documents of this Jaccard index share a band: ``1 - (1 - s**rows)**bands``."""
    return float(1 - (1 - similarity**rows) ** bands)


def half_point(bands: int, rows: int) -> float:
    """The Jaccard index at which half of the pairs share a band.

    It lies below the often quoted ``(1 / bands) ** (1 / rows)``, where about 64 % do.
    """
    return float((1 - 0.5 ** (1 / bands)) ** (1 / rows))


def quoted_point(bands: int, rows: int) -> float:
    """``(1 / bands) ** (1 / rows)``: what is often called the threshold of a banding."""
    return float((1 / bands) ** (1 / rows))


def collision_table(bands: int, rows: int) -> pa.Table:
    """The curve as a table.

    ``similarity`` (float64) goes up in steps of 0.05; the 50 % point and ``(1/b)**(1/r)`` stand between them, and
    ``point`` (text) says so. ``probability`` (float64) is the chance to become a candidate pair.
    """
    named = [(half_point(bands, rows), "half of the pairs"), (quoted_point(bands, rows), "(1/b)^(1/r)")]
    points = sorted([*((step / 20, "") for step in range(21)), *named])
    return pa.table(
        {
            "similarity": pa.array([s for s, _ in points], FLOAT64),
            "probability": pa.array([collision(s, bands, rows) for s, _ in points], FLOAT64),
            "point": pa.array([name for _, name in points], TEXT),
        }
    )


def explain(bands: int, rows: int) -> str:
    """The curve in one line, for ``curate plan``."""
    shown = ", ".join(f"{s:.2f}: {collision(s, bands, rows):.1%}" for s in SHOWN)
    quoted = quoted_point(bands, rows)
    return (
        f"{bands} × {rows}; pairs meet with probability {shown}; half of them at {half_point(bands, rows):.3f}, "
        f"{collision(quoted, bands, rows):.0%} at (1/b)^(1/r) = {quoted:.3f}"
    )
