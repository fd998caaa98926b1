#!/usr/bin/env python3
"""boundary_test SOURCE BUILD: the compiler, not goodwill, keeps the sides apart.

Takes the real compile commands of the build and tries to break the boundary with them. Each attempt has to meet the
very error that is meant to stop it, and each has a control beside it that compiles, so that a typing mistake here cannot pass for safety."""

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SOURCE, BUILD = map(os.path.realpath, sys.argv[1:3])
TRUSTED = os.path.join(SOURCE, "trusted")
MAY_GROW_IDS = ("trusted/dp/", "trusted/tokenizer/", "trusted/chat/", "trusted/session/", "trusted/embed/bayes.c")
MAY_MAKE_RELEASED = ("trusted/dp/release.c", "trusted/sanitizer/sanitizer.c")
ENGINE_SYMBOL = re.compile(r" [TtUWw] ((llama|ggml|gguf)_\w+)$", re.MULTILINE)  # functions, here or wanted
failures = []


def check(promise, kept, found=""):
    if not kept:
        failures.append(promise)
        print(f"FAIL {promise}{': ' + found if found else ''}")


class Command:
    """One compile command: its file, and its flags without input and output."""

    def __init__(self, entry):
        words = shlex.split(entry["command"])
        self.file = os.path.relpath(os.path.realpath(os.path.join(entry["directory"], entry["file"])), SOURCE)
        self.directory, self.compiler = entry["directory"], words[0]
        self.flags = [word for i, word in enumerate(words[1:], 1)
                      if word not in ("-c", "-o") and words[i - 1] not in ("-c", "-o") and not word.endswith(entry["file"])]
        self.trusted = any(flag == "-DCMIF_SIDE_TRUSTED" for flag in self.flags)
        # tests may hold both sides beside each other, to compare them; what people run may not
        self.test = re.search(r"(_test|_fuzz)\.\w+$", self.file) or self.file.startswith(("tests/", "bench/"))

    def folders(self):
        """Include folders, in both spellings (-Ix, -isystem x)."""
        for i, flag in enumerate(self.flags):
            if flag.startswith("-I") and len(flag) > 2:
                yield os.path.realpath(flag[2:])
            elif flag in ("-I", "-isystem", "-iquote", "-idirafter"):
                yield os.path.realpath(self.flags[i + 1])

    def compile(self, text, *more):
        """Compile text as this target would; (whether it went well, what the compiler said)"""
        language = "c++" if self.file.endswith(".cpp") else "c"
        done = subprocess.run([self.compiler, *self.flags, *more, "-fsyntax-only", "-x", language, "-"], cwd=self.directory,
                              input=text, capture_output=True, text=True)
        return done.returncode == 0, done.stderr

    def files_read(self):
        """What this source includes, at any depth."""
        done = subprocess.run([self.compiler, *self.flags, "-MM", os.path.join(SOURCE, self.file)], cwd=self.directory,
                              capture_output=True, text=True)
        check(f"{self.file} can be read by the compiler", done.returncode == 0, done.stderr)
        names = done.stdout.replace("\\\n", " ").split(":", 1)[-1].split()
        return {os.path.relpath(os.path.realpath(os.path.join(self.directory, name)), SOURCE) for name in names}


def one_of_each(commands):
    """One command for each different set of flags."""
    return list({" ".join(command.flags): command for command in commands}.values())


def main():
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
        commands = [Command(entry) for entry in json.load(file)]
    commands = [command for command in commands if not command.file.startswith("..")]
    commands = [command for command in commands if not command.test]
    trusted = [command for command in commands if command.trusted]
    other = [command for command in commands if not command.trusted]
    headers = sorted(os.path.relpath(os.path.join(folder, name), TRUSTED)
                     for folder, _, names in os.walk(TRUSTED) for name in names if name.endswith(".h"))
    check("both sides are in the build", trusted and any(command.file.startswith("untrusted/") for command in other))

    for command in commands:
        if command.file.startswith("trusted/"):
            check("what is in trusted/ is built as trusted", command.trusted, command.file)
        if command.file.startswith(("untrusted/", "shared/")) and not command.test:
            check("what is in untrusted/ or shared/ is not built as trusted", not command.trusted, command.file)
    for command in other:
        check("no untrusted target has trusted/ in its include path", TRUSTED not in command.folders(), command.file)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for command in one_of_each(other):
            good, said = command.compile('#include "base/err.h"\n')
            check("control: an untrusted target can include a shared header", good, f"{command.file}: {said}")

            for header, (good, said) in zip(headers, pool.map(lambda h: command.compile(f'#include "{h}"\n'), headers)):
                check("a trusted header cannot be found from an untrusted target",
                      not good and "No such file" in said + said.replace("file not found", "No such file"), f"{header} from {command.file}")
            for header, (good, said) in zip(headers, pool.map(
                    lambda h: command.compile(f'#include "{h}"\n', f"-I{TRUSTED}"), headers)):
                check("a trusted header stops a target that is not trusted, even when it is found",
                      not good and "for the trusted side only" in said, f"{header} from {command.file}")
        for command in one_of_each(trusted)[:1]:
            for header, (good, said) in zip(headers, pool.map(lambda h: command.compile(f'#include "{h}"\n'), headers)):
                check("control: a trusted target can include each trusted header", good, f"{header}: {said}")

        engine = ("llama.h", "ggml.h", "gguf.h")
        for command in trusted:
            seen = [os.path.join(folder, name) for folder in command.folders() for name in engine
                    if os.path.exists(os.path.join(folder, name))]
            check("no trusted target has the engine in its include path", not seen, f"{command.file}: {seen}")
        check("control: some untrusted target has the engine in its include path",
              any(os.path.exists(os.path.join(folder, "llama.h")) for command in other for folder in command.folders())
              or os.path.exists("/usr/include/llama.h"))

        grown, reader = [], 0
        made = set()
        for command, files in zip(trusted, pool.map(Command.files_read, trusted)):
            engine_read = [name for name in files if os.path.basename(name).startswith(("llama", "ggml"))]
            check("no trusted source reads an engine header", not engine_read, f"{command.file}: {engine_read}")
            if "trusted/dp/released_ids.h" in files:
                reader += 1
                if not command.file.startswith(MAY_GROW_IDS):
                    grown.append(command.file)
            if "trusted/dp/released_make.h" in files:
                made.add(command.file)
        check("only dp, tokenizer, chat, session and embed/bayes can make ids that may leave", not grown, str(grown))
        check("control: somebody includes dp/released_ids.h", reader > 0)
        check("only dp/release.c and sanitizer/sanitizer.c can make text that may leave", made == set(MAY_MAKE_RELEASED), str(sorted(made)))

    program, server = os.path.join(BUILD, "bin/cmif"), os.path.join(BUILD, "bin/cmif-server")
    missing = [path for path in (program, server) if not os.path.exists(path)]
    if not missing:
        def symbols(path):
            return ENGINE_SYMBOL.findall(subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout)

        needed = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
        check("cmif holds no symbol of the engine", not symbols(program), str(symbols(program)[:5]))
        check("cmif loads no engine library", not re.search(r"NEEDED.*(llama|ggml)", needed))
        libexec = os.path.join(BUILD, "libexec/cmif")
        others = [server, *(os.path.join(libexec, name) for name in os.listdir(libexec))]
        check("control: a program that holds the engine is seen to", any(
            symbols(path) for path in others if open(path, "rb").read(4) == b"\x7fELF"))

    if failures:
        return 1
    print(f"{len(headers)} trusted headers tried from {len(one_of_each(other))} kinds of other targets; "
          f"{len(trusted)} trusted and {len(other)} other sources read")
    if missing:
        print(f"skipped: {', '.join(missing)} not built, so its symbols were not looked at")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
