#!/usr/bin/env python3
"""tools/check-layers accepts a clean tree and names the fault in each broken one."""

import subprocess
import sys
import tempfile
from pathlib import Path

CLEAN = {
    "include/cadre.h": "#include <stdio.h>\n",
    "src/base/error.h": "#include <stdarg.h>\n",
    "src/base/error.c": '#include "base/error.h"\n#include <string.h>\n',
    "src/moe/router.h": '#include "base/error.h"\n',
    "src/model/model.c": '#include "cadre.h"\n#include "moe/router.h"\n#include "../base/error.h"\n',
    "src/train/train.h": "",
    "src/grow/grow.h": '#include "train/train.h"\n',
    "cli/main.c": '#include "cadre.h"\n#include "options.h"\n',
    "cli/options.h": "",
}
# (what is wrong, file, content, what the message must contain)
BROKEN = [
    ("a later room", "src/base/bad.c", '\n#include "moe/router.h"\n', "src/base/bad.c:2: includes moe/router.h"),
    ("a later room by a relative path", "src/base/bad.c", '#include "../moe/router.h"\n', "base must not know moe"),
    ("a later room in angle brackets", "src/base/bad.c", "#include <moe/router.h>\n", "base must not know moe"),
    ("an indented include", "src/base/bad.c", '#if 1\n  # include "moe/router.h"\n#endif\n', "src/base/bad.c:2:"),
    ("neighbours", "src/steer/bad.c", '#include "grow/grow.h"\n', "steer must not know grow"),
    ("an unknown room", "src/util/util.c", "", "not in a known room"),
    ("a file outside of the rooms", "src/loose.c", "", "not in a known room"),
    ("the command looks inside", "cli/bad.c", '#include "base/error.h"\n', "cli may include only"),
    ("the public header looks inside", "include/cadre.h", '#include "base/error.h"\n', "include may include only"),
    ("a room knows the command", "src/engine/bad.c", '#include "../../cli/options.h"\n', "outside of the rooms"),
    ("a header that is not there", "src/base/bad.c", '#include "base/missing.h"\n', "no such file"),
]


def run(checker, tree):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in tree.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([checker, folder], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def main():
    checker, failed = sys.argv[1], 0
    status, text = run(checker, CLEAN)
    if status != 0:
        print(f"the clean tree fails: {text}")
        failed += 1
    for what, name, content, message in BROKEN:
        status, text = run(checker, {**CLEAN, name: content})
        if status != 1 or message not in text or len(text.splitlines()) != 1:
            print(f"{what}: expected one line with '{message}' and status 1, found status {status}: {text.strip()}")
            failed += 1
    status, text = run(checker, {})
    if status == 0:
        print("a folder without sources passes")
        failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
