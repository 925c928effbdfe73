#!/usr/bin/env python3
"""tools/questions on a WordNet of a few words: what is asked, what is answered, what is held out."""

import importlib.machinery
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
NOUNS = [
    '00000001 05 n 01 animal 0 000 | a living organism that moves',
    '00000002 05 n 01 bird 0 001 @ 00000001 n 0000 | a warm-blooded animal with feathers',
    '00000003 05 n 01 sparrow 0 001 @ 00000002 n 0000 | (zoology) any of several small dull-colored singing birds',
    '00000004 05 n 02 mouse 0 lab_mouse 0 001 @ 00000001 n 0000 | a small rodent; "the mouse ate the cheese"',
    '00000005 05 n 01 darky 0 000 | (ethnic slur) an offensive term',
]
VERBS = ['00000010 38 v 02 run 0 race 1 000 01 + 02 00 | move fast by using one\'s feet; "Don\'t run--you\'ll be out of breath"']
ADJECTIVES = [
    '00000020 00 a 01 hot 0 001 ! 00000021 a 0101 | having a high temperature; "a hot stove burns the hand"',
    '00000021 00 a 02 cold 0 icy(p) 0 001 ! 00000020 a 0101 | having a low temperature',
]


def write(folder, name, data):
    index = {}
    for line in data:
        f = line.split()
        for word in f[4:4 + 2 * int(f[3], 16):2]:
            index.setdefault(word.split("(")[0], []).append(f[0])
    (folder / f"data.{name}").write_text("  1 a licence\n" + "".join(l + "\n" for l in data))
    (folder / f"index.{name}").write_text("".join(
        f"{w} {name[0]} {len(o)} 1 @ {len(o)} 1 {' '.join(o)}\n" for w, o in sorted(index.items())))


def wordnet(questions, folder):
    for name, data in (("noun", NOUNS), ("verb", VERBS), ("adj", ADJECTIVES), ("adv", [])):
        write(folder, name, data)
    counts = {"animal%1:05:00::": 9, "bird%1:05:00::": 9, "mouse%1:05:00::": 30, "run%2:38:00::": 99, "hot%3:00:00::": 50}
    (folder / "cntlist.rev").write_text("".join(f"{k} 1 {n}\n" for k, n in counts.items()))
    (folder / "noun.exc").write_text("mice mouse\n")
    return questions.WordNet(folder)


def expect(found, wanted):
    if found != wanted:
        sys.exit(f"expected {wanted!r}, found {found!r}")


def check_answers(q, w):
    entry = lambda word: q.Entry(w, word)
    expect(q.meaning(entry("run")), '"Run" means to move fast by using one\'s feet.')
    expect(q.meaning(entry("sparrow")), '"Sparrow" means any of several small dull-colored singing birds.')
    expect(q.example(entry("mouse")), "The mouse ate the cheese.")
    expect(q.example(entry("sparrow")), None)
    expect(q.opposite(entry("hot")), 'The opposite of "hot" is "cold".')
    expect(q.opposite(entry("icy")), None)
    expect(q.synonyms(entry("run")), 'A word like "run" is "race".')
    expect(q.part_of_speech(entry("hot")), '"Hot" is an adjective.')
    expect(q.kind(entry("sparrow")), "A sparrow is a kind of bird.")
    expect(q.plural(entry("mouse")), 'The plural of "mouse" is "mice".')
    expect(q.plural(entry("sparrow")), 'The plural of "sparrow" is "sparrows".')
    expect(entry("darky").senses, [])
    for key in range(40):
        kind, answer = q.is_a(entry("sparrow"), key)
        right = kind in ("bird", "animal")
        expect(answer, f"Yes, a sparrow is {q.a(kind)}." if right
               else f"No, a sparrow is not {q.a(kind)}. It is a bird.")


def check_build(q, w):
    made = q.build(w)
    expect(q.build(w), made)
    asked = " ".join(m["content"] for c in made["train"] for m in c)
    for conversations in made.values():
        for c in conversations:
            expect([m["role"] for m in c], ["user", "assistant"] * (len(c) // 2))
            assert all(m["content"].strip() for m in c) and len(c) >= 2, c
            json.dumps(c)
    for c in made["unseen-words"]:
        word = c[1]["content"].split('"')[1].lower()
        assert f'"{word}"' not in asked.lower(), word
    assert "I am cadre's small language model" in asked
    expect("darky" in asked, False)


def main():
    loader = importlib.machinery.SourceFileLoader("questions", sys.argv[1])
    q = importlib.util.module_from_spec(importlib.util.spec_from_loader("questions", loader))
    loader.exec_module(q)
    with tempfile.TemporaryDirectory() as folder:
        w = wordnet(q, Path(folder))
        check_answers(q, w)
        check_build(q, w)
    word = q.invented(7, set())
    assert q.invented(7, {word}) != word  # a word that there is is not taken for one that is not
    expect(q.a("hour") + " " + q.a("unicorn") + " " + q.a("owl"), "an hour a unicorn an owl")


if __name__ == "__main__":
    main()
