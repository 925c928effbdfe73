"""A thousand broken models: each is a clear error that names it; none crashes, leaks (in a build under ASan) or takes much
memory.

    test_broken.py OPEN_ALL [N]
"""

import os
import resource
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import broken

MAX_BYTES = 1 << 30


def run(program, paths):
    """[(code, text)] of each."""
    done = subprocess.run([program], input="\n".join(paths) + "\n", capture_output=True, text=True, errors="replace",
                          timeout=280)
    lines = [line.split("\t", 1) for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(lines) != len(paths):
        at = paths[len(lines)] if len(lines) < len(paths) else "the end"
        sys.exit(f"{program} ended with {done.returncode} at {at}:\n{done.stderr[-4000:]}")
    return [(int(code), text) for code, text in lines]


def main():
    program, n = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    faults = 0
    with tempfile.TemporaryDirectory(prefix="cadre-broken-") as out:
        corpus = broken.Corpus(20251125, out)
        for path, (code, text) in zip(corpus.good(), run(program, corpus.good())):
            if code != 0:
                sys.exit(f"{path} is good, but: {text}")
        paths = [corpus.make(i) for i in range(n)]
        for path, (code, text) in zip(paths, run(program, paths)):
            if code == 0 or len(text) < len(path) + 10 or not text.startswith(path):
                faults += 1
                print(f"{path}: code {code}: {text!r}")
                if len(sys.argv) > 3:
                    os.system(f"cp -rL {path} {sys.argv[3]}/")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{n} broken models, {faults} not a clear error, peak memory {peak >> 20} MiB")
    sys.exit(faults > 0 or peak > MAX_BYTES)


if __name__ == "__main__":
    main()
