"""The golden suite's end-to-end cases through the command: prompt text, ids, greedy ids, and their text to the byte.

usage: test_golden.py CADRE GOLDEN_FOLDER
"""
import json
import pathlib
import random
import subprocess
import sys
import unittest

CADRE, GOLDEN = sys.argv[1], pathlib.Path(sys.argv[2])
CASES = [json.loads(line) for line in (GOLDEN / "e2e.jsonl").read_text().splitlines()]


def generate(case, *more):
    command = [CADRE, "run", GOLDEN / case["model"], "-p", case["prompt"], "-n", str(len(case["greedy"])), "--temp", "0",
               "--ignore-eos", *more]
    return subprocess.run(command, capture_output=True, check=True).stdout


class EndToEnd(unittest.TestCase):
    def test_json(self):
        for case in CASES:
            with self.subTest(model=case["model"], prompt=case["prompt"]):
                out = json.loads(generate(case, "--json"))
                self.assertEqual(out["prompt_ids"], case["ids"])
                self.assertEqual(out["ids"], case["greedy"])
                self.assertEqual(out["text"], bytes.fromhex(case["greedy_bytes_hex"]).decode("utf-8", "replace"))

    def test_stream(self):
        for case in CASES:
            with self.subTest(model=case["model"], prompt=case["prompt"]):
                want = bytes.fromhex(case["greedy_bytes_hex"])
                self.assertIn(generate(case, "-q"), (want, want + b"\n"))

    def test_drafts_change_nothing(self):
        """Every golden model, random prompts with repeats: greedy ids with drafts are those without."""
        rng, drafted, right = random.Random(4), 0, 0
        for model in sorted((GOLDEN / "models").glob("*.gguf")):
            part = [rng.randrange(200) for _ in range(rng.randrange(2, 9))]
            ids = ",".join(map(str, [rng.randrange(200) for _ in range(9)] + 3 * part))
            run = [CADRE, "run", model, "--ids", ids, "-n", "24", "--temp", "0", "--ignore-eos", "--json"]
            plain = json.loads(subprocess.run(run, capture_output=True, check=True).stdout)
            self.assertNotIn("draft", plain)
            for draft in (["ngram"], ["ngram", "--draft-min", "5"], [model, "--draft-min", "3"]):
                with self.subTest(model=model.name, draft=draft):
                    out = json.loads(subprocess.run([*run, "--draft", *draft], capture_output=True, check=True).stdout)
                    self.assertEqual(out["ids"], plain["ids"])
                    drafted += out["draft"]["drafted"]
                    right += out["draft"]["accepted"]
        self.assertGreater(right, 500)
        self.assertGreater(drafted - right, 200)


if __name__ == "__main__":
    assert CASES
    unittest.main(argv=sys.argv[:1])
