# SPDX-License-Identifier: MIT
"""The result as a table for people: the same one on the terminal and in docs/benchmarks.md."""

import datetime
import os
import platform
import subprocess

TITLES = ("case", "against", "wall", "ratio", "CPU ratio", "peak RSS", "of floor", "floor")
EXTRA_TITLES = ("other costs", "measured", "bar")
NUMBERS_FROM = 2  # columns from here on are aligned to the right


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpuinfo:
        models = [line.partition(":")[2].strip() for line in cpuinfo
                  if line.startswith("model name")]
    return {"cores": os.cpu_count(), "cpu": models[0] if models else platform.machine(),
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
            "kernel": platform.release(), "date": datetime.date.today().isoformat()}


def revision(checkout):
    done = subprocess.run(["git", "-C", checkout, "describe", "--always", "--dirty"], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or "unknown"


def misses(results):
    """[(case, what)] of every bar that is not met."""
    found = []
    for row in results["rows"]:
        first, bar = row["peers"][0], row["bar"]
        if bar["wall"] is not None and first["wall_ratio"] > bar["wall"]:
            found.append((row["case"], f"wall {first['wall_ratio']:.2f} > {bar['wall']:.2f}"))
        if bar["cpu"] is not None and first["cpu_ratio"] > bar["cpu"]:
            found.append((row["case"], f"CPU {first['cpu_ratio']:.2f} > {bar['cpu']:.2f}"))
        if row["rss"] > bar["rss_mib"] << 20:
            found.append((row["case"], f"peak RSS {row['rss'] / 2**20:.0f} > {bar['rss_mib']} MiB"))
    found += [(e["name"], f"{e['value']:.2f} > {e['bar']} {e['unit']}")
              for e in results["extras"] if e["bar"] is not None and e["value"] > e["bar"]]
    return found


def with_bar(value, bar):
    if bar is None:
        return f"{value:.2f}"
    return f"{value:.2f} ({'≤' if value <= bar else 'not ≤'} {bar:.2f})"


def case_lines(row):
    """The first peer on the line of the case, the others beneath."""
    first, bar = row["peers"][0], row["bar"]
    memory = f"{row['rss'] / 2**20:.0f} MiB"
    if row["rss"] > bar["rss_mib"] << 20:
        memory += f" (not ≤ {bar['rss_mib']})"
    yield (row["case"], first["name"], f"{row['wall']:.2f} s",
           with_bar(first["wall_ratio"], bar["wall"]),
           with_bar(first["cpu_ratio"], bar["cpu"]), memory, f"{row['of_floor']:.2f} ×",
           f"{row['floor']['wall']:.2f} s, {row['floor']['holds']}")
    for peer in row["peers"][1:]:
        yield ("", peer["name"], "", with_bar(peer["wall_ratio"], None),
               with_bar(peer["cpu_ratio"], None), "", "", "")


def extra_line(extra):
    bar = "" if extra["bar"] is None else f"≤ {extra['bar']:g}"
    met = extra["bar"] is None or extra["value"] <= extra["bar"]
    return (extra["name"], f"{extra['value']:.2f} {extra['unit']}", bar if met else "not " + bar)


def markdown(titles, lines, numbers_from):
    """A table that is also readable as it is."""
    cells = [[c.replace("|", "\\|") for c in line] for line in [titles, *lines]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(titles))]
    rule = ["-" * (w - 1) + (":" if i >= numbers_from else "-") for i, w in enumerate(widths)]

    def padded(line):
        return [c.rjust(w) if i >= numbers_from else c.ljust(w)
                for i, (c, w) in enumerate(zip(line, widths))]
    return "".join(f"| {' | '.join(padded(line))} |\n" for line in [cells[0], rule, *cells[1:]])


def tables(results):
    """Everything as Markdown, the machine first."""
    m = results["machine"]
    said = (f"{m['cores']} cores ({m['cpu']}), {m['memory_gib']} GiB, Linux {m['kernel']}, "
            f"{m['date']}, revision {results['revision']}, {results['rounds']} rounds; nginx on "
            "loopback, into tmpfs, warm page cache. Ratios are medians of pairs; less is better.\n")
    parts = [said]
    if results["rows"]:
        lines = [line for row in results["rows"] for line in case_lines(row)]
        parts.append(markdown(TITLES, lines, NUMBERS_FROM))
    if results["extras"]:
        parts.append(markdown(EXTRA_TITLES, map(extra_line, results["extras"]), 1))
    return "\n".join(parts)
