#!/usr/bin/env python3
"""The few commands of aws that the recipe s3.py uses, with a directory for a bucket: AWS_STUB. While AWS_STUB/../fail is there, it fails."""
import datetime
import json
import os
import shutil
import sys

ROOT = os.environ["AWS_STUB"]
words = [w for w in sys.argv[1:] if w not in ("--only-show-errors", "--no-follow-symlinks")]
if os.path.exists(os.path.join(ROOT, "..", "fail")):
    sys.exit("upload failed: no credentials")


def at(url):
    return os.path.join(ROOT, url[len("s3://"):])


if words[:2] == ["s3", "cp"]:
    os.makedirs(os.path.dirname(at(words[3])), exist_ok=True)
    shutil.copyfile(words[2], at(words[3]))
elif words[:3] == ["s3", "rm", "--recursive"]:
    shutil.rmtree(at(words[3]), ignore_errors=True)
elif words[:2] == ["s3", "rm"]:
    if os.path.isfile(at(words[2])):
        os.unlink(at(words[2]))
elif words[:2] == ["s3api", "list-objects-v2"]:
    bucket, prefix = os.path.join(ROOT, words[words.index("--bucket") + 1]), words[words.index("--prefix") + 1]
    found = []
    for base, _, files in os.walk(bucket):
        for name in files:
            key = os.path.relpath(os.path.join(base, name), bucket)
            if key.startswith(prefix):
                st = os.stat(os.path.join(base, name))
                when = datetime.datetime.fromtimestamp(st.st_mtime, datetime.timezone.utc)
                found.append({"Key": key, "Size": st.st_size, "LastModified": when.isoformat().replace("+00:00", "Z")})
    print(json.dumps({"Contents": found}) if found else "")
else:
    sys.exit("unknown: %s" % words)
