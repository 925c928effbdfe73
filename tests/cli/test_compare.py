"""cadre compare and the plots of training: tables against the logs of the runs, an interruption, wrong descriptions.

usage: test_compare.py CADRE
"""

import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as xml

CADRE = os.path.abspath(sys.argv[1])
SVG = "{http://www.w3.org/2000/svg}"
BASE = """[model]
layers = 2
width = 32
heads = 2
context = 32
experts = 4
experts_used = 2
expert_ff = 16
[tokenizer]
vocab = 300
[data]
heldout = 0.1
[train]
tokens = 99999
sequence = 16
batch_tokens = 128
micro_tokens = 64
lr = 3e-3
eval_tokens = 64
file_type = f32
"""
EXPERIMENT = """[experiment]
name = first & <second>
base = base.ini
seeds = 3 4
tokens = %d
equal = flops
[moe]
variant = the base
[dense]
model.experts = 0
model.experts_used = 0
model.expert_ff = 0
fit = dense_ff
"""


def svg(path):
    """A parsed chart: it is XML, and its texts are returned."""
    return [t.text for t in xml.parse(path).iter(SVG + "text")]


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="cadre-compare-")
        rng = random.Random(1)
        words = ["%s%s" % (a, b) for a in ("to", "ex", "ro", "we", "ca") for b in ("ken", "pert", "uter", "ight", "dre", "sum")]
        self.write("prose.txt", "\n".join(" ".join(rng.choices(words, k=9)) for _ in range(900)))
        self.write("base.ini", BASE)
        self.write("x.ini", EXPERIMENT % 1024)

    def tearDown(self):
        self.folder.cleanup()

    def path(self, *names):
        return os.path.join(self.folder.name, *names)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def command(self, verb, *args):
        return [CADRE, verb, "--data", self.path("prose.txt"), "-t", "1", *args]

    def compare(self, out, status=0, config="x.ini"):
        p = subprocess.run(self.command("compare", "--config", self.path(config), "--out", self.path(out)),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        self.assertEqual(p.returncode, status, p.stderr.decode())
        return p.stderr.decode()

    def lines(self, *log):
        with open(self.path(*log)) as f:
            return [json.loads(line) for line in f]

    def test_table(self):
        self.compare("out")
        with open(self.path("out", "table.json")) as f:
            table = json.load(f)
        moe, dense = table["variants"]
        self.assertEqual((table["name"], moe["name"], dense["name"]), ("first & <second>", "moe", "dense"))
        self.assertLess(abs(moe["flops_per_token"] / dense["flops_per_token"] - 1), 0.02)
        self.assertEqual(dense["fitted"], {"dense_ff": 32})  # 2 experts of 16, and gates for almost nothing
        # 3 (2 active + attention): embedding once (tied), q k v o, 2 experts, gate, norms; 2 · 2 · head · heads · 8.5
        active = 300 * 32 + 32 + 2 * (4 * 32 * 32 + 2 * 3 * 32 * 16 + 4 * 32 + 2 * 32)
        self.assertEqual(moe["active_parameters"], active)
        self.assertAlmostEqual(moe["flops_per_token"], 3 * (2 * active + 2 * 2 * (16 + 16) * 2 * 17 / 2))
        for v in table["variants"]:
            self.assertEqual([r["seed"] for r in v["runs"]], [3, 4])
            bits = []
            for r in v["runs"]:
                log = self.lines("out", "%s-%d.gguf.log.jsonl" % (v["name"], r["seed"]))
                bits.append([e for e in log if e["event"] == "eval"][-1]["bits_per_byte_all"])
                self.assertAlmostEqual(r["bits_per_byte"], bits[-1], places=6)
                half = [e for e in log if e["event"] == "step" and 2 * e["tokens"] >= 1024]
                self.assertAlmostEqual(r["train_loss"], statistics.mean(e["loss"] for e in half), places=6)
            self.assertAlmostEqual(v["bits_per_byte"]["mean"], statistics.mean(bits), places=6)
            self.assertAlmostEqual(v["bits_per_byte"]["deviation"], statistics.stdev(bits), places=6)
        self.assertEqual(moe["experts_per_token"]["mean"], 2)
        self.assertIsNone(dense["experts_per_token"])
        # Two experts for every token: what decisions cost is what sizes say.
        for v in moe, dense:
            self.assertAlmostEqual(v["active_flops"]["mean"], v["flops_per_token"] / 3, places=3)
        self.assertIsNone(moe["against_first"])
        above = [100 * (d["bits_per_byte"] / m["bits_per_byte"] - 1) for d, m in zip(dense["runs"], moe["runs"])]
        self.assertAlmostEqual(dense["against_first"]["mean"], statistics.mean(above), places=6)
        self.assertAlmostEqual(dense["against_first"]["deviation"], statistics.stdev(above), places=6)
        with open(self.path("out", "table.tsv")) as f:
            rows = [line.rstrip("\n").split("\t") for line in f]
        self.assertEqual({len(r) for r in rows}, {len(rows[0])})
        self.assertAlmostEqual(float(rows[1][rows[0].index("bits_per_byte")]), moe["bits_per_byte"]["mean"], places=6)
        self.assertIn("first & <second>", svg(self.path("out", "bits.svg")))
        self.assertIn("dense", svg(self.path("out", "loss.svg")))
        self.assertIn("layer 1", svg(self.path("out", "load-moe.svg")))
        self.assertFalse(os.path.exists(self.path("out", "load-dense.svg")))
        # Finished runs are kept: the same table, from files of the same time.
        stamp = os.stat(self.path("out", "moe-3.gguf")).st_mtime_ns
        self.assertIn("was there", self.compare("out"))
        self.assertEqual(os.stat(self.path("out", "moe-3.gguf")).st_mtime_ns, stamp)
        self.write("x.ini", EXPERIMENT % 2048)
        self.assertIn("made by another description", self.compare("out", status=1))

    def test_active_flops(self):
        """Cost follows the decisions: light experts cost nothing, slices by their number, cut tokens what is left."""
        self.write("x.ini", EXPERIMENT[:EXPERIMENT.index("[moe]")].replace("flops", "none") % 1024 + """[zero]
model.experts_zero = 4
[slices]
model.expert_slices = 1,3
[few]
model.router = top_p
model.router_threshold = 0.05
[chain]
model.expert_chain = 2
model.experts_used = 1
""")
        self.compare("out")
        with open(self.path("out", "table.json")) as f:
            zero, slices, few, chain = json.load(f)["variants"]
        expert = 2 * 3 * 32 * 16  # FLOPs of one
        # embedding once, norms, attention, the gate of so many choices
        def without(choices):
            return 2 * (300 * 32 + 32 + 2 * (4 * 32 * 32 + choices * 32 + 2 * 32)) + 2 * 2 * (16 + 16) * 2 * 17 / 2

        for run in zero["runs"]:
            self.assertTrue(0 < run["experts_per_token"] < 2)
            self.assertAlmostEqual(run["active_flops"], without(8) + 2 * expert * run["experts_per_token"], places=1)
        for run in slices["runs"]:
            self.assertEqual(run["experts_per_token"], 2)
            self.assertTrue(2 * 2 * expert < run["active_flops"] - without(4) < 2 * 6 * expert)
        for run in few["runs"]:  # every best expert of four has more than 0.05
            self.assertEqual(run["experts_per_token"], 1)
            self.assertAlmostEqual(run["active_flops"], without(4) + 2 * expert, places=1)
        for run in chain["runs"]:
            self.assertEqual(run["experts_per_token"], 2)
            self.assertAlmostEqual(run["active_flops"], without(8) + 2 * 2 * expert, places=1)

    def test_interrupted(self):
        """Ctrl-C, then on: every run's model is what an undisturbed experiment makes."""
        self.write("x.ini", EXPERIMENT % 12800)
        self.compare("whole")
        p = subprocess.Popen(self.command("compare", "--config", self.path("x.ini"), "--out", self.path("parts")),
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not os.path.exists(self.path("parts", "dense-3.gguf.log.jsonl")) and p.poll() is None:
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(60), 1)
        self.assertIn(b"interrupted", p.stderr.read())
        p.stderr.close()
        self.compare("parts")
        for name in "moe-3", "dense-3", "moe-4", "dense-4":
            with open(self.path("whole", name + ".gguf"), "rb") as a, open(self.path("parts", name + ".gguf"), "rb") as b:
                self.assertEqual(a.read(), b.read(), name)

    def test_wrong_descriptions(self):
        for change, message in (
                (("fit = dense_ff", "model.dense_ff = 64"), "[dense] costs"),
                (("equal = flops", "equal = none"), "fit acts with [experiment] equal"),
                (("variant = the base", "fit = expert_ff"), "fit acts with [experiment] equal"),
                (("fit = dense_ff", "fit = depth"), "depth"),
                (("model.experts = 0", "experts = 0"), "an override like model.experts"),
                (("seeds = 3 4", "seeds = 3 x"), "seeds: expected"),
                (("equal = flops", "equal = time"), "equal: expected none, flops or parameters"),
                (("base = base.ini", "base = nothing.ini"), "nothing.ini"),
                (("[moe]", "[m/e]"), "names of letters"),
                (("name = first", "title = first"), "title: unknown key")):
            self.write("wrong.ini", (EXPERIMENT % 1024).replace(*change))
            self.assertIn(message, self.compare("out", status=1, config="wrong.ini"))
        self.assertFalse(os.path.exists(self.path("out")))

    def test_bench_of_training(self):
        """Figures that hang together, and a plan that recompute lowers; no text is needed."""
        planned = []
        for more in "", "recompute = true\n":
            self.write("run.ini", BASE + more)
            p = subprocess.run([CADRE, "bench", "--train", self.path("run.ini"), "-t", "1", "-r", "2", "--json"],
                               stdout=subprocess.PIPE, check=True)
            r = json.loads(p.stdout)
            roof = r["roof_bf16"] if r["bf16"] else r["roof_f32"]
            self.assertAlmostEqual(r["utilisation"], r["tokens_per_s"]["median"] * r["flops_per_token"] / roof)
            self.assertLessEqual(r["tokens_per_s"]["min"], r["tokens_per_s"]["max"])
            planned.append(r["memory_planned"])
        self.assertLess(planned[1], planned[0])
        p = subprocess.run([CADRE, "bench", "m.gguf", "--train", self.path("run.ini")], stderr=subprocess.PIPE)
        self.assertEqual(p.returncode, 2)
        self.assertIn(b"cannot act", p.stderr)

    def test_map(self):
        """Mutual information by hand from the shares that eval reports; texts alike and texts that are not."""
        self.write("run.ini", BASE.replace("99999", "6400"))
        rng = random.Random(2)
        self.write("code.txt", "\n".join("x%d = y[%d] + %d;" % (rng.randrange(99), rng.randrange(9), rng.randrange(999))
                                         for _ in range(900)))
        subprocess.run([CADRE, "train", "--config", self.path("run.ini"), "--data", self.path("prose.txt"),
                        self.path("code.txt"), "--out", self.path("m.gguf"), "-t", "1"], check=True,
                       stdout=subprocess.DEVNULL)

        def run(*texts):
            p = subprocess.run([CADRE, "eval", self.path("m.gguf"), "--text", *map(self.path, texts), "--map",
                                self.path("map.svg"), "--json"], stdout=subprocess.PIPE, check=True)
            return json.loads(p.stdout)

        j = run("prose.txt", "code.txt")
        bits = []
        for layer in zip(*(f["expert_use"] for f in j["files"])):
            mean = [sum(p) / 2 for p in zip(*layer)]
            bits.append(sum(p * math.log2(p / m) / 2 for row in layer for p, m in zip(row, mean) if p > 0))
        a = j["association"]
        for found, want in zip(a["layers"], bits):
            self.assertAlmostEqual(found["bits"], want, places=9)
        self.assertAlmostEqual(a["bits"], sum(bits) / len(bits), places=9)
        self.assertEqual((a["p"], a["permutations"]), (0.001, 999))
        self.assertTrue({"prose", "code", "layer 0", "layer 1", "Expert use by domain"} <= set(svg(self.path("map.svg"))))
        with open(self.path("prose.txt")) as f:
            lines = f.readlines()
        self.write("even.txt", "".join(lines[::2]))
        self.write("odd.txt", "".join(lines[1::2]))
        alike = run("even.txt", "odd.txt")["association"]
        self.assertLess(alike["bits"], a["bits"] / 10)
        self.assertGreater(alike["p"], 0.01)
        p = subprocess.run([CADRE, "eval", self.path("m.gguf"), "--text", self.path("prose.txt"), "--map", "x.svg"],
                           stderr=subprocess.PIPE)
        self.assertEqual(p.returncode, 2)

    def test_plots_of_a_run(self):
        self.write("run.ini", BASE.replace("99999", "2560") + "eval_steps = 5\n")
        subprocess.run(self.command("train", "--config", self.path("run.ini"), "--out", self.path("m.gguf"), "--plots",
                                    self.path("plots")), check=True, stdout=subprocess.DEVNULL)
        self.assertIn("Training loss: m.gguf", svg(self.path("plots", "loss.svg")))
        self.assertIn("Held-out text", svg(self.path("plots", "heldout.svg")))
        cells = [r for r in xml.parse(self.path("plots", "load.svg")).iter(SVG + "rect")]
        steps = [e for e in self.lines("m.gguf.log.jsonl") if e["event"] == "step"]
        for e in steps:  # every layer's slots are all there
            self.assertEqual([sum(row) for row in e["load"]], [128 * 2] * 2)
        self.assertGreater(len(cells), 2 * 4 * len(steps))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
