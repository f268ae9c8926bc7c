"""The process that stands between burnish and one untrusted program: limits it, watches it, and ends it with all its descendants.

Run as a script with an isolated interpreter (standard library alone), so that limits are set in a small process with an empty
environment rather than in a fork of the trainer. Reads one JSON line (see `Process`), then writes one JSON line.

It is the subreaper of everything the program starts (Linux): a child that leaves its group and session is still found and killed.
"""

import base64
import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time

TICK = 0.02
"""Seconds between two looks at how many processes there are."""
GRACE = 5.0
"""Seconds in which all descendants must be gone once they are killed."""


def main() -> None:
    """One program, from the request on stdin to the record on stdout."""
    order = json.loads(sys.stdin.buffer.readline())
    _run_before_others()
    watched = _adopt_orphans()
    try:
        child = _start(order)
    except Exception as error:  # the machine's fault, not the program's
        print(json.dumps({"broken": f"the program could not be started: {type(error).__name__}: {error}"}))
        return
    record = _watch(child, order, watched)
    if _end(child):
        record["left"] = True
    if record["status"] == "abandoned":
        shutil.rmtree(order["folder"], ignore_errors=True)
    print(json.dumps(record), flush=True)


def _run_before_others() -> None:
    """Where it may (root), this process runs before all it watches: no fork bomb keeps it from looking. Children do not inherit that."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _adopt_orphans() -> bool:
    """Makes this process the parent of orphaned descendants, and closed to their eyes. False where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody but root reads this process
        return libc.prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    return False


def _start(order: dict) -> subprocess.Popen:
    limits = {
        resource.RLIMIT_CPU: (int(order["seconds"]) + 1, int(order["seconds"]) + 2),
        resource.RLIMIT_FSIZE: (order["file_bytes"],) * 2,
        resource.RLIMIT_NOFILE: (order["open_files"],) * 2,
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_AS: (order["memory"],) * 2,
    }
    if hasattr(resource, "RLIMIT_NPROC") and os.getuid() != 0:  # counts all processes of the user, and binds nobody who is root
        limits[resource.RLIMIT_NPROC] = (_threads_of_user() + order["processes"],) * 2

    def limit() -> None:
        for name, values in limits.items():
            hard = resource.getrlimit(name)[1]
            resource.setrlimit(name, tuple(v if hard == resource.RLIM_INFINITY else min(v, hard) for v in values))

    return subprocess.Popen(
        order["command"],
        cwd=order["folder"],
        env=order["environment"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=limit,
        bufsize=0,
    )


def _watch(child: subprocess.Popen, order: dict, watched: bool) -> dict:
    """Feeds stdin, gathers output up to its bound, until the program ends or has to be ended."""
    end, out = time.monotonic() + order["seconds"], {"stdout": bytearray(), "stderr": bytearray()}
    feed = memoryview(base64.b64decode(order["stdin"]))
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    names = {child.stdout.fileno(): "stdout", child.stderr.fileno(): "stderr"}
    into = child.stdin.fileno()
    for fd in (*names, into):
        os.set_blocking(fd, False)
    status, room, looked = "ended", order["output_bytes"], 0.0
    while True:
        feed = _fed(child, feed)
        done = child.poll() is not None
        wait = 0.0 if done else TICK if len(names) == 2 else 0.002
        ready, _, _ = select.select([*names, 0], [into] if feed else [], [], wait)
        for fd in [fd for fd in ready if fd]:
            chunk = os.read(fd, 65536)
            out[names[fd]] += chunk[: max(room, 0)]
            room -= len(chunk)
            if not chunk:
                del names[fd]
        if 0 in ready:  # whoever ordered this is gone
            status = "abandoned"
        elif room < 0:
            status = "output"
        elif time.monotonic() > end and not done:
            status = "time"
        elif watched and time.monotonic() - looked > TICK:
            looked = time.monotonic()
            status = "processes" if len(descendants(os.getpid())) > order["processes"] else status
        if status != "ended" or (done and not ready):
            break
    return {"status": status, "code": child.poll(), **{name: base64.b64encode(bytes(data)).decode() for name, data in out.items()}}


def _fed(child: subprocess.Popen, feed: memoryview) -> memoryview:
    """What of the input is left to write; its end closes the program's stdin."""
    assert child.stdin is not None
    if feed:
        try:
            feed = feed[os.write(child.stdin.fileno(), feed[:65536]) :]
        except BlockingIOError:
            return feed
        except OSError:
            feed = feed[:0]
    if not feed and not child.stdin.closed:
        child.stdin.close()
    return feed


def _end(child: subprocess.Popen) -> bool:
    """Kills the group and every descendant, wherever it went. True where some could not be ended."""
    end = time.monotonic() + GRACE
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    while True:
        found = descendants(os.getpid())
        for sign in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none has a child while others are killed
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, sign)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not found:
            return False
        if time.monotonic() > end:
            return True
        time.sleep(0.001)


def descendants(root: int) -> list:
    """Process ids of all living descendants of `root`; [] where there is no /proc."""
    parents = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                    if state not in "ZX":
                        parents[int(name)] = int(parent)
    found, fresh = set(), {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh and pid not in found and pid != root}
        found |= fresh
    return sorted(found)


def _threads_of_user() -> int:
    """What RLIMIT_NPROC counts already: threads of all processes of this user."""
    total, mine = 0, os.getuid()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{name}").st_uid == mine:
                        total += len(os.listdir(f"/proc/{name}/task"))
    return total


if __name__ == "__main__":
    main()
