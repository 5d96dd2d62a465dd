# SPDX-License-Identifier: Apache-2.0
"""orders.txt: whether each method beats its published baseline at equal bytes, from the rows that were measured."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
SLACK = 1.03  # of bits that count as equal
MEASURES = {"error": ("attention_error", False), "change": ("change", False), "bits": ("bits", False), "first": ("first_turn", True),
            "second": ("second_turn", True)}


def check(rows: list[dict]) -> list[dict]:
    """One dict an order: better, worse, measure, both figures, both bits, held, why. Orders whose rows are missing are left out."""
    known = {row["name"] + (f" @{row['budget']}" if row.get("budget") else ""): row for row in rows if row["ok"]}
    orders = []
    with open(os.path.join(HERE, "orders.txt"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("#") or not line.strip():
                continue
            better, worse, measure, why = (field.strip() for field in line.rstrip("\n").split(" ;"))
            key, more = MEASURES[measure]
            if better not in known or worse not in known:
                continue
            a, b = known[better], known[worse]
            held = (a[key] > b[key] if more else a[key] < b[key]) and a["bits"] <= SLACK * b["bits"]
            if not held and a[key] == b[key]:
                why = why or "both the same"
            orders.append({"better": better, "worse": worse, "measure": measure, "figures": [a[key], b[key]], "bits": [a["bits"], b["bits"]],
                           "held": held, "why": "" if held else why})
    return orders


def page(orders: list[dict]) -> list[str]:
    lines = ["", "## Against the published baseline, at equal bytes", "",
             f"{sum(o['held'] for o in orders)} of {len(orders)} hold on this model. Equal: at most 3 % more bits. Error is that of attention outputs, change "
             "that of perplexity, first and second are passkeys found in the two turns.", "",
             "| method | its baseline | by | method | baseline | bits | baseline's | holds | why not |", "|---|---|---|--:|--:|--:|--:|---|---|"]
    for o in orders:
        lines.append(f"| {o['better']} | {o['worse']} | {o['measure']} | {o['figures'][0]:.4f} | {o['figures'][1]:.4f} | {o['bits'][0]:.2f} | "
                     f"{o['bits'][1]:.2f} | {'yes' if o['held'] else 'no'} | {o['why']} |")
    return lines


def print_table(orders: list[dict]) -> None:
    print(f"\nAgainst the published baseline, at equal bytes: {sum(o['held'] for o in orders)} of {len(orders)} hold\n")
    for o in orders:
        print(f"  {'yes' if o['held'] else 'no ':<4}{o['better']:<42}{o['worse']:<32}{o['measure']:<7}{o['figures'][0]:>9.4f}{o['figures'][1]:>9.4f}"
              f"{o['bits'][0]:>7.2f}{o['bits'][1]:>7.2f}  {o['why']}".rstrip())
