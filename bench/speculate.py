#!/usr/bin/env python3
"""Generation with and without drafts, in pairs.

    bench/speculate.py [MODEL] [--draft ngram] [--options "--draft-min 4"] [--text repeats|prose|FILE] [--temp T]
                       [-n 200] [--pairs 20] [--json]

Each pair runs `cadre run` twice on the same prompt and seed, without and with --draft, in turns and in changing order; pair i has
seed i. Reported are both speeds (median, least, most), the median of the pairs' ratios and the share of pairs that drafts
won, and what the drafts did, summed over all pairs: tokens a pass, mean length, bytes of experts a token with and without.
Where nothing is drawn by the drafter the two texts must be the same, and are compared.

`repeats` is a table whose lines differ little, continued greedily unless --temp says otherwise; `prose` is prose, at
temperature 0.8.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = "".join(f"    {{\"{name}\", OPTION_TEXT, &o.{name}, \"what {name} is\"}},\n" for name in
                ("name", "type", "file", "text", "list", "mode", "path", "size"))
PROSE = ("The old house stood at the end of the road, and nobody had lived there since the winter in which the river "
         "rose. In the spring a stranger came from the town, asked for the key, and")
TEXTS = {"repeats": (TABLE, 0), "prose": (PROSE, 0.8)}


def run(options, seed, draft):
    command = [options.cadre, "run", options.model, "-p", options.prompt, "-n", str(options.n), "--ignore-eos", "--json",
               "--temp", str(options.temp), "--seed", str(seed)]
    if draft:
        command += ["--draft", options.draft, *shlex.split(options.options)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(options):
    alone, drafted = [], []
    for seed in range(options.pairs):
        pair = {draft: run(options, seed, draft) for draft in ((False, True) if seed % 2 else (True, False))}
        if options.draft == "ngram" or options.temp == 0:
            assert pair[False]["ids"] == pair[True]["ids"], f"seed {seed}: another text with drafts"
        alone.append(pair[False])
        drafted.append(pair[True])
    ratios = [b["tokens_per_s"] / a["tokens_per_s"] for a, b in zip(alone, drafted)]
    total = {key: sum(g["draft"][key] for g in drafted) for key in ("passes", "tokens", "drafted", "accepted")}
    mean = {key: statistics.fmean(g["draft"][key] for g in drafted)
            for key in ("expert_bytes_per_token", "expert_bytes_per_token_alone")}
    return {"alone": spread([g["tokens_per_s"] for g in alone]), "with_drafts": spread([g["tokens_per_s"] for g in drafted]),
            "ratio": spread(ratios), "won": sum(r > 1 for r in ratios) / len(ratios), **total,
            "tokens_per_pass": total["tokens"] / total["passes"], "mean_length": total["drafted"] / total["passes"], **mean}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model", nargs="?", default=str(ROOT / "models" / "cadre-default.gguf"))
    p.add_argument("--cadre", default=str(ROOT / "build" / "cadre"))
    p.add_argument("--draft", default="ngram")
    p.add_argument("--options", default="", help="more options of the runs with drafts")
    p.add_argument("--text", default="repeats", help="repeats, prose or a file")
    p.add_argument("--temp", type=float)
    p.add_argument("-n", type=int, default=200)
    p.add_argument("--pairs", type=int, default=20)
    p.add_argument("--json", action="store_true")
    options = p.parse_args()
    options.prompt, temp = TEXTS.get(options.text) or (Path(options.text).read_text(), 0.8)
    options.temp = temp if options.temp is None else options.temp
    r = measure(options)
    if options.json:
        print(json.dumps(r))
        return 0
    for name in ("alone", "with_drafts"):
        print("{0:11} {median:8.0f} tokens/s ({min:.0f} to {max:.0f})".format(name, **r[name]))
    print("ratio       {median:8.2f} ({min:.2f} to {max:.2f}), drafts won {0:.0%} of {1} pairs".format(
        r["won"], options.pairs, **r["ratio"]))
    print("drafts      {tokens_per_pass:.2f} tokens a pass, mean length {mean_length:.2f}, {accepted} of {drafted} right".format(**r))
    print("experts     {expert_bytes_per_token:.0f} bytes a token, {expert_bytes_per_token_alone:.0f} without".format(**r))
    return 0


if __name__ == "__main__":
    sys.exit(main())
