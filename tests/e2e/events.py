# SPDX-License-Identifier: MIT
"""The events of the log, as stagerun(1) describes them."""

import json
import re

from agent import CHECKOUT

ALWAYS = ("time", "level", "event", "message")
INTEGERS = {"sources", "sources_done", "bytes_per_second", "bytes", "received_bytes", "total_bytes", "sent_bytes",
            "expanded_bytes", "entries", "files", "objects", "version", "pid", "exit", "signal", "attempt", "http_status"}


def documented_events():
    """Each event with its members, in the manual's order."""
    section = (CHECKOUT / "packaging/man/stagerun.1").read_text().split(".Sh EVENTS\n")[1].split("\n.Sh ")[0]
    entries = re.findall(r"^\.It Li (\w+)\n(.*?)(?=^\.It |^\.El)", section, re.M | re.S)
    members = {name: re.search(r"^Members:\n\.Li (.*) \.$", text, re.M) for name, text in entries}
    return {name: found[1].split(" , ") if found else [] for name, found in members.items()}


def is_of_its_type(key, value):
    if key == "seconds" or key.endswith("_seconds") or key.startswith("seconds_"):
        return isinstance(value, float) and value >= 0
    return type(value) is (int if key in INTEGERS else str)


def check_line(line):
    """A line of the log in JSON: its event. Fails unless it is exactly as the manual says."""
    event = json.loads(line)
    assert tuple(event)[:4] == ALWAYS, line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", event["time"]), line
    assert event["level"] in ("error", "warning", "info", "debug"), line
    assert event.keys() - ALWAYS <= set(documented_events()[event["event"]]), line
    wrong = [key for key, value in event.items() if not is_of_its_type(key, value)]
    assert not wrong, f"{wrong} in {line}"
    return event


def events_of(result):
    """The events that the agent logged as JSON; every line has to be one."""
    return [check_line(line) for line in result.err.splitlines()]


def the(events, name):
    """The only one of this name."""
    (found,) = [event for event in events if event["event"] == name]
    return found
