"""What is in a process's memory."""
import os
import re

import fansync
from fansync import Skipped


def readable(pid):
    """What a core dump, or a debugger of the same user, would show: all mappings that are not left out of one."""
    try:
        with open("/proc/%d/smaps" % pid) as f:
            text = f.read()
        with open("/proc/%d/mem" % pid, "rb", buffering=0) as mem:
            for start, end, rest in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) (.*?)(?=^[0-9a-f]+-[0-9a-f]+ |\Z)", text, re.M | re.S):
                flags = re.search(r"VmFlags:(.*)", rest)
                if rest[0] != "r" or " dd" in flags.group(1) or " io" in flags.group(1) or "[v" in rest:
                    continue
                rss = int(re.search(r"Rss: +(\d+)", rest).group(1)) + int(re.search(r"Swap: +(\d+)", rest).group(1))
                at, size = int(start, 16), int(end, 16) - int(start, 16)
                if rss == 0:
                    continue
                mem.seek(at)
                while size > 0:
                    piece = mem.read(min(size, 64 << 20))
                    if not piece:
                        break
                    yield piece
                    size -= len(piece)
    except (OSError, ValueError):
        return


def plain():
    """The program without a sanitizer, which would change what is tested, is used from now on; returns what to put back."""
    binary = os.environ.get("FANSYNCD_PLAIN")
    if not binary:
        raise Skipped("needs the program without a sanitizer")
    before, fansync.BINARY = fansync.BINARY, binary
    return before
