#!/usr/bin/env python3
"""Does cadre compute what an independent engine computes, for every architecture and many shapes?

    tests/peer/families.py CADRE [--family NAME …] [--seeds N] [--keep FOLDER]

For every row of peer_shapes.py and peer_more_shapes.py: a tiny model with random weights goes to llama.cpp (llama_peer.py) and to cadre. Logits
of a random prompt must agree within 2e-4, the greedy continuation must be the same, and the routing that cadre
records must be well formed. What cadre does not know yet (PENDING) it must refuse by name. The peer runs in a process
of its own, so that its assertions end one case only.
Exit status: 0 agreement, 1 disagreement, 77 (skipped) when the peer or NumPy is not there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("skipped: this Python has no NumPy")
    sys.exit(77)

from llama_peer import PeerMissing, Server, load_library, read_safetensors
from peer_more_shapes import MORE
from peer_shapes import ARCHITECTURES, PENDING, build

MAX_ABS, GREEDY, CONTEXT = 2e-4, 8, 512
largest = {}  # difference, of each architecture


def tensors(path):
    return {name: np.array(values).reshape(shape) for name, (shape, values) in read_safetensors(path).items()}


def run(command):
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if p.returncode:
        raise ValueError((p.stderr.strip() or f"ended with {p.returncode}").splitlines()[-1])
    return p.stdout


peer = Server()


def ask_peer(model, ids, folder, more=GREEDY):
    peer.run(model, ids, folder / "peer.st", more)
    out = tensors(folder / "peer.st")
    return out["logits"], list(out.get("greedy", []))


def ask_cadre(cadre, model, h, ids, folder):
    routes = ["--routing", folder / "routing.st"] if h.experts else []
    said = run([cadre, "run", model, "--ids", ",".join(map(str, ids)), "--n", GREEDY, "--temp", 0, "--ctx", CONTEXT,
                "-t", 1, "--ignore-eos", "--json", "--logits", folder / "logits.st", *routes])
    routing = tensors(folder / "routing.st") if routes else None
    return tensors(folder / "logits.st")["logits"], json.loads(said)["ids"], routing


def check_routing(routing, h, n):
    """What must hold of any decision, or None."""
    if not routing:
        return None
    ids, weights = routing["router_topk"], routing["router_weights"]
    moe = [i for i in range(len(ids)) if (ids[i] >= 0).any()]
    if ids.shape != (h.layers, n, h.used) or not moe:
        return f"router_topk has the shape {ids.shape}"
    if any(len(set(row)) != h.used or min(row) < 0 or max(row) >= h.experts for i in moe for row in ids[i]):
        return "a token's experts are not distinct ids"
    return None if np.isfinite(weights).all() else "a weight is not finite"


def compare(cadre, name, overrides, seed, folder):
    """None, or what is wrong."""
    model, h = build(name, overrides, seed)
    path = folder / "model.gguf"
    model.write(path)
    ids = [int(i) for i in np.random.default_rng(seed + 1000).integers(0, h.vocab - 1, h.prompt)]
    try:
        theirs, their_greedy = ask_peer(path, ids, folder)
    except ValueError as error:
        return f"the peer cannot run it: {error}"
    try:
        ours, our_greedy, routing = ask_cadre(cadre, path, h, ids, folder)
    except ValueError as error:
        refused = f"unsupported architecture '{name}'" in str(error)
        return None if name in PENDING and refused else f"cadre cannot run it: {error}"
    if name in PENDING:
        return "cadre runs it: take it out of PENDING in peer_shapes.py"
    worst = float(np.abs(theirs - ours).max())
    largest[name] = max(worst, largest.get(name, 0.0))
    if not worst <= MAX_ABS:
        first = int(np.argmax(np.abs(theirs - ours).max(axis=1) > MAX_ABS))
        return f"logits differ by {worst:.2e} (tolerance {MAX_ABS:.0e}), first after token {first}"
    if our_greedy != their_greedy:
        return f"greedy continuation {our_greedy}, the peer has {their_greedy}"
    return check_routing(routing, h, len(ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cadre", type=Path)
    parser.add_argument("--family", nargs="+", choices=sorted(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--seeds", type=int, default=1, help="models of every shape")
    parser.add_argument("--keep", type=Path, help="leave the files of failing cases there")
    options = parser.parse_args()
    try:
        load_library()
    except PeerMissing as error:
        print(f"skipped: {error}")
        return 77
    failed = 0
    for name in options.family:
        shapes = ARCHITECTURES[name][1] + MORE.get(name, [])
        for case in range(len(shapes) * options.seeds):
            shape, seed = case % len(shapes), 1 + case // len(shapes)
            with tempfile.TemporaryDirectory(prefix="cadre-peer-") as folder:
                wrong = compare(options.cadre, name, shapes[shape], seed, Path(folder))
                if wrong and options.keep:
                    kept = options.keep / f"{name}-{shape}-{seed}"
                    kept.mkdir(parents=True, exist_ok=True)
                    for file in Path(folder).iterdir():
                        file.replace(kept / file.name)
            if wrong:
                failed += 1
                print(f"FAIL {name} {shapes[shape]} seed {seed}: {wrong}")
        pending = ", not supported yet" if name in PENDING else ""
        print(f"{name}: {len(shapes) * options.seeds} models{pending}, largest difference {largest.get(name, 0.0):.1e}",
              flush=True)
    print("agreement" if not failed else f"{failed} disagreements")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
