#!/usr/bin/env python3
"""verify_cli_test: `cmif verify` and `cmif collateral` as a person meets them, on real captures. See rig.py."""

import json
import os
import re
import resource
import shutil
import subprocess
import time

import rig
from rig import CANARY, ENV, SHARED, WORK, end, promise, read, small_files, write

CASES = f"{SHARED}/attestation"
os.chmod(WORK, 0o755)
TDX, TDX_TIME = f"{CASES}/tdx/v4-uptodate", "2025-06-20T00:00:00Z"
EARLY, LATER, BOTH_TIME = f"{CASES}/tdx/v5-td15-migratable-outofdate", f"{CASES}/tdx/v4-gcp-uptodate-2026", "2026-07-01"  # evaluations 21 and 19 of one FMSPC
DATA = ("9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
        "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20")
stores = 0


def fresh():
    """An environment with a store of its own."""
    global stores
    stores += 1
    return {**ENV, "XDG_DATA_HOME": f"{WORK}/data{stores}"}


def cmif(*args, env=None, **more):
    done = rig.cmif(*args, env=env or fresh(), **more)
    assert CANARY not in done.out + done.err, "bytes of a file are in what it says"
    return done


def exits(code, *args, says=None, **more):
    done = cmif(*args, **more)
    assert done.returncode == code, f"cmif {' '.join(args)}: exit {done.returncode}, expected {code}: {done.err}{done.out}"
    if says:
        assert re.search(says, done.out + done.err), f"expected /{says}/ in: {done.out}{done.err}"
    return done


def refused(code, sentence, *args, **more):
    return rig.refused(code, sentence, cmif(*args, **more))


def verdict(code, *args, **more):
    return json.loads(exits(code, "verify", "--json", *args, **more).out)


def verdict_of(*args):
    return json.loads(cmif("verify", "--json", *args).out)


if not os.path.exists(f"{CASES}/cases.json"):
    rig.skip("the captures are not beside the repository (shared/attestation)")
FIELDS = json.load(open(f"{TDX}/expected.json"))["quote_fields"]
POLICY = f"attestation-policy 1\naccept tdx\nmeasure tdx mrtd {FIELDS['mrtd']}\nmeasure tdx rtmr1 {FIELDS['rtmr1']}\n"
GOOD = write("good.policy", POLICY)
EARLY_POLICY = (f"attestation-policy 1\naccept tdx\nmeasure tdx mrtd {json.load(open(f'{EARLY}/expected.json'))['quote_fields']['mrtd']}\n"
                "status UpToDate OutOfDate\ntd-forbid none\nloosen no-report-data\nloosen servtd\n")


@promise
def wrong_use_is_2_and_says_what_is_right():
    refused(2, "takes evidence", "verify")
    refused(2, "unknown option '--polcy': did you mean '--policy'", "verify", "--polcy", "x", TDX)
    refused(2, "--time takes", "verify", "--time", "yesterday", TDX)
    refused(2, "--time takes", "verify", "--time", "2025-02-30", TDX)
    refused(2, "--report-data takes", "verify", "--report-data", "0g", TDX)
    refused(2, "judge by a policy or write one", "verify", "--policy", GOOD, "--write-policy", f"{WORK}/x", TDX)
    refused(2, "takes add, list, check, export or remove", "collateral")
    refused(2, "takes one or more files", "collateral", "add")
    refused(2, "takes one folder", "collateral", "export")
    refused(2, "takes options only", "collateral", "list", "x")
    for command in (["verify"], ["collateral"], ["collateral", "add"], ["collateral", "check"]):
        exits(0, *command, "--help", says="usage|cmif")
    assert "verify" in exits(0, "--help").out and "collateral" in exits(0, "--help").out


@promise
def evidence_that_the_policy_names_is_accepted_and_only_that():
    done = exits(0, "verify", "--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, TDX, says="^accepted: Intel TDX quote version 4, TCB UpToDate of 2024-03-13\n")
    assert not done.err
    exits(10, "verify", "--policy", GOOD, "--time", TDX_TIME, TDX, says="report-data")
    exits(10, "verify", "--policy", GOOD, "--report-data", "00" + DATA[2:], "--time", TDX_TIME, TDX, says="report-data")
    other = write("other.policy", POLICY.replace(FIELDS["mrtd"], "00" * 48))
    assert verdict(10, "--policy", other, "--report-data", DATA, "--time", TDX_TIME, TDX)["reasons"] == ["measurement-mrtd"]
    either = write("either.policy", POLICY + f"measure tdx mrtd {'00' * 48}\n")
    exits(0, "verify", "--policy", either, "--report-data", DATA, "--time", TDX_TIME, TDX)
    snp = write("snp.policy", f"attestation-policy 1\naccept snp\nmeasure snp measurement {'00' * 48}\n")
    assert "technology-not-accepted" in verdict(10, "--policy", snp, "--report-data", DATA, "--time", TDX_TIME, TDX)["reasons"]


@promise
def without_a_policy_it_shows_and_never_accepts():
    done = exits(10, "verify", "--time", TDX_TIME, TDX, says="shown only, not accepted")
    assert f"measure tdx mrtd {FIELDS['mrtd']}" in done.out and "accept tdx" in done.out and "no-policy" in done.out
    found = verdict(10, "--time", TDX_TIME, TDX)
    assert found["reasons"] == ["no-policy"] and found["loosened"] == [] and "report-data" in found["unchecked"], found
    for case in json.load(open(f"{CASES}/cases.json")):
        code = cmif("verify", "--quiet", "--time", case["verify_at"] or TDX_TIME, f"{CASES}/{case['dir']}").returncode
        assert code in (10, 20, 30), f"{case['case']}: exit {code}"


@promise
def what_is_no_evidence_is_malformed():
    letter = write("letter.txt", f"Dear nurse, {CANARY}!\n")
    exits(30, "verify", letter, says="found none of them in the 24 bytes of .*letter.txt")
    exits(30, "verify", TDX, letter, "--time", TDX_TIME, says="letter.txt")
    os.makedirs(f"{WORK}/empty")
    exits(30, "verify", f"{WORK}/empty", says="found none among 0 files")
    exits(30, "verify", write("nothing", ""), says="found none among 1 file$|found none among 1 file\n")
    exits(30, "verify", f"{TDX}/tcb_info.json", says="no-evidence")
    refused(1, "cannot open.*nowhere", "verify", f"{WORK}/nowhere")
    refused(1, "neither a file nor a folder", "verify", "/dev/zero")
    pipe = f"{WORK}/pipe"  # that nobody writes to: it is not waited for
    os.mkfifo(pipe)
    refused(1, "neither a file nor a folder", "verify", pipe)
    refused(1, "neither a file nor a folder", "collateral", "add", pipe)
    refused(1, "neither a file nor a folder", "verify", "--collateral", pipe, TDX)
    refused(1, "policy .*pipe' is no file", "verify", "--policy", pipe, TDX)
    env = fresh()
    os.makedirs(f"{env['XDG_DATA_HOME']}/cmif")
    os.mkfifo(f"{env['XDG_DATA_HOME']}/cmif/collateral.db")
    refused(1, "collateral.db is no file", "verify", "--time", TDX_TIME, TDX, env=env)
    refused(1, "collateral.db is no file", "collateral", "list", env=env)
    found = verdict(30, letter)
    assert found["outcome"] == "malformed" and found["technology"] is None and found["exit_code"] == 30


@promise
def a_cut_quote_is_malformed_and_says_where():
    quote = read(f"{TDX}/quote.bin")
    used = json.load(open(f"{TDX}/expected.json"))["quote_fields"]["used_len"]
    for size in (1, 7, 27, 28, 47, 48, 100, 631, 632, 636, 700, 4000, used - 1):
        found = verdict(30, "--policy", GOOD, "--time", TDX_TIME, write("cut.bin", quote[:size]))
        assert found["sentence"] and re.search(r"\b\d+\b", found["sentence"].replace(WORK, "")), found
    exits(30, "verify", "--time", TDX_TIME, write("report.bin", read(f"{CASES}/snp/milan-v3-vcek/report.bin")[:-1]))


@promise
def what_is_not_supported_is_20():
    exits(20, "verify", f"{CASES}/sgx/v3-cert-type-3-eppid", says="unsupported certification data: type 3")
    quote = bytearray(read(f"{TDX}/quote.bin"))
    quote[0] = 6
    found = verdict(20, write("six.bin", bytes(quote)))
    assert "6" in found["sentence"], found


@promise
def a_wrong_line_of_a_policy_is_named():
    for line, sentence in (("accept tdxx", "line 3: expected sgx, tdx"), ("colour blue", "line 3: a key that is not known"),
                           ("status UpToDate Revoked", "line 3: Revoked can never be accepted"), ("accept sgx", "line 4: .*without a measurement for sgx")):
        path = write("bad.policy", f"attestation-policy 1\naccept tdx\n{line}\n" + (f"measure tdx mrtd {FIELDS['mrtd']}" if line == "accept sgx" else ""))
        refused(2, f"policy '{path}': {sentence}", "verify", "--policy", path, TDX)
    refused(2, "without accepting anything", "verify", "--policy", write("empty.policy", "attestation-policy 1\n"), TDX)
    refused(2, "without a measurement for tdx", "verify", "--policy", write("any.policy", "attestation-policy 1\naccept tdx\n"), TDX)
    refused(1, "cannot open policy", "verify", "--policy", f"{WORK}/nowhere", TDX)
    refused(2, "both --report-data and the policy", "verify", "--policy", write("data.policy", POLICY + "report-data 00\n"), "--report-data", "00", TDX)


@promise
def a_root_replaces_those_of_one_technology():
    ark = read(f"{CASES}/roots/amd_milan_ark.pem").decode()
    both = POLICY + f"accept sgx\nmeasure sgx mrenclave {'00' * 32}\n"
    good = ["--report-data", DATA, "--time", TDX_TIME, TDX]
    refused(2, "line 7: more than one technology is accepted, so say which this root is for: 'root sgx', 'root tdx'",
            "verify", "--policy", write("root.policy", f"{both}root\n{ark}"), *good)
    found = verdict(0, "--policy", write("root.policy", f"{both}root sgx\n{ark}"), *good)  # Intel's counts for TDX as before
    assert "roots" in found["loosened"] and "collateral-rollback" not in found["unchecked"], found
    for line in ("root", "root tdx"):
        found = verdict(10, "--policy", write("root.policy", f"{POLICY}{line}\n{ark}"), *good)
        assert "pck-untrusted" in found["errors"] and "collateral-rollback" in found["unchecked"], found


@promise
def what_is_loosened_shows_in_the_verdict():
    loose = write("loose.policy", POLICY + "loosen no-report-data\nstatus UpToDate OutOfDate\ntd-require none\n")
    found = verdict(0, "--policy", loose, "--time", TDX_TIME, TDX)
    assert found["loosened"] == ["no-report-data", "status-OutOfDate", "td-sept-ve-disable"], found["loosened"]
    assert found["unchecked"] == ["report-data"]
    exits(0, "verify", "--policy", loose, "--time", TDX_TIME, TDX, says="loosened by the policy\n    no-report-data\n    status-OutOfDate")
    found = verdict(0, "--policy", loose, "--collateral", "none", "--time", TDX_TIME, TDX)
    assert "no-store" in found["loosened"] and "collateral-rollback" in found["unchecked"]


@promise
def times_outside_the_collaterals_are_refused():
    good = ["--policy", GOOD, "--report-data", DATA]
    early, late = verdict(10, *good, "--time", "2025-06-18", TDX), verdict(10, *good, "--time", "2025-07-20", TDX)
    assert "tcb-info-not-yet-valid" in early["reasons"] and "tcb-info-expired" in late["reasons"], (early["reasons"], late["reasons"])
    assert early["time"] == "2025-06-18T00:00:00Z"
    exits(10, "verify", *good, TDX, says="expired")  # now


@promise
def evidence_alone_is_refused_until_the_store_knows_its_platform():
    env = fresh()
    good = ["--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, f"{TDX}/quote.bin"]
    assert "no-collateral" in verdict(10, *good, env=env)["reasons"]
    exits(1, "collateral", "check", says="no collateral is kept", env=env)
    exits(0, "collateral", "add", *[f"{TDX}/{name}" for name in os.listdir(TDX) if name not in ("quote.bin", "expected.json")], env=env)
    found = verdict(0, *good, env=env)
    assert any(item["file"] == "(collateral store)" for item in found["items"]) and found["collateral"]["tcb_info"] == "2025-06-19T10:16:03Z"
    assert "no-collateral" in verdict(10, "--collateral", "none", *good, env=env)["reasons"]
    exits(0, "verify", *good, "--collateral", TDX)
    listed = exits(0, "collateral", "list", env=env).out
    assert re.search(r"tcb-info +TDX b0c06f000000 +2025-06-19 to 2025-07-19, evaluation 17", listed), listed
    exits(1, "collateral", "check", env=env, says="ended    TDX b0c06f000000")
    exits(0, "collateral", "export", f"{WORK}/out", env=env)
    again = fresh()
    exits(0, "collateral", "add", f"{WORK}/out", env=again)
    assert json.loads(exits(0, "collateral", "list", "--json", env=again).out)["items"] == json.loads(exits(0, "collateral", "list", "--json", env=env).out)["items"]
    refused(1, "File exists", "collateral", "export", f"{WORK}/out", env=env)


@promise
def a_folder_of_collateral_may_be_for_many_platforms():
    env, good = fresh(), ["--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, f"{TDX}/quote.bin"]
    for case, names in (("tdx/v4-uptodate", ["tcb_info", "qe_identity"]), ("tdx/v4-gcp-outofdate", ["tcb_info"]), ("sgx/v3-config-swhardening", ["tcb_info", "qe_identity"])):
        exits(0, "collateral", "add", *[f"{CASES}/{case}/{name}.json" for name in names], env=env)
    exits(0, "collateral", "export", f"{WORK}/many", env=env)
    crls = [f"{TDX}/{name}" for name in os.listdir(TDX) if "c" in name and name.endswith((".der", ".pem"))]
    found = verdict(0, *good, *crls, "--collateral", f"{WORK}/many")
    assert sum(item["what"] == "collateral for another platform" for item in found["items"]) == 3, found["items"]
    exits(0, "verify", *good, *crls, env=env)  # and so may the store


@promise
def only_collateral_is_kept():
    env = fresh()
    refused(1, "is no collateral \\(Intel quote", "collateral", "add", f"{TDX}/tcb_info.json", f"{TDX}/quote.bin", env=env)
    refused(1, "is no collateral", "collateral", "add", write("letter.txt", CANARY), env=env)
    exits(0, "collateral", "list", says="no collateral is kept", env=env)
    refused(1, "cannot open", "collateral", "add", f"{WORK}/nowhere", env=env)
    refused(1, "expected|without", "collateral", "add", write("half.json", read(f"{TDX}/tcb_info.json")[:500]), env=env)


@promise
def check_says_what_is_missing():
    env = fresh()
    exits(0, "collateral", "add", f"{TDX}/tcb_info.json", env=env)
    notes = json.loads(exits(1, "collateral", "check", "--json", env=env).out)["notes"]
    missing = " ".join(note["sentence"] for note in notes if note["what"] == "missing")
    assert all(word in missing for word in ("TD_QE", "TCB Signing", "CRL of Intel SGX Root CA", "PCK Platform CA")), missing
    env = fresh()
    exits(0, "collateral", "add", f"{SHARED}/attestation/roots/amd_milan_ark.pem", f"{SHARED}/attestation/roots/amd_milan_ask.pem", env=env)
    exits(1, "collateral", "check", env=env, says="missing  Milan +AMD's CRL")
    env = fresh()
    exits(0, "collateral", "add", f"{SHARED}/attestation/roots/intel_sgx_root_ca.der", env=env)
    exits(0, "collateral", "check", env=env, says="nothing is missing")
    exits(1, "collateral", "check", "--days", "36500", env=env, says="ends     Intel SGX Root CA")


@promise
def forged_collateral_locks_nothing_out():
    forged = write("forged.json", read(f"{TDX}/tcb_info.json").replace(b'"tcbEvaluationDataNumber":17', b'"tcbEvaluationDataNumber":99'))
    chain, genuine = f"{TDX}/tcb_signing_chain.pem", f"{TDX}/tcb_info.json"
    env = fresh()
    exits(0, "collateral", "add", chain, genuine, env=env)
    refused(1, "forged.json': TDX b0c06f000000 is not signed by whom it names", "collateral", "add", forged, env=env)
    exits(1, "collateral", "add", forged, chain, env=fresh(), says="is not signed by whom it names")  # whatever the order
    env = fresh()
    exits(0, "collateral", "add", forged, env=env, says="evaluation 99, not checked: its issuer is not here")
    exits(1, "collateral", "check", env=env, says="unchecked TDX b0c06f000000 .*its issuer's certificate is not here")
    exits(0, "collateral", "add", genuine, chain, env=env)
    found = {item["about"]: item for item in json.loads(exits(0, "collateral", "list", "--json", env=env).out)["items"]}
    assert found["TDX b0c06f000000"]["number"] == 17 and all(item["checked"] for item in found.values()), found
    crl = bytearray(read(f"{TDX}/root_ca_crl.der"))
    crl[-1] ^= 1
    refused(1, "not signed by whom it names", "collateral", "add", write("crl", bytes(crl)), env=env)


@promise
def what_is_removed_is_gone_and_older_stays_refused():
    env = fresh()
    exits(0, "verify", "--policy", write("early.policy", EARLY_POLICY), "--time", BOTH_TIME, EARLY, env=env)
    exits(0, "collateral", "add", *[f"{EARLY}/{name}" for name in os.listdir(EARLY) if name not in ("quote.bin", "expected.json")], env=env)
    info = next(item["about"] for item in json.loads(exits(0, "collateral", "list", "--json", env=env).out)["items"] if item["kind"] == "tcb-info")
    refused(2, "takes one name", "collateral", "remove", env=env)
    refused(1, "nothing of that name is kept", "collateral", "remove", "TDX", env=env)
    exits(0, "collateral", "remove", info, env=env, says=f"removed\n  tcb-info +{info} .*\n1 removed; what was believed before is still remembered")
    assert info not in exits(0, "collateral", "list", env=env).out
    removed = json.loads(exits(0, "collateral", "remove", "all", "--json", env=env).out)["removed"]
    assert len(removed) > 3 and all("checked" not in item for item in removed), removed
    exits(0, "collateral", "list", env=env, says="no collateral is kept")
    refused(1, "was believed before", "collateral", "add", f"{LATER}/tcb_info.json", env=env)
    exits(0, "collateral", "remove", "all", env=fresh(), says="0 removed")


@promise
def an_activated_key_is_named_by_the_caller_and_the_verdict_says_so():
    case = f"{CASES}/tpm/swtpm-rsa-ak"
    looked = verdict(10, case)
    name, pcrs = looked["fields"]["ak_name"], looked["fields"]["pcr_select"].split(",")
    policy = write("tpm.policy", "attestation-policy 1\naccept tpm\nloosen no-report-data\n" + "".join(
        f"measure tpm pcr{n} {looked['fields'][f'pcr{n}']}\n" for n in pcrs))
    alone = [f"{case}/{file}" for file in ("quote.msg", "quote.sig", "quote.pcrs", "ak.pub")]
    assert "ak-untrusted" in verdict(10, "--policy", policy, *alone)["reasons"]
    found = verdict(0, "--policy", policy, "--ak-name", name, *alone)
    assert found["loosened"] == ["no-report-data", "ak-name"] and found["fields"]["ak_trust"].strip() == "activation", found
    other = name[:-1] + ("0" if name[-1] != "0" else "1")
    found = verdict(10, "--policy", policy, "--ak-name", other, *alone)
    assert "ak-untrusted" in found["reasons"] and "ak-name" in found["loosened"], found
    refused(2, "--ak-name takes the Name", "verify", "--ak-name", name[4:], case)


@promise
def an_answer_with_its_headers_brings_the_issuer_chain():
    env = fresh()
    chain = read(f"{TDX}/tcb_signing_chain.pem").decode().replace("\n", "%0A").replace(" ", "%20")
    answer = f"HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: {chain}\r\n\r\n".encode() + read(f"{TDX}/tcb_info.json")
    exits(0, "collateral", "add", write("answer", answer), env=env)
    listed = exits(0, "collateral", "list", env=env).out
    assert "Intel SGX TCB Signing" in listed and "TDX b0c06f000000" in listed, listed


@promise
def older_collateral_than_was_believed_is_refused():
    env = fresh()
    quiet = ["--time", BOTH_TIME]
    assert verdict(10, *quiet, LATER, env=fresh())["reasons"] == ["no-policy"]  # by itself it is good
    looked = verdict(10, *quiet, EARLY, env=env)  # whoever shows evidence does not choose what is believed from then on
    assert looked["tcb"]["evaluation"] == 21 and not any("rollback" in word for word in looked["reasons"])
    assert verdict(10, *quiet, LATER, env=env)["reasons"] == ["no-policy"]
    any_program = re.sub("measure .*", "loosen any-measurement", EARLY_POLICY)  # nor whoever has a machine of the maker's
    assert verdict(0, "--policy", write("any.policy", any_program), *quiet, EARLY, env=env)["tcb"]["evaluation"] == 21
    assert verdict(10, *quiet, LATER, env=env)["reasons"] == ["no-policy"]
    assert verdict(0, "--policy", write("early.policy", EARLY_POLICY), *quiet, EARLY, env=env)["tcb"]["evaluation"] == 21
    after = verdict(10, *quiet, LATER, env=env)
    assert after["tcb"]["evaluation"] == 19 and "tcb-info-rollback" in after["reasons"], after["reasons"]
    exits(10, "verify", *quiet, LATER, env=env, says="tcb-info-rollback +collateral that is older than what was believed before")
    assert "tcb-info-rollback" not in verdict(10, *quiet, "--collateral", "none", LATER, env=env)["reasons"]
    assert not any("rollback" in word for word in verdict(10, "--time", "2026-06-01", LATER, env=env)["reasons"])  # nobody had the newer one then
    refused(1, "collateral-rollback: .*was believed before", "collateral", "add", f"{LATER}/tcb_info.json", env=env)


@promise
def what_was_not_verified_is_not_remembered():
    env = fresh()
    forged = f"{WORK}/forged"
    shutil.copytree(EARLY, forged)
    os.chmod(forged, 0o755)
    os.chmod(f"{forged}/tcb_info.json", 0o644)
    write("forged/tcb_info.json", read(f"{EARLY}/tcb_info.json").replace(b'"tcbEvaluationDataNumber":21', b'"tcbEvaluationDataNumber":99'))
    found = verdict(10, "--time", BOTH_TIME, forged, env=env)
    assert "invalid-collateral" in found["reasons"] or "tcb-info-signature" in found["errors"], found
    without = [f"{EARLY}/{name}" for name in os.listdir(EARLY) if "crl" not in name and name != "expected.json"]
    found = verdict(10, "--time", BOTH_TIME, *without, env=env)  # signed, but perhaps by a key that was revoked
    assert found["tcb"]["evaluation"] == 21 and "revocation-tcb-signing" in found["reasons"], found
    found = verdict(0, "--policy", write("loose3.policy", EARLY_POLICY + "loosen no-crl\n"), "--time", BOTH_TIME, *without, env=env)
    assert found["tcb"]["evaluation"] == 21 and "revocation-tcb-signing" in found["unchecked"], found
    own = write("own.policy", f"{EARLY_POLICY}root\n{read(f'{CASES}/roots/intel_sgx_root_ca.pem').decode()}")  # whoever brings a root brings another maker
    assert "roots" in verdict(0, "--policy", own, "--time", BOTH_TIME, EARLY, env=env)["loosened"]
    assert not any("rollback" in word for word in verdict(10, "--time", BOTH_TIME, LATER, env=env)["reasons"])


@promise
def a_damaged_store_stops_everything_and_says_so():
    env = fresh()
    exits(0, "collateral", "add", f"{TDX}/tcb_info.json", env=env)
    database = f"{env['XDG_DATA_HOME']}/cmif/collateral.db"
    whole = read(database)
    at = whole.index(b"b0c06f000000")
    write(os.path.relpath(database, WORK), whole[:at] + b"c" + whole[at + 1:])
    for args in (["verify", "--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, TDX], ["collateral", "list"], ["collateral", "add", f"{TDX}/qe_identity.json"]):
        refused(1, "damaged.*move it away", *args, env=env)
    write(os.path.relpath(database, WORK), b"no database at all, but longer than nothing" * 100)
    refused(1, "no collateral store", "verify", "--time", TDX_TIME, TDX, env=env)
    exits(0, "verify", "--collateral", "none", "--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, TDX, env=env)


@promise
def a_full_disk_accepts_nothing_unremembered():
    good = ["--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, TDX]
    for args in (["collateral", "add", f"{TDX}/tcb_info.json"], ["verify", *good]):
        done = refused(1, "collateral store .*(full|fails)", *args, preexec_fn=small_files, restore_signals=False)
        assert "accepted" not in done.out
    env = fresh()
    exits(0, "verify", *good, env=env)
    exits(0, "verify", *good, env=env, preexec_fn=small_files, restore_signals=False)  # nothing new to remember
    path = f"{WORK}/full.policy"
    refused(1, "cannot write .*full.policy|is the disk full", "verify", "--write-policy", path, "--time", TDX_TIME, TDX, env=env,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)), restore_signals=False)
    assert not os.path.exists(path), "half a policy is left"


@promise
def a_read_only_store_is_read_and_never_silently_forgetful():
    if os.getuid() != 0:
        return
    env = fresh()
    good = ["--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, TDX]
    exits(0, "verify", *good, env=env)
    folder = f"{env['XDG_DATA_HOME']}/cmif"
    for path, mode in ((f"{folder}/collateral.db", 0o444), (folder, 0o555), (env["XDG_DATA_HOME"], 0o555)):
        os.chmod(path, mode)

    def nobody():
        os.setgid(65534)
        os.setuid(65534)
    exits(0, "verify", *good, env=env, preexec_fn=nobody)
    refused(1, "read-only", "collateral", "add", f"{TDX}/tcb_info.json", env=env, preexec_fn=nobody)
    early = write("early.policy", EARLY_POLICY)
    refused(1, "read-only", "verify", "--policy", early, "--time", BOTH_TIME, EARLY, env=env, preexec_fn=nobody)
    exits(10, "verify", "--collateral", "none", "--time", BOTH_TIME, EARLY, env=env, preexec_fn=nobody)


@promise
def a_policy_is_written_from_good_evidence_and_accepts_it():
    path = f"{WORK}/written.policy"
    exits(0, "verify", "--write-policy", path, "--time", TDX_TIME, TDX)
    text = read(path).decode()
    assert f"\nmeasure tdx mrtd {FIELDS['mrtd']}\n" in text and "\n# measure tdx rtmr3 " in text and "\nminimum-tcb-evaluation 17\n" in text, text
    exits(0, "verify", "--policy", path, "--report-data", DATA, "--time", TDX_TIME, TDX)
    refused(1, "there already and stays", "verify", "--write-policy", path, "--time", TDX_TIME, TDX)
    for case, when in (("tdx/v4-tdx10-debug", "2023-07-01"), ("tdx/v4-gcp-outofdate", "2025-07-10"), ("sgx/v3-cert-type-3-eppid", TDX_TIME)):
        refused(1, "no policy was written", "verify", "--write-policy", f"{WORK}/none.policy", "--time", when, f"{CASES}/{case}")
    assert not os.path.exists(f"{WORK}/none.policy")
    for case, when in (("snp/turin-v5-vcek", "2026-03-07"), ("snp/milan-v3-vlek-aws", "2025-01-09"), ("tpm/azure-tdx-vtpm-ak-chain", "2026-06-09")):
        path = f"{WORK}/{os.path.basename(case)}.policy"
        exits(0, "verify", "--write-policy", path, "--time", when, f"{CASES}/{case}")
        assert "\n# loosen no-crl\n" in read(path).decode()  # not checked, so a person must say it
        exits(10, "verify", "--policy", path, "--time", when, f"{CASES}/{case}", says="revocation-")
        loose = write("loose2.policy", re.sub("^# (loosen no-crl|snp-vmpl-max)", r"\1", read(path).decode(), flags=re.M) + "loosen no-report-data\n")
        exits(0, "verify", "--policy", loose, "--time", when, f"{CASES}/{case}")


SCHEMA = {"schema": str, "outcome": str, "exit_code": int, "technology": (str, type(None)), "debug": bool, "reasons": list, "errors": list, "unchecked": list,
          "loosened": list, "advisories": list, "tcb": dict, "collateral": dict, "time": str, "sentence": (str, type(None)), "fields": dict,
          "policy": (dict, type(None)), "items": list}


@promise
def the_json_of_a_verdict_has_one_form():
    letter = write("letter.txt", CANARY)
    for args in (["--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, TDX], ["--time", TDX_TIME, TDX], [letter], [f"{CASES}/sgx/v3-cert-type-3-eppid"],
                 [f"{CASES}/snp/milan-v2-debug"], [f"{CASES}/tpm/swtpm-rsa-ak"]):
        done = cmif("verify", "--json", *args)
        found = json.loads(done.out)
        assert done.out.count("\n") == 1 and not done.err
        assert set(found) == set(SCHEMA), set(found) ^ set(SCHEMA)
        for name, kind in SCHEMA.items():
            assert isinstance(found[name], kind), f"{name} is {found[name]}"
        assert found["schema"] == "cmif-verdict-1" and found["exit_code"] == done.returncode
        assert set(found["tcb"]) == {"status", "platform", "module", "qe", "date", "evaluation"} and set(found["collateral"]) == {"tcb_info", "qe_identity", "crl"}
        assert all(set(item) == {"file", "what", "used"} for item in found["items"])
    assert json.loads(cmif("verify", "--json", "--time", "never", TDX).err)["error"]["code"] == "range"
    page = read(os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "docs", "attestation.md")).decode()
    for name in list(SCHEMA) + ["platform", "module", "evaluation"]:
        assert f"`{name}`" in page, f"docs/attestation.md does not tell of {name}"


@promise
def two_quotes_are_not_one_evidence():
    found = verdict(30, f"{TDX}/quote.bin", f"{CASES}/tdx/v4-tdx10-debug/quote.bin")
    assert "item-twice" in found["reasons"]


@promise
def the_simulator_is_insecure_in_every_verdict():
    source = read(os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "shared", "evidence", "maker_sim.c")).decode()
    key = bytes(int(byte, 16) for byte in re.findall("0x([0-9a-f]{2}),", source[source.index("0x30, 0x77"):])[:121])
    body = b"CMIFSIM1" + b"\1\0\0\0" + b"m" * 32 + b"r" * 64
    signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", write("sim.key", key), "-keyform", "DER", write("sim.body", body)], capture_output=True, check=True).stdout
    at, raw = 2, b""
    for _ in range(2):  # SEQUENCE of two INTEGERs
        size = signed[at + 1]
        raw += signed[at + 2:at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + size
    evidence = write("sim.bin", body + raw)
    found = verdict_of("--report-data", (b"r" * 64).hex(), evidence)
    if found["outcome"] == "unsupported":
        return  # built without it
    assert found["exit_code"] == 10 and "INSECURE" in found["loosened"] and "INSECURE" in found["sentence"], found
    policy = f"attestation-policy 1\naccept sim\nmeasure sim measurement {(b'm' * 32).hex()}\n"
    refused(2, "takes both", "verify", "--policy", write("sim.policy", policy), evidence)
    write("sim.policy", policy + "loosen simulator\n")
    sim = ["verify", "--policy", f"{WORK}/sim.policy", "--report-data", (b"r" * 64).hex(), evidence]
    done = exits(0, *sim, says="INSECURE: a simulator, which proves nothing")
    assert done.out.startswith("accepted: INSECURE SIMULATOR") and "INSECURE" in exits(0, *sim[:1], "--quiet", *sim[1:]).out
    assert "technology-not-accepted" in verdict(10, "--policy", GOOD, evidence)["reasons"]


@promise
def a_verdict_is_quick():
    start = time.monotonic()
    exits(0, "verify", "--policy", GOOD, "--report-data", DATA, "--time", TDX_TIME, "--collateral", "none", TDX)
    assert time.monotonic() - start < 2


end()
