#!/usr/bin/env python3
"""gateway_load_test: cmif-gateway under load, and what it adds; see rig.py. gateway_load.c is the upstream and the clients.

CMIF_LOAD_SECONDS (10) is the length of each run, CMIF_LOAD_KILLS (5) how often the gateway is killed. Where they are set, the ledger is put in memory, too:
what the disk adds is the difference."""

import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import time
import urllib.request

from rig import BUILD, ENV, WORK, Skip, end, promise, skip, tidy, within

GATEWAY, LOAD, LISTS = f"{BUILD}/bin/cmif-gateway", f"{BUILD}/tests/gateway_load", f"{BUILD}/tests/lists.gguf"
SECONDS, KILLS = float(os.environ.get("CMIF_LOAD_SECONDS", 10)), int(os.environ.get("CMIF_LOAD_KILLS", 5))
STREAMS, TURN_MS = 256, 2000
NGINX = """daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/nginx.log; events {{ worker_connections 2048; }}
http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/a; uwsgi_temp_path {0}/b; scgi_temp_path {0}/c;
upstream there {{ server 127.0.0.1:{2}; }}
server {{ listen 127.0.0.1:{1}; location / {{ proxy_pass http://there; proxy_http_version 1.1; proxy_buffering off; }} }} }}"""

if not os.path.exists(LISTS):
    skip(f"{LISTS} is not there: lists_build_test makes it")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Rig:
    """The upstream, a gateway with a folder of its own, and perhaps nginx."""

    def __init__(self, turn_ms=TURN_MS, above=WORK, **options):
        self.folder = tempfile.mkdtemp(prefix="cmif-load-", dir=above)
        self.env = {**ENV, **{f"XDG_{kind}_HOME": f"{self.folder}/{kind.lower()}" for kind in ("CACHE", "DATA", "STATE")}}
        os.makedirs(f"{self.folder}/cache/cmif")
        os.symlink(LISTS, f"{self.folder}/cache/cmif/lists.gguf")
        self.counts, self.turn_ms, self.processes = f"{self.folder}/counts", turn_ms, []
        self.options = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.there, self.port = free_port(), free_port()
        self.serve()
        self.start()
        tidy.append(self.end)

    def begin(self, *command, **more):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self.env, **more)
        self.processes.append(process)
        return process

    def serve(self):
        self.upstream = self.begin(LOAD, "serve", str(self.there), self.counts, str(self.turn_ms), stdout=subprocess.PIPE)
        assert self.upstream.stdout.readline().startswith(b"ready "), "the upstream does not start"

    def start(self, *options):
        options = options or ("--upstream", f"http://127.0.0.1:{self.there}/v1", "-m", "there", "--listen", f"127.0.0.1:{self.port}", "--policy", "names", *self.options)
        with open(f"{self.folder}/log", "ab") as log:
            self.gateway = self.begin(GATEWAY, *options, stdout=subprocess.PIPE, stderr=log)
        assert self.gateway.stdout.readline().startswith(b"ready "), f"the gateway does not start: {open(f'{self.folder}/log').read()}"

    def proxy(self):
        """Its port; None: there is no nginx."""
        if not shutil.which("nginx"):
            return None
        port = free_port()
        with open(f"{self.folder}/nginx.conf", "w") as file:
            file.write(NGINX.format(self.folder, port, self.there))
        self.begin("nginx", "-c", f"{self.folder}/nginx.conf", stderr=subprocess.DEVNULL)
        assert within(5, lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0), "nginx does not start"
        return port

    def drive(self, seconds, streams, *options):
        return self.begin(LOAD, "drive", str(seconds), str(self.turn_ms), f"gateway={self.port}:{streams}", f"pid={self.gateway.pid}", *options,
                          stdout=subprocess.PIPE)

    def figures(self, driver):
        text = driver.communicate(timeout=SECONDS + 300)[0].decode()
        assert text, "the clients ended early"
        return json.loads(text)

    def seen(self):
        """Requests that reached the upstream, and of those who carried what must not leave."""
        with open(self.counts, "rb") as file:
            return struct.unpack("QQ", file.read(16))

    def entries(self):
        """Of the ledger, as it is on disk."""
        folder = next(folder for folder, _, names in os.walk(self.folder) if "ledger.db" in names)
        with sqlite3.connect(f"file:{folder}/ledger.db?mode=ro", uri=True, timeout=10) as ledger:
            return ledger.execute("SELECT count(*) FROM entry").fetchone()[0]

    def running(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return int(re.search(r"^cmif_requests_running (\d+)", answer.read().decode(), re.M)[1])

    def end(self):
        tidy.remove(self.end)
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def sound(rig, figures):
    """What holds under any load: every answer was right, nobody waited for ever, nothing left that must not, and nothing without an entry."""
    gateway, (requests, leaks), entries = figures["gateway"], rig.seen(), rig.entries()
    assert gateway["done"] > 0, "no answer came"
    assert gateway["wrong"] == 0, f"{gateway['wrong']} wrong answers"
    assert gateway["hung"] == 0, f"{gateway['hung']} requests hang"
    assert gateway["failed"] == 0, f"{gateway['failed']} requests failed"
    assert leaks == 0, f"{leaks} of {requests} requests carried what must not leave"
    assert entries >= requests, f"{requests} requests reached the upstream, {entries} are in the ledger"
    return f"{gateway['done']} right answers, 0 wrong, 0 hang; {requests} requests reached the upstream, {entries} are in the ledger"


def disk(folder):
    """What one write to disk takes there: median and 99th percentile of 100, in ms."""
    times = []
    with open(f"{folder}/disk", "wb") as file:
        for _ in range(100):
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(1000 * (time.perf_counter() - begin))
    times.sort()
    return times[50], times[98]


def flat(before, after):
    """Memory in KiB. Conversations are bounded, and there are that many after a quarter of the time."""
    assert after <= before * 1.1 + 4096, f"memory grows: {before} KiB after a quarter, {after} KiB at the end"


def calm(above, seconds):
    rig = Rig(above=above, conversations=STREAMS + 64)
    port = rig.proxy()
    sync = disk(rig.folder)
    figures = rig.figures(rig.drive(seconds, STREAMS, f"direct={rig.there}:16", *([f"proxy={port}:16"] if port else [])))
    said = [sound(rig, figures)]
    direct = figures["direct"]
    said.append(f"fsync there takes {sync[0]:.2f} ms, p99 {sync[1]:.2f}; memory {figures['memory_quarter'] >> 10} MiB after a quarter, {figures['memory'] >> 10} MiB at the end")
    for name in ("direct", "proxy", "gateway"):
        if name in figures:
            p = figures[name]
            said.append(f"{name:7} {p['streams']:3} streams: on the way p50 {p['p50']:.2f} ms, p99 {p['p99']:.2f} (there {p['up_p50']:.2f}, {p['up_p99']:.2f}; "
                        f"back {p['down_p50']:.2f}, {p['down_p99']:.2f}); added p50 {p['p50'] - direct['p50']:.2f} ms, p99 {p['p99'] - direct['p99']:.2f}")
    if not port:
        said.append("no nginx here: nothing to compare with")
    flat(figures["memory_quarter"], figures["memory"])
    assert direct["failed"] == direct["wrong"] == 0, direct
    rig.end()
    return "".join("\n         " + line for line in said)


@promise
def many_streams_at_once():
    return calm(WORK, SECONDS)


@promise
def many_streams_at_once_with_the_ledger_in_memory():
    if "CMIF_LOAD_SECONDS" not in os.environ or not os.access("/dev/shm", os.W_OK):
        raise Skip("for the full length, and where /dev/shm is")
    return calm("/dev/shm", min(SECONDS, 60))


@promise
def upstreams_that_die_and_clients_that_vanish():
    rig = Rig(turn_ms=1000)
    driver, deaths = rig.drive(SECONDS, 128, "vanish=20", "storm=1"), 0
    stop = time.monotonic() + SECONDS
    while time.monotonic() + 2 < stop and driver.poll() is None:
        time.sleep(random.uniform(1, 3))
        rig.upstream.kill()
        rig.upstream.wait()
        time.sleep(random.uniform(0, 0.5))
        rig.serve()
        deaths += 1
    figures = rig.figures(driver)
    said = sound(rig, figures)
    assert figures["gateway"]["broken"] > 0 and figures["gateway"]["vanished"] > 0 and deaths > 0, f"nothing happened: {figures}"
    assert within(10, lambda: rig.running() == 0), "requests of clients that are gone are still under way"
    rig.end()
    return f"\n         {said}\n         the upstream died {deaths} times, {figures['gateway']['broken']} answers broke off, {figures['gateway']['vanished']} clients went away"


@promise
def a_gateway_that_is_killed_never_counts_too_little():
    rig = Rig(turn_ms=300)
    driver = rig.drive(3600, 64, "storm=1")
    slowest = 0
    for kill in range(1, KILLS + 1):
        time.sleep(random.uniform(0.02, 0.7))
        rig.gateway.kill()
        rig.gateway.wait()
        time.sleep(0.02)  # what is in the kernel's hands gets there
        requests, entries = rig.seen()[0], rig.entries()
        assert entries >= requests, f"after kill {kill}: {requests} requests reached the upstream, {entries} are in the ledger"
        begin = time.monotonic()
        rig.start()
        slowest = max(slowest, time.monotonic() - begin)
    time.sleep(1)
    driver.send_signal(signal.SIGTERM)
    figures = rig.figures(driver)
    said = sound(rig, figures)
    assert slowest < 20, f"a start took {slowest:.1f} s"
    rig.end()
    return f"\n         {said}\n         killed {KILLS} times, {figures['gateway']['broken']} answers broke off; the slowest start took {slowest:.2f} s"


@promise
def a_pool_goes_on_without_a_member_that_died():
    rig = Rig(turn_ms=1000)
    rig.gateway.kill()
    rig.gateway.wait()
    first, ports = rig.upstream, [rig.there]
    rig.there = free_port()
    rig.serve()
    ports.insert(0, rig.there)
    with open(f"{rig.folder}/conf", "w") as file:
        file.write("".join(f"upstream there\n  url http://127.0.0.1:{port}/v1\n  model there\n" for port in ports))
    rig.start("--config", f"{rig.folder}/conf", "--listen", f"127.0.0.1:{rig.port}", "--policy", "names")
    driver = rig.drive(SECONDS, 64, "storm=1")
    time.sleep(SECONDS / 3)
    first.kill()
    gateway = rig.figures(driver)["gateway"]
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.port}/metrics", timeout=10) as answer:
        up = re.findall(r'cmif_upstream_up\{upstream="0",member="(\d)"\} (\d)', answer.read().decode())
    assert up == [("0", "1"), ("1", "0")], up
    assert gateway["wrong"] == gateway["hung"] == 0, gateway
    assert 0 < gateway["broken"] <= 64, f"{gateway['broken']} answers broke off, and not only those that had begun"
    assert gateway["done"] > 128, f"only {gateway['done']} answers came"
    rig.end()
    return f"\n         {gateway['done']} right answers; the {gateway['broken']} that had begun with it broke off"


end()
