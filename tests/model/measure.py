"""What the model can do: text loss, passkey, repeats, heads. Used by train.py (in passing) and probe.py (thoroughly)."""
import numpy as np
import torch
import torch.nn.functional as F
from data import Rows


@torch.no_grad()
def text_loss(model, held, n=1024, rows=16, device="cpu", **hooks):
    """Mean nats/byte over `rows` evenly spaced windows of n + 1 bytes of each source; the sources count equally. Also by source."""
    by = {}
    for name, text in held.items():
        count = min(rows, max(1, (len(text) - 1) // n))
        starts = np.linspace(0, len(text) - n - 1, count).astype(int)
        total = 0.0
        for s in starts:
            x = torch.from_numpy(text[s:s + n + 1].astype(np.int64))[None].to(device)
            total += F.cross_entropy(model(x[:, :-1], **hooks)[0].float(), x[0, 1:]).item()
        by[name] = total / count
    return float(np.mean(list(by.values()))), by


@torch.no_grad()
def passkey(model, held, n=1024, count=40, seed=7, device="cpu", **hooks):
    """Share of passkeys told in held-out text whose five digits are all the argmax (each given the right digits before it, which is what
    greedy decoding sees as long as it is right), and the accuracy by quarter of depth. Depths are evenly spaced."""
    rows = Rows(held, seed)
    right = []
    for i in range(count):
        tokens, _ = rows.passkey(n, depth=(i + 0.5) / count)
        x = torch.from_numpy(tokens.astype(np.int64))[None].to(device)
        right.append(bool((model(x[:, :-1], **hooks)[0, -5:].argmax(-1) == x[0, -5:]).all()))
    return float(np.mean(right)), [float(np.mean(q)) for q in np.array_split(right, 4)]


@torch.no_grad()
def repeat(model, period=100, count=8, seed=7, device="cpu", **hooks):
    """Argmax accuracy on the second copy of `period` random printable bytes."""
    unit = torch.from_numpy(np.random.default_rng(seed).integers(32, 127, (count, period)))
    x = torch.cat([unit, unit], 1).to(device)
    got = torch.cat([model(r[None, :-1], **hooks) for r in x]).argmax(-1)
    return (got[:, period:] == x[:, period + 1:]).float().mean().item()


@torch.no_grad()
def heads(model, period=128, count=8, seed=7, device="cpu"):
    """Per layer and head, on two copies of random bytes: (previous-token score, induction score): the mean attention from t to t - 1, and in
    the second copy from t to the byte after the earlier copy of x[t], t - period + 1."""
    unit = torch.from_numpy(np.random.default_rng(seed).integers(32, 127, (count, period)))
    prev, induction = {}, {}

    def watch(layer, p):
        t = p.shape[-1]
        prev[layer] = p.diagonal(-1, -2, -1).mean((0, 2)).tolist()
        at = torch.arange(period, t, device=p.device)
        induction[layer] = p[:, :, at, at - period + 1].mean((0, 2)).tolist()

    model(torch.cat([unit, unit], 1).to(device), watch=watch)
    return [prev[i] for i in sorted(prev)], [induction[i] for i in sorted(induction)]
