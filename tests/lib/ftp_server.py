"""A small FTP server of one directory, as a provider has it: MLSD, MFMT, passive connections; a thread for each session."""
import calendar
import os
import shutil
import socket
import threading
import time


class FtpServer:
    def __init__(self, root, user, password):
        self.root, self.user, self.password, self.logins = os.path.realpath(root), user, password, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sessions = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.sessions.append(s)
            threading.Thread(target=self.session, args=(s,), daemon=True).start()

    def cut(self):
        for s in self.sessions:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.listener.close()
        self.cut()

    def session(self, s):
        say = lambda text: s.sendall(text.encode("utf-8") + b"\r\n")
        data, old = None, None
        try:
            say("220 ready")
            for line in s.makefile("r", encoding="utf-8", newline="\r\n"):
                word, _, rest = line.rstrip("\r\n").partition(" ")
                at = os.path.join(self.root, rest.split(" ", 1)[-1].lstrip("/") if word == "MFMT" else rest.lstrip("/"))
                try:
                    if word == "PASS":
                        self.logins += 1
                        say("230 in" if rest == self.password else "530 no")
                    elif word == "EPSV":
                        data = socket.create_server(("127.0.0.1", 0))
                        say("229 here (|||%d|)" % data.getsockname()[1])
                    elif word == "PASV":
                        data = socket.create_server(("127.0.0.1", 0))
                        port = data.getsockname()[1]
                        say("227 here (127,0,0,1,%d,%d)" % (port >> 8, port & 255))
                    elif word in ("STOR", "MLSD"):
                        if word == "MLSD":
                            os.listdir(at)
                        say("150 go")
                        peer, _ = data.accept()
                        with peer:
                            if word == "STOR":
                                with open(at, "wb") as f:
                                    shutil.copyfileobj(peer.makefile("rb"), f)
                            else:
                                for name in os.listdir(at):
                                    st = os.lstat(os.path.join(at, name))
                                    peer.sendall(("type=%s;size=%d;modify=%s; %s\r\n" % (
                                        "dir" if os.path.isdir(os.path.join(at, name)) else "file", st.st_size,
                                        time.strftime("%Y%m%d%H%M%S", time.gmtime(st.st_mtime)), name)).encode("utf-8"))
                        data.close()
                        say("226 done")
                    elif word == "RNFR":
                        old = at
                        say("350 to?")
                    elif word == "RNTO":
                        os.rename(old, at)
                        say("250 done")
                    elif word == "MFMT":
                        t = calendar.timegm(time.strptime(rest.split(" ")[0], "%Y%m%d%H%M%S"))
                        os.utime(at, (t, t))
                        say("213 done")
                    elif word in ("DELE", "RMD", "MKD"):
                        {"DELE": os.unlink, "RMD": os.rmdir, "MKD": os.mkdir}[word](at)
                        say("257 \"%s\"" % rest if word == "MKD" else "250 done")
                    elif word == "FEAT":
                        say("211-has\r\n MFMT\r\n MLST type*;size*;modify*;\r\n211 end")
                    else:
                        say({"USER": "331 password?", "QUIT": "221 bye"}.get(word, "200 yes"))
                except FileNotFoundError as e:
                    say("550 %s" % e.strerror)
                except OSError as e:
                    say("550 %s" % e.strerror)
        except OSError:
            pass
