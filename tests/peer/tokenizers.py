#!/usr/bin/env python3
"""Does cadre cut random texts into the tokens an independent engine cuts them into?

    tests/peer/tokenizers.py CADRE FOLDER [--seeds N]

For every vocabulary FOLDER/ggml-vocab-*.gguf (or .gguf.gz): texts put together from pieces of many kinds (words of several
scripts, digits, contractions, spaces of all widths, emoji, marks, the text of special tokens, any code point) go to
llama.cpp's tokenizer and to cadre, with special text parsed and not. The ids must be the same.
Where the peer departs from the tokenizer that its vocabulary was made from (ASCII_BLANKS), texts keep out of the way.
Exit status: 0 agreement, 1 disagreement, 77 (skipped) when the peer is not there.
"""

import argparse
import ctypes as c
import gzip
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_peer import PeerMissing, load_library

WORDS = ("the The THE a I we'll they'VE don't It's 'tis you're I'd O'Neil café naïve Straße ÆØÅ İstanbul ﬁne Привет мир "
         "ПРИВЕТ Ελλάδα שלום العَرَبِيَّة हिन्दी ไทย 日本語 漢字かな カタカナ 한국어 中文字符 int main() x=1; foo_bar fooBar "
         "http://a.b/c?d=e&f %20 <s> </s> <unk> <|endoftext|> <|im_start|> <|end|> [INST] 🙂 👩‍👩‍👧 🇩🇪 e\u0301 \u200d \ufeff "
         "½ ² ① Ⅻ ٣٤ ۵ १२ 3.14 1,000,000 1234567890 007 0x1F -5 +1 … — “q” «g» ‘s’ $ € ₹ # ## ### @ ~ ^ ` | \\ / * _ __").split()
SPACES = (" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\t\t", " \n", "\n ", "\u00a0", "\u2003", "\u3000", "\u2028", "\x0b",
          "\x0c", "\x85", "      ", " \t ", "\r")
# Blanks outside ASCII: after a special token of Phi-3 the peer does not strip them, before punctuation of DeepSeek-LLM it
# takes U+3000, which that tokenizer counts as punctuation, for a blank.
ASCII_BLANKS = ("ggml-vocab-phi-3.gguf", "ggml-vocab-deepseek-llm.gguf")


def code_point(rng):
    while True:
        n = rng.choice((rng.randrange(1, 0x80), rng.randrange(0x80, 0x800), rng.randrange(0x800, 0x10000),
                        rng.randrange(0x10000, 0x110000)))
        if not 0xD800 <= n < 0xE000:
            return chr(n)


def text(rng, n):
    out = []
    for _ in range(n):
        kind = rng.random()
        if kind < 0.45:
            out.append(rng.choice(WORDS))
        elif kind < 0.75:
            out.append(rng.choice(SPACES))
        elif kind < 0.85:
            out.append("".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 9))))
        elif kind < 0.93:
            out.append("".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'!?.,;:-")
                               for _ in range(rng.randrange(1, 12))))
        else:
            out.append(code_point(rng))
    return "".join(out)


class Vocabulary:
    """llama.cpp's tokenizer of one file."""

    def __init__(self, path):
        self.llama = load_library()
        params = self.llama.llama_model_default_params()
        params.vocab_only = True
        self.model = self.llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise ValueError(f"{path}: llama.cpp cannot load this file")
        self.vocab = self.llama.llama_model_get_vocab(self.model)
        tokenize = self.llama.llama_tokenize
        tokenize.argtypes = [c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32), c.c_int32, c.c_bool, c.c_bool]

    def ids(self, raw, special):
        out = (c.c_int32 * (2 * len(raw) + 16))()
        n = self.llama.llama_tokenize(self.vocab, raw, len(raw), out, len(out), False, special)
        return list(out[:n])


def ask_cadre(cadre, model, file, special):
    command = [str(cadre), "tokenize", str(model), "-f", str(file), "--json", *(["--special"] if special else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return json.loads(done.stdout)["ids"]


def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def check(cadre, path, seeds, folder):
    """How many texts differ."""
    theirs, failed = Vocabulary(path), 0
    for seed in range(seeds):
        said = text(random.Random(seed), 3 if seed % 4 == 0 else 600)
        if path.name in ASCII_BLANKS:
            said = "".join(" " if x.isspace() and x > "\x7f" else x for x in said)
        raw = said.encode()
        (folder / "text").write_bytes(raw)
        for special in (False, True):
            want, found = theirs.ids(raw, special), ask_cadre(cadre, path, folder / "text", special)
            if want != found:
                i = first_difference(want, found)
                failed += 1
                print(f"FAIL {path.name} seed {seed} special {special}: token {i} of {len(want)}: {found[i:i + 6]}, the "
                      f"peer has {want[i:i + 6]}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cadre", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=4, help="texts for each vocabulary")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cadre-peer-") as name:
        for path in sorted(options.folder.glob("ggml-vocab-*.gguf*")):
            if path.suffix not in (".gguf", ".gz"):
                continue
            if path.suffix == ".gz":
                with gzip.open(path) as packed, open(Path(name) / path.stem, "wb") as out:
                    shutil.copyfileobj(packed, out)
                path = Path(name) / path.stem
            try:
                wrong = check(options.cadre, path, options.seeds, Path(name))
            except PeerMissing as error:
                print(f"skipped: {error}")
                return 77
            failed += wrong
            print(f"{path.name}: {options.seeds} texts, {wrong} differ", flush=True)
    print("agreement" if not failed else f"{failed} disagreements")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
