"""The whole tool on one page: clean, deduplicate, decontaminate, score, select towards a target, write, and prove it.

    curate run pipelines/quickstart.py                                  # the documentation that this Python carries
    curate run pipelines/quickstart.py --set source='data/*.parquet' --set target=my_target.parquet
    curate run pipelines/quickstart.py --config configs/fineweb_sample.toml --engine dask

1. Read, count tokens, measure everything; keep by a light profile, which is tried on the target first.
2. Drop exact copies, near copies, and documents that overlap with the target's held-out splits.
3. Train a small model on a sample of the pool, finetune it on the target; score every document by the loss that
   this saves (CoLoR-Filter, Brandfonbrener et al. 2024).
4. Select the best rows under a token budget, and the random and matched draws that it must beat.
5. Write the mix with its card; train small models on every arm; say how much closer the mix is, with noise.
"""

import math
import time
from dataclasses import dataclass, replace

import polars as pl

from curate import contamination, exact, minhash, quality, select, sources, tokens
from curate.columns import TEXT
from curate.dataset import Source
from curate.plan import Frame, Mix, Plan, conclude, fit, plan, read, write
from curate.trial import Trial, experiment, sample_bytes
from scorers import lm, loss_ratio

REFERENCE = 50_000  # tokens a second from which on the whole environment is done in five minutes on two cores


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Settings of the quickstart; every field can be set with --set, nested ones with dots.

    Args:
        source: documents to choose from: ``environment``, or files (a path, glob or URL).
        target: what the model should be good at: a package of the environment, or files with a column ``split``.
        target_domain: in files with a column ``domain``, the one to target.
        target_groups: whether those files have a column ``group``, whose rows are one item for the trial's noise.
        without: sources of the pool to leave out.
        package_bytes: of the environment, bytes of text a package at most; found by calibration.
        budget: share of the pool's tokens to select.
        profile: quality rules by which documents are kept (``quality.profile``).
        words: what the quality measures take for a word.
        near: how near-duplicates are found.
        tokenizer: the BPE that budgets and small models share.
        tokenizer_bytes: size of its sample.
        prior_bytes: size of the prior's sample.
        prior: the small model trained on the pool.
        conditional: how it is finetuned on the target.
        color: how documents are scored.
        trial: the experiment.
    """

    source: str = "environment"
    target: str = "huggingface_hub"
    target_domain: str | None = None
    target_groups: bool = False
    without: tuple[str, ...] = ()
    package_bytes: int | None = None
    budget: float = 0.1
    profile: str = "light"
    words: str = "whitespace"
    near: minhash.MinHash = minhash.MinHash(keep_by=("-text_bytes",))
    tokenizer: tokens.Bpe = tokens.Bpe()
    tokenizer_bytes: int = 2_000_000
    prior_bytes: int = 8_000_000
    prior: lm.LanguageModel = lm.LanguageModel()
    conditional: lm.Finetune = lm.Finetune()
    color: loss_ratio.Color = loss_ratio.Color()
    trial: Trial = Trial(ngram_bytes=800_000)


def calibrate(config: Quickstart) -> Quickstart:
    """Cut the environment to what this machine does in a few minutes; arms and seeds are never cut.

    Ten seconds of training on random tokens tell the speed, for small models take most of the time; files are used
    whole. Half of the time goes into arms and seeds, so the cut is steep: the limit a package is halved for every
    fourth root of two that the machine is slower, in powers of two, so that machines of one kind agree.
    """
    if config.source != "environment" or config.package_bytes is not None:
        return config
    import numpy as np

    from curate.train import loop, model

    shape = model.Config(vocab=config.tokenizer.vocabulary, width=48, layers=2, heads=2, hidden=128, context=64)
    ids = np.random.default_rng(0).integers(1, shape.vocab, 100_000).astype(np.uint16)
    loop.train(shape, loop.Training(tokens=20_000, batch=16), ids)  # what only a first run costs does not count
    began, tokens_seen = time.perf_counter(), 0
    while time.perf_counter() - began < 10:
        loop.train(shape, loop.Training(tokens=20_000, batch=16), ids)
        tokens_seen += 20_000
    speed = tokens_seen / (time.perf_counter() - began)
    halvings = max(0, math.ceil(4 * math.log2(REFERENCE / speed)))
    return replace(config, package_bytes=max(500_000, 8_000_000 >> halvings))


def pool_of(config: Quickstart) -> Source:
    """Where documents come from."""
    if config.source == "environment":
        return sources.environment(exclude=(config.target,), package_bytes=config.package_bytes)
    return sources.any_file(config.source)


def target_of(config: Quickstart, split: str) -> Frame:
    """One split of the target's documents."""
    if "." not in config.target and "/" not in config.target:
        return read(sources.environment(only=(config.target,), split=split, package_bytes=None))
    names = ["split", *(["domain"] if config.target_domain else []), *(["group"] if config.target_groups else [])]
    docs = read(sources.any_file(config.target, columns=dict.fromkeys(names, TEXT)))
    docs = docs.keep(pl.col("split") == split, because="other_split")
    if config.target_domain:
        docs = docs.keep(pl.col("domain") == config.target_domain, because="other_domain")
    return docs


def clean(config: Quickstart, measured: Frame, train: Frame, held_out: Frame) -> Frame:
    """Documents worth scoring: by quality, once each, and none that gives the held-out splits away."""
    index = fit(contamination.index, contamination.NGRAM13, held_out)
    docs = measured.keep(quality.profile(config.profile), guard=train.then(quality.measure, measuring(config)))
    docs = docs.then(exact.duplicates).keep(pl.col("exact_copy_of").is_null(), because="exact_duplicate")
    docs = docs.then(minhash.near_duplicates, config.near)
    docs = docs.keep(pl.col("near_copy_of").is_null(), because="near_duplicate")
    docs = docs.then(contamination.overlap, against=index)
    return docs.keep(pl.col("contaminated_ngrams") == 0, because="contaminated")


def measuring(config: Quickstart) -> quality.QualityMeasure:
    """What a word is."""
    return quality.QualityMeasure(words=config.words)


def mixes_of(docs: Frame, share: float) -> dict[str, Mix]:
    """The mix, its baselines and its controls, all on one frame."""
    choices = {
        "color": select.top("color", column="mix_color"),
        "random": select.uniform(label="random", column="mix_random"),
        "random'": select.uniform(label="random'", without="mix_random", column="mix_random2"),
        "length_matched": select.matched(to="mix_color", by="length", label="length", column="mix_length"),
        "source_matched": select.matched(to="mix_color", by="source", label="source", column="mix_source"),
        "conditional_only": select.top("conditional_loss", column="mix_conditional"),
        "inverse": select.top("color", inverse=True, label="inverse", column="mix_inverse"),
    }
    columns = {}
    for name, choice in choices.items():
        # What a loss alone likes, or a score likes least, has twice the tokens a byte; a trial compares equal bytes.
        dense = name in ("conditional_only", "inverse")
        mix = docs.select(choice, share=min(0.5, 2 * share) if dense else share)
        docs, columns[name] = mix.frame, mix.column
    return {name: Mix(docs, column) for name, column in columns.items()}


def pipeline(config: Quickstart) -> Plan:
    """From documents to a verdict."""
    raw = read(pool_of(config))
    if config.without:
        raw = raw.keep(~pl.col("source").is_in(list(config.without)), because="source_left_out")
    train, validation, test = (target_of(config, split) for split in ("train", "validation", "test"))
    seen = fit(contamination.index, contamination.NGRAM13, train)
    test = test.then(contamination.overlap, against=seen)
    test = test.keep(pl.col("contaminated_ngrams") == 0, because="shares_a_13_gram_with_train")

    bpe = fit(tokens.train_bpe, config.tokenizer, raw.sample(bytes=config.tokenizer_bytes, label="tokenizer"))
    measured = raw.then(tokens.count, tokenizer=bpe).then(quality.measure, measuring(config))
    docs = clean(config, measured, train, test)

    # The prior learns from the pool as it was read, so that a changed rule or threshold changes no score.
    prior = fit(lm.train, config.prior, raw.sample(bytes=config.prior_bytes, label="prior"), tokenizer=bpe)
    conditional = fit(lm.finetune, config.conditional, train, base=prior)
    docs = docs.then(loss_ratio.color, config.color, prior=prior, conditional=conditional)

    mixes = mixes_of(docs, config.budget)
    arms = {
        f"arm:{name}": mix.sample(bytes=sample_bytes(config.trial), label=f"arm {name}") for name, mix in mixes.items()
    }
    targets = {"target:train": train, "target:validation": validation, "target:test": test}
    verdict = conclude(experiment, config.trial, {**arms, **targets, "tokenizer": bpe})
    return plan(write({"color": mixes["color"]}, columns=["tokens", "color", "near_cluster_size"]), verdict)
