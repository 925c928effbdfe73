#!/usr/bin/env python3
"""llama.cpp as an independent witness: the logits it computes for a GGUF file.

    tests/peer/llama_peer.py MODEL.gguf IDS.json OUT.safetensors [-n N]
    tests/peer/llama_peer.py --serve

IDS.json holds a list of token ids (or an object with the key "ids"). OUT gets `tokens` i32 [n], `logits` f32 [n, vocab]
(row i is the prediction after tokens 0..i) and, with -n, `greedy` i32 [N]. No BOS is added. Everything that rounds is
off: F32 keys and values, no flash attention, no repacked weights, all positions in one batch. Served, lines of standard
input hold [MODEL, IDS, OUT, N] as JSON, and each is answered by a line of standard output: nothing, or what is wrong.

The shared libraries come from the npm package @node-llama-cpp/linux-x64 (tools/setup peer). Of their C interface only
what is needed is declared here; check_abi() compares the defaults that the library reports with the known ones, so that
another release with other structures is an error and not a crash.
"""

import argparse
import array
import ctypes as c
import functools
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

PACKAGES = Path(os.environ.get("CADRE_PEER") or Path(__file__).resolve().parent)
LIBRARIES = PACKAGES / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
GGML_TYPE_F32, GGML_TYPE_F16 = 0, 1
CONTEXT = 512  # prompt and continuation must fit; one size keeps long-context rope variants out of play


class ModelParams(c.Structure):
    _fields_ = [("devices", c.c_void_p), ("tensor_buft_overrides", c.c_void_p), ("n_gpu_layers", c.c_int32),
                ("split_mode", c.c_int), ("load_mode", c.c_int), ("lazy_mode", c.c_int), ("main_gpu", c.c_int32),
                ("tensor_split", c.c_void_p), ("progress_callback", c.c_void_p), ("progress_data", c.c_void_p),
                ("kv_overrides", c.c_void_p), ("vocab_only", c.c_bool), ("check_tensors", c.c_bool),
                ("use_extra_bufts", c.c_bool), ("no_host", c.c_bool), ("no_alloc", c.c_bool), ("load_mtp", c.c_bool)]


class ContextParams(c.Structure):
    _fields_ = [("n_ctx", c.c_uint32), ("n_batch", c.c_uint32), ("n_ubatch", c.c_uint32), ("n_seq_max", c.c_uint32),
                ("n_rs_seq", c.c_uint32), ("n_outputs_max", c.c_uint32), ("n_outputs_max_per_seq", c.c_uint32),
                ("n_threads", c.c_int32), ("n_threads_batch", c.c_int32), ("ctx_type", c.c_int),
                ("rope_scaling_type", c.c_int), ("pooling_type", c.c_int), ("attention_type", c.c_int),
                ("flash_attn_type", c.c_int), ("rope_freq_base", c.c_float), ("rope_freq_scale", c.c_float),
                ("yarn_ext_factor", c.c_float), ("yarn_attn_factor", c.c_float), ("yarn_beta_fast", c.c_float),
                ("yarn_beta_slow", c.c_float), ("yarn_orig_ctx", c.c_uint32), ("defrag_thold", c.c_float),
                ("cb_eval", c.c_void_p), ("cb_eval_data", c.c_void_p), ("type_k", c.c_int), ("type_v", c.c_int),
                ("abort_callback", c.c_void_p), ("abort_data", c.c_void_p), ("embeddings", c.c_bool),
                ("offload_kqv", c.c_bool), ("no_perf", c.c_bool), ("op_offload", c.c_bool), ("swa_full", c.c_bool),
                ("kv_unified", c.c_bool), ("samplers", c.c_void_p), ("n_samplers", c.c_size_t), ("other", c.c_void_p)]


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p),
                ("pos", c.POINTER(c.c_int32)), ("n_seq_id", c.POINTER(c.c_int32)),
                ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


class PeerMissing(Exception):
    """The libraries are not installed, or not for this machine."""


LOG = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
complaints = []  # what the library logged as errors
QUIET = LOG(lambda level, text, data: complaints.append(text.decode(errors="replace").strip()) if level == 4 else None)


@functools.cache
def load_library():
    found = sorted(LIBRARIES.glob("libllama.v*.so")) + sorted(LIBRARIES.glob("libllama.so"))
    if not found:
        raise PeerMissing(f"no libllama in {PACKAGES}/node_modules; run tools/setup peer")
    try:
        for name in ("libggml-base.so", "libggml.v*.so"):
            ggml = c.CDLL(str(sorted(LIBRARIES.glob(name))[0]), mode=c.RTLD_GLOBAL)
        llama = c.CDLL(str(found[0]), mode=c.RTLD_GLOBAL)
    except (OSError, IndexError) as error:
        raise PeerMissing(f"cannot load {found[0].name}: {error}") from error
    pointer = c.c_void_p
    for name, result, arguments in (
            ("llama_log_set", None, [LOG, pointer]), ("llama_backend_init", None, []),
            ("llama_model_default_params", ModelParams, []), ("llama_context_default_params", ContextParams, []),
            ("llama_model_load_from_file", pointer, [c.c_char_p, ModelParams]),
            ("llama_init_from_model", pointer, [pointer, ContextParams]), ("llama_free", None, [pointer]),
            ("llama_model_free", None, [pointer]), ("llama_model_get_vocab", pointer, [pointer]),
            ("llama_vocab_n_tokens", c.c_int32, [pointer]), ("llama_batch_init", Batch, [c.c_int32, c.c_int32, c.c_int32]),
            ("llama_batch_free", None, [Batch]), ("llama_decode", c.c_int32, [pointer, Batch]),
            ("llama_get_logits_ith", c.POINTER(c.c_float), [pointer, c.c_int32])):
        function = getattr(llama, name)
        function.restype, function.argtypes = result, arguments
    llama.llama_log_set(QUIET, None)
    ggml.ggml_backend_load_all_from_path.argtypes = [c.c_char_p]
    ggml.ggml_backend_load_all_from_path(str(LIBRARIES).encode())
    llama.llama_backend_init()
    check_abi(llama)
    return llama


def check_abi(llama):
    context, model = llama.llama_context_default_params(), llama.llama_model_default_params()
    known = (context.n_ctx == 512, context.n_batch == 2048, context.n_ubatch == 512, context.n_seq_max == 1,
             context.rope_scaling_type == -1, context.flash_attn_type == -1, context.yarn_ext_factor == -1.0,
             context.type_k == GGML_TYPE_F16, context.type_v == GGML_TYPE_F16, context.offload_kqv,
             not context.samplers, context.n_samplers == 0, model.use_extra_bufts, not model.vocab_only,
             not model.check_tensors)
    if not all(known):
        raise PeerMissing("this libllama has other structures than the release the test was written for (v0.5.0)")


class Peer:
    """One model file, loaded."""

    def __init__(self, path, threads=2):
        self.llama, self.threads = load_library(), threads
        params = self.llama.llama_model_default_params()
        params.n_gpu_layers, params.use_extra_bufts = 0, False
        self.model = self.llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            said = "; ".join(complaints)
            complaints.clear()
            raise ValueError(f"{path}: llama.cpp cannot load this file: {said}")
        self.vocab = self.llama.llama_vocab_n_tokens(self.llama.llama_model_get_vocab(self.model))

    def close(self):
        self.llama.llama_model_free(self.model)

    def run(self, ids, more=0):
        """(logits of every position as rows of array('f'), greedy continuation of `more` ids)"""
        if not ids or len(ids) + more > CONTEXT:
            raise ValueError(f"{len(ids)} prompt tokens and {more} more; between 1 and {CONTEXT} are possible")
        params = self.llama.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = CONTEXT
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type, params.type_k, params.type_v = 0, GGML_TYPE_F32, GGML_TYPE_F32
        context = self.llama.llama_init_from_model(self.model, params)
        if not context:
            raise ValueError("llama.cpp cannot make a context for this model")
        try:
            rows = self._decode(context, ids, 0)
            greedy, last = [], rows[-1]
            for step in range(more):
                greedy.append(max(range(self.vocab), key=last.__getitem__))
                if step + 1 < more:
                    last = self._decode(context, greedy[-1:], len(ids) + step)[0]
            return rows, greedy
        finally:
            self.llama.llama_free(context)

    def _decode(self, context, ids, at):
        batch = self.llama.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, at + i, 1, 1
                batch.seq_id[i][0] = 0
            status = self.llama.llama_decode(context, batch)
            if status != 0:
                raise ValueError(f"llama_decode failed with {status}")
            rows = []
            for i in range(len(ids)):
                row = array.array("f")
                row.frombytes(c.string_at(self.llama.llama_get_logits_ith(context, i), 4 * self.vocab))
                rows.append(row)
            return rows
        finally:
            self.llama.llama_batch_free(batch)


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)"""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            out.write(data)


def read_safetensors(path):
    """name -> (shape, array) for F32 and I32 tensors"""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    out = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__" or entry["dtype"] not in ("F32", "I32"):
            continue
        begin, end = entry["data_offsets"]
        values = array.array("f" if entry["dtype"] == "F32" else "i")
        values.frombytes(data[8 + length + begin:8 + length + end])
        out[name] = (entry["shape"], values)
    return out


def answer(model, ids, out, more, threads=2):
    """Run one model, write what it computes."""
    peer = Peer(model, threads)
    try:
        rows, greedy = peer.run(ids, more)
    finally:
        peer.close()
    tensors = {"tokens": ("I32", [len(ids)], array.array("i", ids).tobytes()),
               "logits": ("F32", [len(ids), peer.vocab], b"".join(r.tobytes() for r in rows))}
    if more:
        tensors["greedy"] = ("I32", [len(greedy)], array.array("i", greedy).tobytes())
    write_safetensors(out, tensors)


def serve():
    """One thread: where others work, threads that wait for each other cost more than they bring."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library may write there
    load_library()
    for line in sys.stdin:
        wrong = ""
        try:
            answer(*json.loads(line), threads=1)
        except ValueError as error:
            wrong = str(error).replace("\n", " ")
        print(wrong, file=answers, flush=True)


class Server:
    """A process that serves, started again when one of the peer's assertions ends it."""

    process = None

    def run(self, model, ids, out, more=0):
        if not self.process:
            self.process = subprocess.Popen([sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, text=True,
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                            env={**os.environ, "GGML_NO_BACKTRACE": "1"})
        self.process.stdin.write(json.dumps([str(model), ids, str(out), more]) + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        if not said:
            ended, self.process = self.process.wait(), None
            raise ValueError(f"llama.cpp ended with {ended}")
        if said.strip():
            raise ValueError(said.strip())


def main():
    if sys.argv[1:] == ["--serve"]:
        return serve()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("ids", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("-n", type=int, default=0, help="length of the greedy continuation")
    options = parser.parse_args()
    ids = json.loads(options.ids.read_text())
    try:
        return answer(options.model, ids["ids"] if isinstance(ids, dict) else ids, options.out, options.n)
    except (PeerMissing, ValueError) as error:
        return f"llama_peer: {error}"


if __name__ == "__main__":
    sys.exit(main())
