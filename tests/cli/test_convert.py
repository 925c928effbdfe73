"""`cadre convert` and Hugging Face directories from outside: what opens, what is refused and how, resumption.

    test_convert.py CADRE
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hf_dir

CADRE = ""
IDS = "5,6,7,8,9,10,11"


def cadre(*args, **kw):
    return subprocess.run([CADRE, *args], capture_output=True, timeout=60, **kw)


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Convert(unittest.TestCase):
    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.dir = self.at("hf")
        self.config, self.tensors = hf_dir.mixtral()

    def tearDown(self):
        self.temp.cleanup()

    def at(self, name):
        return os.path.join(self.temp.name, name)

    def save(self, shards=1):
        hf_dir.save(self.dir, self.config, self.tensors, shards)

    def ok(self, *args, **kw):
        r = cadre(*args, **kw)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def fails(self, *args, says):
        r = cadre(*args)
        self.assertEqual(r.returncode, 1, (r.stdout, r.stderr))
        text = r.stderr.decode()
        for word in says:
            self.assertIn(word, text)
        self.assertEqual(r.stdout, b"")

    def logits(self, model, out):
        self.ok("run", model, "--ids", IDS, "-n", "4", "--temp", "0", "--json", "--logits", self.at(out))
        return read(self.at(out))

    def test_directory_and_file_are_one_model(self):
        self.save(shards=3)
        made = json.loads(self.ok("convert", self.dir, "-o", self.at("m.gguf"), "--json"))
        self.assertEqual((made["files"], made["resumed"]), (1, False))
        self.assertEqual(self.logits(self.dir, "a"), self.logits(self.at("m.gguf"), "b"))
        self.assertEqual(sorted(os.listdir(self.temp.name)), ["a", "b", "hf", "m.gguf"])
        info = json.loads(self.ok("inspect", self.dir, "--json"))
        self.assertEqual((info["family"], info["experts"], info["layers"]), ("llama", 4, 2))

    def test_what_gguf_does_not_tell_of_a_tokenizer_is_said(self):
        self.save()
        letters = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 3}, "merges": ["a b"]},
                   "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                   "decoder": {"type": "ByteLevel"}, "added_tokens": [{"id": 3, "content": "<s>", "special": True}]}
        takes = [{"id": 3, "content": "<s>", "special": True, "lstrip": True}]
        words = {"model": {"type": "WordPiece", "unk_token": "a", "vocab": letters["model"]["vocab"]}}
        cases = ((letters, None), ({**letters, "normalizer": {"type": "NFC"}}, "Unicode normal form"),
                 ({**letters, "added_tokens": takes}, "white space"), (words, "left out"))
        for i, (tokenizer, text) in enumerate(cases):
            hf_dir.write(os.path.join(self.dir, "tokenizer.json"), json.dumps(tokenizer).encode())
            for verb, more in (("convert", ()), ("quantize", ("--type", "q8_0"))):
                out = self.at(f"{verb}{i}.gguf")
                r = cadre(verb, self.dir, "-o", out, "--json", *more)
                self.assertEqual(r.returncode, 0, r.stderr)
                warnings, said = json.loads(r.stdout)["warnings"], r.stderr.decode()
                warnings = [w for w in warnings if "tokenizer" in w]
                self.assertEqual(len(warnings), 1 if text else 0, (verb, tokenizer))
                self.assertEqual("warning: the tokenizer" in said, text is not None)
                if text:
                    self.assertIn(text, warnings[0])
                    self.assertIn(warnings[0], said)
            r = cadre("convert", self.dir, "-o", self.at(f"quiet{i}.gguf"), "--quiet")
            self.assertEqual((r.returncode, r.stderr), (0, b""))

    def test_other_types(self):
        self.save()
        for kind in ("f32", "f16", "q8_0"):
            out = self.at(kind + ".gguf")
            self.ok("convert", self.dir, "-o", out, "--type", kind)
            tensors = self.ok("inspect", out, "--tensors").decode()
            self.assertIn(kind, tensors)
        self.assertEqual(self.logits(self.dir, "a"), self.logits(self.at("f32.gguf"), "b"))  # bf16 in f32 is exact

    def test_split_and_join(self):
        self.save()
        whole, parts = self.at("m.gguf"), self.at("s.gguf")
        self.ok("convert", self.dir, "-o", whole)
        made = json.loads(self.ok("convert", whole, "-o", parts, "--split", "16K", "--json"))
        self.assertGreater(made["files"], 2)
        first = self.at(f"s-00001-of-{made['files']:05d}.gguf")
        self.assertEqual(self.logits(first, "a"), self.logits(whole, "b"))
        self.ok("convert", first, "-o", self.at("j.gguf"))
        self.assertNotEqual(read(self.at("j.gguf")), b"")
        self.assertEqual(self.logits(self.at("j.gguf"), "c"), self.logits(whole, "d"))
        second = first.replace("00001-of", "00002-of")
        self.fails("inspect", second, says=[second, "name of the first"])
        os.rename(second, second + ".away")
        self.fails("inspect", first, says=[second, "cannot open"])
        os.rename(first, self.at("odd.gguf"))
        self.fails("inspect", self.at("odd.gguf"), says=["odd.gguf", "name of the first"])

    def test_there_and_back(self):
        self.save()
        whole, back, again = self.at("m.gguf"), self.at("back"), self.at("again.gguf")
        self.ok("convert", self.dir, "-o", whole)
        made = json.loads(self.ok("convert", whole, "-o", back, "--split", "16K", "--json"))
        self.assertEqual(made["tensors"], len(self.tensors))
        files = sorted(os.listdir(back))
        self.assertEqual(len([f for f in files if f.endswith(".safetensors")]), made["files"])
        self.assertIn("model.safetensors.index.json", files)
        config = json.loads(read(os.path.join(back, "config.json")))
        for key in ("model_type", "hidden_size", "num_local_experts", "rms_norm_eps", "rope_theta"):
            self.assertEqual(config[key], self.config[key], key)
        for file in [f for f in files if f.endswith(".safetensors")]:  # matrices have their bytes, vectors are f32
            raw = read(os.path.join(back, file))
            n = int.from_bytes(raw[:8], "little")
            for name, t in json.loads(raw[8 : 8 + n]).items():
                if name != "__metadata__" and t["dtype"] == "BF16":
                    begin, end = t["data_offsets"]
                    self.assertEqual(raw[8 + n + begin : 8 + n + end], self.tensors[name][2], name)
        self.ok("convert", back, "-o", again)
        self.assertEqual(self.logits(again, "a"), self.logits(whole, "b"))
        self.fails("convert", whole, "-o", back, says=[back, "does not exist yet"])

    def interrupted(self, out, limit):
        """A run that cannot write more than `limit` bytes to a file."""

        def before():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        r = cadre("convert", self.dir, "-o", out, preexec_fn=before)
        self.assertEqual(r.returncode, 1)
        self.assertIn(b"writing", r.stderr)
        self.assertFalse(os.path.exists(out))
        self.assertTrue(os.path.exists(out + ".part"))

    def test_an_interrupted_run_goes_on(self):
        self.save()
        whole, out = self.at("m.gguf"), self.at("r.gguf")
        self.ok("convert", self.dir, "-o", whole)
        want = read(whole)
        self.interrupted(out, len(want) // 2)
        done = json.loads(self.ok("convert", self.dir, "-o", out, "--json"))
        self.assertTrue(done["resumed"])
        self.assertEqual(read(out), want)
        self.assertEqual(sorted(os.listdir(self.temp.name)), ["hf", "m.gguf", "r.gguf"])

        self.interrupted(out.replace("r.", "d."), len(want) // 2)  # what is damaged meanwhile is written again
        out = self.at("d.gguf")
        half = bytearray(read(out + ".part"))
        half[len(half) // 2] ^= 1
        hf_dir.write(out + ".part", bytes(half))
        self.ok("convert", self.dir, "-o", out)
        self.assertEqual(read(out), want)

        out = self.at("t.gguf")  # another source: nothing of the old one is taken
        self.interrupted(out, len(want) // 2)
        hf_dir.write(os.path.join(self.dir, "model.safetensors"),
                     hf_dir.safetensors_bytes(hf_dir.mixtral(seed=2)[1]))
        done = json.loads(self.ok("convert", self.dir, "-o", out, "--json"))
        self.assertFalse(done["resumed"])
        self.assertEqual(self.logits(self.dir, "a"), self.logits(out, "b"))

    def test_configs_that_are_refused(self):
        path = os.path.join(self.dir, "config.json")
        cases = {
            "hidden_size": [-1, 1e308, "64", 2**40, [1], {}, True, 64.5, 0],
            "num_hidden_layers": [-1, 10**9, "2", 3],
            "num_local_experts": [-4, 10**9, 5, None and 0],
            "num_attention_heads": [0, 3, 2**31],
            "rms_norm_eps": ["x", [], 1e308 * 10, -1],
            "rope_theta": ["x", -5.0],
            "model_type": ["bert", 5, "a" * 100000],
            "hidden_act": ["gelu"],
            "sliding_window": [16],
            "rope_scaling": [[], {"type": "dynamic", "factor": 2.0}, {"type": "yarn"}, {"type": 7}],
            "vocab_size": [47, -1],
            "quantization_config": [{"quant_method": "quip"}, 7],
            "tie_word_embeddings": ["no"],
        }
        self.save()
        for key, values in cases.items():
            for value in values:
                if value is None:
                    continue
                with self.subTest(key=key, value=str(value)[:40]):
                    hf_dir.write(path, json.dumps({**self.config, key: value}).encode())
                    self.fails("inspect", self.dir, says=[self.dir])
        for text in (b"", b"{", b"[]", b"null", b'{"a":1,"a":2}', b"[" * 100000, b'{"a":' * 100 + b"1" + b"}" * 100,
                     b'{"x": "\xff"}', b"\0" * 100):
            with self.subTest(text=text[:20]):
                hf_dir.write(path, text)
                self.fails("inspect", self.dir, says=["config.json"])
        os.remove(path)
        self.fails("inspect", self.dir, says=["config.json", "cannot open"])

    def test_tensors_that_are_missing_or_too_many(self):
        gone = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
        for name in (gone, "model.layers.0.self_attn.q_proj.weight", "lm_head.weight", "model.norm.weight"):
            with self.subTest(gone=name):
                self.dir = self.at("without." + name)
                hf_dir.save(self.dir, self.config, {k: v for k, v in self.tensors.items() if k != name})
                self.fails("run", self.dir, "--ids", "1", says=[self.dir, name, "not found"])
        self.dir = self.at("extra")
        some = self.tensors["model.norm.weight"]
        hf_dir.save(self.dir, self.config, {**self.tensors, "model.layers.0.mlp.bias": some})
        self.fails("inspect", self.dir, says=[self.dir, "model.layers.0.mlp.bias"])
        self.dir = self.at("shape")
        wrong = {**self.tensors, gone: ("BF16", [4, 4], bytes(32))}
        hf_dir.save(self.dir, self.config, wrong)
        self.fails("inspect", self.dir, says=[self.dir, gone, "shape"])

    def index(self, change):
        path = os.path.join(self.dir, "model.safetensors.index.json")
        index = json.loads(read(path))
        change(index["weight_map"])
        hf_dir.write(path, json.dumps(index).encode())

    def test_hostile_indices(self):
        name = "model.norm.weight"
        second = "model-00002-of-00002.safetensors"
        os.makedirs(self.at("else"))
        hf_dir.write(self.at("else/x.safetensors"), hf_dir.safetensors_bytes({name: self.tensors[name]}))
        cases = {
            "slash": (lambda m: m.update({name: self.at("else/x.safetensors")}), ["plain file name"]),
            "up": (lambda m: m.update({name: "../else/x.safetensors"}), ["plain file name"]),
            "dots": (lambda m: m.update({name: ".."}), ["plain file name"]),
            "gone": (lambda m: m.update({name: "other.safetensors"}), ["cannot open", "other.safetensors"]),
            "wrong shard": (lambda m: m.update({name: "model-00001-of-00002.safetensors"}), [name, second]),
            "not listed": (lambda m: m.pop(name), [name, "index"]),
            "not there": (lambda m: m.update({"model.bias": second}), ["model.bias", "not found"]),
            "number": (lambda m: m.update({name: 5}), [name, "name of a file"]),
            "empty": (lambda m: m.clear(), ["weight_map"]),
        }
        for what, (change, says) in cases.items():
            with self.subTest(what):
                self.dir = self.at("i " + what)
                self.save(shards=2)
                self.index(change)
                self.fails("inspect", self.dir, says=[self.dir, *says])
        self.dir = self.at("two")  # a tensor in both shards
        self.save(shards=2)
        first = "model-00001-of-00002.safetensors"
        both = {k: v for k, v in self.tensors.items() if k in list(self.tensors)[: len(self.tensors) // 2]}
        hf_dir.write(os.path.join(self.dir, first), hf_dir.safetensors_bytes({**both, name: self.tensors[name]}))
        self.fails("inspect", self.dir, says=[name])

    def test_links(self):
        self.save()
        path = os.path.join(self.dir, "model.safetensors")
        os.rename(path, self.at("away.safetensors"))
        os.symlink("../away.safetensors", path)
        self.fails("inspect", self.dir, says=[path, "symbolic link"])
        # the Hub's cache
        snapshot, blobs = self.at("models--a--b/snapshots/rev"), self.at("models--a--b/blobs")
        os.makedirs(snapshot)
        os.makedirs(blobs)
        for file, digest in (("config.json", "a" * 40), ("model.safetensors", "b" * 64)):
            hf_dir.write(os.path.join(blobs, digest), read(os.path.join(self.dir, file)))
            os.symlink("../../blobs/" + digest, os.path.join(snapshot, file))
        self.ok("inspect", snapshot)
        blob = os.path.join(blobs, "b" * 64)  # a blob that leads on is refused
        os.remove(blob)
        os.symlink(self.at("away.safetensors"), blob)
        self.fails("inspect", snapshot, says=["model.safetensors", "cannot open"])

    def test_usage(self):
        self.save()
        self.assertEqual(cadre("convert", self.dir).returncode, 2)
        self.fails("convert", self.at("nothing"), "-o", self.at("x.gguf"), says=["nothing"])


if __name__ == "__main__":
    CADRE = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
