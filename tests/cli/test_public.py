"""The library as its users meet it: installed header and shared library, found by pkg-config; the program in the
header's comment compiles as C and as C++ and runs; nothing but the public functions is exported.

usage: test_public.py LIBCADRE MAKE_TINY BUILD_FOLDER HEADER CADRE
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

LIBCADRE, MAKE_TINY, BUILD, HEADER, CADRE = (os.path.abspath(p) for p in sys.argv[1:6])


def output(*args, **more):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, timeout=100, **more).stdout.decode(errors="replace")


def symbols(*options):
    return [line.split()[-1] for line in output("nm", "-D", *options, LIBCADRE).splitlines()]


class Public(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(HEADER) as f:
            cls.header = f.read()

    def test_exports(self):
        declared = set(re.findall(r"^CADRE_API [^;]*?\b(cadre_\w+)\(", self.header, re.M))
        self.assertGreater(len(declared), 20)
        self.assertEqual(set(symbols("--defined-only")), declared)

    @unittest.skipIf(any(s.startswith("__asan") for s in symbols()), "a sanitizer's library needs its run time")
    def test_program_of_the_header(self):
        comment = self.header.split("A complete program", 1)[1].split("Rules that hold", 1)[0]
        program = "\n".join(re.findall(r"^ \*     (.*)$", comment, re.M)) + "\n"
        self.assertIn("int main", program)
        with tempfile.TemporaryDirectory(prefix="cadre-public-") as folder:
            root = os.path.join(folder, "root")
            output("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", root)
            pc = [d for d, _, files in os.walk(root) if "cadre.pc" in files]
            self.assertEqual(len(pc), 1)
            env = dict(os.environ, PKG_CONFIG_PATH=pc[0], PKG_CONFIG_SYSROOT_DIR=root,
                       LD_LIBRARY_PATH=os.path.dirname(pc[0]))
            flags = shlex.split(output("pkg-config", "--cflags", "--libs", "cadre", env=env))
            subprocess.run([MAKE_TINY, os.path.join(folder, "model.gguf")], check=True)
            want = output(CADRE, "run", "model.gguf", "-p", "Once", "--temp", "0", cwd=folder)[:-1]
            for compiler, name, standard in (("cc", "hello.c", "-std=c99"), ("c++", "hello.cc", "-std=c++11")):
                self.assertTrue(shutil.which(compiler), compiler)
                with open(os.path.join(folder, name), "w") as f:
                    f.write(program)
                output(compiler, standard, "-Wall", "-Wextra", "-pedantic", "-Werror", name, "-o", "hello", *flags,
                       cwd=folder)
                self.assertEqual(output("./hello", cwd=folder, env=env), want)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
