"""rig - what the tests share that meet the programs as a person does: TEST BUILD SHARED [WORD]; with WORD, or CMIF_ONLY, only the promises whose name has it.

A test is a row of promises, and end(). What it writes lies in WORK, which goes with it; with ENV cmif's own folders are there, too."""

import atexit
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

BUILD, SHARED, WORD = sys.argv[1], sys.argv[2], "".join(sys.argv[3:4]) or os.environ.get("CMIF_ONLY", "")
CMIF, SERVER = f"{BUILD}/bin/cmif", f"{BUILD}/bin/cmif-server"
CANARY = "zebrafinch"  # in texts that are refused or released: it must not leave, and be in no message
WORK = tempfile.mkdtemp(prefix="cmif-test-")
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
os.mkdir(f"{WORK}/run", 0o700)
ENV = {**os.environ, "XDG_CACHE_HOME": f"{WORK}/cache", "XDG_DATA_HOME": f"{WORK}/data", "XDG_STATE_HOME": f"{WORK}/state",
       "XDG_CONFIG_HOME": f"{WORK}/config", "XDG_RUNTIME_DIR": f"{WORK}/run", "TERM": "xterm"}
ENV.pop("NO_COLOR", None)

counts = {"passed": 0, "failed": 0}
tidy = []  # what to call after a failure, so that one is not many


class Skip(Exception):
    """Of one promise: what is not here, and what brings it."""


def skip(why):
    """Of the whole test."""
    print(f"skipped: {why}")
    sys.exit(77)


def promise(function):
    """Try it at once; what it returns is shown beside its name. With CMIF_FIRST_FAILURE nothing after a failure (tools/breaks)."""
    name = function.__name__
    if WORD not in name or (counts["failed"] and "CMIF_FIRST_FAILURE" in os.environ):
        return function
    try:
        print(f"ok     {name}{function() or ''}", flush=True)
        counts["passed"] += 1
    except Skip as reason:
        print(f"skip   {name}: {reason}", flush=True)
    except Exception as error:  # a test that breaks is a test that fails
        print(f"FAILED {name}: {'' if isinstance(error, AssertionError) else type(error).__name__ + ' '}{error}", flush=True)
        counts["failed"] += 1
        for function_ in tidy:
            function_()
    return function


def end():
    print("{passed} passed, {failed} failed".format(**counts))
    sys.exit(1 if counts["failed"] or not counts["passed"] else 0)


def run(*command, text="", env=None, timeout=120, **more):
    """Its exit code, and what it said as text: .returncode, .out, .err. Its stdin is text, or empty."""
    done = subprocess.run(command, input=text.encode() if isinstance(text, str) else text, capture_output=True, env=env or ENV, timeout=timeout, **more)
    done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    return done


def cmif(*args, **more):
    return run(CMIF, *args, **more)


def succeeded(done):
    assert done.returncode == 0, f"{' '.join(map(str, done.args))}: exit {done.returncode}: {done.err}{done.out}"
    return done


def good(*args, **more):
    return succeeded(cmif(*args, **more))


def refused(exit_code, sentence, done):
    """With one sentence that says what it must, nothing on stdout, no canary."""
    said = done.err.strip()
    assert done.returncode == exit_code, f"exit code {done.returncode}, expected {exit_code}; it said: {said}{done.out[:200]}"
    assert re.search(sentence, said), f"it said '{said}', expected /{sentence}/"
    assert said.count("\n") == 0 and said.startswith("cmif: "), f"not one sentence: {said}"
    assert not done.out, f"on stdout: {done.out[:200]}"
    assert CANARY not in done.err, "the text is in the message"
    return done


def within(seconds, condition):
    """Whether it comes true before so many seconds are over."""
    end_ = time.monotonic() + seconds
    while time.monotonic() < end_:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def write(name, content):
    """A file in WORK; its path."""
    path = os.path.join(WORK, name)
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def read(name):
    with open(os.path.join(WORK, name), "rb") as file:
        return file.read()


def small_files():
    """For preexec_fn: a disk that is full after 4 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
