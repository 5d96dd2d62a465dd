"""The training text and the tasks mixed into it.

Text: documentation that Debian 12 packages ship (linux-doc-6.1, python3.11-doc, perl-doc, debian-handbook), reduced to ASCII, duplicate files
dropped, and 2 % of the files (12 % of the handbook's) held out. `python data.py --cache DIR` collects it into DIR; train.py and probe.py call
`load` themselves. A row of a batch is a token list (bytes) with one weight for each *target*: 0 where the next byte is not determined by
anything (random bytes, the digits of a passkey when first told), 1 for text, ANSWER where the row asks for something it has told.
"""
import argparse, gzip, hashlib, html.parser, json, pathlib, re
import numpy as np

ANSWER = 4.0
SOURCES = {  # name: (folders, file name pattern, share of the training text, held out, licence)
    "linux": (["/usr/share/doc/linux-doc-6.1/Documentation"], r"\.(rst|txt)(\.gz)?$", 0.40, 0.02, "GPL-2.0"),
    "python": (["/usr/share/doc/python3.11/html/_sources"], r"\.txt(\.gz)?$", 0.27, 0.02, "PSF-2.0"),
    "perl": (["/usr/share/perl"], r"\.pod(\.gz)?$", 0.15, 0.02, "Artistic or GPL-1+"),
    "handbook": (["/usr/share/doc/debian-handbook/html/en-US"], r"\.html(\.gz)?$", 0.18, 0.12, "CC-BY-SA-3.0 or GPL-2+"),
}


class _Text(html.parser.HTMLParser):
    """The readable text of one handbook page: paragraphs joined to lines, scripts and navigation dropped."""
    BLOCK = {"p", "div", "li", "h1", "h2", "h3", "h4", "pre", "tr", "dt", "dd", "br", "ul", "ol", "table"}

    def __init__(self):
        super().__init__()
        self.out, self.skip, self.pre = [], 0, 0

    def handle_starttag(self, tag, attrs):
        nav = dict(attrs).get("class") in ("docnav", "toc", "indexdiv")
        if self.skip:
            self.skip += tag in ("script", "style", "head", "ul", "div")
        elif tag in ("script", "style", "head") or nav:
            self.skip = 1
        if tag == "pre":
            self.pre += 1
        if tag in self.BLOCK:
            self.out.append("\n")

    def handle_endtag(self, tag):
        if self.skip and tag in ("script", "style", "head", "ul", "div"):
            self.skip -= 1
        if tag == "pre":
            self.pre -= 1
        if tag in self.BLOCK:
            self.out.append("\n")

    def handle_data(self, data):
        if not self.skip:
            self.out.append(data if self.pre else re.sub(r"\s+", " ", data))


PUNCTUATION = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--", "\u2026": "...",
                             "\u00a0": " ", "\u2022": "*", "\u2192": "->", "\u00e9": "e", "\u00eb": "e"})


def read_text(path):
    """One file as ASCII bytes; empty when it is short or mostly not ASCII."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    text = raw.decode("utf-8", "replace")
    if ".html" in path.name:
        parser = _Text()
        parser.feed(text)
        text = re.sub(r"\n\s*\n+", "\n\n", re.sub(r"[ \t]+\n", "\n", "".join(parser.out)))
        text = re.sub(r"\n(Download the ebook|Prev|Next|Up|Home|The Debian Administrator's Handbook)(?=\n)", "", "\n" + text)
        text = re.sub(r"\n\n+", "\n\n", re.sub(r"\n +", "\n", text))
    text = text.translate(PUNCTUATION)
    data = text.encode("ascii", "ignore").replace(b"\r", b"")
    return data.strip() + b"\n\n" if len(data) >= 400 and len(data) > 0.97 * len(text) else b""


def collect():
    """{source: (training files, held-out files)}, each a list of (path, bytes), duplicates dropped, in path order."""
    seen, found = set(), {}
    for name, (folders, pattern, _, held, _) in SOURCES.items():
        train, test = [], []
        for folder in map(pathlib.Path, folders):
            for path in sorted(folder.rglob("*")):
                if not re.search(pattern, path.name) or not path.is_file() or "translations" in path.parts or path.name == "index.html":
                    continue
                data = read_text(path)
                mark = hashlib.sha256(data).digest()
                if not data or mark in seen:
                    continue
                seen.add(mark)
                score = int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16) / 2**32
                (test if score < held else train).append((str(path), data))
        found[name] = (train, test)
    return found


def load(cache):
    """(train, held): dicts of source -> uint8 array, collected once and kept in `cache`."""
    cache = pathlib.Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / "corpus.npz").exists():
        parts, listing = {}, {}
        for name, (train, test) in collect().items():
            parts["train_" + name] = np.frombuffer(b"".join(d for _, d in train), np.uint8)
            parts["held_" + name] = np.frombuffer(b"".join(d for _, d in test), np.uint8)
            listing[name] = {"train_files": len(train), "held_files": [p for p, _ in test],
                             "train_bytes": len(parts["train_" + name]), "held_bytes": len(parts["held_" + name])}
        (cache / "corpus.json").write_text(json.dumps(listing, indent=1))
        np.savez(cache / "tmp.npz", **parts)
        (cache / "tmp.npz").rename(cache / "corpus.npz")
    kept = np.load(cache / "corpus.npz")
    empty = [n for n in SOURCES if kept["train_" + n].size < 100_000]
    if empty:
        raise SystemExit(f"too little text for {empty}: "
                         f"apt-get install linux-doc-6.1 python3.11-doc perl-doc debian-handbook; then rm {cache}/corpus.npz")
    return ({n: kept["train_" + n] for n in SOURCES}, {n: kept["held_" + n] for n in SOURCES})


def _digits(rng, n=5):
    return bytes(rng.integers(48, 58, n).astype(np.uint8))


def _printable(rng, n):
    """n random printable bytes; half of the time from a small alphabet."""
    if rng.random() < 0.5:
        alphabet = rng.choice(np.arange(33, 127), size=int(rng.integers(8, 40)), replace=False)
        return rng.choice(alphabet, n).astype(np.uint8)
    return rng.integers(32, 127, n).astype(np.uint8)


class Rows:
    """Draws training rows. `kinds` gives the shares of text, passkey, named (several passkeys), repeat, copy, recall."""

    EARLY = dict(text=0.38, passkey=0.12, named=0.06, repeat=0.20, copy=0.14, recall=0.10)
    LATE = dict(text=0.48, passkey=0.20, named=0.10, repeat=0.06, copy=0.11, recall=0.05)

    def __init__(self, text, seed):
        self.text, self.rng = text, np.random.default_rng(seed)
        self.names = list(text)
        share = np.array([SOURCES[n][2] for n in self.names])
        self.share = share / share.sum()

    def passage(self, n):
        source = self.text[self.names[self.rng.choice(len(self.names), p=self.share)]]
        start = int(self.rng.integers(0, len(source) - n))
        return source[start:start + n]

    def passkey(self, n, depth=None):
        """Text of n + 1 bytes with a key told at a random depth and asked for at the end."""
        key = _digits(self.rng)
        needle = b"\nThe pass key is " + key + b"\n"
        ask = b"\nWhat is the pass key? The pass key is " + key
        room = n + 1 - len(needle) - len(ask)
        hay = self.passage(room).tobytes()
        at = int((self.rng.random() if depth is None else depth) * room)
        tokens = np.frombuffer(hay[:at] + needle + hay[at:] + ask, np.uint8)
        weight = np.ones(n, np.float32)
        told = at + len(needle) - 7               # target index t predicts token t + 1
        weight[told:told + 5] = 0
        weight[-5:] = ANSWER
        return tokens, weight

    def named(self, n):
        """Several named keys told in text, all asked for at the end, in another order."""
        rng, count = self.rng, max(2, min(8, n // 160))
        names = [bytes(rng.integers(97, 123, 3).astype(np.uint8)) for _ in range(count)]
        keys = [_digits(rng) for _ in range(count)]
        needles = [b"\nThe pass key of " + a + b" is " + k + b"\n" for a, k in zip(names, keys)]
        asks = [b"\nThe pass key of " + names[i] + b" is " + keys[i] for i in rng.permutation(count)]
        room = n + 1 - sum(map(len, needles + asks))
        hay, out, weight, last = self.passage(room).tobytes(), [], [], 0
        for cut, needle in zip(sorted(rng.integers(0, room, count)), needles):
            out += [hay[last:cut], needle]
            weight += [np.ones(cut - last + len(needle) - 6), np.zeros(5), np.ones(1)]
            last = cut
        out += [hay[last:]] + asks
        weight += [np.ones(room - last)] + [np.r_[np.ones(len(a) - 5), np.full(5, ANSWER)] for a in asks]
        return np.frombuffer(b"".join(out), np.uint8), np.concatenate(weight)[1:].astype(np.float32)

    def repeat(self, n):
        """Random bytes, repeated with one period to the end."""
        low = int(self.rng.integers(4, max(5, n // 16)))
        period = low if self.rng.random() < 0.3 else int(self.rng.integers(n // 8, n // 2 + 1))
        unit = _printable(self.rng, period)
        tokens = np.tile(unit, n // period + 2)[:n + 1]
        weight = np.ones(n, np.float32)
        weight[:period] = 0
        return tokens, weight

    def copy(self, n):
        """Text in which one passage comes again later; the second time counts a little more."""
        size = int(self.rng.integers(24, n // 3))
        hay = self.passage(n + 1 - size)
        src = int(self.rng.integers(0, len(hay) - size))
        dst = int(self.rng.integers(src + size, len(hay) + 1))
        tokens = np.concatenate([hay[:dst], hay[src:src + size], hay[dst:]])
        weight = np.ones(n, np.float32)
        weight[dst - 1] = 0
        weight[dst + 5:dst + size - 1] = 2.0
        return tokens, weight

    def recall(self, n):
        """'name=value;' pairs; names come again in random order and the value must follow."""
        rng = self.rng
        count = int(rng.integers(4, max(5, min(60, n // 24))))
        klen, vlen = int(rng.integers(2, 5)), int(rng.integers(1, 5))
        keys = [bytes(rng.integers(97, 123, klen).astype(np.uint8)) for _ in range(count)]
        vals = [_digits(rng, vlen) for _ in range(count)]
        out, weight, told = [], [], set()
        while sum(map(len, out)) < n + 1:
            i = len(told) if len(told) < count and rng.random() < 0.7 else int(rng.integers(0, max(1, len(told))))
            out.append(keys[i] + b"=" + vals[i] + b";")
            weight += [0.0] * klen + [0.3] + [2.0 if i in told else 0.0] * vlen + [0.3]
            told.add(i)
        return np.frombuffer(b"".join(out), np.uint8)[:n + 1], np.array(weight[1:n + 1], np.float32)

    def batch(self, rows, n, kinds):
        """tokens (rows, n + 1) int64, weights (rows, n), and a mask of the rows that are plain text."""
        names = list(kinds)
        p = np.array([kinds[k] for k in names])
        # stratified: every batch has nearly the wanted mixture
        at = (np.arange(rows) + self.rng.random()) / rows
        picks = [names[i] for i in np.minimum(np.searchsorted(np.cumsum(p / p.sum()), at), len(names) - 1)]
        made = [(self.passage(n + 1), np.ones(n, np.float32)) if k == "text" else getattr(self, k)(n) for k in picks]
        return (np.stack([t for t, _ in made]).astype(np.int64), np.stack([w for _, w in made]), picks)


def main():
    """Collects the text and prints what there is."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cache", default="/tmp/train")
    args = parser.parse_args()
    train, held = load(args.cache)
    for name in train:
        print(f"{name:10} {train[name].size / 1e6:8.2f} MB to train on, {held[name].size / 1e3:8.0f} KB held out   ({SOURCES[name][4]})")


if __name__ == "__main__":
    main()
