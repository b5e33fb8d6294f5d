#!/usr/bin/env python3
"""scripts/lsyncd2fansyncd: what a configuration of lsyncd becomes. Each result passes --check; some are run, over rsync, to an sshd, and beside
lsyncd itself, whose calls of rsync are compared."""
import glob
import gzip
import os
import re
import shutil
import signal
import subprocess
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
from fansync import BINARY, Skipped, Sshd, await_fact, dirs, expect, expect_equal, main, put, run, skip

SCRIPT = os.path.join(TOP, "scripts", "lsyncd2fansyncd")
LUAS = [lua for lua in ("lua5.4", "lua5.3", "lua5.2") if shutil.which(lua)]
if not LUAS:
    skip("there is no Lua")


class Converted:
    """The result of one run: its status, the text, what was said on standard error."""

    def __init__(self, place, text, *options, lua=LUAS[0], name="lsyncd.conf.lua"):
        self.lua_path, self.path = place + "/" + name, place + "/fansyncd.conf"
        put(self.lua_path, text)
        done = run(lua, SCRIPT, *options, "-o", self.path, self.lua_path, check=False, cwd=place, env=dict(os.environ, PWD=place))
        self.status, self.said = done.returncode, done.stderr.decode()
        with open(self.path, encoding="utf-8") as f:
            self.text = f.read()

    def check(self):
        """What --check makes of it: key -> values, in order, as it prints them."""
        done = run(BINARY, "--check", self.path, check=False)
        expect(done.returncode == 0, "--check: %s\n%s" % (done.stderr.decode(), self.text))
        found = {}
        for line in done.stdout.decode().split("\n"):
            m = re.match(r"\s*(\w+)\s*= (.*?);?\s*(#.*)?$", line)
            if m:
                found.setdefault(m.group(1), []).append(m.group(2))
        return found

    def expect_keys(self, **wanted):
        found = self.check()
        for key, value in wanted.items():
            expect(value in found.get(key, []), "%s = %s wanted, there is %s\n%s" % (key, value, found.get(key), self.text))

    def expect_said(self, *wanted):
        """On standard error with file and line, and as a comment."""
        for line, text in wanted:
            where = "%s:%d: " % (self.lua_path, line) if line else ""
            expect(any(where in s and text in s for s in self.said.split("\n")), "%d %s: not in:\n%s" % (line, text, self.said))
            expect(any(where in s and text in s for s in self.text.split("\n") if s.lstrip().startswith("#")),
                   "%d %s: no comment in:\n%s" % (line, text, self.text))


def simple(place):
    for lua in LUAS:
        c = Converted(place, """
            settings { logfile = "%(p)s/log", statusFile = "%(p)s/status", nodaemon = true }
            sync { default.rsync, source = "%(p)s", target = "/mnt/b" }
            """ % {"p": place}, lua=lua)
        expect(c.status == 0 and c.said == "", "%s: %d %s" % (lua, c.status, c.said))
        c.expect_keys(transport='"rsync"', source='"%s"' % place, target='"/mnt/b"', delay="15.0", insist="false", nodaemon="true",
                      logfile='"%s/log"' % place, links="true", times="true", perms="false", delete="true")


def all_of_it(place):
    """Each setting and key of lsyncd's that has a counterpart."""
    put(place + "/key")
    put(place + "/rules", "- *.o\n")
    put(place + "/left-out", "tmp/\n")
    rsync = {k: "true" for k in """acls append archive backup checksum compress copy_dirlinks copy_links copy_unsafe_links
             cvs_exclude delete_excluded dry_run executability existing hard_links ignore_times inplace ipv4 keep_dirlinks omit_dir_times
             omit_link_times one_file_system prune_empty_dirs sparse update verbose whole_file xattrs append_verify ipv6""".split()}
    rsync.update({k: '"x%d"' % i for i, k in enumerate("""binary backup_dir chmod chown groupmap rsync_path suffix temp_dir
                                                      usermap""".split())})
    rsync.update(bwlimit='"2m"', timeout="7")
    lua = """
        settings {
            logfile = "%(p)s/l", pidfile = "%(p)s/p", nodaemon = false, insist = true, onepass = true, statusFile = "%(p)s/s",
            statusInterval = 5, logfacility = "LOCAL3", logident = "mirror", inotifyMode = "CloseWrite or Modify",
            maxProcesses = 4, maxDelays = 50,
        }
        sync {
            default.rsyncssh,
            source = "%(p)s", host = "user@b", targetdir = "/srv/\\"odd\\\\ name", delay = 0.25, maxDelays = 7, maxProcesses = 1,
            delete = "running", init = false, exclude = { "a b", "*.tmp" }, excludeFrom = "%(p)s/left-out",
            filter = { "+ /x/", "- /y" }, filterFrom = "%(p)s/rules", batchSizeLimit = 1024 * 1024,
            rsync = { %(rsync)s },
            ssh = { port = "2222", identityFile = "%(p)s/key", options = { Compression = "no", User = "me" }, _extra = { "-T" } },
        }
        """ % {"p": place, "rsync": ", ".join("%s = %s" % kv for kv in rsync.items())}
    c = Converted(place, lua)
    expect(c.status == 0 and c.said == "", "%d %s" % (c.status, c.said))
    found = c.check()
    wanted = dict({k: v for k, v in rsync.items() if k not in ("cvs_exclude",)}, bwlimit="2048", logident='"mirror"', pidfile='"%s/p"' % place,
                  onepass="true", insist="true", statusInterval="5.0", logfacility='"local3"', inotifyMode='"CloseWrite or Modify"',
                  maxProcesses="4", maxDelays="50", delay="0.25", delete='"running"', init="false", port="2222",
                  identityFile='"%s/key"' % place, targetdir='"/srv/\\"odd\\\\ name"', batchSizeLimit="1048576")
    for key, value in wanted.items():
        expect(value in found.get(key, []), "%s = %s wanted, there is %s\n%s" % (key, value, found.get(key), c.text))
    for rule in ('"+ /x/"', '"- /y"', '"a b"', '"*.tmp"', '"Compression=no"', '"-T"'):
        expect(any(rule in v for values in found.values() for v in values) or rule.replace("=", "").strip('"') in c.text.replace(" = ", ""),
               "%s is not there: %s" % (rule, c.text))


def tunnels(place):
    """lsyncd's tunnel, in each way that its port is written; what is not carried over is listed."""
    c = Converted(place, """
        sync {
            default.rsync, source = "%(p)s", target = "rsync://localhost:${localport}/projects",
            tunnel = tunnel { command = {"/bin/true", "-N", "-L", "^localhost:${localport}:localhost:873", "user@host"} },
        }
        sync {
            default.rsync, source = "%(p)s", target = "rsync://^localhost:^localport/two",
            tunnel = tunnel { mode = "pool", parallel = 2, retryDelay = 3, localhost = "127.0.0.1", checkCommand = "x",
                              command = "/bin/true -L ^localport:b:873 'a host'", odd = 1 },
        }
        sync {
            default.rsyncssh, source = "%(p)s", host = "10.8.0.1", targetdir = "/srv",
            tunnel = tunnel { command = "/bin/true up", readyDelay = 2 },
        }
        """ % {"p": place})
    expect(c.status == 3, "%d %s" % (c.status, c.said))
    found = c.check()
    expect(found["target"] == ['"rsync://localhost:${port}/projects"', '"rsync://127.0.0.1:${port}/two"'], found["target"])
    expect(found["command"] == ['[ "/bin/true", "-N", "-L", "localhost:${port}:localhost:873", "user@host" ]',
                                '[ "/bin/true", "-L", "${port}:b:873", "a host" ]', '[ "/bin/true", "up" ]'], found["command"])
    expect(found["readyDelay"] == ["0.0", "0.0", "2.0"], found["readyDelay"])
    for said in ("parallel is left out", "retryDelay is left out", "checkCommand is left out", "tunnel.odd is no key of lsyncd's",
                 "names no local port"):
        expect(said in c.text, "%s: %s" % (said, c.text))
    for text, why in (('target = "rsync://h:^localport/m"', "a tunnel that it does not have"),
                      ('target = "rsync://h/m", tunnel = tunnel { command = "/bin/true ^localport" }', "nothing of it leads into its tunnel"),
                      ('target = "rsync://h:^localport/m", tunnel = tunnel { command = "/bin/true" }', "is not told the port"),
                      ('target = "rsync://h:^localport/m", tunnel = tunnel { }', "its command is not known")):
        c = Converted(place, 'sync { default.direct, source = "%s", target = "/mnt/a" }\nsync { default.rsync, source = "%s", %s }\n'
                      % (place, place, text))
        expect(c.status == 3 and why in c.text and "NOT CARRIED OVER" in c.text, "%s: %s" % (text, c.text))
        c.check()


def keys_in_order(place):
    """As in the table, so that two files can be compared."""
    c = Converted(place, """
        sync { ssh = { port = 1 }, rsync = { compress = true }, exclude = "x", delete = false, delay = 3, targetdir = "/t", host = "h",
               source = "/", default.rsyncssh }
        """)
    keys = re.findall(r"^\t\t(\w+) *=", c.text, re.M)
    expect(keys == ["transport", "source", "host", "targetdir", "delay", "delete", "exclude", "rsync", "ssh"], "order: %s" % keys)
    c.check()


def programs(place):
    """Loops, functions, tables that are built on one another, further files: it is Lua that runs."""
    put(place + "/hosts.lua", 'return { "a", "b" }')
    put(place + "/more.lua", 'sync { default.direct, source = "%s", target = "/mnt/more" }' % place)
    os.environ["MIGRATION_TARGET"] = "/srv/www"
    c = Converted(place, """
        package.path = "%(p)s/?.lua"
        local base = { default.rsyncssh, delay = 2, rsync = { archive = true, compress = true } }
        local function mirror(host, more)
            sync { more, base, source = "%(p)s", host = host, targetdir = os.getenv("MIGRATION_TARGET") }
        end
        for i, host in ipairs(require("hosts")) do
            mirror(host, { rsync = { compress = i == 1, owner = false }, ssh = { port = 2200 + i } })
        end
        dofile("%(p)s/more.lua")
        """ % {"p": place})
    expect(c.status == 0, c.said)
    found = c.check()
    expect(found["host"] == ['"a"', '"b"'] and found["port"][:2] == ["2201", "2202"], c.text)
    expect(found["delay"] == ["2.0", "2.0", "1.0"] and found["targetdir"] == ['"/srv/www"'] * 2, c.text)
    expect(found["compress"][:2] == ["true", "false"] and found["owner"][:2] == ["false", "false"], c.text)
    expect("lsyncd.conf.lua:5, called at %s/lsyncd.conf.lua:8" % place in c.text, c.text)


def scripts_are_listed(place):
    c = Converted(place, """
local bash = {
    onStartup = [[
if true; then cp -r ^source* ^target; fi]],
    -- onModify = "not this one",
    onCreate = "cp -r ^sourcePath ^targetPathdir",
    onDelete = function(event) spawn(event, "/bin/rm") end,
    delay = 0,
}
sync { bash, source = "src", target = "/path" }
local post = {
    default.rsync,
    checkgauge = { default.rsync.checkgauge, host = true, dir = true },
    action = function(inlet)
        return default.rsync.action(inlet)
    end,
    collect = function(agent, code) return default.collect(agent, code) end,
    prepare = function(config, level, skip)
        config.target = config.host .. ":" .. config.dir
        return default.rsync.prepare(config, level, skip)
    end,
}
sync { post, source = "%s", host = "h", dir = "/d" }
sync { default.rsync, source = "%s", target = "/e", crontab = { "0 0 3 * * *" }, init = function(event) end }
alarm(now() + 5, function() end)
""" % (place, place))
    expect(c.status == 3, "status %d" % c.status)
    c.expect_said((3, 'onStartup is "if true; then'), (6, "onCreate is"), (7, "onDelete is a Lua function"), (10, "script of its own"),
                  (14, "action is a Lua function"), (17, "collect is"), (24, "init is"), (25, "alarm()"))
    expect("onModify" not in c.text, "what is commented out was taken")
    expect('# \ttransport = "exec";\n\t# \tsource    = "%s/src";' % place in c.text, "no suggestion: " + c.text)
    found = c.check()
    expect(found["host"] == ['"h"'] and found["targetdir"] == ['"/d"'], "prepare was not run: " + c.text)
    expect(found["transport"] == ['"rsyncssh"', '"rsync"'], c.text)
    expect('schedule  = [ "0 0 3 * * *" ];' in c.text, "crontab: " + c.text)


def wrong_keys(place):
    c = Converted(place, """settings {
    statusIntervall = 1,
    delay = 5,
}
sync {
    default.rsync, source = "%s", target = "/x",
    maxDelay = 5, delete = "true",
    rsync = { delete = true, no_such = 1,
              _extra = { "-avR", "--remove-source-files", "--bogus" } },
}""" % place)
    expect(c.status == 3, "status %d" % c.status)
    c.expect_said((2, "statusIntervall"), (3, "delay is no setting"), (7, "maxDelay"), (7, "deletes nothing"), (7, "delete belongs"), (8, "no_such"), (9, "-avR"),
                  (9, "--remove-source-files"))
    c.expect_keys(target='"/x"', delete="false")
    expect("--bogus" in c.text, c.text)


def old_forms(place):
    """lsyncd 2.0: a table of settings, arguments of rsync as text."""
    c = Converted(place, """
        settings = { logfile = "%s/l", "nodaemon" }
        settings.unused = nil
        sync { default.rsync, source = "%s", target = "/x", rsyncOps = "-ptu" }
        """ % (place, place))
    expect(c.status == 0, c.said)
    c.expect_keys(logfile='"%s/l"' % place, nodaemon="true", perms="true", times="true", update="true", links="false")


def archive_as_an_argument(place):
    """-a switches all of its members on, also those that were off before it; what comes behind it may switch them off."""
    for options, off in (('rsyncOps = { "-ausOS", "--temp-dir=/tmp" }', ()), ('rsyncOpts = "-rlptgoD"', ()), ('rsyncOps = "-pt"', ("links", "owner", "group")),
                         ('rsync = { links = false, perms = false, _extra = { "-a" } }', ()),
                         ('rsync = { _extra = { "--no-owner", "--archive" } }', ()),
                         ('rsync = { owner = false, _extra = { "-a", "--no-group" } }', ("group",)),
                         ('rsync = { archive = true, owner = false }', ("owner",))):
        c = Converted(place, 'sync { default.rsync, source = "%s", target = "/x", %s }' % (place, options))
        expect(c.status == 0, c.said)
        found = c.check()
        are_off = [k for k in ("links", "times", "perms", "owner", "group") if found[k] != ["true"]]
        expect(sorted(are_off) == sorted(off), "%s: off are %s\n%s" % (options, are_off, c.text))


def shipped_examples(place):
    """lsyncd's own, where its package has them: each is carried over, or it is said line by line what is not."""
    examples = sorted(glob.glob("/usr/share/doc/lsyncd/examples/*.lua*"))
    if not examples:
        raise Skipped("lsyncd's examples are not installed")
    dirs(place, "src", "dst", "src2")
    carried = 0
    for example in examples:
        with (gzip.open if example.endswith(".gz") else open)(example, "rt", encoding="utf-8") as f:
            text = f.read()
        c = Converted(place, text)
        name = os.path.basename(example)
        if name == "lsayirc.lua" and c.status == 1:  # it talks to a server while it is read
            expect(":20: " in c.said and "socket" in c.said and ":93: " in c.said, "%s: %s" % (name, c.said))
            continue
        expect(c.status in (0, 3), "%s: %d %s" % (name, c.status, c.said))
        lost = [line for line in c.text.split("\n") if "NOT CARRIED OVER" in line]
        expect((c.status == 3) == bool(lost), "%s: %d, %s" % (name, c.status, lost))
        functions = re.findall(r"^\s*(on[A-Z]\w+|action|init|collect)\s*=(?!\s*(?:true|false|nil)\b)", re.sub(r"--.*", "", text), re.M)
        for word in functions:
            expect(word in c.said, "%s: nothing is said of %s: %s" % (name, word, c.said))
        done = run(BINARY, "--check", c.path, check=False)
        expect(done.returncode == 0 or b"neither a sync" in done.stderr or b"No such file" in done.stderr, "%s: %s" % (name, done.stderr.decode()))
        carried += done.returncode == 0
    expect(carried >= 2, "%d of %d are carried over" % (carried, len(examples)))


def as_people_write_them(place):
    """Forms that real ones have: truth as text, a shell's variables, rules among the arguments, ssh as rsync's shell, a list of hosts."""
    put(place + "/key")
    os.environ["MIGRATION_HOSTS"] = '"a.example, b.example"'
    c = Converted(place, """
        settings { nodaemon = "true", logfile = "%(p)s/log", statusFile = "/dev/null", statusInterval = 20, inotifyMode = "CloseWrite or Modify" }
        local one, two = os.getenv("MIGRATION_HOSTS"):match('"([^,]+),%%s*([^,]+)"')
        for _, host in ipairs { one, two } do
            sync { default.rsyncssh, source = "%(p)s", host = "me@" .. host, targetdir = "/srv", delete = 'running', delay = 0,
                   rsync = { archive = "true", whole_file = false, rsh = "/usr/bin/ssh -p 10022 -i %(p)s/key -o StrictHostKeyChecking=no" } }
        end
        sync { default.rsync, source = "%(p)s", target = "10.0.0.2:/var/db/", rsync = { binary = "/usr/bin/rsync", owner = true,
               _extra = { "--include=astdb.sqlite3", "--exclude=*", "--bwlimit=2000" } } }
        sync { default.rsync, source = "%(p)s", target = "me@10.0.0.3:/www", rsyncOps = { "-rlpgoDvz", "-e", "/usr/bin/ssh -i %(p)s/key" } }
        """ % {"p": place})
    expect(c.status == 0, c.said)
    found = c.check()
    expect(found["host"] == ['"me@a.example"', '"me@b.example"', '"10.0.0.2"', '"me@10.0.0.3"'], found["host"])
    expect(found["nodaemon"] == ["true"] and found["archive"] == ["true", "true", "false", "false"], found["archive"])
    expect(found["port"][0] == "10022" and found["identityFile"].count('"%s/key"' % place) == 3, "%s" % found["identityFile"])
    expect(found["times"] == ["true", "true", "true", "false"] and found["perms"][3] == "true" and found["bwlimit"][2] == "2000", c.text)
    expect('"--include=astdb.sqlite3"' in c.text and '"--exclude=*"' in c.text, c.text)


def arguments_of_rsync(place):
    """What stands in _extra becomes keys where there are such."""
    c = Converted(place, """
        sync { default.rsync, source = "%s", target = "h:/x", rsync = { _extra = {
            "-avz", "--bwlimit=300", "--partial-dir", ".part", "--no-owner", "--numeric-ids", "--exclude=*.o", "--filter=+ *.c",
            "--delete", "--info=progress2", "--size-only", "-e", "/usr/bin/ssh -p 222 -i /etc/hostname -o 'StrictHostKeyChecking no'" } } }
        """ % place)
    expect(c.status == 0, c.said)
    c.expect_keys(transport='"rsyncssh"', archive="true", compress="true", bwlimit="300", partial_dir='".part"', owner="false", perms="true",
                  numeric_ids="true", port="222", identityFile='"/etc/hostname"')
    expect("StrictHostKeyChecking" in c.text and '"--size-only"' in c.text and "--info" not in re.sub("#.*", "", c.text), c.text)


def rules_as_arguments(place):
    """What MaxScale's users have: rules among rsync's arguments, in long brackets, and a port."""
    c = Converted(place, """
        settings{ logfile = "%(p)s/ha.log", statusFile = "%(p)s/ha-status.log" }
        sync{ default.rsyncssh, source="/etc", host="user@192.0.2.7", targetdir="/etc", -- to the other one
              ssh={port=2222}, -- uncomment or not
              rsync={ compress=true, _extra = {[[--filter=+ *some.cnf]], [[--filter=- **]]} } }
        """ % {"p": place})
    expect(c.status == 0 and c.said == "", "%d %s" % (c.status, c.said))
    c.expect_keys(host='"user@192.0.2.7"', port="2222", compress="true")
    expect('extra    = [ "--filter=+ *some.cnf", "--filter=- **" ];' in c.text, c.text)


def targets(place):
    """What lsyncd calls a target is one of three transports."""
    c = Converted(place, """
        for _, t in ipairs { "/l", "h::m/p", "rsync://h/n", "u@h:/p", "h:", "[::1]:/p", "u@h2:rel" } do
            sync { default.rsync, source = "%s", target = t }
        end
        """ % place)
    expect(c.status == 0, c.said)
    found = c.check()
    expect(found["transport"] == ['"rsync"'] * 3 + ['"rsyncssh"'] * 4, c.text)
    expect(found["host"] == ['"u@h"', '"h"', '"[::1]"', '"u@h2"'] and found["targetdir"] == ['"/p"', '"."', '"/p"', '"rel"'], c.text)


def one_target_twice(place):
    a, b = dirs(place, "a", "b")
    c = Converted(place, """
        sync { default.rsync, source = "%s", target = "/x" }
        sync { default.rsync, source = "%s", target = "/x/", delete = false }
        """ % (a, b))
    expect(c.status == 3, "status %d" % c.status)
    c.expect_said((3, "writes to the target of the sync at"))
    expect(c.check()["source"] == ['"%s"' % a], c.text)
    expect('# \tsource    = "%s";' % b in c.text, "the sync is dropped: " + c.text)


def nothing_is_done(place):
    text = """
        os.execute("touch %(p)s/executed")
        local f = io.open("%(p)s/written", "w")
        os.remove("%(p)s/precious")
        local lines = {}
        for line in io.lines("%(p)s/hosts") do lines[#lines + 1] = line end
        if os.rename("%(p)s/hosts", "%(p)s/hosts") then
            sync { default.rsyncssh, source = "%(p)s", host = lines[1], targetdir = "/x" }
        end
        """ % {"p": place}
    put(place + "/precious")
    put(place + "/hosts", "one\n")
    c = Converted(place, text)
    expect(c.status == 3, "status %d" % c.status)
    c.expect_said((2, "os.execute"), (3, "written"), (4, "os.remove"))
    expect(sorted(os.listdir(place)) == ["fansyncd.conf", "hosts", "lsyncd.conf.lua", "precious"], "it did: %s" % os.listdir(place))
    c.expect_keys(host='"one"')
    c = Converted(place, text, "--allow-exec")
    expect(c.status == 0, c.said)
    expect("executed" in os.listdir(place) and "precious" not in os.listdir(place), "--allow-exec allows nothing")


def what_cannot_be_run(place):
    for text, said in (("sync {", "lsyncd.conf.lua:1"), ('local h = io.popen("hostname"):read()', "lsyncd.conf.lua:1: a program's output"),
                       ("while true do end", "does not come to an end"), ("terminate(-1)", "ended itself"),
                       ('require("socket") sync { default.rsync }', "socket")):
        c = Converted(place, text)
        expect(c.status in (1, 3) and said in c.said, "%s: %d %s" % (text, c.status, c.said))
    for argv in ([], ["-x"], ["a", "b"], ["-o"]):
        expect(run(LUAS[0], SCRIPT, *argv, check=False).returncode == 2, "usage: %s" % argv)
    done = run(LUAS[0], SCRIPT, place + "/missing", check=False)
    expect(done.returncode == 1 and b"missing" in done.stderr, "a missing file: %r" % done.stderr)


def fill(tree):
    os.makedirs(tree + "/sub/deep")
    put(tree + "/f", "text")
    put(tree + "/sub/g.tmp")
    put(tree + "/sub/deep/h")
    os.chmod(tree + "/f", 0o640)
    os.utime(tree + "/sub/deep/h", (10**9, 10**9))
    os.symlink("f", tree + "/link")


def mirrors(place):
    """Local ones, with each layer."""
    for layer in ("rsync", "direct"):
        here, = dirs(place, layer)
        a, b = here + "/a", here + "/b"
        fill(a)
        c = Converted(here, """
            settings { logfile = "%(p)s/log" }
            sync { default.%(layer)s, source = "%(a)s", target = "%(b)s", exclude = "*.tmp", delay = 0, rsync = { archive = true } }
            """ % {"p": here, "a": a, "b": b, "layer": layer})
        expect(c.status == 0, c.said)
        put(c.path, c.text.replace("settings = {", 'settings = {\n\tstateDir = "%s/state"; controlSocket = "%s/socket";' % (here, here)))
        run(BINARY, "--sync-now", "--quiet", c.path)
        expect(not os.path.exists(b + "/sub/g.tmp"), "%s: the excluded file was sent" % layer)
        os.unlink(a + "/sub/g.tmp")
        os.utime(a + "/sub", ns=(0, os.lstat(b + "/sub").st_mtime_ns))
        expect_equal(a, b, layer)


def mirrors_over_ssh(place):
    """A target HOST:DIR with rsh."""
    sshd = Sshd(place + "/sshd").start()
    try:
        a, b = place + "/a", place + "/b"
        fill(a)
        c = Converted(place, """
            settings { logfile = "%(p)s/log" }
            sync { default.rsync, source = "%(a)s", target = "127.0.0.1:%(b)s",
                   rsync = { archive = true, rsh = "ssh -p %(port)d -i %(key)s -o UserKnownHostsFile=%(hosts)s -o BatchMode=yes" } }
            """ % {"p": place, "a": a, "b": b, "port": sshd.port, "key": sshd.key, "hosts": sshd.known_hosts})
        expect(c.status == 0, c.said)
        put(c.path, c.text.replace("settings = {", 'settings = {\n\tstateDir = "%s/state"; controlSocket = "%s/socket";' % (place, place)))
        run(BINARY, "--sync-now", "--quiet", c.path)
        expect_equal(a, b)
    finally:
        sshd.stop()


SHORT = {"l": "links", "t": "times", "p": "perms", "o": "owner", "g": "group", "A": "acls", "X": "xattrs", "H": "hard-links", "S": "sparse",
         "c": "checksum", "u": "update", "z": "compress", "b": "backup", "k": "copy-dirlinks", "L": "copy-links", "E": "executability",
         "I": "ignore-times", "K": "keep-dirlinks", "O": "omit-dir-times", "J": "omit-link-times", "x": "one-file-system",
         "m": "prune-empty-dirs", "v": "verbose", "W": "whole-file", "s": "protect-args", "n": "dry-run", "r": "recursive"}
# How each of the two goes about it, and what either says by a key of its own.
OWN = """recursive dirs no-recursive delete ignore-errors files-from from0 outbuf out-format info no-8-bit-output exclude-from filter
         modify-window max-delete force missing delete-missing-args ignore-missing-args protect-args stats include-from exclude checksum-seed
         list-only""".split()


def meaning_of(argv):
    """The options that say what is mirrored: a set."""
    options = set()
    for arg in argv:
        if arg.startswith("--") and len(arg) > 2:
            options.add(arg[2:])
        elif re.match(r"^-[A-Za-z0-9]+$", arg):
            options |= {SHORT.get(c, c) for c in arg[1:]}
    if "D" in options:
        options = options - {"D"} | {"devices", "specials"}
    return {o for o in options if o.split("=")[0] not in OWN}


def recorder(place):
    """An rsync that writes down its arguments, a line each and an empty one behind."""
    path = place + "/rsync"
    put(path, '#!/bin/sh\n{ printf "%%s\\n" "$@"; echo; } >> "$0.calls"\nexec rsync "$@"\n' % ())
    os.chmod(path, 0o755)
    return path


def calls(rsync):
    try:
        with open(rsync + ".calls", encoding="utf-8") as f:
            return [call.split("\n") for call in f.read().split("\n\n") if call]
    except FileNotFoundError:
        return []


def as_lsyncd_calls_it(place):
    """The options of rsync's first call, by lsyncd itself and after the conversion."""
    lsyncd = shutil.which("lsyncd")
    if not lsyncd:
        raise Skipped("lsyncd is not installed")
    cases = ("", "archive = true, compress = true", "perms = true, owner = true, times = false, checksum = true",
             "archive = true, owner = false, hard_links = true, bwlimit = 5000, chmod = 'g+w', temp_dir = '/tmp'",
             "update = true, whole_file = true, sparse = true, omit_dir_times = true, _extra = { '--size-only', '--numeric-ids' }")
    for i, options in enumerate(cases):
        here, = dirs(place, str(i))
        fill(here + "/a")
        rsync = recorder(here)
        c = Converted(here, """
            settings { logfile = "%(p)s/log", nodaemon = true }
            sync { default.rsync, source = "%(p)s/a", target = "%(p)s/b/", delay = 0, rsync = { binary = "%(rsync)s", %(options)s } }
            """ % {"p": here, "rsync": rsync, "options": options})
        expect(c.status == 0, c.said)
        daemon = subprocess.Popen([lsyncd, "-nodaemon", "-log", "scarce", c.lua_path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await_fact(lambda: calls(rsync), 20, "lsyncd's first call of rsync")
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)
        theirs = meaning_of(calls(rsync)[0])
        os.unlink(rsync + ".calls")
        put(c.path, c.text.replace("settings = {", 'settings = {\n\tstateDir = "%s/state"; controlSocket = "%s/socket";' % (here, here)))
        run(BINARY, "--sync-now", "--quiet", c.path)
        ours = [meaning_of(call) for call in calls(rsync) if any(arg.startswith("--files-from") for arg in call)]
        expect(ours and all(o == theirs for o in ours), "%s: lsyncd %s, converted %s" % (options, sorted(theirs), [sorted(o) for o in ours]))


main([simple, all_of_it, tunnels, keys_in_order, programs, scripts_are_listed, wrong_keys, old_forms, archive_as_an_argument, shipped_examples, as_people_write_them, arguments_of_rsync, rules_as_arguments, targets, one_target_twice,
      nothing_is_done, what_cannot_be_run, mirrors, mirrors_over_ssh, as_lsyncd_calls_it])
