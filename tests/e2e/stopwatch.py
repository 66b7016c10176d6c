# SPDX-License-Identifier: MIT
"""How long the program took, whatever else this machine did in between.

A virtual machine that is not scheduled, or processors that are busy for others, hold up the program and its test
alike. A thread that takes a nap again and again sees by how much it wakes late: that is the time for which the
program is not to blame."""

import threading
import time

# Seconds within which what is to end at a signal ends, also where other programs want the processors. What does not
# obey is killed after 5 s, and what would have been waited for takes longer.
SOON = 3

NAP = 0.01
LATE = 0.02  # less is what any scheduler does


class Machine(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.asleep = time.monotonic()
        self.held = 0.0
        self.start()

    def late(self, now):
        late = now - self.asleep - NAP
        return late if late > LATE else 0.0

    def run(self):
        while True:
            time.sleep(NAP)
            now = time.monotonic()
            self.held += self.late(now)
            self.asleep = now

    def held_up(self):
        """For how many seconds so far, with a pause that the thread has not yet woken from."""
        return self.held + self.late(time.monotonic())


MACHINE = Machine()


class Duration:
    """Shorter than a limit if it would have been without the pauses, longer if the clock says so."""
    def __init__(self, wall, held):
        self.wall = wall
        self.held = held

    def __lt__(self, limit):
        return self.wall - self.held < limit

    def __gt__(self, limit):
        return self.wall > limit

    def __format__(self, spec):
        return format(self.wall, spec)

    def __repr__(self):
        return f"{self.wall:.2f} s, {self.held:.2f} s of them without this machine"


class Stopwatch:
    def __init__(self):
        self.started = time.monotonic()
        self.held = MACHINE.held_up()

    def read(self):
        return Duration(time.monotonic() - self.started, MACHINE.held_up() - self.held)
