"""The command as its users meet it: happy paths with the JSON keys of the contract, wrong usage, bad files, Ctrl-C.

usage: test_cli.py CADRE MAKE_TINY
"""

import json
import math
import os
import re
import resource
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import unittest

CADRE, MAKE_TINY = (os.path.abspath(p) for p in sys.argv[1:3])
DEFAULT = os.path.join(os.path.dirname(CADRE), "..", "models", "cadre-default.gguf")
TEXT = "The router sends each token to its experts, and the experts answer.\n" * 20
DONE, FAILED, USAGE = 0, 1, 2


def cadre(*args, stdin="", env=None):
    """Status, standard output as bytes, standard error as text."""
    p = subprocess.run([CADRE, *map(str, args)], input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=120, env=env)
    return p.returncode, p.stdout, p.stderr.decode()


def tensors(path):
    """A safetensors file as {name: (dtype, shape, numbers)}."""
    with open(path, "rb") as f:
        raw = f.read()
    (n,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8:8 + n]), raw[8 + n:]
    out = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        letter = {"I32": "i", "F32": "f"}[t["dtype"]]
        out[name] = t["dtype"], t["shape"], struct.unpack(f"<{(end - begin) // 4}{letter}", data[begin:end])
    return out


class Cli(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="cadre-cli-")
        cls.tiny = cls.path("tiny.gguf")
        cls.text = cls.path("text.txt")
        subprocess.run([MAKE_TINY, cls.tiny], check=True)
        with open(cls.text, "w") as f:
            f.write(TEXT)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def json(self, *args, **more):
        status, out, err = cadre(*args, "--json", **more)
        self.assertEqual((status, err), (DONE, ""), args)
        self.assertEqual(out.count(b"\n"), 1)
        return json.loads(out)

    def fails(self, status, names, *args, **more):
        found, out, err = cadre(*args, **more)
        self.assertEqual(found, status, (args, err))
        self.assertEqual(out, b"", args)
        for name in names if isinstance(names, tuple) else (names,):
            self.assertIn(name, err)
        self.assertTrue(err.startswith("cadre"), err)

    # ---- happy paths

    def test_help(self):
        status, out, err = cadre("--help")
        self.assertEqual((status, err), (DONE, ""))
        verbs = [line.split()[0] for line in out.decode().splitlines() if line.startswith("  ")]
        self.assertEqual(set(verbs), {"run", "chat", "train", "compare", "eval", "inspect", "tokenize", "bench", "quantize",
                                      "convert", "pack", "doctor"})
        for verb in [None] + verbs:
            status, out, err = cadre(*([verb] if verb else []), "--help")
            self.assertEqual((status, err), (DONE, ""), verb)
            for line in out.decode().splitlines():
                self.assertLessEqual(len(line), 80, line)
        self.assertEqual(cadre("--version")[1].split()[0], b"cadre")

    def test_run(self):
        j = self.json("run", self.tiny, "-p", "The router", "-n", 12, "--temp", 0)
        self.assertEqual(len(j["ids"]), 12)
        self.assertIn(j["stopped_by"], ("length", "eos"))
        for key in ("prompt_tokens_per_s", "tokens_per_s", "peak_rss_bytes"):
            self.assertGreater(j[key], 0)
        self.assertEqual(set(j["store"]), {"hits", "misses", "bytes_read"})
        prompt = self.json("tokenize", self.tiny, "-p", "The router")["ids"]
        self.assertEqual(j["prompt_ids"], prompt)
        for same in (("--file", self.file("prompt", "The router")), ("--ids", ",".join(map(str, prompt)))):
            self.assertEqual(self.json("run", self.tiny, *same, "-n", 12, "--temp", 0)["ids"], j["ids"])
        piped = self.json("run", self.tiny, "--n", 12, "--temp=0", stdin="The router")
        self.assertEqual(piped["ids"], j["ids"])
        for threads in (1, 3):
            other = self.json("run", self.tiny, "-p", "The router", "-n", 12, "--temp", 0, "-t", threads)
            self.assertEqual(other["ids"], j["ids"])

    def test_drafts(self):
        base = ("run", DEFAULT, "-p", "The man who is a man who is a man who", "-n", 40, "--ignore-eos")
        for options in (("--temp", 0), ("--seed", 3), ("--seed", 4, "--top-k", 5)):
            plain, ngram = self.json(*base, *options), self.json(*base, *options, "--draft", "ngram")
            self.assertEqual(ngram["ids"], plain["ids"])
            self.assertNotIn("draft", plain)
            self.assertEqual(ngram["draft"]["drafter"], "ngram")
        d = self.json(*base, "--temp", 0, "--draft", "ngram", "--draft-max", 3)["draft"]
        self.assertEqual(d["tokens"], 39)
        self.assertEqual(d["passes"] + d["accepted"], d["tokens"])
        self.assertAlmostEqual(d["tokens_per_pass"], d["tokens"] / d["passes"])
        self.assertAlmostEqual(d["mean_length"], d["drafted"] / d["passes"])
        self.assertLessEqual(d["mean_length"], 3)
        self.assertLess(d["expert_bytes_per_token"], d["expert_bytes_per_token_alone"])  # it repeats itself
        forced = self.json(*base, "--temp", 0, "--draft", DEFAULT, "--draft-min", 4)["draft"]
        self.assertEqual((forced["drafter"], forced["accepted"]), ("model", forced["drafted"]))
        self.assertGreater(forced["mean_length"], 3)
        # A drafter as dear as the model cannot pay, so it is not asked.
        self.assertEqual(self.json(*base, "--temp", 0, "--draft", DEFAULT)["draft"]["drafted"], 0)
        self.assertIn("draft by ngram", cadre(*base, "--draft", "ngram", "--stats")[2])
        self.assertEqual(self.json(*base, "--temp", 0, "--draft", "none")["ids"], self.json(*base, "--temp", 0)["ids"])
        chat = ("chat", DEFAULT, "--template", "plain", "-p", "who is a man who is", "-n", 30, "--temp", 0, "-q")
        self.assertEqual(self.json(*chat, "--draft", "ngram")["ids"], self.json(*chat)["ids"])
        for option in ("--draft-max", "--draft-min"):
            self.fails(USAGE, option, *base, option, 2)
            self.fails(USAGE, option, *base, "--draft", "none", option, 2)
        self.fails(USAGE, "--draft-max", *base, "--draft", "ngram", "--draft-max", 33)
        self.fails(FAILED, ("tiny.gguf", "vocabulary"), *base, "--draft", self.tiny)
        self.fails(FAILED, "draft_min", *base, "--draft", "ngram", "--draft-max", 2, "--draft-min", 3)
        self.fails(FAILED, "missing.gguf", *base, "--draft", self.path("missing.gguf"))
        self.fails(FAILED, "draft", *base, "--draft", "ngram", "--logits", self.path("draft.st"))

    def file(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def test_run_streams_its_text(self):
        args = ("run", self.tiny, "-p", "The", "-n", 20, "--temp", 0)
        j = self.json(*args)
        status, out, err = cadre(*args, "--stats")
        self.assertEqual(status, DONE)
        once = [re.sub("\ufffd+", "?", t.rstrip("\n")) for t in (out.decode(errors="replace"), j["text"])]
        self.assertEqual(*once)  # how many signs stand for a broken character is each decoder's choice
        self.assertIn("tokens/s", err)
        self.assertTrue(cadre(*args, "--echo")[1].startswith(b"The"))

    def test_knobs_act(self):
        base = ("run", self.tiny, "-p", "The router", "-n", 16)
        texts = {self.json(*base, "--seed", s)["text"] for s in range(4)}
        self.assertGreater(len(texts), 1)
        self.assertEqual(self.json(*base, "--seed", 1)["ids"], self.json(*base, "--seed", 1)["ids"])
        greedy = self.json(*base, "--temp", 0)["ids"]
        for knob in (("--top-k", 1), ("--top-p", 1e-9), ("--min-p", 1)):
            self.assertEqual(self.json(*base, *knob)["ids"], greedy, knob)
        self.assertEqual(self.json(*base, "--ctx", 8)["stopped_by"], "context")
        for kv in ("f32", "f16", "bf16", "q8_0"):
            self.assertTrue(self.json(*base, "--kv", kv)["ids"])
        q8_0, rows = self.path("q8_0.gguf"), {}
        self.assertEqual(cadre("quantize", self.tiny, "--type", "q8_0", "-o", q8_0, "-q")[0], DONE)
        for model in (self.tiny, q8_0):
            for act in ("f32", "auto", "int8"):
                self.json("run", model, "--ids", "5,6,7", "-n", 0, "--act", act, "--logits", self.path("act.st"))
                rows[model, act] = tensors(self.path("act.st"))["logits"][2]
        auto, int8 = (statistics.mean((a - b) ** 2 for a, b in zip(rows[q8_0, "f32"], rows[q8_0, act]))
                      for act in ("auto", "int8"))
        self.assertTrue(0 < auto < int8 < 0.1, (auto, int8))
        for act in ("auto", "int8"):  # no weights in blocks, nothing to round
            self.assertEqual(rows[self.tiny, "f32"], rows[self.tiny, act])
        verbose = cadre(*base, "-v")[2]
        self.assertIn("threads", verbose)
        self.fails(FAILED, ("budget", "MiB"), *base, "--mem", "64K")
        self.assertTrue(self.json(*base, "--mem", "1G")["ids"])

    def test_logits_and_routing(self):
        logits, routing = self.path("logits.st"), self.path("routing.st")
        j = self.json("run", self.tiny, "--ids", "5,6,7,8", "-n", 1, "--temp", 0, "--logits", logits, "--routing", routing)
        t = tensors(logits)
        self.assertEqual(t["tokens"], ("I32", [4], (5, 6, 7, 8)))
        self.assertEqual(t["logits"][:2], ("F32", [4, 300]))
        last = t["logits"][2][-300:]
        self.assertEqual([last.index(max(last))], j["ids"])
        r = tensors(routing)
        self.assertEqual(r["router_topk"][:2], ("I32", [2, 4, 2]))
        self.assertEqual(r["router_weights"][:2], ("F32", [2, 4, 2]))
        self.assertTrue(all(0 <= e < 6 for e in r["router_topk"][2]))
        w = r["router_weights"][2]
        for i in range(0, len(w), 2):
            self.assertAlmostEqual(w[i] + w[i + 1], 1, places=5)
            self.assertGreaterEqual(w[i], w[i + 1])

    def test_without_a_tokenizer(self):
        bare = self.path("bare.gguf")
        subprocess.run([MAKE_TINY, bare, "no-tokenizer"], check=True)
        with_text = self.json("run", self.tiny, "--ids", "5,6", "-n", 4, "--temp", 0, "--ignore-eos")
        j = self.json("run", bare, "--ids", "5,6", "-n", 4, "--temp", 0)
        self.assertEqual((j["ids"], j["text"]), (with_text["ids"], ""))
        self.fails(FAILED, "tokenizer", "run", bare, "-p", "a")
        self.fails(FAILED, "tokenizer", "tokenize", bare, "-p", "a")
        self.fails(FAILED, "tokenizer", "eval", bare, "--text", self.text, "--json")

    def test_inspect(self):
        j = self.json("inspect", self.tiny)
        self.assertEqual((j["family"], j["layers"], j["experts"], j["experts_used"]), ("cadre", 2, 6, 2))
        self.assertGreater(j["parameters"], j["active_parameters"])
        t = self.json("inspect", self.tiny, "--tensors")["tensors"]
        self.assertEqual(sum(x["bytes"] for x in t), j["bytes"])
        self.assertEqual(sum(math.prod(x["shape"]) for x in t), j["parameters"])
        self.assertIn("experts", cadre("inspect", self.tiny)[1].decode())

    def test_tokenize(self):
        text = "The router: Wörter, 言葉\n"
        ids = self.json("tokenize", self.tiny, "-p", text)["ids"]
        self.assertEqual(self.json("tokenize", self.tiny, "--decode", ",".join(map(str, ids)))["text"], text)
        self.assertEqual(self.json("tokenize", self.tiny, stdin=text)["ids"], ids)
        self.assertEqual(self.json("tokenize", self.tiny, "-p", "<|endoftext|>", "--special")["ids"], [0])
        self.assertGreater(len(self.json("tokenize", self.tiny, "-p", "<|endoftext|>")["ids"]), 1)

    def test_eval(self):
        other = self.file("other.txt", TEXT[:300])
        j = self.json("eval", self.tiny, "--text", self.text, other)
        self.assertEqual([f["file"] for f in j["files"]], [self.text, other])
        self.assertEqual(j["tokens"], sum(f["tokens"] for f in j["files"]))
        nats = sum(f["bits_per_byte"] * f["bytes"] * math.log(2) for f in j["files"])
        self.assertAlmostEqual(j["perplexity"] / math.exp(nats / j["tokens"]), 1, places=6)
        for row in j["files"][0]["expert_use"]:
            self.assertAlmostEqual(sum(row), 1)
        short = self.json("eval", self.tiny, "--text", self.text, "--tokens", 10)
        self.assertEqual(short["tokens"], 10)
        self.assertNotEqual(self.json("eval", self.tiny, "--text", self.text, "--ctx", 8)["bits_per_byte"],
                            j["files"][0]["bits_per_byte"])
        self.assertIn(b"bits/byte", cadre("eval", self.tiny, "--text", self.text)[1])

    def test_eval_against_a_reference(self):
        q8 = self.path("q8.gguf")
        self.assertEqual(cadre("quantize", self.tiny, "--type", "q8_0", "-o", q8)[:2], (DONE, b""))
        self.assertLess(os.path.getsize(q8), os.path.getsize(self.tiny) / 2)
        same = self.json("eval", self.tiny, "--text", self.text, "--reference", self.tiny)
        self.assertEqual((same["kl"], same["kl_max"], same["top1_agreement"]), (0, 0, 1))
        near = self.json("eval", q8, "--text", self.text, "--reference", self.tiny)
        self.assertTrue(0 < near["kl"] < 1 and near["kl"] < near["kl_max"], near)
        self.assertTrue(0.5 < near["top1_agreement"] <= 1, near)
        self.assertIn(b"KL", cadre("eval", q8, "--text", self.text, "--reference", self.tiny)[1])
        auto, int8 = (self.json("eval", q8, "--text", self.text, "--reference", q8, "--act", act)["kl"]
                      for act in ("auto", "int8"))  # the reference keeps f32 activations
        self.assertTrue(0 < auto < int8 < 1, (auto, int8))

    def types(self, path):
        """{tensor: number format}, and the bytes of all tensors."""
        j = self.json("inspect", path, "--tensors")
        return {t["name"]: t["type"] for t in j["tensors"]}, j["bytes"]

    def test_quantize(self):
        out, base = self.path("q.gguf"), ("--ids", "5,6,7", "-n", 0, "--logits", self.path("q.st"))
        self.json("run", self.tiny, *base)
        exact, distance = tensors(self.path("q.st"))["logits"][2], {}
        for type in ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "mxfp4"):
            j = self.json("quantize", self.tiny, "--type", type, "-o", out, "-q")
            found, bytes_out = self.types(out)
            self.assertEqual(j["bytes_out"], bytes_out)
            self.assertEqual(j["types"], {t: list(found.values()).count(t) for t in set(found.values())})
            self.assertEqual(found["blk.0.ffn_up_exps.weight"], type)
            self.assertEqual(found["blk.1.attn_q.weight"], type)
            self.assertEqual({found[n] for n in found if "norm" in n or "gate_inp" in n}, {"f32"})
            few = type[0] != "f" and type[0] != "b" and type != "q8_0"  # below q6_k, whose blocks do not fit here
            self.assertEqual(found["token_embd.weight"], "q8_0" if few else type)
            self.assertEqual(j["warnings"], ["2 tensors have rows that are not whole blocks of 256 numbers: q8_0 instead "
                                             "of q6_k"] if few else [])
            self.json("run", out, *base)
            distance[type] = math.dist(exact, tensors(self.path("q.st"))["logits"][2])
        self.assertEqual(distance["f32"], 0)
        self.assertLess(0, distance["f16"])
        self.assertLess(distance["f16"], distance["q4_0"])
        status, _, err = cadre("quantize", self.tiny, "--type", "q4_k", "-o", out)
        self.assertEqual(status, DONE)
        self.assertIn("q5_0 instead of q4_k", err)
        self.assertEqual(self.types(out)[0]["blk.0.attn_v.weight"], "q5_0")

    def test_quantize_tensor_by_tensor(self):
        out, again = self.path("q.gguf"), self.path("again.gguf")
        args = ("--type", "q4_0", "--experts", "q5_1", "--tensor", "attn_*=bf16", "attn_v.weight=q8_0",
                "blk.1.ffn_down_exps.weight=f16", "ffn_gate_inp=q8_0", "token_embd=q4_1", "-q")
        self.json("quantize", self.tiny, *args, "-o", out)
        found = self.types(out)[0]
        for name, type in (("blk.0.attn_q", "bf16"), ("blk.1.attn_output", "bf16"), ("blk.1.attn_v", "q8_0"),
                           ("blk.0.attn_norm", "f32"), ("blk.0.ffn_down_exps", "q5_1"), ("blk.1.ffn_down_exps", "f16"),
                           ("blk.0.ffn_gate_inp", "q8_0"), ("token_embd", "q4_1"), ("blk.0.ffn_up_shexp", "q4_0")):
            self.assertEqual(found[name + ".weight"], type, name)
        self.assertEqual(len(self.json("run", out, "--ids", "5,6,7", "-n", 4)["ids"]), 4)
        # What has its format already is copied, whatever the number of threads; what was lossy before is said.
        status, _, err = cadre("quantize", out, *args[:-1], "-o", again, "-t", 1)
        self.assertEqual(status, DONE)
        self.assertNotIn("quantized already", err)
        with open(out, "rb") as a, open(again, "rb") as b:
            self.assertEqual(a.read(), b.read())
        self.assertIn("quantized already", cadre("quantize", out, "--type", "q8_0", "-o", again)[2])
        self.fails(FAILED, "'nothing*'", "quantize", self.tiny, "--type", "q8_0", "--tensor", "nothing*=f16", "-o", again)
        self.fails(FAILED, "PATTERN=TYPE", "quantize", self.tiny, "--type", "q8_0", "--tensor", "attn_v", "-o", again)
        self.fails(FAILED, "'q2_k'", "quantize", self.tiny, "--type", "q8_0", "--tensor", "attn_v=q2_k", "-o", again)

    def test_quantize_onto_a_full_disk(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))

        out = self.path("full.gguf")
        p = subprocess.run([CADRE, "quantize", self.tiny, "--type", "f32", "-o", out], stderr=subprocess.PIPE,
                           preexec_fn=limit, timeout=60)
        self.assertEqual(p.returncode, FAILED)
        self.assertIn(b"full.gguf", p.stderr)
        self.assertFalse([x for x in os.listdir(self.folder.name) if x.startswith("full")])

    def test_eval_choices(self):
        def question(prompt, choices, answer):
            return json.dumps({"prompt": prompt, "choices": choices, "answer": answer}) + "\n"

        choices = [" experts", " a", " token and the router sends"]
        lines = [question("The router sends each", choices, i) for i in range(3)]
        j = self.json("eval", self.tiny, "--choices", self.file("q.jsonl", "\n".join(lines)))
        self.assertEqual(j["questions"], 3)
        # Whatever is chosen, it is right once in three.
        self.assertAlmostEqual(j["accuracy"], 1 / 3)
        self.assertAlmostEqual(j["accuracy_normalized"], 1 / 3)
        each = [self.json("eval", self.tiny, "--choices", self.file("q1.jsonl", q))["accuracy"] for q in lines]
        self.assertEqual(sorted(each), [0, 0, 1])
        for bad in ("{", '{"prompt": "a"}\n', question("a", ["b", "c"], 2), question("a", ["b"], 0), ""):
            self.fails(FAILED, "bad.jsonl:", "eval", self.tiny, "--choices", self.file("bad.jsonl", bad), "--json")

    def test_bench(self):
        j = self.json("bench", self.tiny, "-p", 16, "-n", 4, "-r", 2)
        for key in ("prompt_tokens_per_s", "tokens_per_s"):
            self.assertTrue(0 < j[key]["min"] <= j[key]["median"] <= j[key]["max"])
        for key in ("bandwidth_share", "read_bandwidth", "compute_share", "compute_roof", "f32_roof"):
            self.assertGreater(j[key], 0)
        self.assertEqual((j["format"], j["read_bytes"] % (4 << 20)), ("f32", 0))
        self.assertLessEqual(j["read_bytes"], 2 << 30)
        # Every matrix but the embedding; of the experts the chosen ones. Rows fill strips of 16.
        model, want = self.json("inspect", self.tiny, "--tensors"), 0
        for t in model["tensors"]:
            if len(t["shape"]) > 1 and t["name"] != "token_embd.weight":
                k, n = t["shape"][:2]
                want += 4 * k * -(-n // 16) * 16 * (model["experts_used"] if "_exps" in t["name"] else 1)
        self.assertEqual(j["bytes_per_token"], want)
        # Shares are of what a token reads: weights, and keys and values of the middle position.
        read = j["bytes_per_token"] + j["kv_bytes_per_token"]
        self.assertAlmostEqual(j["bandwidth_share"], j["tokens_per_s"]["median"] * read / j["read_bandwidth"])
        numbers = sum(t["shape"][1] for t in model["tensors"] if t["name"].endswith(("attn_k.weight", "attn_v.weight")))
        self.assertEqual(j["kv_bytes_per_token"], 4 * numbers * (16 + 4 // 2 + 1))
        self.assertEqual(2 * self.json("bench", self.tiny, "-p", 16, "-n", 4, "-r", 1, "--kv", "f16")["kv_bytes_per_token"],
                         j["kv_bytes_per_token"])
        # A budget holds: less memory is read then.
        small = self.json("bench", self.tiny, "-p", 16, "-n", 4, "-r", 1, "--mem", "300M", "--act", "auto")
        self.assertLess(small["read_bytes"], 300 << 20)
        self.fails(FAILED, "memory budget", "bench", self.tiny, "-p", 16, "-n", 4, "--mem", "200M")

    def test_doctor(self):
        j = self.json("doctor")
        self.assertGreater(j["cores"], 0)
        status, out, err = cadre("doctor")
        self.assertEqual((status, err), (DONE, ""))
        line = [x for x in out.decode().splitlines() if "default model" in x][0]
        self.assertEqual("not installed" in line, not j["default_model"])
        self.assertEqual("parameters" in line, j["default_model"])

    @unittest.skipUnless(os.path.exists(DEFAULT), "the default model is not there")
    def test_default_model(self):
        j = self.json("run", "-p", "Once", "-n", 2)
        self.assertEqual(len(j["ids"]), 2)
        self.assertTrue(self.json("doctor")["default_model"])

    # ---- what goes wrong

    def chat(self, lines, *args):
        """Status, JSON replies, standard error of a conversation from a pipe."""
        status, out, err = cadre("chat", self.tiny, "--temp", 0, "-n", 6, "--json", *args, stdin=lines)
        return status, [json.loads(line) for line in out.splitlines()], err

    def test_chat(self):
        status, replies, err = self.chat("The router\n\nand the \\\nexperts\n\"\"\"\none\ntwo\"\"\"\n//slash\n")
        self.assertEqual((status, len(replies)), (DONE, 4), err)
        self.assertIn("no chat template", err)
        for r in replies:
            self.assertEqual(r["role"], "assistant")
            self.assertLessEqual(r["tokens"], 6)
            self.assertEqual(r["tokens"], len(r["ids"]))
        self.assertEqual(replies[0]["reused_tokens"], 0)
        self.assertGreater(replies[3]["reused_tokens"], replies[1]["prompt_tokens"] - 2)
        saved = os.path.join(self.folder.name, "talk.json")
        status, again, err = self.chat(f"The router\n/save {saved}\n")
        self.assertEqual((status, again[0]["ids"]), (DONE, replies[0]["ids"]), err)
        with open(saved, encoding="utf-8") as f:
            messages = json.load(f)
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"])
        self.assertEqual(messages[1]["content"], again[0]["content"])
        status, more, err = self.chat("and the \\\nexperts\n", "--load", saved)
        self.assertEqual((status, more[0]["ids"]), (DONE, replies[1]["ids"]), err)
        with open(saved, "w", encoding="utf-8") as f:
            json.dump([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], f)
        self.chat(f"\"\"\"\none\ntwo\"\"\" ignored\n/save {saved}\n", "--load", saved)
        with open(saved, encoding="utf-8") as f:
            self.assertEqual(json.load(f)[2], {"role": "user", "content": "one\ntwo"})

    def test_chat_commands(self):
        status, replies, err = self.chat("a\n/undo\na\n/retry\n/system Be brief.\na\n/reset\na\n/help\n/quit\nnever\n")
        self.assertEqual((status, len(replies)), (DONE, 5), err)
        self.assertEqual(replies[0]["ids"], replies[1]["ids"])
        self.assertEqual(replies[1]["ids"], replies[2]["ids"])  # greedy
        self.assertEqual(replies[1]["prompt_tokens"], replies[2]["prompt_tokens"])
        self.assertGreater(replies[3]["prompt_tokens"], replies[4]["prompt_tokens"])
        self.assertGreater(replies[4]["prompt_tokens"], replies[0]["prompt_tokens"])  # the system message stays
        for lines, text in (("/nope\n", "unknown command"), ("/undo\n", "nothing"), ("/retry\n", "nothing"),
                            ("/save\n", "name of a file"), ("/load /nowhere\n", "/nowhere"), ("/undo x\n", "unexpected")):
            status, replies, err = self.chat(lines + "a\n")
            self.assertEqual((status, replies), (FAILED, []))
            self.assertIn(text, err)

    def test_chat_templates(self):
        jinja = self.file("t.jinja", "{% for m in messages %}<{{ m.content }}>{{ k }}{% endfor %}")
        n = lambda *args: self.chat("experts\n", *args)[1][0]["prompt_tokens"]
        self.assertNotEqual(n("--template", jinja), n("--template", "chatml"))
        self.assertGreater(n("--template", jinja, "--template-vars", '{"k": "router experts"}'), n("--template", jinja))
        for args, text in ((("--template", "nothing"), "plain, chatml"), (("--template", "./nowhere"), "./nowhere"),
                           (("--template", self.file("bad.jinja", "{{ x")), "line 1"),
                           (("--template", jinja, "--template-vars", "[]"), "extra variables"),
                           (("--load", self.file("bad.json", "{}")), "array")):
            status, replies, err = self.chat("a\n", *args)
            self.assertEqual((status, replies), (FAILED, []), args)
            self.assertIn(text, err)

    def test_chat_context(self):
        talk = "experts answer the router\n" * 6
        status, replies, err = self.chat(talk, "--ctx", 60)
        self.assertEqual(status, FAILED)
        self.assertIn("of the 60 there is room for", err)
        status, replies, err = self.chat(talk, "--ctx", 60, "--overflow", "drop")
        self.assertEqual((status, len(replies)), (DONE, 6), err)
        self.assertIn("oldest messages are dropped", err)
        self.assertEqual(cadre("chat", self.tiny, "-p", "a", "-n", 3, "-q")[0], DONE)
        self.assertEqual(cadre("chat", self.tiny, "--overflow", "x")[0], USAGE)

    def test_wrong_usage(self):
        self.fails(USAGE, "unknown verb 'walk'", "walk")
        self.assertEqual(cadre()[0], USAGE)
        tiny = self.tiny
        for names, args in (
            ("--frobnicate", ("run", tiny, "--frobnicate")),
            ("--n", ("run", tiny, "-p", "a", "-n", "x")),
            ("--n", ("run", tiny, "-p", "a", "-n")),
            ("--n", ("run", tiny, "-p", "a", "-n", "-1")),
            ("--temp", ("run", tiny, "-p", "a", "--temp", "nan")),
            ("--top-p", ("run", tiny, "-p", "a", "--top-p", "0")),
            ("--mem", ("run", tiny, "-p", "a", "--mem", "4X")),
            ("--act", ("run", tiny, "-p", "a", "--act", "f64")),
            ("--kv", ("run", tiny, "-p", "a", "--kv", "f3")),
            ("--isa", ("run", tiny, "-p", "a", "--isa", "sse")),
            ("--ids", ("run", tiny, "--ids", "1,,2")),
            ("--ids", ("run", tiny, "--ids", "1", "-p", "a")),
            ("--stop", ("run", tiny, "-p", "a", "--stop", "")),
            ("--echo", ("run", tiny, "-p", "a", "--echo", "--json")),
            ("--stats takes no value", ("run", tiny, "--stats=1")),
            ("unexpected word", ("run", tiny, "again")),
            ("--threads", ("run", tiny, "-p", "a", "-t", "0")),
            ("--text", ("eval", tiny)),
            ("--text", ("eval", tiny, "--text", self.text, "--text", self.text)),
            ("--reference", ("eval", tiny, "--choices", self.text, "--reference", tiny)),
            ("--act", ("eval", tiny, "--choices", self.text, "--act", "auto")),
            ("--mem", ("inspect", tiny, "--mem", "1G")),
            ("--mem", ("train", "--mem", "1G")),
            ("--config", ("train",)),
            ("--type", ("quantize", tiny, "-o", self.path("x.gguf"))),
            ("--type", ("quantize", tiny, "--type", "q9", "-o", self.path("x.gguf"))),
            ("--decode", ("tokenize", tiny, "--decode", "a")),
            ("--repeats", ("bench", tiny, "-r", "0")),
        ):
            self.fails(USAGE, names, *args)

    def test_bad_files(self):
        missing, cut, text = self.path("missing.gguf"), self.path("cut.gguf"), self.text
        with open(self.tiny, "rb") as f:
            raw = f.read()
        with open(cut, "wb") as f:
            f.write(raw[:len(raw) // 2])
        for verb, more in (("run", ("-p", "a")), ("eval", ("--text", text)), ("inspect", ()), ("bench", ()),
                           ("tokenize", ("-p", "a")), ("quantize", ("--type", "f16", "-o", self.path("x.gguf")))):
            self.fails(FAILED, ("missing.gguf", "No such file"), verb, missing, *more)
            self.fails(FAILED, "text.txt", verb, text, *more)
            self.fails(FAILED, "cut.gguf", verb, cut, *more)
        self.assertFalse(os.path.exists(self.path("x.gguf")))
        self.fails(FAILED, "missing.txt", "eval", self.tiny, "--text", self.path("missing.txt"), "--json")
        self.fails(FAILED, "missing", "run", self.tiny, "-f", self.path("missing"), "--json")
        self.fails(FAILED, "300", "run", self.tiny, "--ids", "1,300", "--json", "--logits", self.path("x.st"))
        self.assertFalse(os.path.exists(self.path("x.st")))
        self.fails(FAILED, "context", "run", self.tiny, "--ids", ",".join(["1"] * 400), "--json")
        self.assertEqual([x for x in os.listdir(self.folder.name) if "tmp" in x], [])

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            for args in (("inspect", self.tiny), ("inspect", self.tiny, "--json"), ("doctor",), ("--help",),
                         ("run", self.tiny, "-p", "a", "-n", "3", "--ignore-eos")):
                p = subprocess.run([CADRE, *args], stdout=full, stderr=subprocess.PIPE, timeout=60)
                self.assertEqual(p.returncode, FAILED, args)
                self.assertEqual(p.stderr.count(b"\n"), 1, p.stderr)
                self.assertIn(b"standard output", p.stderr)

    def test_reader_that_leaves(self):
        p = subprocess.Popen([CADRE, "run", self.tiny, "-p", "a", "-n", "300", "--ignore-eos"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        p.stdout.read(1)
        p.stdout.close()
        self.assertEqual(p.stderr.read(), b"")
        self.assertIn(p.wait(60), (DONE, FAILED))
        p.stderr.close()

    # ---- Ctrl-C

    def interrupt(self, args, wait_for):
        """Start, wait for a sign of life on standard output, interrupt; status, output, messages."""
        p = subprocess.Popen([CADRE, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out = b""
        while wait_for not in out:
            byte = os.read(p.stdout.fileno(), 1)
            if not byte:
                self.fail((args, p.stderr.read()))
            out += byte
        p.send_signal(signal.SIGINT)
        more, err = p.communicate(timeout=30)
        return p.returncode, out + more, err.decode()

    def wait_until_caught(self, p):
        """Until the process has its own handler of SIGINT: before, the signal would just end it."""
        for _ in range(3000):
            with open(f"/proc/{p.pid}/status") as f:
                caught = re.search(r"^SigCgt:\s*(\w+)", f.read(), re.M)
            if caught and int(caught[1], 16) >> (signal.SIGINT - 1) & 1:
                return
            time.sleep(0.01)
        self.fail("it never caught SIGINT")

    def train_config(self):
        return self.file("train.ini", """[model]
layers = 2
width = 32
heads = 2
context = 32
experts = 4
experts_used = 2
expert_ff = 16
[tokenizer]
vocab = 280
[train]
tokens = 76800
sequence = 16
batch_tokens = 128
lr = 3e-3
micro_tokens = 64
log_steps = 1
eval_steps = 1000
file_type = f32
""")

    def test_interrupted_training_resumes_to_the_same_bytes(self):
        config, data = self.train_config(), self.file("prose.txt", TEXT * 20)
        whole, parts = self.path("whole.gguf"), self.path("parts.gguf")
        args = ("train", "--config", config, "--data", data, "--json", "--out")
        status, out, err = cadre(*args, whole)
        self.assertEqual((status, err), (DONE, ""))
        lines = [json.loads(x) for x in out.splitlines()]
        steps = [x for x in lines if x["event"] == "step"]
        self.assertEqual((steps[-1]["step"], steps[-1]["tokens"]), (600, 76800))
        for key in ("loss", "tokens_per_s"):
            self.assertTrue(all(x[key] > 0 for x in steps))
        status, out, err = self.interrupt(args + (parts,), b'"step":3,')
        self.assertEqual(status, FAILED)
        self.assertIn("--resume", err)
        self.assertLess(json.loads(out.splitlines()[-1])["step"], 600)
        self.assertFalse(os.path.exists(parts))
        self.fails(FAILED, "--resume", *args, parts)
        self.assertEqual(cadre(*args, parts, "--resume")[0], DONE)
        with open(whole, "rb") as a, open(parts, "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_interrupted_run_keeps_its_text(self):
        args = ("run", self.tiny, "-p", "a", "-n", 300, "--ignore-eos", "--temp", 0)
        whole = cadre(*args)[1]
        p = subprocess.Popen([CADRE, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out = os.read(p.stdout.fileno(), 1)
        p.send_signal(signal.SIGINT)
        more, err = p.communicate(timeout=30)
        out += more
        if p.returncode == DONE:  # it was faster than the signal
            self.assertEqual(out, whole)
        else:
            self.assertEqual(p.returncode, FAILED)
            self.assertIn(b"interrupted", err)
            self.assertTrue(out.endswith(b"\n") and whole.startswith(out[:-1]))

    def test_interrupted_measurements_end(self):
        for args in (("bench", self.tiny, "-p", 200, "-n", 100, "-r", 100),
                     ("eval", self.tiny, "--text", self.file("long.txt", TEXT * 2000))):
            start = time.monotonic()
            p = subprocess.Popen([CADRE, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.wait_until_caught(p)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=30)
            self.assertEqual(p.returncode, FAILED, (args, err, time.monotonic() - start))
            self.assertIn(b"interrupted", err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
