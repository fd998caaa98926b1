#!/usr/bin/env python3
"""swtpm_test: evidence of a real (software) TPM, made by us, and judged by `cmif verify`; and what tpm2-tools make on the same TPM in bad
faith. The TPM, its state and the CA that vouches for it are this test's own, on loopback. See rig.py."""

import json
import os
import shutil
import socket
import time

import rig as base
from rig import BUILD, CMIF, WORK, end, promise, read, skip, succeeded, write

RIG = f"{BUILD}/tests/swtpm_rig"
TOOLS = ("swtpm", "swtpm_setup", "swtpm_localca", "swtpm_ioctl", "tpm2_quote", "openssl")
PCRS = "0,1,2,3,4,5,6,7"
NONCE, OTHER = bytes(range(64)).hex(), bytes(range(1, 65)).hex()
ENDLESS = "1000"


missing = [tool for tool in TOOLS if not shutil.which(tool)]
if missing:
    skip(f"{', '.join(missing)}: not installed (Debian packages swtpm, swtpm-tools, tpm2-tools)")
ROOT, CA = f"{WORK}/ca/swtpm-localca-rootca-cert.pem", f"{WORK}/ca/issuercert.pem"


def run(*command, env=None):
    return base.run(*command, cwd=WORK, env={**ENV, **(env or {})})


def good(*command, env=None):
    return succeeded(run(*command, env=env)).out


def free_ports():
    """Two ports that nobody listens on: of the TPM, and next to it of its control channel."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue


def start():
    for folder in ("state", "ca", "home"):
        os.mkdir(f"{WORK}/{folder}")
    write("setup.conf", f"create_certs_tool={shutil.which('swtpm_localca')}\ncreate_certs_tool_config={WORK}/ca.conf\ncreate_certs_tool_options={WORK}/ca.options\n")
    write("ca.conf", f"statedir={WORK}/ca\nsigningkey={WORK}/ca/signkey.pem\nissuercert={CA}\ncertserial={WORK}/ca/certserial\n")
    write("ca.options", "--platform-manufacturer T\n--platform-version 1\n--platform-model T\n")
    good("swtpm_setup", "--tpm2", "--tpmstate", f"{WORK}/state", "--config", f"{WORK}/setup.conf", "--create-ek-cert", "--pcr-banks", "sha1,sha256,sha384",
         "--lock-nvram", "--overwrite")
    good("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={WORK}/state", "--ctrl", f"type=tcp,port={PORT + 1},bindaddr=127.0.0.1", "--server",
         f"type=tcp,port={PORT},bindaddr=127.0.0.1", "--flags", "not-need-init,startup-clear", "--daemon", "--pid", f"file={WORK}/pid")
    for _ in range(100):
        if run("tpm2_getcap", "properties-fixed").returncode == 0:
            return
        time.sleep(0.05)
    raise AssertionError("swtpm does not answer")


def stop():
    """A TPM that is cut off without a shutdown counts that as an attack on its passwords."""
    run("tpm2_shutdown", "-c")
    run("swtpm_ioctl", "--tcp", f"127.0.0.1:{PORT + 1}", "-s")


def flushed():
    for kind in "-t", "-l", "-s":
        run("tpm2_flushcontext", kind)


def left_in_tpm():
    return good("tpm2_getcap", "handles-transient") + good("tpm2_getcap", "handles-loaded-session")


def rig(*args, env=None):
    return run(RIG, TCTI, *args, env=env)


def make(name, pcrs=PCRS, nonce=NONCE, env=None):
    done = rig("make", pcrs, nonce, f"{WORK}/{name}", env=env)
    assert done.returncode == 0, done.err
    return f"{WORK}/{name}"


def values(bank="sha256"):
    """What the TPM says of its PCRs, read by tpm2-tools."""
    good("tpm2_pcrread", f"{bank}:{','.join(str(n) for n in range(24))}", "-o", "pcrs.bin")
    size = {"sha256": 32, "sha384": 48, "sha1": 20}[bank]
    raw = read("pcrs.bin")
    return [raw[n * size:(n + 1) * size].hex() for n in range(24)]


def policy(pin, bank="sha256", pcrs=range(8), more=""):
    have = values(bank)
    text = "attestation-policy 1\naccept tpm\n" + "".join(f"measure tpm pcr{n} {have[n]}\n" for n in pcrs)
    return write("policy", f"{text}ak-pin {pin}\nloosen ak-pinned\n{more}")


def verify(*files, nonce=NONCE, rules=None):
    done = run(CMIF, "verify", "--json", "--collateral", "none", "--report-data", nonce, *(["--policy", rules] if rules else []), *files)
    return done.returncode, json.loads(done.out)


def pin_of(*files):
    return verify(*files)[1]["fields"]["ak_spki"]


def refused(reason, *files, rules, nonce=NONCE):
    code, verdict = verify(*files, nonce=nonce, rules=rules)
    assert code == 10 and reason in verdict["reasons"], (code, verdict["reasons"])
    return verdict["reasons"]


def promises():
    bundle = make("evidence")
    pin = pin_of(bundle)

    @promise
    def evidence_of_a_tpm_is_accepted_under_a_policy_of_its_pcrs():
        code, verdict = verify(bundle, rules=policy(pin))
        assert code == 0 and verdict["technology"] == "tpm", verdict
        assert verdict["fields"]["extra_data"] == NONCE and verdict["fields"]["pcr_select"] == PCRS, verdict["fields"]
        assert [verdict["fields"][f"pcr{n}"] for n in range(8)] == values()[:8]

    @promise
    def a_replay_under_another_nonce_is_refused():
        assert refused("report-data", bundle, rules=policy(pin), nonce=OTHER) == ["report-data"]
        refused("report-data", bundle, rules=policy(pin), nonce=NONCE[:64])

    @promise
    def an_attestation_key_that_nobody_vouches_for_is_refused():
        rules = write("unpinned", "".join(line for line in open(policy(pin)) if not line.startswith(("ak-pin", "loosen"))))
        assert refused("ak-untrusted", bundle, rules=rules) == ["ak-untrusted"]
        refused("ak-not-pinned", bundle, rules=policy("00" * 32))

    @promise
    def the_key_stays_the_same_so_that_it_can_be_pinned():
        again = make("again", nonce=OTHER)
        assert pin_of(again) == pin and verify(again, nonce=OTHER, rules=policy(pin))[0] == 0

    @promise
    def any_number_of_pcrs_is_read():
        for pcrs in "0", "23", "0,1,2,3,4,5,6,7,8", "1,3,5,7,9,11,13,15,17,19,21,23", ",".join(str(n) for n in range(24)):
            some = [int(n) for n in pcrs.split(",")]
            code, verdict = verify(make("some", pcrs=pcrs), rules=policy(pin, pcrs=some))
            assert code == 0 and verdict["fields"]["pcr_select"] == pcrs, verdict["reasons"]

    @promise
    def numbers_that_are_no_pcrs_are_refused():
        for pcrs in "", "24", "0,0", "0,", ",0", "-1", " 0", "0x1", "0 1", "4294967296", "99999999999999999999":
            done = rig("make", pcrs, NONCE, f"{WORK}/none")
            assert done.returncode == 1 and "range: TPM: expected numbers of PCRs" in done.err, (pcrs, done.err)
        assert not os.path.exists(f"{WORK}/none")

    @promise
    def pcrs_that_change_under_a_quote_are_read_again():
        moving = make("moving", pcrs="0,16", env={"EXTEND": "3"})
        assert verify(moving, rules=policy(pin, pcrs=(0, 16)))[0] == 0
        done = rig("make", "0,16", NONCE, f"{WORK}/never", env={"EXTEND": ENDLESS})
        assert done.returncode == 1 and "the PCRs changed" in done.err and not os.path.exists(f"{WORK}/never"), done.err

    @promise
    def another_state_of_the_machine_is_refused():
        rules = policy(pin, pcrs=(0, 16))
        assert verify(make("before", pcrs="0,16"), rules=rules)[0] == 0
        good("tpm2_pcrextend", "16:sha256=" + "ab" * 32)
        assert refused("measurement-pcr16", make("after", pcrs="0,16"), rules=rules) == ["measurement-pcr16"]

    @promise
    def a_credential_is_opened_by_this_tpm_for_this_key_only():
        done = rig("activate", bundle, NONCE, ROOT, CA)
        assert done.returncode == 0, done.err

    @promise
    def a_credential_that_tpm2_tools_make_is_opened():
        with open(f"{WORK}/secret", "wb") as file:
            file.write(os.urandom(32))
        name = verify(bundle)[1]["fields"]["ak_name"]
        good("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
        flushed()
        good("tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", name, "-o", "credential")
        done = rig("open", f"{WORK}/credential", f"{WORK}/secret")
        assert done.returncode == 0, done.err

    @promise
    def nothing_stays_in_the_tpm_whichever_command_fails():
        assert left_in_tpm() == "", left_in_tpm()
        good("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
        flushed()
        name = verify(bundle)[1]["fields"]["ak_name"]
        write("secret", bytes(32))
        good("tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", name, "-o", "credential")
        for what in ("make", PCRS, NONCE, f"{WORK}/failing"), ("open", f"{WORK}/credential", f"{WORK}/secret"):
            fails = 0
            while True:
                done = rig(*what, env={"FAIL": str(fails + 1)})
                assert left_in_tpm() == "", (what, fails, left_in_tpm())
                if done.returncode == 0:
                    break
                assert done.returncode == 1 and done.err.startswith(("io: TPM", "trust: TPM")), done.err
                fails += 1
            assert fails >= 3, f"{what[0]}: only {fails} commands could fail"

    @promise
    def no_tpm_is_said_to_be_none():
        done = run(RIG, "device:/dev/null/tpm", "make", PCRS, NONCE, f"{WORK}/none")
        assert done.returncode == 1 and done.err.startswith("io: 'device:/dev/null/tpm' (is there a TPM"), done.err

    # ---- what others make on the same TPM, with tpm2-tools: files beside each other, as `cmif verify` takes them ----
    attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
    good("tpm2_createprimary", "-C", "e", "-c", "primary.ctx", "-G", "rsa")
    flushed()
    for key, more in ("restricted", "|restricted"), ("free", ""):
        good("tpm2_create", "-C", "primary.ctx", "-G", "rsa2048:rsassa-sha256:null", "-g", "sha256", "-a", attributes + more, "-u", f"{key}.pub", "-r", f"{key}.priv")
        flushed()
        good("tpm2_load", "-C", "primary.ctx", "-u", f"{key}.pub", "-r", f"{key}.priv", "-c", f"{key}.ctx")
        flushed()

    def quote(key, selection, name):
        folder = f"{WORK}/{name}"
        os.makedirs(folder, exist_ok=True)
        shutil.copy(f"{WORK}/{key}.pub", f"{folder}/ak.pub")
        good("tpm2_quote", "-c", f"{key}.ctx", "-l", selection, "-q", NONCE, "-m", f"{folder}/quote.msg", "-s", f"{folder}/quote.sig", "-o", f"{folder}/quote.pcrs",
             "-F", "serialized", "-g", "sha256")
        flushed()
        return folder

    honest = quote("restricted", f"sha256:{PCRS}", "honest")
    restricted_pin = pin_of(honest)

    @promise
    def what_tpm2_tools_make_in_good_faith_is_accepted():
        code, verdict = verify(honest, rules=policy(restricted_pin))
        assert code == 0, verdict["reasons"]

    @promise
    def an_unrestricted_key_is_refused_even_if_it_is_pinned():
        free = quote("free", f"sha256:{PCRS}", "free")
        assert refused("AK is not a restricted signing key", free, rules=policy(pin_of(free))) == ["AK is not a restricted signing key"]

    @promise
    def a_quote_that_somebody_made_up_is_refused_and_a_restricted_key_does_not_sign_it():
        forged = f"{WORK}/forged"
        shutil.copytree(honest, forged)
        quoted = bytearray(read("honest/quote.msg"))
        quoted[-1] ^= 1  # another state of the machine
        write("forged/quote.msg", bytes(quoted))
        assert run("tpm2_sign", "-c", "restricted.ctx", "-g", "sha256", "-s", "rsassa", "-o", "forged/quote.sig", "forged/quote.msg").returncode != 0
        flushed()
        refused("invalid-evidence", forged, rules=policy(restricted_pin))
        good("tpm2_sign", "-c", "free.ctx", "-g", "sha256", "-s", "rsassa", "-o", "forged/quote.sig", "forged/quote.msg")
        flushed()
        refused("invalid-evidence", forged, rules=policy(restricted_pin))  # the other key's signature
        shutil.copy(f"{WORK}/free.pub", f"{forged}/ak.pub")
        assert "AK is not a restricted signing key" in verify(forged, rules=policy(restricted_pin))[1]["reasons"]

    @promise
    def every_trick_with_the_selection_of_pcrs_is_refused():
        rules = policy(restricted_pin)
        tricks = {"smaller": "sha256:0,1,2,3,4,5,6", "larger": "sha256:0,1,2,3,4,5,6,7,8", "one other": "sha256:0,1,2,3,4,5,6,8", "none": "sha256:none",
                  "other bank": f"sha384:{PCRS}", "two banks": f"sha256:{PCRS}+sha384:{PCRS}", "weak bank": f"sha1:{PCRS}"}
        for name, selection in tricks.items():
            reasons = refused("pcr-selection", quote("restricted", selection, f"trick {name}"), rules=rules)
            assert ("sha1" in reasons) == (name == "weak bank"), (name, reasons)
        ours = make("smaller", pcrs="0,1,2,3,4,5,6")
        refused("pcr-selection", ours, rules=policy(pin))
        refused("pcr-selection", ours, rules=policy(pin, pcrs=(0,), more=f"pcrs {PCRS}\n"))
        assert verify(ours, rules=policy(pin, pcrs=range(7)))[0] == 0

    @promise
    def the_other_bank_is_accepted_where_the_policy_asks_for_it():
        folder = quote("restricted", f"sha384:{PCRS}", "sha384")
        assert verify(folder, rules=policy(restricted_pin, bank="sha384"))[0] == 0

    @promise
    def values_of_another_time_are_refused():
        old = quote("restricted", "sha256:0,16", "old")
        good("tpm2_pcrextend", "16:sha256=" + "cd" * 32)
        new = quote("restricted", "sha256:0,16", "new")
        shutil.copy(f"{old}/quote.pcrs", f"{new}/quote.pcrs")
        refused("invalid-evidence", new, rules=policy(restricted_pin, pcrs=(0,), more="pcrs 0,16\n"))


PORT = free_ports()
TCTI = f"swtpm:host=127.0.0.1,port={PORT}"
ENV = {**base.ENV, "TPM2TOOLS_TCTI": TCTI, "TSS2_LOG": "all+NONE", "HOME": f"{WORK}/home", "XDG_DATA_HOME": f"{WORK}/home", "XDG_CONFIG_HOME": f"{WORK}/home"}
try:
    start()
    first = rig("make", PCRS, NONCE, f"{WORK}/first")
    if first.returncode == 77:
        skip(first.out.strip().removeprefix("skipped: "))
    promises()
finally:
    stop()
end()
