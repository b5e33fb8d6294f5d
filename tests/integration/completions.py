#!/usr/bin/env python3
"""The completions of bash, zsh and fish: in each shell what a user gets who presses TAB, and that it is what the program knows."""
import os
import pty
import re
import select
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, Failure, await_fact, dirs, expect, main, run

COMPLETIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "completions")
NAMES = ["alpha", "be-ta", "gamma"]
LOG_WORDS = ["all", "scarce", "Error", "Warn", "Normal", "Info", "Exec", "Event", "Record", "Filter", "Alarm", "Status", "Debug"]


def configuration(place):
    path = os.path.join(place, "three.conf")
    source, = dirs(place, "source")
    with open(path, "w", encoding="utf-8") as f:
        f.write("sync = ( %s );\n" % ", ".join(
            '{ name = "%s"; transport = "rsync"; source = "%s"; target = "%s/%s"; }' % (n, source, place, n)
            for n in NAMES))
    return path


def program(place):
    """A directory for PATH: `fansyncd` there notes what else than questions it was called with."""
    bin_dir, = dirs(place, "bin")
    path = os.path.join(bin_dir, "fansyncd")
    with open(path, "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\ncase $1 in --help* | --names) exec "%s" "$@" ;; esac\nprintf "%%s\\n" "$*" >>"%s/called"\n'
                % (BINARY, place))
    os.chmod(path, 0o755)
    return dict(os.environ, PATH="%s:%s" % (bin_dir, os.environ["PATH"]), HOME=place, XDG_CONFIG_HOME=place + "/config")


def options_of_help():
    """Each word with a dash that --help shows as an option, by another way than the completions take."""
    text = run(BINARY, "--help").stdout.decode()
    head, table = text.split("OPTIONS:\n")
    usage = "\n".join(re.split(r" {2,}(?=[^ \[-])", line.replace("usage:", "      ").lstrip())[0] for line in head.split("\n"))
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", usage)) | set(re.findall(r"^  (-\w+)", table, re.M))


class Bash:
    def __init__(self, place):
        self.env = program(place)

    def complete(self, *words):
        script = ('source "$1" || exit 9; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fansyncd; '
                  '((${#COMPREPLY[@]})) && printf "%s\\n" "${COMPREPLY[@]}"; true')
        done = run("bash", "--norc", "-c", script, "bash", COMPLETIONS + "/fansyncd.bash", "fansyncd", *words, env=self.env)
        expect(done.stderr == b"", "bash %s: %r" % (words, done.stderr))
        return sorted(done.stdout.decode().split("\n")[:-1])


class Fish:
    def __init__(self, place):
        self.env = program(place)

    def complete(self, *words):
        line = " ".join(("fansyncd",) + words)
        done = run("fish", "--no-config", "-c", 'source "%s/fansyncd.fish"; complete -C "%s"' % (COMPLETIONS, line),
                   env=self.env)
        expect(done.stderr == b"", "fish %s: %r" % (words, done.stderr))
        return sorted(line.split("\t")[0] for line in done.stdout.decode().split("\n")[:-1])


def check_shell(shell, config):
    known = options_of_help()
    expect({"--sync-now", "--only", "-rsyncssh", "-sshopts", "-watcher"} <= known, "--help was misread: %s" % known)
    modes = shell.complete("--")
    expect({"--check", "--wait", "--names", "--help-config"} <= set(modes), "modes: %s" % modes)
    found = set(shell.complete("-")).union(*(shell.complete(m, "-") for m in modes))
    expect(found == known, "missing: %s; too many: %s" % (known - found, found - known))
    got = shell.complete("--sync-now", "--")
    expect(got == ["--allow-delete", "--json", "--only", "--quiet"], "of --sync-now: %s" % got)
    got = shell.complete("--wait", "--t")
    expect(got == ["--timeout"], "of --wait: %s" % got)
    expect(shell.complete(config, "--wait", "--only", "") == NAMES, "names of syncs")
    expect(shell.complete("--sync-now", config, "--only", "alpha", "--only", "be") == ["be-ta"], "another name")
    expect(shell.complete("-watcher", "") == ["auto", "fanotify", "inotify"], "words of the table")
    expect(shell.complete("-log", "") == sorted(LOG_WORDS), "categories")
    expect(shell.complete("--wait", "--timeout", "") == [], "a number was guessed")
    expect(shell.complete("-delay", "1", "-watcher", "i") == ["inotify"], "after another option's value")
    expect(any(f.endswith("three.conf") for f in shell.complete("--check", config[:-6])), "the file")


def bash(place):
    check_shell(Bash(place), configuration(place))
    shell = Bash(os.path.join(place, "b"))
    expect(shell.complete("-watcher", "=", "f") == ["fanotify"], "with an equals sign")
    got = shell.complete("-inotifyMode", "CloseWrite\\ ")
    expect(got in ([], ["CloseWrite\\ or\\ Modify"]), "a word with blanks: %s" % got)


def fish(place):
    check_shell(Fish(place), configuration(place))


def zsh(place):
    """By a terminal: what stands on the line when RETURN follows TAB is what the program gets."""
    config = configuration(place)
    env = dict(program(place), TERM="xterm", ZDOTDIR=place)
    fpath, = dirs(place, "fpath")
    os.symlink(os.path.realpath(COMPLETIONS + "/fansyncd.zsh"), fpath + "/_fansyncd")
    with open(place + "/.zshrc", "w", encoding="utf-8") as f:
        f.write("fpath=(%s $fpath); autoload -U compinit; compinit -u -D; PS1='ready> '; unsetopt zle_bracketed_paste\n"
                % fpath)
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execvpe("zsh", ["zsh", "-i"], env)
    seen, said = b"", place + "/called"

    def read_until(mark):
        nonlocal seen
        end = time.monotonic() + 30
        while mark not in seen:
            if time.monotonic() > end:
                raise Failure("zsh: %r is missing in %r" % (mark, seen))
            if select.select([fd], [], [], 0.1)[0]:
                seen += os.read(fd, 4096)
        seen = seen[seen.index(mark) + len(mark):]

    def called():
        try:
            with open(said, encoding="utf-8") as f:
                return f.read().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def typed(line, wanted):
        before = len(called())
        read_until(b"ready> ")
        os.write(fd, ("fansyncd " + line + "\t\r").encode())
        await_fact(lambda: len(called()) > before, 30, "zsh runs %r" % line)
        expect(called()[-1] == wanted, "zsh: %r became %r and not %r" % (line, called()[-1], wanted))

    try:
        typed("--sync-now --al", "--sync-now --allow-delete")
        typed("--wa", "--wait")
        typed("--wait %s --only be" % config, "--wait %s --only be-ta" % config)
        typed("-watcher in", "-watcher inotify")
        typed("-watcher=fa", "-watcher=fanotify")
        typed("-log Ex", "-log Exec")
        typed("--check %s" % config[:-6], "--check %s" % config)
    finally:
        os.write(fd, b"exit\r")
        os.close(fd)
        os.waitpid(pid, 0)


def words_are_known(place):
    """The categories stand in the completions themselves: each is one, and none is missing."""
    configuration(place)
    path = os.path.join(place, "log.conf")
    for word in LOG_WORDS + ["Nothing"]:
        with open(path, "w", encoding="utf-8") as f:
            f.write('settings = { log = [ "%s" ]; };\n@include "three.conf"\n' % word)
        done = run(BINARY, "--check", path, check=False)
        expect((b"no category" in done.stderr) == (word == "Nothing"), "%s: %r" % (word, done.stderr))
    for name in ("bash", "zsh", "fish"):
        with open("%s/fansyncd.%s" % (COMPLETIONS, name), encoding="utf-8") as f:
            expect(" ".join(LOG_WORDS) in f.read(), "fansyncd.%s has other categories" % name)


def names(place):
    config = configuration(place)
    expect(run(BINARY, "--names", config).stdout.decode().split() == NAMES, "--names")
    with open(config, "a", encoding="utf-8") as f:
        f.write("nonsense = 1;\n")
    done = run(BINARY, "--names", config, check=False)
    expect(done.returncode == 255 and b"nonsense" in done.stderr and done.stdout == b"", "of a wrong file: %s" % done)


main([names, words_are_known, bash, fish, zsh])
