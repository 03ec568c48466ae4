"""Attention: causal, with rotary positions, and inside documents where a row holds several.

Which kernel runs is one table, by what was measured (docs/trainer-model.md):

    device  arithmetic     one context a row             documents in a row
    cpu     bfloat16       the formula                   the formula
    cpu     float32        torch's own                   torch's own, with a mask
    cuda    any            torch's own (flash)           flex attention, which skips blocks without a pair

On a CPU torch's own kernel is good in float32, but in bfloat16 it takes two to three times as long as the formula
forward, and backward it is the slowest part of a small model's step. The formula is matrix product, mask, softmax,
matrix product, a block of queries at a time: later keys are never multiplied, and the score matrix of a block stays in
the cache. In training a compiler fuses what is between the products; forward only (``forward_by_formula``) each
operation between them is done where the scores are. All kernels give the same numbers within rounding; the tests hold
them to each other.

**Documents.** ``documents`` numbers the documents of a row, (B, T). A run of equal numbers is one document: its tokens
see one another only, and its positions start at 0. So a document has the losses that it has alone in a row, whatever
stands beside it. Runs of -1 are padding; they see themselves and nobody sees them.

Elsewhere: the layers around it (model.py).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from curate.train.compiling import translated

QUERIES = 128            # at a time: the fastest of 64, 128 and all, at contexts of 256 and 512
SMALLEST = 16            # size of a head that flex attention takes on a GPU; with smaller ones torch's own has a mask


@dataclass(frozen=True)
class Rows:
    """How rows are laid out.

    Args:
        positions: of each token in its document, int64 (B, T).
        mask: who sees whom, bool (B, 1, T, T); or a ``BlockMask`` of flex attention.
    """

    positions: Tensor
    mask: Any


def rows(documents: Tensor, *, flex: bool | None = None) -> Rows:
    """The layout of rows of documents, from their numbers, integer (B, T); a run of equal numbers is a document.

    Args:
        documents: the numbers.
        flex: whether the mask is one of flex attention; None for that on a GPU only.
    """
    width = documents.shape[1]
    at = torch.arange(width, device=documents.device)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    start = torch.where(begins, at, 0).cummax(1).values  # of the document a token is in: its name inside the row
    if documents.device.type == "cuda" if flex is None else flex:
        from torch.nn.attention.flex_attention import create_block_mask

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query >= key) & (start[row, query] == start[row, key])

        mask: Any = create_block_mask(sees, len(documents), None, width, width, device=documents.device.type)
    else:
        mask = ((start[:, :, None] == start[:, None, :]) & (at[:, None] >= at))[:, None]
    return Rows(at - start, mask)


def angles(context: int, size: int, base: float) -> Tensor:
    """Cosine and sine of the angle of each pair at each position, float32 (context, size / 2, 2) (Su et al. 2021)."""
    rates = base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    turned = torch.outer(torch.arange(context, dtype=torch.float64), rates)
    return torch.stack((turned.cos(), turned.sin()), -1).float()


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions: turn each pair of neighbours of x (B, T, 2, heads, size) by its angle, in float32.

    Args:
        x: queries and keys.
        turns: cosine and sine of each pair's angle, (T, 2, heads, size / 2, 2), or (B, T, 1, 1, size / 2, 2) where
            positions differ between rows.
    """
    pairs = x.float().view(*x.shape[:-1], -1, 2)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns)).flatten(-2)
    a, b = pairs.unbind(-1)
    cos, sin = turns[..., :1, :1, :, :].unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> Tensor:
    """Causal attention over (B, heads, T, size); ``mask`` as in Rows, None for one context a row."""
    if v.device.type == "cpu" and v.dtype != torch.float32:
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
        return by_formula(q, k, v, mask) if plain else forward_by_formula(q, k, v, mask)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if isinstance(mask, Tensor):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return by_blocks(q, k, v, mask)


def by_formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / sqrt(size)) v over the keys that a query sees, QUERIES of them at a time."""
    out = []
    for start in range(0, q.shape[2], QUERIES):
        end = min(start + QUERIES, q.shape[2])
        if mask is None:
            unseen = torch.full((end - start, end), -torch.inf, device=v.device).triu(start + 1)
        else:
            unseen = torch.where(mask[:, :, start:end, :end], 0.0, -torch.inf)
        scores = (q[:, :, start:end] * q.shape[-1] ** -0.5) @ k[:, :, :end].transpose(-1, -2)
        out.append(torch.softmax(scores + unseen, -1).to(v.dtype) @ v[:, :, :end])
    return out[0] if len(out) == 1 else torch.cat(out, 2)


def forward_by_formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The same without a gradient, in the type of ``v`` (the softmax's own sums are float32)."""
    shape = v.shape
    q, k, v = (x.flatten(0, 1) for x in (q * q.shape[-1] ** -0.5, k, v))
    out = torch.empty_like(v)
    unseen = torch.full((QUERIES, QUERIES), -torch.inf, dtype=v.dtype, device=v.device).triu_(1)
    with torch.autocast(v.device.type, enabled=False):
        for start in range(0, shape[2], QUERIES):
            end = min(start + QUERIES, shape[2])
            scores = torch.bmm(q[:, start:end], k[:, :end].mT)
            if mask is None:
                scores[:, :, start:].add_(unseen[: end - start, : end - start])
            else:
                hidden = mask[:, :, start:end, :end].logical_not()
                scores.view(*shape[:2], end - start, end).masked_fill_(hidden, -torch.inf)
            torch.bmm(torch.softmax(scores, -1), v[:, :end], out=out[:, start:end])
    return out.view(shape)


def by_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """Flex attention; ``mask`` is a BlockMask. It is fast where it is compiled, which it always is on a GPU."""
    from torch.nn.attention.flex_attention import flex_attention

    alone = v.device.type == "cuda" and not torch.compiler.is_compiling()
    kernel: Any = translated(flex_attention) if alone else flex_attention
    out: Tensor = kernel(q, k, v, block_mask=mask)
    return out
