# SPDX-License-Identifier: MIT
"""Refuses system calls to a program, as the seccomp profile of a container does that has never heard of them.

Run as a program it installs the filter and executes the rest of its command line:
    seccomp.py ERRNO NUMBER[,NUMBER...] COMMAND [ARG...]"""

import ctypes
import errno
import functools
import os
import re
import struct
import subprocess
import sys

ARG_NR, LOAD, IF_EQUAL, RETURN = 0, 0x20, 0x15, 0x06
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2


@functools.lru_cache(maxsize=None)
def number(name):
    """Of the system call, here; None: this machine has none of this name."""
    program = f"#include <sys/syscall.h>\nnumber SYS_{name}\n"
    text = subprocess.run(["cc", "-E", "-P", "-"], input=program, capture_output=True, text=True,
                          check=True).stdout
    match = re.search(r"^number (\d+)$", text, re.M)
    return int(match[1]) if match else None


def refusing(code, *names):
    """Words to put before a command to which each of the named calls answers with code ("EPERM", "ENOSYS")."""
    numbers = [number(name) for name in names]
    found = ",".join(str(n) for n in numbers if n is not None)
    return [sys.executable, __file__, code, found] if found else []


def install(code, numbers):
    steps = [(LOAD, 0, 0, ARG_NR)]
    for n in numbers:
        steps += [(IF_EQUAL, 0, 1, n), (RETURN, 0, 0, RET_ERRNO | code)]
    steps.append((RETURN, 0, 0, RET_ALLOW))
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    memory = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or \
            libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.c_char_p(head), 0, 0) != 0:
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    install(getattr(errno, sys.argv[1]), [int(n) for n in sys.argv[2].split(",")])
    os.execvp(sys.argv[3], sys.argv[3:])
