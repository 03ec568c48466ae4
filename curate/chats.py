"""Chats as documents: turns of a conversation as one text, with a column that says whose words are which.

    read(sources.jsonl("chats/*.jsonl", text="id", columns={"messages": chats.MESSAGES})).then(chats.write)

``write`` is a MANY stage: it replaces each row's text by its messages, one after the other, in a plain template, and
writes ``spans`` (docs/tokens.md): the words of ``train`` (the assistant) are trained on, with what closes them, so that
the model learns where its turn ends; everything else is read and not predicted. Tokenising cuts at these borders, so
the mask is exact to the byte; packing, training, scoring and the shards for other trainers honour it.

    <|user|>
    What is a byte?
    <|assistant|>
    Eight bits.

The template is text like any other: with a model that has its own, give ``before`` and ``after`` that spell it.
A row without messages, or with one that has no role, goes to the quarantine; no content (a call of a tool) is empty.
Spans are offsets into this very text: do this after all edits of messages, and edit the text no more.

Cost: 40 MB of text a CPU second.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.columns import QUARANTINED, ROW, TEXT
from curate.errors import UnknownSetting
from curate.stage import ColumnType, Grain, stage
from curate.train.spans import TYPE as SPANS

MESSAGES = pa.list_(pa.struct({"role": TEXT, "content": TEXT}))


@dataclass(frozen=True, kw_only=True)
class Chat:
    """How messages become a text.

    Args:
        column: of the messages, of type MESSAGES.
        before: what stands before a message; ``{role}`` is its role.
        after: what stands behind it, and is trained on with the words.
        train: roles whose words are trained on.
    """

    column: str = "messages"
    before: str = "<|{role}|>\n"
    after: str = "\n"
    train: tuple[str, ...] = ("assistant",)

    def __post_init__(self) -> None:
        try:
            self.before.format(role="x")
        except (KeyError, IndexError, ValueError) as error:
            raise UnknownSetting(
                f"the template {self.before!r} cannot be filled in ({error!r})", where="Chat(before=...)",
                fix="write {role} where the role belongs, and {{ for a brace",
            ) from None  # fmt: skip

    def reads(self) -> dict[str, pa.DataType]:
        """The messages."""
        return {self.column: MESSAGES}

    def writes(self) -> dict[str, ColumnType]:
        """Text and spans."""
        return {"text": TEXT, "spans": SPANS}


@stage(reads=Chat.reads, writes=Chat.writes, grain=Grain.MANY, version="1")
def write(docs: pa.Table, config: Chat) -> pa.Table:
    """Each row's messages as one text, with its spans."""
    texts, spans, wrong = [], [], []
    headers: dict[str, str] = {}
    for messages in docs[config.column].to_pylist():
        pieces: list[str] = []
        found: list[dict[str, object]] = []
        at = 0
        problem = None if messages else "no messages"
        for message in messages or ():
            role = None if message is None else message["role"]
            if not role:
                problem = "a message without a role"
                break
            if role not in headers:
                headers[role] = config.before.format(role=role)
            pieces += [headers[role], message["content"] or "", config.after]
            header = len(headers[role].encode())
            size = header + len(pieces[-2].encode()) + len(config.after.encode())
            body = at + header if role in config.train else at + size
            if body > at:
                found.append(_span(at, body, role, False))
            if at + size > body:
                found.append(_span(body, at + size, role, True))
            at += size
        texts.append("".join(pieces))
        spans.append(found)
        wrong.append(problem)
    return pa.table({
        ROW: np.arange(len(texts)), "text": pa.array(texts, TEXT), "spans": pa.array(spans, SPANS),
        QUARANTINED: pa.array(wrong, TEXT),
    })  # fmt: skip


def _span(start: int, stop: int, role: str, loss: bool) -> dict[str, object]:
    return {"start": start, "stop": stop, "role": role, "language": "", "code": False, "loss": loss}
