"""A machine of a test's own: this host's root file system as a lower layer, with name spaces and a systemd of its own as process 1.

Nothing of what happens there is seen outside. It needs root, overlayfs, and a unified hierarchy of control groups.
"""

import os
import signal
import subprocess

from fansync import Failure, await_fact, children, kill, run

BOOT = r"""
set -e
place=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$place"
mkdir "$place/root" "$place/upper" "$place/work"
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" overlay "$place/root"
cd "$place/root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec none sys/fs/cgroup
mount -t tmpfs -o nosuid,mode=755 none dev
for d in null:1:3:666 zero:1:5:666 full:1:7:666 random:1:8:666 urandom:1:9:666 tty:5:0:666 kmsg:1:11:600; do
	IFS=: read -r name major minor mode <<-END
		$d
	END
	mknod -m "$mode" "dev/$name" c "$major" "$minor"
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mkdir dev/shm dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 none dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 none run
mount -t tmpfs -o nosuid,nodev,mode=1777 none tmp
mount -t tmpfs -o mode=755 none srv
mount -t tmpfs -o mode=755 none mnt
mkdir -p run/lock
printf '%s' "$TARGET" >etc/systemd/system/fansyncd-test.target
mount -t tmpfs none usr/lib/systemd/system/sysinit.target.wants
rm -rf etc/systemd/system/*.wants etc/machine-id
: >etc/machine-id
ip link set lo up
mkdir .host
pivot_root . .host
umount -l .host
rmdir .host
mount --make-rshared /
: >/run/fansyncd-test-machine
exec "$@"
"""

SYSTEMD = "/lib/systemd/systemd"
TARGET = """[Unit]
DefaultDependencies=no
AllowIsolate=yes
Wants=systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket
After=systemd-journald.service
"""


def possible():
    """Why there can be no machine here; None if there can."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists(SYSTEMD):
        return "systemd is not installed"
    with open("/proc/filesystems", encoding="ascii") as f:
        known = f.read().split()
    return None if "overlay" in known and "cgroup2" in known else "the kernel has no overlayfs or no unified control groups"


class Machine:
    def __init__(self, place):
        self.place = os.path.join(place, "machine")
        self.groups = os.path.join(place, "groups")
        self.group = os.path.join(self.groups, "fansyncd-test-%d" % os.getpid())
        self.process, self.pid, self.argv = None, None, []
        for d in (self.place, self.groups):
            os.makedirs(d, exist_ok=True)

    def start(self, argv=None):
        """Boot systemd, or run another program as process 1."""
        run("mount", "-t", "cgroup2", "none", self.groups)
        os.makedirs(self.group)
        self.argv = argv or [SYSTEMD, "--unit=fansyncd-test.target", "--log-target=journal", "--show-status=no"]
        self.output = open(os.path.join(os.path.dirname(self.place), "machine.output"), "wb")
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc", "--net",
             "sh", "-c", BOOT, "sh", self.place] + self.argv,
            env={"container": "fansyncd-test", "TARGET": TARGET, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
            preexec_fn=lambda: self.enter_group())
        await_fact(self.is_up, 60, "process 1 runs: " + self.said())
        return self

    def enter_group(self):
        with open(self.group + "/cgroup.procs", "w", encoding="ascii") as f:
            f.write("0")

    def said(self):
        with open(os.path.join(os.path.dirname(self.place), "machine.output"), errors="replace") as f:
            return f.read()[-4000:]

    def is_up(self):
        if self.process.poll() is not None:
            raise Failure("the machine ended: " + self.said())
        below = children(self.process.pid)
        if not below:
            return False
        self.pid = below[0]
        # The marker is of the new root: what is done inside must not be done to this host.
        if not os.path.exists("/proc/%d/root/run/fansyncd-test-machine" % self.pid):
            return False
        with open("/proc/%d/comm" % self.pid, encoding="ascii") as f:
            if f.read().strip() != "systemd":
                return self.argv[0] != SYSTEMD
        return self.inside("systemctl", "is-active", "--quiet", "fansyncd-test.target", check=False).returncode == 0

    def inside(self, *argv, check=True, timeout=60, **more):
        return run("nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w", *argv, check=check,
                   timeout=timeout, **more)

    def text(self, *argv, **more):
        return self.inside(*argv, **more).stdout.decode(errors="replace").strip()

    def write(self, path, text, mode=0o644):
        """A file in there, and the directories above it."""
        self.inside("install", "-D", "-m", "%o" % mode, "/dev/stdin", path, input=text.encode())

    def show(self, unit, name):
        return self.text("systemctl", "show", "-P", name, unit)

    def journal(self, unit):
        return self.text("journalctl", "-q", "--no-pager", "-o", "cat", "-u", unit, check=False)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            if self.pid:
                kill(self.pid, signal.SIGKILL)
            self.process.wait()
            self.output.close()
            self.process = None
        if not os.path.ismount(self.groups):
            return
        for _ in range(100):  # what was in them has been killed, and is gone in a moment
            for top, _, _ in os.walk(self.group, topdown=False):
                try:
                    os.rmdir(top)
                except OSError:
                    pass
            if not os.path.exists(self.group):
                break
            await_fact(lambda: True, 1, "")
        run("umount", "-l", self.groups, check=False)

