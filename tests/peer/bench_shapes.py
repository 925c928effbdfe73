#!/usr/bin/env python3
"""Do the files that speed is measured on load and run?

    tests/peer/bench_shapes.py CADRE [peer]

One layer of every shape of bench/shapes.py, in formats of every kind: cadre loads it, its logits are finite, and the tokens
of a prompt go to many experts. With `peer`, llama.cpp loads it as well, and on q8_0 computes nearly the same;
bench/compare_engines.py compares the two, and counts turns that it kept.
Exit status: 0, 1, or 77 (skipped) without NumPy or peer.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

try:
    import numpy as np
    from families import ask_peer, tensors
    from llama_peer import PeerMissing, load_library
    from shapes import SHAPES
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

PROMPT, VOCAB, KL = 32, 300, 1e-2
TYPES = {"olmoe": ("q4_0", "q4_k", "q8_0"), "olmoe-as-qwen3moe": ("q4_0",), "deepseek-v2-lite": ("q4_k", "q8_0"),
         "mixtral-small": ("q4_k", "q6_k", "q8_0", "iq2_xs", "iq3_xxs", "tq1_0"), "qwen3-30b-a3b": ("q5_k", "q8_0"), "gpt-oss-20b": ("mxfp4",)}


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise ValueError((done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1])
    return done.stdout


def log_softmax(x):
    x = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def check(cadre, shape, kind, peer, folder):
    """None, or what is wrong"""
    model = folder / "model.gguf"
    run(sys.executable, ROOT / "bench/shapes.py", shape, "--type", kind, "--layers", 1, "--vocab", VOCAB, "-o", model)
    ids = [int(i) for i in np.random.default_rng(5).integers(0, VOCAB - 1, PROMPT)]
    said = json.loads(run(cadre, "run", model, "--ids", ",".join(map(str, ids)), "-n", 2, "--temp", 0, "--ignore-eos",
                          "--json", "--logits", folder / "logits.st", "--routing", folder / "routing.st"))
    logits, chosen = tensors(folder / "logits.st")["logits"], tensors(folder / "routing.st")["router_topk"]
    if not np.isfinite(logits).all() or len(said["ids"]) != 2:
        return f"{len(said['ids'])} tokens, logits from {logits.min()} to {logits.max()}"
    experts, used = SHAPES[shape][1].get("experts", 8), chosen.shape[2]
    hit, expected = len(np.unique(chosen)), experts * (1 - (1 - used / experts) ** PROMPT)  # of uniform choice
    if chosen.min() < 0 or hit < 0.7 * expected:
        return f"{PROMPT} tokens went to {hit} of {experts} experts"
    if not peer:
        return None
    theirs, ours = log_softmax(ask_peer(model, ids, folder, 0)[0]), log_softmax(logits)
    differ = float(np.median((np.exp(theirs) * (theirs - ours)).sum(axis=1)))
    return f"median KL {differ:.1e} to the peer" if kind == "q8_0" and not differ <= KL else None


def check_comparison(cadre, folder):
    """None, or what is wrong"""
    model, turns = folder / "model.gguf", folder / "turns.jsonl"
    run(sys.executable, ROOT / "bench/shapes.py", "mixtral-small", "--layers", 1, "--vocab", VOCAB, "-o", model)
    turns.write_text('{"cadre": [10, 1], "cadre-int8": [5, 2], "llama.cpp": [1000000, 100000]}\n')
    said = json.loads(run(sys.executable, ROOT / "bench/compare_engines.py", model, "--cadre", cadre, "-p", 8, "-n", 2, "-r", 2,
                          "-t", 1, "--keep", turns, "--json"))
    kept = [json.loads(line) for line in turns.read_text().splitlines()]
    for column, (speed, ratio) in enumerate((("prompt_tokens_per_s", "prompt_ratio"), ("tokens_per_s", "ratio"))):
        for name, figures in said["engines"].items():
            if sorted(figures[speed]["all"]) != sorted(turn[name][column] for turn in kept) or figures[speed]["min"] <= 0:
                return f"{name}: {figures}, but the turns are {kept}"
        for ours in ("cadre", "cadre-int8"):
            ratios = sorted(turn[ours][column] / turn["llama.cpp"][column] for turn in kept)
            found = said["engines"]["llama.cpp"][f"{ours}_{ratio}"]
            if len(kept) != 3 or abs(found - ratios[1]) > 1e-9:
                return f"{ours}: ratios {ratios}, but {ratio} is {found}"
    for name, figures in said["engines"].items():
        shares = sorted(turn[name][1] / turn["roof"] for turn in kept if "roof" in turn)
        if len(shares) != 2 or sorted(figures["roof_share"]["all"]) != shares:
            return f"{name}: shares of the roof {figures['roof_share']}, but {shares}"
    return None if list(said["engines"]) == ["cadre", "cadre-int8", "llama.cpp"] else f"engines {list(said['engines'])}"


def attempt(name, function, *arguments):
    """Whether it went wrong"""
    with tempfile.TemporaryDirectory(prefix="cadre-shapes-") as folder:
        try:
            wrong = function(*arguments, Path(folder))
        except ValueError as error:
            wrong = str(error)
    print(f"{name}: {wrong or 'runs'}", flush=True)
    return wrong is not None


def main():
    cadre, peer, failed = sys.argv[1], sys.argv[2:] == ["peer"], 0
    try:
        if peer:
            load_library()
    except PeerMissing as error:
        print(f"skipped: {error}")
        return 77
    for shape in SHAPES:
        for kind in TYPES[shape]:
            failed += attempt(f"{shape} {kind}", check, cadre, shape, kind, peer)
    if peer:
        failed += attempt("comparison", check_comparison, cadre)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
