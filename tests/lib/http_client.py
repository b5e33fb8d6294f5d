"""HTTP as the tests speak it: over TCP or a Unix socket, and by hand where a client would be too polite."""
import errno
import http.client
import socket


class Connection(http.client.HTTPConnection):
    """`where`: a port of 127.0.0.1, or a Unix socket's path."""

    def __init__(self, where, timeout=20):
        super().__init__("127.0.0.1", where if isinstance(where, int) else 80, timeout=timeout)
        self.where = where

    def connect(self):
        self.sock = connect(self.where, self.timeout)


def connect(where, timeout=20):
    s = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
    if isinstance(where, int):  # a Unix socket whose backlog is full is waited for only by a blocking call
        s.settimeout(timeout)
    s.connect(("127.0.0.1", where) if isinstance(where, int) else where)
    s.settimeout(timeout)
    return s


def get(where, path="/metrics", method="GET", body=None, headers=None, timeout=20):
    """Status, headers, body."""
    c = Connection(where, timeout)
    try:
        try:
            c.request(method, path, body=body, headers=headers or {})
        except BrokenPipeError:
            pass  # whoever does not want the body answers before it is sent
        answer = c.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        c.close()


def raw(where, request, timeout=20):
    """What comes back to these bytes until the other end closes."""
    with connect(where, timeout) as s:
        said = b""
        try:
            s.sendall(request)
            s.shutdown(socket.SHUT_WR)
            while True:
                more = s.recv(65536)
                if not more:
                    return said
                said += more
        except (BrokenPipeError, ConnectionResetError):
            return said
        except OSError as e:
            if e.errno != errno.ENOTCONN:
                raise
            return said
