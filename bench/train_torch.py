#!/usr/bin/python3
"""Training speed of cadre against PyTorch with grouped index_select + matmul experts: one architecture, one batch, the
same number of threads, turn about in one run.

usage: bench/train_torch.py [--cadre build/cadre] [--config models/cadre-default.ini] [--repeats 5] [--threads 2]
                            [--precision bf16|f32]

Needs python3-torch and an optimised BLAS, without which Debian's PyTorch is ten times slower (apt install python3-torch
libopenblas0-pthread). PyTorch runs in f32 and under bf16 autocast; the faster one
counts. Prints medians, spreads and the ratio.
"""

import argparse
import configparser
import json
import math
import os
import statistics
import subprocess
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Norm(nn.Module):
    def __init__(self, d, eps):
        super().__init__()
        self.w, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.w


class Attention(nn.Module):
    def __init__(self, d, heads, kv_heads, head, bias, norm_eps):
        """norm_eps: of a norm of each head's queries and keys, or None"""
        super().__init__()
        self.heads, self.kv_heads, self.head = heads, kv_heads, head
        self.q = nn.Linear(d, heads * head, bias)
        self.k = nn.Linear(d, kv_heads * head, bias)
        self.v = nn.Linear(d, kv_heads * head, bias)
        self.o = nn.Linear(heads * head, d, False)
        self.q_norm, self.k_norm = (Norm(head, norm_eps), Norm(head, norm_eps)) if norm_eps else (None, None)

    def forward(self, x, cos, sin, mask):
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.heads, self.head).transpose(1, 2)
        k = self.k(x).view(b, n, self.kv_heads, self.head).transpose(1, 2)
        v = self.v(x).view(b, n, self.kv_heads, self.head).transpose(1, 2)
        if self.q_norm:
            q, k = self.q_norm(q), self.k_norm(k)

        def turn(t):
            half = self.head // 2
            return t * cos + torch.cat((-t[..., half:], t[..., :half]), -1) * sin

        q, k = turn(q), turn(k)
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, 1)
            v = v.repeat_interleave(self.heads // self.kv_heads, 1)
        s = (q @ k.transpose(-1, -2)) / math.sqrt(self.head) + mask
        return self.o((F.softmax(s, -1) @ v).transpose(1, 2).reshape(b, n, -1))


class Experts(nn.Module):
    """Each expert takes its rows with index_select, multiplies, and adds them back with index_add."""

    def __init__(self, d, n, k, ff, shared, gated, normalize):
        super().__init__()
        self.n, self.k, self.normalize = n, k, normalize
        self.router = nn.Linear(d, n, False)
        self.gate = nn.Parameter(torch.randn(n, ff, d) * 0.02)
        self.up = nn.Parameter(torch.randn(n, ff, d) * 0.02)
        self.down = nn.Parameter(torch.randn(n, d, ff) * 0.02)
        self.shared = nn.ModuleList([nn.Linear(d, shared, False), nn.Linear(d, shared, False),
                                     nn.Linear(shared, d, False)]) if shared else None
        self.shared_gate = nn.Linear(d, 1, False) if shared and gated else None

    def forward(self, x):
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        with torch.autocast("cpu", enabled=False):
            score = F.softmax(self.router(x.float()), -1)
        weight, index = score.topk(self.k, -1)
        if self.normalize:
            weight = weight / weight.sum(-1, keepdim=True)
        order = index.flatten().argsort(stable=True)
        count = torch.bincount(index.flatten(), minlength=self.n).tolist()
        y, at = torch.zeros_like(x), 0
        for e, m in enumerate(count):
            if not m:
                continue
            slot = order[at:at + m]
            at += m
            token = torch.div(slot, self.k, rounding_mode="floor")
            rows = x.index_select(0, token)
            h = F.silu(rows @ self.gate[e].t()) * (rows @ self.up[e].t())
            out = (h @ self.down[e].t()).float() * weight.flatten().index_select(0, slot).unsqueeze(1)
            y = y.index_add(0, token, out.to(y.dtype))
        if self.shared:
            s = self.shared[2](F.silu(self.shared[0](x)) * self.shared[1](x))
            y = y + (torch.sigmoid(self.shared_gate(x)) * s if self.shared_gate else s)
        share = torch.tensor(count, dtype=torch.float32) / (x.shape[0] * self.k)
        return y.view(shape), self.n * (share * score.mean(0)).sum()


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, heads = c["width"], c["heads"]
        head = c.get("head_dim") or d // heads
        eps = c.get("norm_eps", 1e-6)
        self.embedding = nn.Embedding(c["vocab"], d)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList()
        for _ in range(c["layers"]):
            self.layers.append(nn.ModuleList([
                Norm(d, eps), Attention(d, heads, c.get("kv_heads") or heads, head, c.get("qkv_bias", False),
                                        eps if c.get("qk_norm") == "head" else None),
                Norm(d, eps), Experts(d, c["experts"], c["experts_used"], c["expert_ff"], c.get("shared_ff", 0),
                                      c.get("shared_gated", False), c.get("router_normalize", False))]))
        self.norm = Norm(d, eps)
        angle = torch.outer(torch.arange(c["sequence"]).float(),
                            c.get("rope_base", 10000) ** (-torch.arange(0, head, 2).float() / head))
        self.cos, self.sin = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()
        self.mask = torch.full((c["sequence"], c["sequence"]), -math.inf).triu(1)

    def forward(self, token, target):
        x, balance = self.embedding(token), 0
        for norm1, attention, norm2, experts in self.layers:
            x = x + attention(norm1(x), self.cos, self.sin, self.mask)
            y, b = experts(norm2(x))
            x, balance = x + y, balance + b
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), target.reshape(-1)) + 0.01 * balance


def description(path):
    """[model], [tokenizer] and [train] of a training description, numbers as numbers."""
    ini = configparser.ConfigParser(inline_comment_prefixes=(";",))
    ini.read(path)
    out = {}
    for section in "model", "tokenizer", "train":
        for key, text in ini.items(section):
            try:
                out[key] = int(text)
            except ValueError:
                try:
                    out[key] = float(text)
                except ValueError:
                    out[key] = {"true": True, "false": False}.get(text, text)
    return out


def torch_turn(model, optimizer, c, bf16, steps):
    """Tokens a second of whole steps, the first of which does not count."""
    micro = c["micro_tokens"]
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for _ in range(c["batch_tokens"] // micro):
            ids = torch.randint(c["vocab"], (micro // c["sequence"], c["sequence"] + 1))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                loss = model(ids[:, :-1], ids[:, 1:].reshape(ids.shape[0], -1))
            (loss * micro / c["batch_tokens"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
    return c["batch_tokens"] / statistics.median(times[1:])


def cadre_turn(args, config, steps):
    p = subprocess.run([args.cadre, "bench", "--train", config, "--json", "-t", str(args.threads), "--repeats", str(steps)],
                       stdout=subprocess.PIPE, check=True)
    return json.loads(p.stdout)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    ap = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    ap.add_argument("--cadre", default=os.path.join(here, "..", "build", "cadre"))
    ap.add_argument("--config", default=os.path.join(here, "..", "models", "cadre-default.ini"))
    ap.add_argument("--repeats", type=int, default=5)
    ap.add_argument("--steps", type=int, default=2)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--precision", default="bf16", choices=("bf16", "f32"), help="cadre's")
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    c = description(args.config)
    c.setdefault("sequence", 512)
    c.setdefault("micro_tokens", 4096)
    c["batch_tokens"] = c["micro_tokens"]  # one micro-batch a step for both
    # cadre's description with that batch and precision, and the optimizer of both
    with open(args.config) as f:
        lines = [line for line in f if line.split("=")[0].strip() not in ("batch_tokens", "precision", "optimizer")]
    model = Model(c)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    speed = {"cadre": [], "torch f32": [], "torch bf16": []}
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "bench.ini")
        with open(config, "w") as f:
            f.writelines(lines)
            f.write("\n[train]\nbatch_tokens = %d\nprecision = %s\n" % (c["batch_tokens"], args.precision))
        for turn in range(args.repeats):
            result = cadre_turn(args, config, args.steps)
            speed["cadre"].append(result["tokens_per_s"]["median"])
            speed["torch f32"].append(torch_turn(model, optimizer, c, False, args.steps))
            speed["torch bf16"].append(torch_turn(model, optimizer, c, True, args.steps))
            print("turn %d: %s" % (turn + 1, "  ".join("%s %.0f" % (k, v[-1]) for k, v in speed.items())), flush=True)
    print("%d threads, %d tokens a step, PyTorch %s; tokens/s, median (min to max)" %
          (args.threads, c["batch_tokens"], torch.__version__))
    for name, x in speed.items():
        print("%-10s %8.0f (%.0f to %.0f)" % (name, statistics.median(x), min(x), max(x)))
    best = max("torch f32", "torch bf16", key=lambda k: statistics.median(speed[k]))
    print("cadre is %.2f times as fast as %s (turn by turn: %s)" %
          (statistics.median(speed["cadre"]) / statistics.median(speed[best]), best,
           " ".join("%.2f" % (a / b) for a, b in zip(speed["cadre"], speed[best]))))


if __name__ == "__main__":
    main()
