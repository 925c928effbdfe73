#!/usr/bin/env python3
"""Template snippets and random programs, rendered by cadre, by Jinja2 set up as transformers does it, and by
@huggingface/jinja. Jinja2 decides: cadre must give its text, and fail where it fails. Without Jinja2 (tools/setup jinja)
the test is skipped. Where the other engine differs from it, -v says so.

    compare.py TEMPLATE_RENDER HUGGINGFACE_MJS [-v] [--seed N] [--count N]
"""

import argparse
import datetime
import json
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import snippets

SKIPPED = 77


def jinja2_engine():
    """render(template) -> text, as transformers builds it; None if jinja2 is not there."""
    try:
        import jinja2
        from jinja2 import ext, nodes, sandbox
    except ImportError:
        return None

    class Generation(ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.CallBlock(self.call_method("body"), [], [], body).set_lineno(line)

        def body(self, caller):
            return caller()

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = datetime.datetime(2025, 1, 31, 12).strftime

    def render(template):
        try:
            return {"text": env.from_string(template).render(**json.loads(json.dumps(snippets.VARIABLES)))}
        except Exception as e:  # whatever Python raises: the template fails
            return {"error": f"{type(e).__name__}: {e}"}

    return lambda templates: [render(t) for t in templates]


def program(command, folder=None):
    def render(templates):
        lines = "".join(json.dumps({"template": t, "variables": snippets.VARIABLES}) + "\n" for t in templates)
        done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            sys.exit(f"{command[0]}: exit status {done.returncode}\n{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]
    return render


class Random:
    """Random programs: expressions that mostly have a meaning, inside of random blocks."""
    ATOMS = ("1 2 0 -3 2.5 'a' 'Ab c' '' true false none n z f s u words nums d people[0] empty messages[0].content q "
             "nested [1,2] {'a':1} (1,'x') range(3) x").split(" ")
    ATOMS = [a.replace("'Ab", "'Ab c'") if a == "'Ab" else a for a in ATOMS if a != "c'"]
    # Lazy filters are read at once: when Jinja2 notices an error, and the address it prints, are not for comparison.
    FILTERS = ["length", "upper", "lower", "trim", "string", "list", "first", "join", "sort", "reverse | list", "int",
               "float", "abs", "default('d')", "tojson", "title", "capitalize", "unique | list", "max", "min", "sum",
               "items | list", "dictsort", "round", "replace('a','b')", "string | indent", "e", "map('string') | list",
               "select('string') | list", "wordcount", "batch(2) | list", "tojson(indent=1)", "join(',')",
               "reject('none') | first", "map('upper') | join", "list | last"]
    TESTS = ("defined none string mapping iterable sequence number integer float boolean true false odd even upper "
             "lower in([1,2]) eq(1) divisibleby(2) callable").split()
    METHODS = (".upper() .strip() .split() .split('a') [0] [-1] [1:] [::-1] .items() .get('a') .a ['a'] "
               ".startswith('a') .replace('a','zz') .title() .count('a') .keys()").split()
    OPERATORS = "+ - * / // % ~ and or == != < > <= >= in".split()

    def __init__(self, seed):
        self.r = random.Random(seed)

    def expression(self, depth):
        r = self.r
        if depth == 0:
            return r.choice(self.ATOMS)
        kind, inner = r.random(), lambda: self.expression(depth - 1)
        if kind < 0.25:
            return f"{inner()} | {r.choice(self.FILTERS)}"
        if kind < 0.40:
            return f"({inner()}) is {r.choice(('', 'not '))}{r.choice(self.TESTS)}"
        if kind < 0.60:
            return f"({inner()}){r.choice(self.METHODS)}"
        if kind < 0.85:
            return f"({inner()}) {r.choice(self.OPERATORS)} ({inner()})"
        if kind < 0.92:
            return f"{inner()} if {inner()} else {inner()}"
        return f"[{inner()}, {inner()}]"

    def block(self, depth):
        r, sign = self.r, lambda: self.r.choice(("", "", "", "-", "+"))
        blank = r.choice(("", "\n", " ", "\n  ", "text "))
        kind = r.random() if depth else 0
        if kind < 0.4:
            return blank + "{{" + r.choice(("", "-")) + " " + self.expression(r.randrange(3)) + " " + r.choice(("", "-")) + "}}"
        body = self.block(depth - 1) + self.block(depth - 1)
        tag = lambda text: blank + "{%" + sign() + " " + text + " " + sign() + "%}"
        if kind < 0.6:
            return tag("if " + self.expression(1)) + body + tag("else") + blank + tag("endif")
        if kind < 0.8:
            return tag("for x in " + r.choice(("nums", "words", "d", "'héy'", "range(3)", "people", "q", "empty"))) + body + \
                "{{ loop.index }}" + tag("endfor")
        if kind < 0.9:
            return tag("set x = " + self.expression(1)) + body
        return tag("set x") + body + tag("endset") + "{{ x | length }}"


def main():
    warnings.simplefilter("ignore")  # Python's own about the nonsense
    p = argparse.ArgumentParser()
    p.add_argument("render")
    p.add_argument("huggingface")
    p.add_argument("-v", action="store_true", help="list what the other engine renders differently")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=3000, help="random programs")
    a = p.parse_args()
    script = Path(a.huggingface).resolve()
    folder = script.parent
    reference = jinja2_engine()
    other = None
    if shutil.which("node") and (folder / "node_modules/@huggingface/jinja").is_dir():
        other = program(["node", str(script)], folder)
    if not reference:
        print("jinja2 is not installed (tools/setup jinja)")
        return SKIPPED

    templates = [f"{{{{ {e} }}}}" for line in snippets.EXPRESSIONS for e in [line]]
    templates += snippets.TEMPLATES + snippets.REFUSED
    generator = Random(a.seed)
    templates += [generator.block(generator.r.randrange(4)) for _ in range(a.count)]

    ours = program([a.render])(templates)
    wrong, n_written = 0, len(templates) - a.count
    expected = reference(templates)
    for i, (t, e, o) in enumerate(zip(templates, expected, ours)):
        if i >= n_written and "error" in e:
            continue  # some nonsense may have a meaning here
        if ("error" in e) != ("error" in o) or e.get("text") != o.get("text"):
            wrong += 1
            if wrong <= 60:
                print(f"--- {t}\n    expected {e}\n    found    {o}")
    if other and a.v:
        templates = [t for t in templates if t not in snippets.REFUSED]  # it has no limits
        for t, e, o in zip(templates, other(templates), program([a.render])(templates)):
            if "text" in e and e.get("text") != o.get("text"):
                print(f"--- (other engine) {t}\n    {e}\n    {o}")
    print(f"{len(templates)} templates, {sum('error' in e for e in expected)} of them refused, {wrong} wrong")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
