#!/usr/bin/env python3
"""Does cadre compute what an independent engine computes, on the model that ships with it?

    tests/peer/compare.py CADRE [MODEL.gguf]

For several real texts: cadre's logits against llama.cpp's (llama_peer.py), both with f32 activations where the format
allows it and F32 keys and values.
  - the F32 twin of the model (cadre quantize --type f32): same numbers in, so logits within 2e-4;
  - the model itself: llama.cpp rounds activations to 8 bits before products with quantized weights, cadre does not
    (--act f32), so the distributions must be close (mean KL at most 3e-3 nats) and the likeliest token the same
    wherever the peer, on the F32 twin, prefers it by more than 0.1;
  - the model itself with --act auto, which rounds activations as well, but less: the same; and it is nearer to the
    peer on the F32 twin, the distribution without any rounding of activations, than the peer on the model itself is.
Exit status: 0 agreement, 1 disagreement, 77 (skipped) when the peer or the model is not there.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_peer import Peer, PeerMissing, read_safetensors

MAX_ABS, MEAN_KL, MARGIN = 2e-4, 3e-3, 0.1
MAX_TOKENS = 160
TEXTS = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and nothing "
    "particular to interest me on shore, I thought I would sail about a little and see the watery part of the world. It "
    "is a way I have of driving off the spleen and regulating the circulation.",
    "The scheduler picks the next task from the run queue of its CPU. If the queue is empty, it looks for work on other "
    "CPUs that share a cache, and only then farther away.\n\n- First, the local queue is locked.\n- Then the load of "
    "each group is compared.",
    "static int count_words(const char *text)\n{\n\tint words = 0;\n\n\tfor (; *text; text++)\n\t\tif (*text == ' ')\n"
    "\t\t\twords++;\n\treturn words;\n}\n",
    "Es war einmal ein Müller, der hatte drei Söhne. Il était une fois un meunier. Había una vez un molinero: ¿qué hizo "
    "él? 1, 2, 3 … 1,024 → π ≈ 3.14159.",
    "A",
)


class Disagreement(Exception):
    pass


def cadre(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Disagreement(f"{' '.join(map(str, arguments[1:3]))} exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def rows_of_cadre(program, model, ids, folder, act):
    out = folder / "logits.safetensors"
    cadre(program, "run", model, "--ids", ",".join(map(str, ids)), "-n", "0", "--logits", out,
          "--act", act, "--kv", "f32", "-t", "2", "-q")
    tensors = read_safetensors(out)
    shape, logits = tensors["logits"]
    if list(tensors["tokens"][1]) != ids or shape[0] != len(ids):
        raise Disagreement(f"cadre wrote logits {shape} for {len(ids)} tokens, or other tokens than asked for")
    return [logits[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]


def kl(p, q):
    """KL(softmax p || softmax q) in nats"""
    top_p, top_q = max(p), max(q)
    exp_p = [math.exp(x - top_p) for x in p]
    sum_p, sum_q = math.fsum(exp_p), math.fsum(math.exp(x - top_q) for x in q)
    shift = top_q - top_p + math.log(sum_q) - math.log(sum_p)
    return math.fsum(e * (a - b) for e, a, b in zip(exp_p, p, q)) / sum_p + shift


def argmax(row):
    return max(range(len(row)), key=row.__getitem__)


def margin(row):
    first = max(row)
    return first - max(x for i, x in enumerate(row) if i != row.index(first))


def compare(program, model, prompts, folder, act="f32", exact=None):
    """(largest difference, mean KL, positions, different choices with a clear margin, the peer's rows, cadre's rows)
    over all prompts

    The margin is that of `exact`, the peer's rows without rounded activations: where those hardly prefer one token,
    rounding may tip an expert and with it the choice."""
    peer, worst, total, count, flips, rows, ours = Peer(model), 0.0, 0.0, 0, 0, [], []
    try:
        for ids in prompts:
            rows += peer.run(ids)[0]
            for a in rows_of_cadre(program, model, ids, folder, act):
                ours.append(a)
                b, clear = rows[count], (exact or rows)[count]
                if len(a) != len(b) or not all(map(math.isfinite, a)):
                    raise Disagreement(f"rows of {len(a)} and {len(b)} logits, or logits that are not finite")
                worst = max(worst, max(abs(x - y) for x, y in zip(a, b)))
                total += kl(b, a)
                count += 1
                flips += argmax(a) != argmax(b) and margin(clear) > MARGIN
    finally:
        peer.close()
    return worst, total / count, count, flips, rows, ours


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    program = Path(sys.argv[1])
    root = Path(__file__).resolve().parents[2]
    models = [Path(sys.argv[2])] if len(sys.argv) == 3 else sorted((root / "models").glob("*.gguf"))
    if not models:
        print("skipped: no model in models/")
        return 77
    model = models[0]
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prompts = [json.loads(cadre(program, "tokenize", model, "-p", text, "--json"))["ids"][:MAX_TOKENS]
                       for text in TEXTS]
            twin = folder / "twin.gguf"
            cadre(program, "quantize", model, "--type", "f32", "-o", twin)
            worst, mean, count, flips, exact, _ = compare(program, twin, prompts, folder)
            print(f"F32 twin: {count} positions, largest difference {worst:.2e} (at most {MAX_ABS:.0e}), KL {mean:.1e}")
            failed = worst > MAX_ABS or flips > 0
            worst, mean, count, flips, _, _ = compare(program, model, prompts, folder, exact=exact)
            print(f"{model.name}: {count} positions, mean KL {mean:.2e} (at most {MEAN_KL:.0e}), largest difference "
                  f"{worst:.2e}, {flips} other choices with a margin above {MARGIN}")
            failed |= mean > MEAN_KL or flips > 0
            worst, mean, _, flips, peers, ours = compare(program, model, prompts, folder, act="auto", exact=exact)
            print(f"the same with --act auto: mean KL {mean:.2e}, largest difference {worst:.2e}, {flips} other choices "
                  f"with a margin above {MARGIN}")
            failed |= mean > MEAN_KL or flips > 0
            rounding = [math.fsum(map(kl, exact, rows)) / count for rows in (ours, peers)]
            print(f"rounding of activations: mean KL {rounding[0]:.2e}, the peer's {rounding[1]:.2e}")
            failed |= rounding[0] >= rounding[1]
    except PeerMissing as missing:
        print(f"skipped: {missing}")
        return 77
    except Disagreement as found:
        print(f"failed: {found}")
        return 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
