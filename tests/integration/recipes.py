#!/usr/bin/env python3
"""The recipes of docs/recipes at work: each with its own configuration, but for the paths and hosts in it."""
import grp
import os
import re
import socket
import stat
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from fansync import Daemon, await_fact, expect, main, run
from ftp_server import FtpServer

RECIPES = os.path.join(HERE, "..", "..", "docs", "recipes")
INSTALLED = "/usr/local/lib/fansyncd"
os.environ["PATH"] = "/usr/bin:" + os.environ["PATH"]  # before any wrapper: the recipes start python3 often


class Recipe:
    def __init__(self, place, name, source, target=None, more=()):
        self.source, self.target = place + "/source", place + "/target"
        for d in (self.source, self.target):
            os.makedirs(d)
        with open(os.path.join(RECIPES, name + ".conf")) as f:
            text = f.read()
        expect('"%s"' % source in text, text)
        for old, new in [('"%s"' % source, '"%s"' % self.source), (INSTALLED, os.path.abspath(RECIPES)),
                         ("transport ", 'retryMin = 0.1; retryMax = 0.3; watcher = "inotify"; transport ')] + \
                ([('"%s"' % target, '"%s"' % self.target)] if target else []) + list(more):
            expect(old in text or old == INSTALLED, "%s is not in %s.conf" % (old, name))
            text = text.replace(old, new)
        self.daemon = Daemon(place, re.sub(r"delay *= [0-9.]+;", "", text).replace("source ", "delay = 0.05; source ", 1))

    def put(self, name, text="x"):
        path = os.path.join(self.source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    def files(self, root=None):
        root = root or self.target
        found = {}
        for base, _, names in os.walk(root):
            for name in names:
                with open(os.path.join(base, name)) as f:
                    found[os.path.relpath(os.path.join(base, name), root)] = f.read()
        return found


def echo(place):
    r = Recipe(place, "echo", "/srv/web")
    r.put("old")
    r.daemon.start()
    r.put("two\nlines")
    r.daemon.wait()
    os.rename(r.source + "/old", r.source + "/new")
    r.daemon.wait()
    os.unlink(r.source + "/new")
    r.daemon.wait()
    log = r.daemon.log()
    for words in ("compare .: this is all there is:", "  file old", "create file $'two\\\\nlines'", "move file old to new", "delete file new"):
        expect(words in log, "%r is not in the log: %s" % (words, log))
    r.daemon.stop()


def imagemagick(place):
    convert = place + "/convert"
    with open(convert, "w") as f:
        f.write('#!/bin/sh\ncase $1 in *bad*) echo "no picture" >&2; exit 1 ;; esac\n{ echo small; cat "$1"; } >"$4"\n')
    os.chmod(convert, 0o755)
    r = Recipe(place, "imagemagick", "/srv/pictures", "/srv/thumbnails", [("answers =", 'env = { CONVERT = "%s"; }; answers =' % convert)])
    r.put("a b.jpg", "1")
    r.put("notes.txt")
    r.daemon.start()
    expect(r.files() == {"a b.jpg": "small\n1"}, r.files())
    r.put("dir/c\n.png", "2")
    r.put("bad.png")
    r.daemon.wait(check=False)
    await_fact(lambda: [f["path"] for f in r.daemon.sync("thumbnails")["failures"]] == ["bad.png"], 20, "only the bad one fails")
    expect(r.files() == {"a b.jpg": "small\n1", "dir/c\n.png": "small\n2"}, r.files())
    os.unlink(r.source + "/a b.jpg")
    os.unlink(r.source + "/bad.png")
    r.daemon.wait()
    expect(r.files() == {"dir/c\n.png": "small\n2"}, r.files())
    r.daemon.stop()


def gforce(place):
    if os.geteuid() != 0:
        return
    r = Recipe(place, "gforce", "/srv/team")
    os.symlink("/etc/hostname", r.source + "/link")
    before = os.stat("/etc/hostname").st_mode
    os.chmod(r.put("dir/private"), 0o600)
    r.daemon.start()
    users = grp.getgrnam("users").gr_gid

    def right(path, mode):
        st = os.lstat(os.path.join(r.source, path))
        return st.st_gid == users and stat.S_IMODE(st.st_mode) & mode == mode
    expect(right("dir", 0o2070) and right("dir/private", 0o660), "at the start")
    os.chmod(r.put("dir/later"), 0o600)
    await_fact(lambda: right("dir/later", 0o660), 20, "a new file")
    os.chown(r.source + "/dir/private", 0, 0)
    await_fact(lambda: right("dir/private", 0o660), 20, "given back")
    r.daemon.wait()
    expect(os.stat("/etc/hostname").st_mode == before, "a symlink was followed")
    r.daemon.stop()


def irc(place):
    listener = socket.create_server(("127.0.0.1", 0))
    said = []

    def serve():
        s, _ = listener.accept()
        for line in s.makefile("rb"):
            said.append(line.decode(errors="replace").rstrip())
            if line.startswith(b"USER"):
                s.sendall(b"PING :x\r\n:irc.example.net 001 webwatch :Welcome\r\n")
    threading.Thread(target=serve, daemon=True).start()
    r = Recipe(place, "irc", "/srv/web", None, [('"irc.example.net", "6667"', '"127.0.0.1", "%d"' % listener.getsockname()[1]),
                                                ("persistent =", 'env = { IRC_PAUSE = "0"; }; persistent =')])
    r.put("old")
    r.daemon.start()
    r.put("page\r\nQUIT")
    r.daemon.wait()
    for i in range(15):
        r.put("many%d" % i)
    r.daemon.wait()
    await_fact(lambda: any("more" in line for line in said) or len([w for w in said if "many" in w]) == 15, 20, said)
    expect(said[:4] == ["NICK webwatch", "USER webwatch 0 * :fansyncd", "PONG :x", "JOIN #web"], said)
    expect("PRIVMSG #web :new: 'page\\r\\nQUIT'" in said and not any(line.startswith("QUIT") or "old" in line for line in said), said)
    r.daemon.stop()


def ftp(place):
    os.makedirs(place + "/server/htdocs/stray/below")
    with open(place + "/password", "w") as f:
        f.write("secret\n")
    server = FtpServer(place + "/server", "me", "secret")
    r = Recipe(place, "ftp", "/srv/web", None, [('"ftp.example.net"', '"127.0.0.1", "%d"' % server.port), ("/etc/fansyncd/ftp.password", place + "/password"),
                                                ('FTP_TLS = "1";', "")])
    site = place + "/server/htdocs"
    r.put("index.html", "1")
    r.put("dir/ü b", "2")
    r.put("x.tmp")
    open(site + "/stray/below/f", "w").close()
    r.daemon.start()
    expect(r.files(site) == {"index.html": "1", "dir/ü b": "2"} and os.listdir(site + "/dir") == ["ü b"], r.files(site))
    expect(int(os.stat(site + "/index.html").st_mtime) == int(os.stat(r.source + "/index.html").st_mtime), "its time")
    r.put("index.html", "changed")
    r.put("new/deep/f", "3")
    os.rename(r.source + "/dir", r.source + "/moved")
    r.daemon.wait()
    expect(r.files(site) == {"index.html": "changed", "moved/ü b": "2", "new/deep/f": "3"}, r.files(site))
    run("rm", "-r", r.source + "/new")
    r.daemon.wait()
    expect(sorted(os.listdir(site)) == ["index.html", "moved"] and server.logins == 1, os.listdir(site))
    server.cut()
    r.put("after")
    r.put("no\nsuch")
    await_fact(lambda: os.path.exists(site + "/after"), 20, "a connection that was cut")
    await_fact(lambda: any(f["given_up"] for f in r.daemon.sync("site")["failures"]), 20, "a name that FTP does not have")
    r.daemon.stop()
    server.stop()


def s3(place):
    bucket = place + "/s3/backup/web"
    os.makedirs(bucket + "/old")
    for name in ("stray", "old/gone"):
        open(os.path.join(bucket, name), "w").close()
    r = Recipe(place, "s3", "/srv/web", None, [("answers =", 'env = { AWS = "%s/../lib/aws_stub.py"; AWS_STUB = "%s/s3"; }; answers =' % (HERE, place))])
    r.put("a", "1")
    r.put("d/b\nc", "2")
    r.daemon.start()
    expect(r.files(bucket) == {"a": "1", "d/b\nc": "2"}, r.files(bucket))
    r.put("a", "changed")
    run("rm", "-r", r.source + "/d")
    r.daemon.wait()
    expect(r.files(bucket) == {"a": "changed"}, r.files(bucket))
    open(place + "/fail", "w").close()
    r.put("c", "3")
    await_fact(lambda: any("no credentials" in f["reason"] for f in r.daemon.sync("bucket")["failures"]), 20, "its words")
    os.unlink(place + "/fail")
    await_fact(lambda: r.files(bucket) == {"a": "changed", "c": "3"}, 20, "tried again")
    r.daemon.stop()


def postcmd(place):
    """ssh is a program that notes its arguments; the target a directory."""
    with open(place + "/ssh", "w") as f:
        f.write('#!/bin/sh\n{ printf "%s|" "$@"; tr "\\0" "|"; echo; } >>"' + place + '/said"\n')
    os.chmod(place + "/ssh", 0o755)
    r = Recipe(place, "postcmd", "/srv/web", None, [
        ('"ssh", "-i"', '"%s/ssh", "-i"' % place), ('"rsyncssh"', '"direct"'), ('host      = "mirror@www2.example.net";', 'target = "%s/target";' % place),
        ('targetdir = "%s/source";' % place, ""),
        ('ssh       = { identityFile = "/etc/fansyncd/id_ed25519"; };', "")])
    r.put("a\nb")
    r.daemon.start()

    def said():
        return open(place + "/said").read() if os.path.exists(place + "/said") else ""
    r.put("later")
    await_fact(lambda: "|later|" in said(), 20, "the command")
    expect(said().startswith("-i|/etc/fansyncd/id_ed25519|-o|BatchMode=yes|mirror@www2.example.net|sudo systemctl reload nginx|"), said())
    r.daemon.stop()


def validate(place):
    with open(place + "/maxscale", "w") as f:
        f.write('#!/bin/sh\ngrep -q broken "%s/source/maxscale.cnf" || exit 0\necho "line 1: unknown parameter" >&2\nexit 1\n' % place)
    os.chmod(place + "/maxscale", 0o755)
    r = Recipe(place, "validate", "/etc", None, [
        ('"maxscale", "--config-check"', '"%s/maxscale", "--config-check"' % place), ('"rsyncssh"', '"direct"'),
        ('host          = "user@192.168.122.100";', 'target = "%s/target";' % place), ('targetdir     = "%s/source";' % place, ""),
        ("bidirectional = true;", ""), ("ssh           = { port = 2222; };", ""), ('hookUser      = "maxscale";', ""),
        ('rsync         = { extra = [ "--filter=+ *maxscale.cnf", "--filter=- **" ]; };', 'filter = [ "+ *maxscale.cnf", "- **" ];')])
    r.put("maxscale.cnf", "good")
    r.daemon.start()
    r.put("maxscale.cnf", "broken")
    await_fact(lambda: r.daemon.sync("to-100")["state"] == "vetoed", 20, "held back")
    expect("line 1: unknown parameter" in r.daemon.sync("to-100")["reason"] and r.files() == {"maxscale.cnf": "good"}, r.files())
    r.put("maxscale.cnf", "repaired")
    await_fact(lambda: r.files() == {"maxscale.cnf": "repaired"}, 20, "repaired")
    r.daemon.stop()


def reload(place):
    for name, text in (("systemctl", 'echo "$@" >>"%s/said"' % place), ("nginx", '! grep -q broken "%s/source/nginx/nginx.conf"' % place)):
        with open(place + "/" + name, "w") as f:
            f.write("#!/bin/sh\n%s\n" % text)
        os.chmod(place + "/" + name, 0o755)
    r = Recipe(place, "reload", "/etc", None, [("format =", 'env = { SYSTEMCTL = "%s/systemctl"; NGINX = "%s/nginx"; }; format =' % (place, place))])
    r.put("nginx/nginx.conf", "old")
    r.daemon.start()
    r.put("passwd")
    r.put("nginx/nginx.conf", "new")
    r.put("nginx/sites/a\nb", "new")
    r.daemon.wait()
    said = open(place + "/said").read().split("\n")
    expect(set(said) == {"reload-or-restart nginx", ""}, said)
    r.put("nginx/nginx.conf", "broken")
    r.daemon.wait()
    os.rename(r.put("new.cnf"), r.source + "/maxscale.cnf")
    r.daemon.wait()
    expect(open(place + "/said").read().split("\n")[len(said) - 1:] == ["reload-or-restart maxscale", ""], open(place + "/said").read())
    r.daemon.stop()


main([echo, imagemagick, gforce, irc, ftp, s3, postcmd, validate, reload])
