#!/usr/bin/env python3
"""Does cadre compute what the families with recurrent layers define?

    tests/peer/hybrid.py CADRE [reference|peer]

Writes a tiny random model of each (hybrid_models.py) and compares logits, routing and greedy continuations, all in F32,
with a float64 forward pass written from the definitions (hybrid_reference.py; the default), or with llama.cpp
(llama_peer.py). Exit status: 0 agreement, 1 disagreement, 77 (skipped) when NumPy or the peer is not there.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_peer import Peer, PeerMissing, read_safetensors

try:
    import numpy as np
    from hybrid_models import MODELS, keys, tensors
    from hybrid_reference import forward
    from tiny_gguf import write_gguf
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

MAX_ABS, MAX_WEIGHT, MIN_GAP, MIN_MARGIN = 2e-4, 1e-4, 2e-4, 1e-3
PROMPTS = (1, 30, 300)  # tokens: the state from zeros; a prompt; one that is fed in two pieces
GREEDY = {1: 12, 30: 8, 300: 0}


class Disagreement(Exception):
    pass


def cadre(program, *arguments):
    done = subprocess.run([str(a) for a in (program, *arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Disagreement(f"cadre {arguments[0]} exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def array_of(entry):
    shape, values = entry
    return np.frombuffer(values, dtype=np.float32 if values.typecode == "f" else np.int32).reshape(shape)


def run_cadre(program, model, ids, n, folder):
    """(logits, experts [layers, n, k], their weights, continuation)"""
    logits, routing = folder / "logits.safetensors", folder / "routing.safetensors"
    text = cadre(program, "run", model, "--ids", ",".join(map(str, ids)), "-n", n, "--temp", 0, "--ignore-eos", "--json",
                 "--logits", logits, "--act", "f32", "--kv", "f32", "-t", 2, *moe_options(model, routing))
    chosen = read_safetensors(routing) if routing.exists() else {}
    routing.unlink(missing_ok=True)
    return (array_of(read_safetensors(logits)["logits"]), *(array_of(chosen[k]) if chosen else None
            for k in ("router_topk", "router_weights")), json.loads(text)["ids"])


def moe_options(model, routing):
    return () if model.stem in DENSE else ("--routing", routing)


DENSE = {name for name, m in MODELS.items() if m["n_expert"] == 0}


def margin(row):
    first, second = np.sort(row)[:-3:-1]
    return first - second


def continue_greedily(m, weights, ids, n):
    """As many ids as the reference chooses clearly, n at most"""
    out = []
    for _ in range(n):
        row = forward(m, weights, ids + out)[0][-1]
        if margin(row) < MIN_MARGIN:
            break
        out.append(int(row.argmax()))
    return out


def check_logits(name, found, want):
    if found.shape != want.shape or not np.isfinite(found).all():
        raise Disagreement(f"{name}: logits {found.shape}, expected {want.shape}, or not finite")
    worst = np.abs(found - want).max()
    if worst > MAX_ABS:
        row = int(np.abs(found - want).max(axis=1).argmax())
        raise Disagreement(f"{name}: logits differ by {worst:.2e} (at most {MAX_ABS:.0e}), most after token {row}")
    return worst


def check_routing(name, chosen, weights, want):
    for layer, (ids, weight) in want.items():
        if not (chosen[layer] == ids).all():
            raise Disagreement(f"{name}: layer {layer} chose {chosen[layer].tolist()}, expected {ids.tolist()}")
        if np.abs(weights[layer] - weight).max() > MAX_WEIGHT:
            raise Disagreement(f"{name}: layer {layer}: weights differ by {np.abs(weights[layer] - weight).max():.2e}")
    for layer in set(range(len(chosen))) - set(want):
        if (chosen[layer] != -1).any():
            raise Disagreement(f"{name}: layer {layer} is dense and routed")


def against_reference(program, name, m, weights, path, folder):
    worst = 0
    for n in PROMPTS:
        ids = [int(x) for x in np.random.RandomState(n).randint(0, 256, n)]
        want, routing, gap = forward(m, weights, ids)
        if gap < MIN_GAP and n < 300:
            raise Disagreement(f"{name}: a decision of {n} tokens has a gap of {gap:.1e} only; take another seed")
        go_on = continue_greedily(m, weights, ids, GREEDY[n])
        found, chosen, chosen_weights, ids_after = run_cadre(program, path, ids, GREEDY[n], folder)
        worst = max(worst, check_logits(f"{name}, {n} tokens", found, want))
        if routing and gap >= MIN_GAP:
            check_routing(f"{name}, {n} tokens", chosen, chosen_weights, routing)
        if ids_after[:len(go_on)] != go_on:
            raise Disagreement(f"{name}, {n} tokens: goes on with {ids_after}, expected {go_on}")
    return worst


def against_peer(program, name, m, weights, path, folder):
    peer, worst = Peer(path), 0
    try:
        for n in PROMPTS:
            ids = [int(x) for x in np.random.RandomState(n).randint(0, 256, n)]
            rows, go_on = peer.run(ids, GREEDY[n])
            found, _, _, ids_after = run_cadre(program, path, ids, GREEDY[n], folder)
            worst = max(worst, check_logits(f"{name}, {n} tokens", found, np.array(rows)))
            clear = len(continue_greedily(m, weights, ids, GREEDY[n]))
            if ids_after[:clear] != go_on[:clear]:
                raise Disagreement(f"{name}, {n} tokens: goes on with {ids_after}, the peer with {go_on}")
    finally:
        peer.close()
    return worst


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["reference"], ["peer"]):
        sys.exit(__doc__)
    program, check = Path(sys.argv[1]), against_peer if sys.argv[2:] == ["peer"] else against_reference
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, m in MODELS.items():
            path, weights = Path(folder) / f"{name}.gguf", tensors(m, m["seed"])
            write_gguf(path, keys(m), weights)
            try:
                print(f"{name}: largest difference {check(program, name, m, weights, path, Path(folder)):.1e}")
            except PeerMissing as missing:
                print(f"skipped: {missing}")
                return 77
            except Disagreement as found:
                print(f"failed: {found}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
