#!/usr/bin/env python3
"""Instructions that a token costs, counted by callgrind: no clock is read, so the figures are the same on a busy machine.

usage: check.py BUILD            compare with figures.tsv: within a tenth, for compilers and libraries differ
       check.py BUILD --record   write figures.tsv anew, after a change that was meant to move them

Cases are a number format and activations (--act). A model of two MoE layers, one thread, the kernels of AVX2 (valgrind
knows no AVX-512). A prompt of 64 tokens and 16 steps behind it are counted separately; the figures are for gcc 12 and a
release build.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

BAND = 0.10
CASES = (("f32", "f32"), ("q8_0", "f32"), ("q4_k", "f32"), ("q8_0", "auto"), ("q4_0", "auto"), ("q4_k", "auto"))
PHASES = {"prompt": 64, "decode": 16}  # tokens
HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(HERE, "figures.tsv")
SKIP = 77


def inclusive(path):
    """Instructions of each function of a callgrind file, with what it calls. Names are given once: (id) name."""
    names, cost, function = {}, {}, None
    with open(path) as f:
        for line in f:
            if m := re.match(r"(c?fn)=\((\d+)\)(?: (.+))?", line):
                names.setdefault(m[2], m[3])
                if m[1] == "fn":
                    function = m[2]
            elif m := re.match(r"[+*\d-]\S* (\d+)$", line):  # position and cost, of a call or of the function itself
                cost[function] = cost.get(function, 0) + int(m[1])
    return {names[i]: n for i, n in cost.items()}


def count(build, model, act, folder):
    """Instructions a token, by phase."""
    out = os.path.join(folder, "callgrind")
    toggles = [f"--toggle-collect=cost_{phase}" for phase in PHASES]
    p = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no", *toggles,
                        os.path.join(build, "tests", "cost", "cost"), model, act], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, env={**os.environ, "CADRE_ISA": "avx2"})
    if "isa avx2: this processor" in p.stdout:
        print("skipped: this processor has no AVX2")
        sys.exit(SKIP)
    if p.returncode:
        sys.exit(f"callgrind failed:\n{p.stdout}")
    cost = inclusive(out)
    return {phase: cost[f"cost_{phase}"] // tokens for phase, tokens in PHASES.items()}


def measure(build):
    figures = {}
    with tempfile.TemporaryDirectory(prefix="cadre-cost-") as folder:
        f32 = os.path.join(folder, "f32.gguf")
        subprocess.run([os.path.join(build, "tests", "cost", "cost"), "--write", f32], check=True)
        for name, act in CASES:
            model = os.path.join(folder, name + ".gguf")
            if not os.path.exists(model):
                subprocess.run([os.path.join(build, "cadre"), "quantize", f32, "-o", model, "--type", name, "-q"],
                               check=True, stdout=subprocess.DEVNULL)
            for phase, n in count(build, model, act, folder).items():
                figures[name, act, phase] = n
    return figures


def read_table():
    with open(TABLE) as f:
        rows = [line.split() for line in f][1:]
    return {tuple(row[:3]): int(row[3]) for row in rows}


def main():
    if not shutil.which("valgrind"):
        print("skipped: valgrind is not installed (tools/setup valgrind)")
        return SKIP
    build, record = sys.argv[1], "--record" in sys.argv[2:]
    figures = measure(build)
    if record:
        with open(TABLE, "w") as f:
            f.write("format\tact\tphase\tinstructions a token\n")
            f.writelines("\t".join([*key, str(n)]) + "\n" for key, n in figures.items())
        return 0
    table, wrong = read_table(), 0
    for key in sorted(set(table) | set(figures)):
        found, want = figures.get(key), table.get(key)
        ok = found and want and abs(found - want) <= BAND * want
        wrong += not ok
        change = f"{100 * (found / want - 1):+.1f} %" if found and want else ""
        print(f"{key[0]:5} {key[1]:5} {key[2]:7} recorded {want}, found {found}  {change}{'' if ok else '  OUT OF BAND'}")
    if wrong:
        print("If the change is meant, record it: tests/cost/check.py BUILD --record, with gcc and a release build.")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
