"""What the integration tests share: a daemon, an sshd and an rsyncd of their own, trees to compare.

Nothing here sleeps: tests wait with `fansyncd --wait`, or for a fact with a deadline (await_fact).
"""

import ctypes
import hashlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

BINARY = os.environ.get("FANSYNCD", os.path.join(os.getcwd(), "build", "fansyncd"))
TESTDIR = os.environ.get("TESTDIR")
CONTROL_REQUEST, CONTROL_OUT, CONTROL_ERR, CONTROL_PROGRESS, CONTROL_EXIT = 1, 2, 3, 4, 5  # core/control.h


class Failure(Exception):
    pass


SLACK = 3  # limits end what hangs; on a busy machine what goes on takes a multiple of its time


class Skipped(Exception):
    """Of one case: why it can't be tried here."""


def skip(why):
    print("skip: " + why)
    sys.exit(77)


def await_fact(fact, seconds, what):
    """Until fact() is true; polls, because the fact is somebody else's (a process, a file)."""
    seconds *= SLACK
    end = time.monotonic() + seconds
    waiter = select.poll()
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure("not within %g s: %s" % (seconds, what))
        waiter.poll(20)


def run(*argv, check=True, timeout=120, **more):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout * SLACK, **more)
    if check and done.returncode != 0:
        raise Failure("%s: exit %d\n%s%s" % (argv, done.returncode, done.stdout.decode(errors="replace"),
                                             done.stderr.decode(errors="replace")))
    return done


CLONE_NEWNS = 0x00020000


def own_file_system():
    """A tmpfs at TESTDIR, and mounts of our own: what other tests do is not heard there, nor that they mount something. False: not
    allowed to."""
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        return False
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "none", TESTDIR)
    return True


def expect(condition, what):
    if not condition:
        raise Failure(what)


def dirs(place, *names):
    """New directories below it."""
    paths = [os.path.join(place, n) for n in names]
    for p in paths:
        os.makedirs(p)
    return paths


def put(path, text="x"):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def reachable(place):
    """Other users can get at what a case keeps there, keys for example."""
    for path in (place, os.path.dirname(place)):
        os.chmod(path, 0o755)


def entry(path):
    """What has to be equal of one entry."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    facts = {"kind": kind, "mode": st.st_mode if kind != stat.S_IFLNK else 0, "mtime": st.st_mtime_ns}
    if kind == stat.S_IFREG:
        digest = hashlib.sha256()
        with open(path, "rb") as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
        facts["content"] = (st.st_size, digest.hexdigest())
    elif kind == stat.S_IFLNK:
        facts["content"] = os.readlink(path)
    return facts


def tree(root, skip_names=()):
    """All entries below root: relative path -> facts. Bytes paths, no symlink followed."""
    root = os.fsencode(root)
    result = {b"": entry(root)}
    todo = [b""]
    while todo:
        below = todo.pop()
        for name in os.listdir(os.path.join(root, below) if below else root):
            if name in skip_names:
                continue
            path = os.path.join(below, name) if below else name
            facts = entry(os.path.join(root, path))
            result[path] = facts
            if facts["kind"] == stat.S_IFDIR:
                todo.append(path)
    return result


def differences(a, b, limit=10):
    found = []
    for path in sorted(set(a) | set(b)):
        if a.get(path) == b.get(path):
            continue
        if path not in b:
            found.append("missing at the target: %r %r" % (path, a[path]))
        elif path not in a:
            found.append("only at the target: %r %r" % (path, b[path]))
        else:
            found.append("%r: %s" % (path, {k: (a[path].get(k), b[path].get(k)) for k in set(a[path]) | set(b[path])
                                          if a[path].get(k) != b[path].get(k)}))
        if len(found) >= limit:
            break
    return found


def whole_seconds(entries):
    """As a target keeps them that has no fractions (sftp)."""
    return {path: dict(facts, mtime=facts["mtime"] // 10**9) for path, facts in entries.items()}


def expect_equal(source, target, what="", seconds=False):
    a, b = tree(source), tree(target)
    found = differences(whole_seconds(a), whole_seconds(b)) if seconds else differences(a, b)
    if found:
        raise Failure("%s: not equal:\n  %s" % (what, "\n  ".join(found)))


def answers(path):
    """Whether somebody listens at a socket; its name is there a moment before."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
            return True
        except OSError:
            return False


class Daemon:
    """A fansyncd in the foreground, with everything it keeps below `place`."""

    def __init__(self, place, config, prefix=(), env=None):
        self.place = place
        self.prefix = list(prefix)
        self.config_path = os.path.join(place, "fansyncd.conf")
        self.log_path = os.path.join(place, "log")
        self.env = dict(os.environ, **(env or {}))
        self.process = None
        os.makedirs(place, exist_ok=True)
        self.write_config(config)

    def settings(self, more=""):
        return ('settings = { nodaemon = true; stateDir = "%s/state"; controlSocket = "%s/ctl"; logfile = "%s"; '
                'log = [ "Info", "Exec", "Record" ]; %s };\n') % (self.place, self.place, self.log_path, more)

    def write_config(self, config, more=""):
        with open(self.config_path, "w") as f:
            f.write(self.settings(more) + config)

    def start(self, wait=True):
        self.output = open(os.path.join(self.place, "output"), "ab")
        self.process = subprocess.Popen(self.prefix + [BINARY, self.config_path], stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=self.output, env=self.env)
        await_fact(lambda: self.process.poll() is not None or answers(os.path.join(self.place, "ctl")), 30,
                   "the control socket")
        if self.process.poll() is not None:
            raise Failure("the daemon ended at once:\n" + self.tail())
        if wait:
            self.wait()
        return self

    def client(self, *args, check=True, timeout=150):
        return run(*self.prefix, BINARY, *args, self.config_path, check=check, timeout=timeout, env=self.env)

    def wait(self, seconds=60, check=True):
        seconds *= SLACK if check else 1
        done = self.ask("wait", "--timeout", str(seconds), seconds=seconds + 30 * SLACK)
        if check and done.returncode != 0:
            raise Failure("--wait: exit %d: %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"), self.tail()))
        return done

    def ask(self, *words, seconds=150 * SLACK):
        """As the client does it, without a process for each question: tests ask often. What it would print and return."""
        request = "".join(w + "\0" for w in words).encode()
        said = {CONTROL_OUT: b"", CONTROL_ERR: b"", CONTROL_PROGRESS: b""}
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(seconds)
                s.connect(os.path.join(self.place, "ctl"))
                s.sendall(struct.pack("<IB", len(request), CONTROL_REQUEST) + request)
                with s.makefile("rb") as answer:
                    while True:
                        size, kind = struct.unpack("<IB", answer.read(5))
                        text = answer.read(size)
                        if kind == CONTROL_EXIT:
                            break
                        said[kind] += text
            code = struct.unpack("<I", text)[0]
        except (OSError, struct.error) as e:
            code, said[CONTROL_ERR] = 3, b"no answer: %s" % str(e).encode()
        return subprocess.CompletedProcess(words, code, said[CONTROL_OUT], said[CONTROL_ERR])

    def status(self):
        done = self.ask("status", "--json")
        if done.returncode != 0:
            raise Failure("no status: %s\n%s" % (done.stderr.decode(errors="replace"), self.tail()))
        return json.loads(done.stdout)

    def sync(self, name):
        return next(s for s in self.status()["syncs"] if s["name"] == name)

    def tail(self, n=60):
        text = ""
        for name in ("log", "output"):
            try:
                with open(os.path.join(self.place, name), errors="replace") as f:
                    text += "--- %s\n" % name + "".join(f.readlines()[-n:])
            except FileNotFoundError:
                pass
        return text

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def stop(self, signo=signal.SIGTERM):
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signo)
        try:
            code = self.process.wait(60 * SLACK)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure("the daemon did not stop\n" + self.tail())
        finally:
            self.output.close()
        self.process = None
        if signo == signal.SIGTERM and code != 0:
            raise Failure("the daemon ended with %d\n%s" % (code, self.tail()))
        return code


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Sshd:
    """An sshd for the user who runs the test, with keys made for it. Its commands find an empty home: what the user's ~/.bashrc does
    at each of them takes longer than they do, and may leave a lock behind when a session is killed."""

    def __init__(self, place, prefix=(), address="127.0.0.1", port=None, key=None, config=""):
        self.place = place
        self.prefix = list(prefix)
        self.address = address
        self.port = port or free_port()
        self.process = None
        os.makedirs(place, mode=0o755, exist_ok=True)
        self.host_key = os.path.join(place, "host_key")
        self.key = key or os.path.join(place, "user_key")
        for path in (self.host_key, self.key):
            if not os.path.exists(path):
                run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
        self.known_hosts = os.path.join(place, "known_hosts")
        with open(self.host_key + ".pub") as f, open(self.known_hosts, "w") as out:
            out.write("[%s]:%d %s" % (self.address, self.port, f.read()))
        shutil.copy(self.key + ".pub", os.path.join(place, "authorized_keys"))
        os.makedirs(os.path.join(place, "home"), exist_ok=True)
        with open(os.path.join(place, "sshd_config"), "w") as f:
            f.write("Port %d\nListenAddress %s\nHostKey %s\nPidFile none\nAuthorizedKeysFile %s/authorized_keys\n"
                    "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n"
                    "MaxSessions 100\n%s" % (self.port, self.address, self.host_key, place,
                                             config if "SetEnv" in config else "SetEnv HOME=%s/home\n%s" % (place, config)))

    def start(self):
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.log = open(os.path.join(self.place, "sshd.log"), "ab")
        self.logged = self.log.seek(0, os.SEEK_END)
        self.process = subprocess.Popen(self.prefix + ["/usr/sbin/sshd", "-D", "-e", "-f",
                                                       os.path.join(self.place, "sshd_config")],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        await_fact(self.listens, 20, "sshd at port %d" % self.port)
        return self

    def listens(self):
        """Its word for it: a connection would have to be made where it runs (`prefix`)."""
        with open(self.log.name, errors="replace") as f:
            f.seek(self.logged)
            said = f.read()
        if self.process.poll() is not None:
            raise Failure("sshd ended: " + said)
        return "Server listening on " in said

    def sessions(self):
        """Pids of this sshd's connections (its children)."""
        return children(self.process.pid)

    def cut(self):
        """End its connections, and what runs for them. The process of a session that serves the user lives on without its parent
        until the client says something, which one in a network that is gone never does."""
        for pid in children(self.process.pid, every=True):
            kill(pid, signal.SIGKILL)

    def stop(self):
        if self.process is None:
            return
        self.cut()
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.process = None

    def section(self):
        return 'ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; };' % (self.port, self.key, self.known_hosts)


class Receiver:
    """A receiver of tcp with one module "web", and a key for it."""

    def __init__(self, place, target, prefix=(), user=None, options="", module="", port=None, tls=True, address="127.0.0.1"):
        self.port, self.tls, self.key = port or free_port(), tls, place + "/mine/web.key"
        secret = secrets.token_hex(32)
        for d in (place, place + "/keys", place + "/mine"):
            os.makedirs(d, exist_ok=True)
            if user:
                os.chown(d, user, user)
        for path in (place + "/keys/web.key", self.key):
            with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
                f.write(secret + "\n")
            if user:
                os.chown(path, user, user)
        self.daemon = Daemon(place, 'receiver = { listen = [ "%s:%d" ]; %s %s\n'
                             '  modules = ( { name = "web"; path = "%s"; %s %s } ); };\n' % (
                                 address, self.port, 'keys = "%s/keys";' % place if tls else "", options, target,
                                 'allow = [ "web" ];' if tls else "", module), prefix=prefix)

    def start(self):
        self.daemon.start(wait=False)
        await_fact(self.listens, 20, "the receiver listens")
        return self

    def listens(self):
        return self.daemon.status()["receiver"]["state"] == "listening"

    def sessions(self):
        """Pids of its process and of the sessions."""
        return children(self.daemon.process.pid, every=True)

    def section(self, port=None):
        """For a sync's section."""
        return 'host = "127.0.0.1"; port = %d; module = "web"; %s' % (
            port or self.port, 'key = "%s";' % self.key if self.tls else "")

    def stop(self):
        self.daemon.stop()


def kill(pid, signo):
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        pass


def children(pid, every=False):
    """Pids of the children of a process; with `every`, of theirs, too."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, errors="replace") as f:
                    parents.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    result = list(parents.get(pid, []))
    for child in result if every else []:
        result.extend(parents.get(child, []))
    return result


def command(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().split(b"\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def main(cases):
    """Run the cases, a line each; the exit status is the number of failures, at most 1."""
    failed = 0
    wanted = sys.argv[1:]
    for case in cases:
        name = case.__name__
        if wanted and name not in wanted:
            continue
        place = os.path.join(TESTDIR, name)
        os.makedirs(place, exist_ok=True)
        try:
            case(place)
            print("ok %s" % name, flush=True)
        except Skipped as e:
            print("skip %s %s" % (name, e), flush=True)
        except Exception as e:
            failed = 1
            print("not ok %s" % name)
            print("# " + "\n# ".join(("%s: %s" % (type(e).__name__, e)).split("\n")), flush=True)
    sys.exit(failed)
