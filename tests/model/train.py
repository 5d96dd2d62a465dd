"""Trains the reference model: tests/model/README.md says why it is done so.

    python train.py --out /tmp/train                          # two CPU cores: one to two hours; a GPU: minutes
    python train.py --out /tmp/train --resume --tokens 12e6   # go on, on another schedule
    python export.py --out /tmp/train                         # the weights and the test vectors

The schedule is one of tokens, so the process may be stopped (SIGSTOP) and continued at will; SIGTERM makes it write its state and leave.
"""
import argparse, os, pathlib, signal, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import torch
import torch.nn.functional as F
import data, measure
from model import HD, HEADS, KV, Model

CONTEXT = [(0.05, 128), (0.15, 256), (0.32, 512), (0.68, 1024), (1.0, 2048)]  # up to this share of the tokens: this context
AUX_UNTIL, EARLY_UNTIL, DECAY_FROM = 0.22, 0.25, 0.55
# The auxiliary attention loss. (layer, head): attend to t - distance / to every j whose n bytes before are the last n bytes.
BACK = {(0, 0): 1, (0, 2): 2, (0, 4): 3, (1, 6): 3}
MATCH = {(1, 0): 3, (1, 2): 1, (2, 0): 3, (2, 2): 1, (2, 4): 6, (3, 0): 3, (3, 2): 1, (3, 4): 6}


class Aux:
    """Collects -log of the attention mass that the heads above put where they should look, on the first rows of the batch."""

    def __init__(self, tokens):
        t = tokens.shape[1]
        self.rows = max(1, min(len(tokens), 200_000 // (t * t)))
        x = tokens[:self.rows]
        self.causal = torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        same = F.pad((x[:, :, None] == x[:, None, :]), (1, 0))[:, :, :t]     # same[t, j]: x[t] == x[j - 1]
        self.sets, m = {}, same & self.causal
        for n in range(1, 7):
            self.sets[n] = m
            if n < 6:
                same = F.pad(same, (1, 0, 1, 0))[:, :t, :t]                # ... and one byte further back on both sides
                m = m & same
        self.losses = []

    def __call__(self, layer, q, k):
        for (i, h), n in list(BACK.items()) + list(MATCH.items()):
            if i != layer:
                continue
            score = q[:self.rows, h].float() @ k[:self.rows, h * KV // HEADS].float().transpose(-1, -2) / HD ** 0.5
            score = score.masked_fill(~self.causal, -1e9)
            if (i, h) in BACK:
                self.losses.append(-score.log_softmax(-1).diagonal(-n, -2, -1).mean())
            elif self.sets[n].any():
                want = self.sets[n]
                loss = score.logsumexp(-1) - score.masked_fill(~want, -1e9).logsumexp(-1)
                self.losses.append(loss[want.any(-1)].mean())

    def loss(self):
        return torch.stack(self.losses).mean()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz steps; matrices of one shape are stacked, which is what makes it cheap on a CPU. The steps are in
    fp32 unless the CPU multiplies bf16 natively (elsewhere bf16 is many times slower)."""

    def __init__(self, params, pool, lr, momentum=0.95, decay=0.03, dtype=torch.float32):
        super().__init__(params, dict(lr=lr, momentum=momentum, decay=decay))
        self.pool, self.dtype = pool, dtype

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                shapes.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(m, group["momentum"])))
            todo = sorted(shapes.values(), key=lambda pairs: -sum(p.numel() for p, _ in pairs))
            list(self.pool.map(lambda pairs: self.update(group, pairs), todo))

    @torch.no_grad()
    def update(self, group, pairs):
        rows, cols = pairs[0][0].shape
        x = torch.stack([g for _, g in pairs])
        x = x.transpose(1, 2) if rows > cols else x
        x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(self.dtype)
        for _ in range(5):
            a = x @ x.transpose(1, 2)
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        x = (x.transpose(1, 2) if rows > cols else x).float()
        for (p, _), update in zip(pairs, x):
            p.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-group["lr"] * max(1, rows / cols) ** 0.5)


def gradients(model, params, chunk, total_weight, parts, aux_weight, bf16):
    """One chunk of a batch: its share of the loss's gradients, and (each target's loss, the auxiliary loss)."""
    tokens, weight = chunk
    aux = Aux(tokens[:, :-1]) if aux_weight > 0 else None
    device = tokens.device.type

    def hook(i, q, k):
        with torch.autocast(device, enabled=False):
            aux(i, q, k)

    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        logits = model(tokens[:, :-1], aux=hook if aux else None)
    each = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view_as(weight)
    loss = (each * weight).sum() / total_weight
    extra = aux.loss() if aux else torch.zeros(())
    grads = torch.autograd.grad(loss + aux_weight / parts * extra if aux else loss, params)
    return grads, each.detach(), loss.item(), extra.item() / parts


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="/tmp/train", help="folder of the collected text and the checkpoints")
    parser.add_argument("--tokens", type=float, default=7.5e6, help="tokens in all; the schedule is in shares of it")
    parser.add_argument("--seed", type=int, default=20261)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fp32", action="store_true", help="no bf16 matrix products; taken by itself where the CPU has no bf16 instructions")
    parser.add_argument("--batch", type=int, default=0, help="tokens a step (default: 4,096, at context 2,048 8,192)")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    # One thread to an operation, and several chunks of a batch at a time: better than the reverse, and far better on a busy machine, where
    # every operation would wait for the slower of its threads.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(args.threads)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    args.fp32 |= device == "cpu" and "bf16" not in pathlib.Path("/proc/cpuinfo").read_text()
    out = pathlib.Path(args.out)
    text, held = data.load(out)
    model = Model(args.seed).to(device)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and ".layers." in n)]
    params = list(model.parameters())
    optims = [Muon(matrices, pool, lr=0.02, dtype=torch.float32 if args.fp32 else torch.bfloat16),
              torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0)]
    peak = [0.02, 3e-3]
    step = tokens = 0
    if args.resume:
        saved = torch.load(out / "state.pt", map_location=device, weights_only=False)
        model.load_state_dict(saved["model"])
        for o, s in zip(optims, saved["optims"]):
            o.load_state_dict(s)
        step, tokens = saved["step"], saved["tokens"]
    rows = data.Rows(text, [args.seed, step])
    print(f"seed {args.seed}  device {device}  threads {args.threads}  {'fp32' if args.fp32 else 'bf16 products'}  torch {torch.__version__}  "
          f"parameters {sum(p.numel() for p in model.parameters())}  tokens {tokens} of {args.tokens:.0f}", flush=True)
    leave = []
    signal.signal(signal.SIGTERM, lambda *_: leave.append(1))
    saved_at, spent, mark = time.process_time(), time.process_time(), [0.0, 0.0, 0]

    def save():
        state = dict(model=model.state_dict(), optims=[o.state_dict() for o in optims], step=step, tokens=tokens, args=vars(args))
        torch.save(state, out / "state.tmp")
        os.replace(out / "state.tmp", out / "state.pt")

    def report(n):
        model.eval()
        with torch.autocast(device, torch.bfloat16, enabled=not args.fp32):
            loss, _ = measure.text_loss(model, held, 1024, 4, device)
            keys = [measure.passkey(model, held, c, 16, device=device)[0] for c in (256, 1024, 2048) if c <= 2 * n]
            reps = [measure.repeat(model, c, 4, device=device) for c in (50, 100, 400)]
        print(f"   eval step {step} tokens {tokens} context {n} text {loss:.3f} passkey " + "/".join(f"{k:.2f}" for k in keys) +
              " repeat " + "/".join(f"{r:.2f}" for r in reps), flush=True)
        model.train()

    while tokens < args.tokens and not leave:
        done = tokens / args.tokens
        n = next(c for share, c in CONTEXT if done < share)
        size = args.batch or (8192 if n >= 2048 else 4096)
        aux_weight = max(0.0, 1 - done / AUX_UNTIL)
        factor = min(1, (step + 1) / 100) * (1 if done < DECAY_FROM else max(0.02, (1 - done) / (1 - DECAY_FROM)))
        batch, weight, kinds = rows.batch(max(1, size // n), n, rows.EARLY if done < EARLY_UNTIL else rows.LATE)
        turn = np.random.default_rng(step).permutation(len(batch))   # chunks of mixed kinds; the auxiliary loss sees a chunk's first rows
        batch, weight, kinds = torch.from_numpy(batch[turn]).to(device), torch.from_numpy(weight[turn]).to(device), [kinds[i] for i in turn]
        parts = min(len(batch), 2 * args.threads if device == "cpu" else 1)
        chunks = list(zip(batch.chunk(parts), weight.chunk(parts)))
        made = list(pool.map(lambda c: gradients(model, params, c, weight.sum(), len(chunks), aux_weight, not args.fp32), chunks))
        for p, *g in zip(params, *(grads for grads, *_ in made)):
            p.grad = torch.stack(g).sum(0) if len(g) > 1 else g[0]
        each, loss, aux = torch.cat([e for _, e, *_ in made]), sum(l for *_, l, _ in made), sum(x for *_, x in made)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o, lr in zip(optims, peak):
            for g in o.param_groups:
                g["lr"] = lr * factor
            o.step()
            o.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + batch.shape[0] * n
        plain = [i for i, k in enumerate(kinds) if k == "text"]
        if plain:
            mark[0] += each[plain].mean().item()
            mark[2] += 1
        if step % 20 == 0:
            cpu = time.process_time()
            print(f"step {step} tokens {tokens} context {n} text {mark[0] / max(1, mark[2]):.3f} loss {loss:.3f} aux "
                  f"{aux:.3f} lr {factor:.3f} cpu {(cpu - spent) / 60:.1f} min", flush=True)
            mark = [0.0, 0.0, 0]
            if cpu - saved_at > 400:
                save()
                saved_at = cpu
        if step % 250 == 0:
            report(n)
    save()
    if not leave:
        report(n)
    print("stopped" if leave else "finished", f"after {tokens} tokens; state in {out / 'state.pt'}", flush=True)


if __name__ == "__main__":
    main()
