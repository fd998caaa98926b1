#!/usr/bin/env python3
"""deploy_test: what of deploy/ can be tried without a TEE, Gramine or a running systemd: an installed tree has everything that the
manifest lists, nothing in it is left open, and the units are sound. See rig.py."""

import ctypes
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import rig
from rig import BUILD, ENV, SHARED, WORK, Skip, cmif, end, promise, run, succeeded, within, write

SOURCE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
try:
    import jinja2
    import tomllib
except ImportError as error:
    rig.skip(f"{error}: python3-jinja2 and Python 3.11 are needed")

TREE, PUBLIC, GRAMINE = f"{WORK}/installed", f"{WORK}/public", f"{WORK}/gramine"
MEASURE, STORIES = f"{TREE}/share/cmif/deploy/measure", f"{SHARED}/models/stories260K/stories260K.gguf"
ARGS = ("run", "-m", "/public/client.gguf", "--server", "192.0.2.7:7490", "-")
MRENCLAVE = "81a675e9a408818b430be4b259f3e11e6f8cacdb4c971c3114ee79fe53076893"
succeeded(run("cmake", "--install", BUILD, "--prefix", TREE))
os.makedirs(f"{PUBLIC}/cache/cmif")
for name in ("client.gguf", "server.policy", "cache/cmif/lists.gguf", "cache/cmif/channel.cmifch"):
    write(f"public/{name}", name)

# Gramine's tools as far as measure sees them; what the first does to a template is what the real one does, too
os.makedirs(f"{GRAMINE}/bin")
os.makedirs(f"{GRAMINE}/runtime")
write("gramine/libsysdb.so", "")
TOOL = f"""#!{sys.executable}
import pathlib, sys
sys.path.append({os.path.dirname(os.path.dirname(jinja2.__file__))!r})
"""
write("gramine/bin/gramine-manifest", TOOL + f"""import jinja2
env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
env.globals["gramine"] = {{"libos": pathlib.Path("{GRAMINE}/libsysdb.so"), "runtimedir": lambda libc="glibc": pathlib.Path("{GRAMINE}/runtime")}}
values = dict(a[2:].split("=", 1) for a in sys.argv[1:] if a.startswith("-D"))
source, target = [a for a in sys.argv[1:] if not a.startswith("-D")]
open(target, "w").write(env.from_string(open(source).read()).render(**values))
""")
write("gramine/bin/gramine-sgx-sign", TOOL + """at = lambda name: sys.argv[sys.argv.index(name) + 1]
open(at("--key")).read()
open(at("--output"), "w").write(open(at("--manifest")).read())
open(at("--manifest").removesuffix(".manifest") + ".sig", "w").write("signed")
""")
write("gramine/bin/gramine-sgx-sigstruct-view", TOOL + f"""assert open(sys.argv[1]).read() == "signed"
print('mr_signer = "0dedbe47afb6955e5f6109637c1fbd9cc4b4e073e1396da8ce2091075e5b0a3b"\\nmr_enclave = "{MRENCLAVE}"\\nisv_prod_id = 0')
print("debug_enclave = " + (pathlib.Path("{WORK}/debug").exists() and "true" or "false"))
""")
for name in os.listdir(f"{GRAMINE}/bin"):
    os.chmod(f"{GRAMINE}/bin/{name}", 0o755)
WITH = {**ENV, "PATH": f"{GRAMINE}/bin:{ENV['PATH']}"}
KEY = write("key.pem", "a key")


def measure(*more, args=ARGS, env=None, prefix=TREE):
    return run(MEASURE, "--prefix", prefix, "--public", PUBLIC, "--state", f"{WORK}/state", "--key", KEY, "-o", f"{WORK}/out", *more, "--", *args, env=env or WITH)


def manifest(*more, args=ARGS):
    succeeded(measure(*more, args=args))
    with open(f"{WORK}/out/cmif.manifest.sgx", encoding="utf-8") as file:
        return file.read()


def needed(path):
    """Names of the libraries that a file asks for itself."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", path).out)


# ---- SGX ----

@promise
def the_manifest_renders_and_nothing_in_it_is_left_open():
    text = manifest()
    held = tomllib.loads(text)
    assert not re.search(r"\{\{|\{%|\}\}|%\}|@\w+@|TODO|/path/to", text), text
    assert held["sgx"]["remote_attestation"] == "dcap" and held["sgx"]["debug"] is False
    assert held["loader"]["argv"] == ["cmif", *ARGS] and held["libos"]["entrypoint"] == "/bin/cmif"
    state = [mount for mount in held["fs"]["mounts"] if mount["path"] == "/state"]
    assert state == [{"type": "encrypted", "path": "/state", "uri": f"file:{WORK}/state", "key_name": "_sgx_mrenclave"}], state
    assert '"_sgx_mrsigner"' in manifest("--seal", "_sgx_mrsigner")


@promise
def it_lets_in_what_is_measured_and_nothing_else():
    held = tomllib.loads(manifest())
    assert not {"allowed_files", "file_check_policy"} & set(held["sgx"]), held["sgx"]
    insecure = re.findall(r"\w*insecure__\w+", manifest())
    assert insecure == ["insecure__allow_eventfd"], insecure
    assert all(isinstance(value, str) for value in held["loader"]["env"].values()), "something of the host's environment passes"
    assert held["loader"]["log_level"] == "error" and "insecure__keys" not in held["fs"]


@promise
def every_file_that_it_lists_is_in_the_installed_tree():
    held = tomllib.loads(manifest())
    files = [uri.removeprefix("file:") for uri in held["sgx"]["trusted_files"]]
    for path in files:
        assert os.path.exists(path) and path.endswith("/") == os.path.isdir(path), f"{path} is not there"
    assert f"{TREE}/bin/cmif" in files and {f"{PUBLIC}/{name}" for name in ("client.gguf", "server.policy", "cache/cmif/lists.gguf")} < set(files)
    inside = {mount["path"] for mount in held["fs"]["mounts"]}
    have = {os.path.basename(path): path for path in files if path.startswith("/") and ".so" in path}
    for library, path in have.items():
        assert library == "libsysdb.so" or f"/libs/{library}" in inside, f"{library} is not mounted"
    glibc = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2"}
    for path in [f"{TREE}/bin/cmif", *have.values()]:
        missing = set(needed(path)) - glibc - set(have)
        assert not missing, f"{path} needs {missing}"
    assert len(have) >= 6, have


@promise
def the_measurement_becomes_a_policy_that_cmif_reads():
    text = succeeded(measure()).out
    assert text == f"attestation-policy 1\naccept sgx\nmeasure sgx mrenclave {MRENCLAVE}\n", text
    done = cmif("verify", "--json", "--policy", write("cmif.policy", text), write("letter", "no evidence"))
    assert done.returncode == 30 and json.loads(done.out)["policy"]["sha256"], done.err


@promise
def a_debug_enclave_is_not_measured():
    write("debug", "")
    done = measure()
    os.unlink(f"{WORK}/debug")
    assert done.returncode == 1 and "debug enclave" in done.err and not done.out, done.err


@promise
def without_gramine_it_says_what_to_run_where_it_is():
    plain = {**ENV, "PATH": "/usr/bin:/bin"}
    if shutil.which("gramine-manifest", path=plain["PATH"]):
        raise Skip("Gramine is here")
    done = measure(env=plain)
    lines = [shlex.split(line) for line in done.out.splitlines()]
    assert done.returncode == 1 and [line[0] for line in lines] == ["gramine-manifest", "gramine-sgx-sign", "gramine-sgx-sigstruct-view"], done.out
    assert done.err.count("\n") == 1 and "Gramine 1.8" in done.err, done.err
    assert succeeded(measure("--print", env=plain)).out == done.out


@promise
def what_a_manifest_cannot_carry_is_refused():
    for more, args, why in ((("--program", "no-such"), ARGS, "there is no program .*cmake --install"), ((), ('say"',), "args has a space, a quote"),
                            ((), ("two words",), "args has a space"), ((), ("{{ env }}",), "args has"), (("--seal", "mine"), ARGS, "--seal takes"),
                            (("--public", f"{WORK}/gramine/runtime"), ARGS, "has no file")):
        done = measure(*more, args=args)
        assert done.returncode in (1, 2) and re.search(why, done.err) and done.err.count("\n") == 1 and not done.out, (why, done.err, done.out)


# ---- units ----

def unit(name):
    with open(f"{TREE}/lib/systemd/system/{name}.service", encoding="utf-8") as file:
        text = file.read()
    program = re.search(r"^ExecStart=(\S+)", text, re.M)[1]
    assert not re.search(r"@\w+@|TODO|/path/to", text) and os.path.isabs(program), text
    return write(f"{name}.service", text.replace(program, f"{TREE}/bin/{os.path.basename(program)}"))


@promise
def units_are_sound_and_say_what_they_may():
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze (Debian package systemd)")
    for name in ("cmif-server", "cmif-keyserver", "cmif-gateway"):
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit(name))
        assert done.returncode == 0 and not done.err.strip(), done.err
        if name == "cmif-gateway":
            with open(f"{TREE}/lib/systemd/system/{name}.socket", encoding="utf-8") as file:
                done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit(name), write(f"{name}.socket", file.read()))
            assert done.returncode == 0 and not done.err.strip(), done.err
        done = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", unit(name))
        assert done.returncode == 0, done.out + done.err


@promise
def options_of_units_are_options_of_the_programs():
    for name, program in (("cmif-server", [f"{TREE}/bin/cmif-server"]), ("cmif-keyserver", [f"{TREE}/bin/cmif", "keyserver"]), ("cmif-gateway", [f"{TREE}/bin/cmif-gateway"])):
        with open(unit(name), encoding="utf-8") as file:
            line = re.search(r"^ExecStart=(.*)", file.read(), re.M)[1]
        known = succeeded(run(*program, "--help")).out
        for option in re.findall(r" (--[a-z-]+)", line):
            assert re.search(rf"{option}\b", known), f"{name}: {option} is no option of it"


# ---- images ----

def deployed(name):
    with open(f"{SOURCE}/deploy/{name}", encoding="utf-8") as file:
        return file.read()


@promise
def the_image_has_every_library_that_the_programs_need():
    if not shutil.which("dpkg-query"):
        raise Skip("no dpkg-query")
    image = set(re.search(r"--no-install-recommends (.*?) &&", deployed("Dockerfile"))[1].split())
    brought = set(image)  # and what these bring
    lines = run("dpkg-query", "-W", "-f", "${Package} ${Depends}\n", *image).out.splitlines()
    brought |= {name for line in lines for name in re.findall(r"(lib[a-z0-9.+-]+)", line)}
    for folder in ("bin", "libexec/cmif"):
        for program in os.listdir(f"{TREE}/{folder}"):
            for library in needed(f"{TREE}/{folder}/{program}"):
                if re.match(r"libtss2|lib(c|m)\.so|ld-linux", library):  # the first only where evidence of a TPM is made: not built there
                    continue
                path = re.search(rf"{re.escape(library)} => (\S+)", run("ldd", f"{TREE}/{folder}/{program}").out)[1]
                owner = re.match(r"[^:]+", run("dpkg", "-S", os.path.realpath(path)).out or run("dpkg", "-S", os.path.realpath(path).removeprefix("/usr")).out)
                assert owner and owner[0] in brought, f"{program} needs {library} of {owner and owner[0]}"


@promise
def the_chart_asks_for_values_that_it_has_and_renders():
    values, template = deployed("helm/values.yaml"), deployed("helm/templates/gateway.yaml")
    try:
        import yaml
    except ImportError:
        raise Skip("no PyYAML (Debian package python3-yaml)") from None
    known = {"Values": yaml.safe_load(values), "Release": {"Name": "test"}}

    def value(match):
        path, _, quote = match[1].partition(" | ")
        found = known
        for name in path.lstrip(".").split("."):
            found = found[name]
        return json.dumps(str(found)) if quote == "quote" else str(found)
    made = list(yaml.safe_load_all(re.sub(r"\{\{ (\S+(?: \| quote)?) \}\}", value, template)))
    assert [each["kind"] for each in made] == ["ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"]
    pod = made[2]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert made[0]["data"]["gateway.conf"] == known["Values"]["config"]
    compose = yaml.safe_load(deployed("compose.yaml"))["services"]["gateway"]
    assert compose["read_only"] and compose["ports"] == ["127.0.0.1:8800:8800"], compose


@promise
def the_server_works_where_no_memory_can_be_written_and_executed():
    if not os.path.exists(STORIES):
        raise Skip(f"no {STORIES}")
    libc = ctypes.CDLL(None, use_errno=True)

    def refuse():
        if libc.prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: what MemoryDenyWriteExecute= sets
            os._exit(99)
    if run("true", preexec_fn=refuse).returncode == 99:
        raise Skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    succeeded(cmif("split", STORIES, "-o", f"{WORK}/half"))
    where = f"unix:{WORK}/s.sock"
    server = subprocess.Popen([f"{TREE}/bin/cmif-server", "-m", f"{WORK}/half/server.gguf", "--json", "--threads", "1", "--listen", where], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV, preexec_fn=refuse)
    try:
        assert json.loads(server.stdout.readline())["ready"]
        done = succeeded(cmif("run", "-q", "--policy", "none", "-m", f"{WORK}/half", "--server", where, "-n", "8", "Once"))
        assert len(done.out) > 10, done.out
    finally:
        server.terminate()
        server.communicate()


end()
