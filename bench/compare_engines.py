#!/usr/bin/env python3
"""Prompt and generation speed of cadre beside other engines, on one file, in turns.

    bench/compare_engines.py MODEL.gguf [--ik FOLDER] [-p 512] [-n 64] [-r 5] [-t 2] [--json]

Engines: `cadre` (`cadre bench --act auto`), `cadre-int8` (`--act int8`: activations as coarse as the others'), llama.cpp
(the libraries of tests/peer, tools/setup peer; mapped file, repacked weights and flash attention as it chooses by itself),
and with --ik a built ik_llama.cpp (its llama-bench) as it is by default, `ik`, and with its weights repacked at load,
`ik-rtr`. A turn asks each engine once, in a process of its own: it loads the file, warms up, then a prompt of random ids is
timed, and after it single tokens. All engines have the same threads and lengths, and keys and values in F16, unless
--cadre-options says otherwise. Reported are medians, least and most over the turns, and the speeds of cadre as multiples of
each other engine's: the median of the ratios inside a turn, where drift of the machine cancels out. The read roof is the
bandwidth that `cadre bench` finds in the same turn over the bytes that a token reads.

With --others 0.05, a run in which other programs took more than that share of all processors' time is done again, and
after a few such runs left out. --wrap COMMAND stands before every measured process (numactl, taskset). With --keep FILE the
turns of earlier calls that it holds count too, and the new ones are added, so that one comparison can be made in several
goes on the same model. An engine that cannot run the file is reported and left out. Exit status: 0, or 1 when cadre or
every other engine failed.
"""

import argparse
import ctypes as c
import json
import os
import random
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "peer"))

from llama_peer import PACKAGES, PeerMissing, load_library  # noqa: E402

CADRE = {"cadre": "auto", "cadre-int8": "int8"}  # engine -> --act
ENGINES = (*CADRE, "llama.cpp", "ik", "ik-rtr")


TRIES = 2  # of a run that other programs disturbed


class Failed(Exception):
    pass


class Disturbed(Exception):
    pass


# ---- one turn of llama.cpp, in this process ------------------------------------------------------------------


class Llama:
    def __init__(self, options):
        self.llama, self.options = load_library(), options
        pointer = c.c_void_p
        for name, result, arguments in (("llama_synchronize", None, [pointer]), ("llama_get_memory", pointer, [pointer]),
                                        ("llama_memory_clear", None, [pointer, c.c_bool])):
            function = getattr(self.llama, name)
            function.restype, function.argtypes = result, arguments
        params = self.llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = self.llama.llama_model_load_from_file(str(options.model).encode(), params)
        if not self.model:
            raise Failed("llama.cpp cannot load this file")
        params = self.llama.llama_context_default_params()
        params.n_ctx = -(-(options.prompt + options.generate) // 256) * 256
        params.n_threads = params.n_threads_batch = options.threads
        self.context = self.llama.llama_init_from_model(self.model, params)
        if not self.context:
            raise Failed("llama.cpp cannot make a context for this model")
        self.vocab = self.llama.llama_vocab_n_tokens(self.llama.llama_model_get_vocab(self.model))
        self.batch = self.llama.llama_batch_init(options.prompt, 0, 1)

    def feed(self, rng, n, at):
        """n random tokens; logits of the last, as for the choice of the next"""
        b = self.batch
        b.n_tokens = n
        for i in range(n):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = rng.randrange(self.vocab), at + i, 1, i == n - 1
            b.seq_id[i][0] = 0
        if self.llama.llama_decode(self.context, b):
            raise Failed("llama_decode failed")
        self.llama.llama_synchronize(self.context)

    def run(self, seed, n):
        """(seconds of the prompt, seconds of n tokens after it)"""
        rng, limit = random.Random(seed), 2048  # tokens that one call takes
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        start = time.perf_counter()
        for at in range(0, self.options.prompt, limit):
            self.feed(rng, min(limit, self.options.prompt - at), at)
        middle = time.perf_counter()
        for i in range(n):
            self.feed(rng, 1, self.options.prompt + i)
        return middle - start, time.perf_counter() - middle


def turn_of_llama(options):
    engine = Llama(options)
    engine.run(0, 1)
    prompt, generate = engine.run(1, options.generate)
    print(json.dumps({"prompt": options.prompt / prompt, "generate": options.generate / generate}))


# ---- the engines: what to start, and how to read what it says ------------------------------------------------


def busy_seconds():
    """(of all processors, the host's other machines included; of the processes that were started here)"""
    ticks = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


def start(options, command):
    """What a command printed"""
    words = [*shlex.split(options.wrap), *map(str, command)]
    for _ in range(TRIES):
        begin, (busy, own) = time.perf_counter(), busy_seconds()
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if options.quiet else None, check=False)
        if done.returncode:
            raise Failed(f"{Path(command[0]).name} ended with {done.returncode}")
        busy, own = (after - before for after, before in zip(busy_seconds(), (busy, own)))
        others = max(0.0, busy - own) / (time.perf_counter() - begin) / os.cpu_count()
        if options.others is None or others <= options.others:
            return json.loads(done.stdout)
        print(f"other programs had {100 * others:.0f} % of the processors; again", file=sys.stderr, flush=True)
    raise Disturbed


def cadre(options, act):
    command = [options.cadre, "bench", options.model, "-p", options.prompt, "-n", options.generate, "-r", 1, "-t",
               options.threads, "--json", "--act", act, *shlex.split(options.cadre_options)]
    said = start(options, command)
    generate = said["tokens_per_s"]["median"]
    return said["prompt_tokens_per_s"]["median"], generate, generate / said["bandwidth_share"]


def llama_cpp(options):
    said = start(options, [sys.executable, __file__, options.model, "--turn-of-llama", "-p", options.prompt, "-n",
                           options.generate, "-t", options.threads])
    return said["prompt"], said["generate"]


def ik(options, *more):
    """Two tests, each with a sample that is left out: the prompt, and generation after it."""
    found = [p for p in (options.ik / folder / "llama-bench" for folder in ("build/bin", "bin", "")) if p.exists()]
    if not found:
        raise Failed(f"no llama-bench under {options.ik}")
    lengths = ["-p", options.prompt, "-n", 0, "-gp", f"{options.prompt},{options.generate}", "-r", 2]
    samples = {}
    for test in start(options, [found[0], "-m", options.model, "-t", options.threads, "-ngl", 0, "-o", "json", *lengths, *more]):
        samples["generate" if test["n_gen"] else "prompt"] = test["samples_ns"][-1] * 1e-9
    return options.prompt / samples["prompt"], options.generate / samples["generate"]


RUN = {**{name: lambda options, act=act: cadre(options, act) for name, act in CADRE.items()},
       "llama.cpp": llama_cpp, "ik": ik, "ik-rtr": lambda options: ik(options, "-rtr", 1)}


def version(name, options):
    if name in CADRE:
        return subprocess.run([options.cadre, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if name == "llama.cpp":
        package = PACKAGES / "node_modules/@node-llama-cpp/linux-x64/package.json"
        return f"@node-llama-cpp/linux-x64 {json.loads(package.read_text())['version']}"
    command = ["git", "-C", options.ik or ".", "rev-parse", "--short", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() if options.ik else ""
    return f"ik_llama.cpp {head or 'of unknown version'}"


# ---- turns and report ----------------------------------------------------------------------------------------


def measure(options):
    """(turns: engine -> (prompt tokens/s, generated tokens/s) and "roof" -> tokens/s at the read bandwidth that cadre found,
    failures: engine -> why); who fails is left out from then on"""
    turns, failures = [], {}
    for number in range(1, options.repeats + 1):
        turns.append({})
        for name in [n for n in options.engines if n not in failures]:
            try:
                begin = time.perf_counter()
                prompt, generate, *roof = RUN[name](options)
                turns[-1] |= {name: (prompt, generate)} | ({"roof": max(roof[0], turns[-1].get("roof", 0))} if roof else {})
                seconds = time.perf_counter() - begin
                print(f"turn {number} {name}: {prompt:.1f}, {generate:.2f} tokens/s, {seconds:.0f} s with loading",
                      file=sys.stderr, flush=True)
            except Disturbed:
                print(f"turn {number} {name}: left out, disturbed {TRIES} times", file=sys.stderr, flush=True)
            except (Failed, PeerMissing, OSError, ValueError) as error:
                failures[name] = str(error)
                print(f"{name} left out: {error}", file=sys.stderr, flush=True)
    return turns, failures


def with_kept(path, turns):
    """Turns of earlier calls and these, which are kept for later ones"""
    kept = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    with open(path, "a") as out:
        for turn in turns:
            out.write(json.dumps(turn) + "\n")
    return kept + turns


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "all": values}


def summary(turns, options):
    """engine -> figures, and cadre's as multiples of them"""
    out = {}
    for name in [n for n in ENGINES if any(n in turn for turn in turns)]:
        prompt, generate = zip(*(turn[name] for turn in turns if name in turn))
        out[name] = {"version": version(name, options), "prompt_tokens_per_s": spread(prompt),
                     "tokens_per_s": spread(generate)}
        shares = [turn[name][1] / turn["roof"] for turn in turns if name in turn and "roof" in turn]
        out[name] |= {"roof_share": spread(shares)} if shares else {}
        for ours in CADRE if name not in CADRE else ():
            both = [(turn[ours], turn[name]) for turn in turns if name in turn and ours in turn]
            for key, column in (("prompt_ratio", 0), ("ratio", 1)) if both else ():
                out[name][f"{ours}_{key}"] = statistics.median(a[column] / b[column] for a, b in both)
    return out


def cell(s, digits):
    return f"{s['median']:.{digits}f} ({s['min']:.{digits}f} to {s['max']:.{digits}f})"


def table(figures):
    ours = [name for name in CADRE if name in figures]
    is_ = " and ".join(ours) + (" is" if len(ours) == 1 else " are")
    lines = [f"| engine | prompt, tokens/s | {is_} | generation, tokens/s | {is_} | of the read roof |", "|---|---|---|---|---|---|"]
    for name, f in figures.items():
        times = [", ".join(f"{f[key]:.2f} x" for key in (f"{o}_{ratio}" for o in ours) if key in f)
                 for ratio in ("prompt_ratio", "ratio")]
        share = f"{100 * f['roof_share']['median']:.0f} %" if "roof_share" in f else ""
        lines.append(f"| {name} | {cell(f['prompt_tokens_per_s'], 1)} | {times[0]} | {cell(f['tokens_per_s'], 2)} | {times[1]} | {share} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--cadre", type=lambda path: Path(path).resolve(), default=ROOT / "build/cadre")
    parser.add_argument("--cadre-options", default="--kv f16", help="of cadre bench (--kv f16)")
    parser.add_argument("--ik", type=Path, help="folder of a built ik_llama.cpp")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, help="which, in this order")
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--generate", type=int, default=64)
    parser.add_argument("-r", "--repeats", type=int, default=5, help="turns")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--wrap", default="", metavar="COMMAND", help="before every measured process")
    parser.add_argument("--others", type=float, metavar="SHARE", help="what other programs may take of the processors")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="turns of earlier calls, and of this one")
    parser.add_argument("-q", "--quiet", action="store_true", help="leave out what engines say about themselves")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turn-of-llama", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn_of_llama:
        return turn_of_llama(options)
    options.engines = options.engines or [n for n in ENGINES if options.ik or not n.startswith("ik")]
    if not options.ik and any(n.startswith("ik") for n in options.engines):
        parser.error("ik and ik-rtr need --ik FOLDER")
    if min(options.prompt, options.generate, options.repeats, options.threads) < 1:
        parser.error("-p, -n, -r and -t are at least 1")
    turns, failures = measure(options)
    if options.keep:
        turns = with_kept(options.keep, turns)
    figures = summary(turns, options)
    if options.json:
        print(json.dumps({"model": options.model.name, "bytes": options.model.stat().st_size, "prompt": options.prompt,
                          "generate": options.generate, "threads": options.threads, "turns": len(turns),
                          "engines": figures, "failures": failures}, indent=1))
    else:
        print(f"{options.model.name}, prompt {options.prompt}, {options.generate} generated, {options.threads} threads, "
              f"{len(turns)} turns\n\n{table(figures)}")
        for name, f in figures.items():
            print(f"{name}: {f['version']}")
    return 1 if "cadre" in failures or len(figures) < 2 else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, PeerMissing) as error:
        sys.exit(f"compare_engines: {error}")
