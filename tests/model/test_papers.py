"""The models of papers.py and directories.py from their Hugging Face folder against a float64 forward written from the
papers and the classes' definitions, with and without a KV cache, and written as GGUF and as a folder and read again.

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
from papers import LongCat, Pangu

CADRE = Path(sys.argv.pop(1)).resolve()
MAX_ABS, WEIGHT, PROMPT, GREEDY = 2e-4, 1e-4, 20, 6
CASES = directories.CASES + (
    (Pangu, {}),
    (Pangu, {"num_experts_per_tok": 2, "num_experts": 4, "num_key_value_heads": 4}),
    (Pangu, {"num_experts_per_tok": 4, "num_expert_groups": 2, "tie_word_embeddings": True}),
    (Pangu, {"num_experts_per_tok": 8, "num_experts": 16, "shared_expert_intermediate_size": 0}),
    (LongCat, {}),
    (LongCat, {"hidden_size": 48, "num_layers": 3, "num_attention_heads": 3, "qk_nope_head_dim": 10, "v_head_dim": 6,
               "zero_expert_num": 8, "moe_topk": 5, "routed_scaling_factor": 6.0, "rope_theta": 1e7}),
    (LongCat, {"mla_scale_q_lora": False, "zero_expert_num": 0, "tie_word_embeddings": True, "num_layers": 1}),
    (LongCat, {"mla_scale_kv_lora": False, "n_routed_experts": 3, "zero_expert_num": 1, "moe_topk": 1}),
    (LongCat, {"q_lora_rank": 40, "kv_lora_rank": 33, "qk_rope_head_dim": 10, "expert_ffn_hidden_size": 7,
               "num_key_value_heads": 4, "num_hidden_layers": 4, "zero_expert_num": 12}),
)
# What a directory of LongCat-Flash may not say, and a piece of the error.
REFUSED = (
    ({"router_bias": True}, "router_bias"), ({"zero_expert_type": "drop"}, "zero_expert_type"),
    ({"norm_topk_prob": True}, "norm_topk_prob"), ({"attention_method": "GQA"}, "attention_method"),
    ({"num_layers": 0}, "model.layers.0."), ({"num_layers": 3}, "model.layers.2."), ({"num_layers": 1}, "model.layers.1."),
    ({"zero_expert_num": 2}, "ffn_gate_inp"), ({"n_routed_experts": 5, "zero_expert_num": 4}, "experts.5."),
    ({"n_routed_experts": 7, "zero_expert_num": 2}, "experts.6."), ({"moe_topk": 10}, "expert_used_count"),
    ({"q_lora_rank": 0}, "q_lora_rank"), ({"kv_lora_rank": None}, "kv_lora_rank"), ({"num_layers": None}, "num_layers"),
    ({"qk_nope_head_dim": 9}, "kv_b_proj"), ({"attention_bias": True}, "attention_bias"),
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
    def run_model(self, model, ids, folder, *more):
        status, out, err = cadre("run", model, "--ids", ",".join(map(str, ids)), "--n", GREEDY, "--temp", 0,
                                 "--ignore-eos", "--json", "--logits", folder / "l.st", "--routing", folder / "r.st",
                                 *more)
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
        for n in (1, 7):  # what a row gives does not depend on those after it
            room = ("--ctx", PROMPT + GREEDY)  # of it LongRoPE depends
            np.testing.assert_array_equal(self.run_model(folder / "hf", ids[:n], folder, *room)[0], logits[:n])

    def test_directories_written_as_a_folder_and_read_again(self):
        for seed, (kind, more) in enumerate(directories.CASES, 70):
            with self.subTest(kind=kind.__name__, **more), tempfile.TemporaryDirectory() as name:
                model, folder = kind(seed, **more), Path(name)
                model.w.save(folder / "hf", model.c)
                for source, out in (("hf", "model.gguf"), ("model.gguf", "again")):
                    status, _, err = cadre("convert", folder / source, "-o", folder / out)
                    self.assertEqual(status, 0, err)
                stored = tensors(folder / "again" / "model.safetensors")
                self.assertEqual(set(stored), set(model.w.tensors))
                for key, values in model.w.tensors.items():
                    np.testing.assert_array_equal(stored[key], values, key)
                ids = list(range(3, 3 + PROMPT))
                np.testing.assert_array_equal(self.run_model(folder / "again", ids, folder)[0],
                                              self.run_model(folder / "hf", ids, folder)[0])

    def test_configs_of_directories_that_are_refused(self):
        for kind, more, text in directories.REFUSED:
            with self.subTest(kind=kind.__name__, **more), tempfile.TemporaryDirectory() as name:
                model = kind(90)
                model.w.save(name, {**model.c, **more})
                status, _, err = cadre("run", name, "--ids", "1")
                self.assertEqual(status, 1, err)
                self.assertIn(text, err)

    def test_longcat_attention_has_two_forms(self):
        for seed, more in enumerate(({}, {"hidden_size": 40, "kv_lora_rank": 9, "mla_scale_q_lora": False}), 30):
            with tempfile.TemporaryDirectory() as name:
                model, folder = LongCat(seed, **more), Path(name)
                model.w.save(folder / "hf", model.c)
                ids = list(range(5, 5 + PROMPT))
                for form in ("plain", "absorbed"):
                    logits, greedy, routing = self.run_model(folder / "hf", ids, folder, "--mla", form)
                    self.assertLess(np.abs(logits - model.forward(ids)).max(), MAX_ABS)
                    self.check_routing(routing, model.routing)
                    self.assertEqual(greedy, model.greedy(ids, GREEDY))

    def test_longcat_chooses_experts_of_both_kinds(self):
        model = LongCat(5)
        model.forward(list(range(PROMPT)))
        chosen = np.concatenate([ids.ravel() for ids, _ in model.routing])
        self.assertTrue((chosen < 6).any() and (chosen >= 6).any())

    def test_longcat_predictors_do_not_count(self):
        with tempfile.TemporaryDirectory() as name:
            model, folder = LongCat(40), Path(name)
            model.w.save(folder / "hf", model.c)
            logits = self.run_model(folder / "hf", [1, 2, 3], folder)[0]
            model.w.matrix("model.mtp.layers.0.eh_proj.weight", 32, 64)
            model.w.vector("model.mtp.norm.weight", 32)
            model.w.save(folder / "more", model.c)
            np.testing.assert_array_equal(self.run_model(folder / "more", [1, 2, 3], folder)[0], logits)
            model.w.vector("model.layers.0.input_layernorm.2.weight", 32)
            model.w.save(folder / "odd", model.c)
            status, _, err = cadre("run", folder / "odd", "--ids", "1")
            self.assertEqual(status, 1)
            self.assertIn("input_layernorm.2", err)

    def test_longcat_written_as_a_folder_and_read_again(self):
        for more in ({}, {"mla_scale_q_lora": False, "num_layers": 3}, {"mla_scale_kv_lora": False}):
            with tempfile.TemporaryDirectory() as name:
                model, folder = LongCat(50, **more), Path(name)
                model.w.save(folder / "hf", model.c)
                for source, out in (("hf", "model.gguf"), ("model.gguf", "again")):
                    status, _, err = cadre("convert", folder / source, "-o", folder / out)
                    self.assertEqual(status, 0, err)
                found = json.loads((folder / "again" / "config.json").read_text())
                for key in set(model.c) - {"torch_dtype"}:
                    self.assertEqual(found[key], model.c[key], key)
                stored = tensors(folder / "again" / "model.safetensors")
                self.assertEqual(set(stored), set(model.w.tensors))
                for key, values in model.w.tensors.items():
                    np.testing.assert_array_equal(stored[key], values, key)

    def test_longcat_refusals(self):
        model = LongCat(60)
        with tempfile.TemporaryDirectory() as name:
            model.w.save(name, model.c)
            for more, text in REFUSED:
                with self.subTest(**more):
                    (Path(name) / "config.json").write_text(json.dumps({**model.c, **more}))
                    status, _, err = cadre("run", name, "--ids", "1")
                    self.assertEqual(status, 1, err)
                    self.assertIn(text, err)


if __name__ == "__main__":
    unittest.main()
