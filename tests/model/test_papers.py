"""The models of papers.py and directories.py from their Hugging Face folder against a float64 forward written from the
papers and the classes' definitions, with and without a KV cache, and written as GGUF and read again.

usage: test_papers.py CADRE
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("skipped: this Python has no NumPy")
    sys.exit(77)

import directories
from papers import Pangu

CADRE = Path(sys.argv.pop(1)).resolve()
MAX_ABS, WEIGHT, PROMPT, GREEDY = 2e-4, 1e-4, 20, 6
CASES = directories.CASES + (
    (Pangu, {}),
    (Pangu, {"num_experts_per_tok": 2, "num_experts": 4, "num_key_value_heads": 4}),
    (Pangu, {"num_experts_per_tok": 4, "num_expert_groups": 2, "tie_word_embeddings": True}),
    (Pangu, {"num_experts_per_tok": 8, "num_experts": 16, "shared_expert_intermediate_size": 0}),
)


def tensors(path):
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8:8 + n]), raw[8 + n:]
    kinds = {"I32": "<i4", "F32": "<f4"}
    return {name: np.frombuffer(data[slice(*t["data_offsets"])], kinds[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


def cadre(*args):
    p = subprocess.run([str(a) for a in (CADRE, *args)], capture_output=True, text=True, timeout=120)
    return p.returncode, p.stdout, p.stderr


class Papers(unittest.TestCase):
    def run_model(self, model, ids, folder):
        status, out, err = cadre("run", model, "--ids", ",".join(map(str, ids)), "--n", GREEDY, "--temp", 0,
                                 "--ignore-eos", "--json", "--logits", folder / "l.st", "--routing", folder / "r.st")
        self.assertEqual(status, 0, err)
        return tensors(folder / "l.st")["logits"], json.loads(out)["ids"], tensors(folder / "r.st")

    def check_routing(self, found, wanted):
        moe = [i for i in range(len(found["router_topk"])) if (found["router_topk"][i] >= 0).any()]
        self.assertEqual(len(moe), len(wanted))
        for i, (ids, weights) in zip(moe, wanted):
            order, own = np.argsort(ids, axis=1), np.argsort(found["router_topk"][i], axis=1)
            np.testing.assert_array_equal(np.take_along_axis(found["router_topk"][i], own, 1),
                                          np.take_along_axis(ids, order, 1))
            np.testing.assert_allclose(np.take_along_axis(found["router_weights"][i], own, 1),
                                       np.take_along_axis(weights, order, 1), atol=WEIGHT)

    def test_against_float64(self):
        for seed, (paper, more) in enumerate(CASES, 1):
            for bf16 in (False, True):
                with self.subTest(paper=paper.__name__, bf16=bf16, **more), tempfile.TemporaryDirectory() as folder:
                    self.check_model(paper(seed, bf16, **more), seed, Path(folder))

    def check_model(self, model, seed, folder):
        model.w.save(folder / "hf", model.c)
        ids = [int(i) for i in np.random.default_rng(seed + 100).integers(0, model.c["vocab_size"], PROMPT)]
        logits, greedy, routing = self.run_model(folder / "hf", ids, folder)
        wanted = model.forward(ids)
        self.assertLess(np.abs(logits - wanted).max(), MAX_ABS)
        self.check_routing(routing, model.routing)
        self.assertEqual(greedy, model.greedy(ids, GREEDY))
        status, _, err = cadre("convert", folder / "hf", "-o", folder / "model.gguf")
        self.assertEqual(status, 0, err)
        again, same_greedy, _ = self.run_model(folder / "model.gguf", ids, folder)
        np.testing.assert_array_equal(again, logits)
        self.assertEqual(same_greedy, greedy)


if __name__ == "__main__":
    unittest.main()
