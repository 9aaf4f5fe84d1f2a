"""Real servers on free loopback ports, each in a folder of its own that goes when it stops.

Every function is a context manager that yields a `Server` once it answers. They work as root and not;
the processes end with the test process, however that ends (`setpriv --pdeathsig`).
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

PATIENCE = 15.0  # s until a server must answer; a loaded machine needs about one
SERVER_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"  # where Debian puts servers, often not in a user's PATH


class Request(NamedTuple):
    """One line of the access log."""

    status: int
    sent: int  # bytes of the body
    method: str
    target: str


@dataclass
class Server:
    url: str
    port: int
    root: Path
    folder: Path
    process: subprocess.Popen[bytes]
    access_log: Path | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def requests(self, least: int = 0) -> list[Request]:
        """Every request that the access log shows so far; when there are `least`, since servers write it
        after they answer."""
        assert self.access_log is not None, "this server was started without an access log"
        deadline = time.monotonic() + 4 * PATIENCE
        while self.access_log.read_bytes().count(b"\n") < least and time.monotonic() < deadline:
            time.sleep(0.02)
        rows = []
        for line in self.access_log.read_text("utf-8", "backslashreplace").splitlines():
            status, sent, method, target = line.split(" ", 3)
            rows.append(Request(int(status), 0 if sent == "-" else int(sent), method, target))
        return rows

    def forget(self) -> None:
        """Empty the access log."""
        assert self.access_log is not None, "this server was started without an access log"
        os.truncate(self.access_log, 0)

    def stop(self) -> None:
        """End it and wait for its end. May be called more than once."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


_given: set[int] = set()


def free_port() -> int:
    """A loopback port that was free a moment ago, and another one each time."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def program(name: str) -> str:
    """The path of a system program; the test fails without it."""
    found = shutil.which(name) or shutil.which(name, path=SERVER_FOLDERS)
    if found is None:
        pytest.fail(f"{name}: not installed; run make setup", pytrace=False)
    return found


LEFT = ("sideways-server-", "sideways-ftp-", "sideways-staged-", "sideways-hidden-", "sideways-timed-")
OLD = 24 * 3600.0  # s: no test runs that long


def sweep(place: Path, now: float) -> None:
    """Remove what tests that were killed have left in `place`, where pytest's own folders are not."""
    for folder in place.iterdir():
        if folder.name.startswith(LEFT) and not folder.is_symlink():
            with suppress(FileNotFoundError):  # somebody else sweeps
                status = folder.stat()
                if status.st_uid == os.getuid() and now - status.st_mtime > OLD:
                    shutil.rmtree(folder, ignore_errors=True)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _running(
    root: Path, scheme: str, command: Callable[[Path, int], list[str]], *, access_log: bool = False
) -> Iterator[Server]:
    """Start `command(folder, port)`, wait until its port answers, and end it with the block."""
    folder = Path(tempfile.mkdtemp(prefix="sideways-server-"))
    try:
        server = _start(folder, root, scheme, command, access_log)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    folder: Path, root: Path, scheme: str, command: Callable[[Path, int], list[str]], access_log: bool
) -> Server:
    output = folder / "output"
    for _ in range(5):  # somebody else may have taken the port meanwhile
        port = free_port()
        arguments = [program("setpriv"), "--pdeathsig", "TERM", *command(folder, port)]
        with output.open("wb") as sink:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, cwd="/"
            )
        server = Server(f"{scheme}://127.0.0.1:{port}/", port, root, folder, process)
        server.access_log = folder / "access.log" if access_log else None
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if answers(port) and process.poll() is None:
                return server
            time.sleep(0.01)
        server.stop()
    logs = "\n".join(
        path.read_text("utf-8", "replace") for path in folder.glob("*.log") if path.stat().st_size
    )
    pytest.fail(
        f"{arguments[3]}: does not start\n{output.read_text('utf-8', 'replace')}{logs}", pytrace=False
    )


NGINX_TEMPORARIES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def nginx(
    root: Path,
    *,
    autoindex_format: str = "html",
    access_log: bool = True,
    extra: str = "",
    http: str = "",
    limit: int = 0,
    user: str = "root",
) -> Iterator[Server]:
    """nginx with autoindex. `extra` goes into its `server` block, `http` into the one around it; `limit` is
    bytes/s per connection. Its workers are `user`, where that can be chosen."""

    def command(folder: Path, port: int) -> list[str]:
        log = f"{folder}/access.log facts" if access_log else "off"
        temporaries = " ".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(f"""
{f"user {user};" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
  {temporaries}
  log_format facts '$status $body_bytes_sent $request_method $request_uri';
  {http}
  access_log {log};
  default_type application/octet-stream;
  types {{ text/html html; text/plain txt; }}
  sendfile on;
  keepalive_requests 100000;
  limit_rate {limit};
  server {{
    listen 127.0.0.1:{port};
    root "{root}";
    autoindex on;
    autoindex_format {autoindex_format};
    autoindex_exact_size on;
    {extra}
  }}
}}
""")
        return [
            program("nginx"),
            "-e",
            f"{folder}/error.log",
            "-c",
            f"{folder}/nginx.conf",
            "-p",
            str(folder),
        ]

    with _running(root, "http", command, access_log=access_log) as server:
        yield server


APACHE_MODULES = ("mpm_event", "authz_core", "dir", "autoindex", "mime", "alias")


@contextmanager
def apache(
    root: Path,
    index_options: str = "FancyIndexing HTMLTable NameWidth=* SuppressDescription",
    extra: str = "",
) -> Iterator[Server]:
    """Apache httpd with mod_autoindex; `extra` goes into the main configuration."""

    def command(folder: Path, port: int) -> list[str]:
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES
        )
        (folder / "mime.types").write_text("text/html html\ntext/plain txt\n")
        (folder / "apache.conf").write_text(f"""
ServerRoot "{folder}"
ServerName localhost
Listen 127.0.0.1:{port}
PidFile "{folder}/apache.pid"
ErrorLog "{folder}/error.log"
{modules}
LogFormat "%>s %B %m %U%q" facts
CustomLog "{folder}/access.log" facts
TypesConfig "{folder}/mime.types"
DocumentRoot "{root}"
IndexOptions {index_options}
<Directory "{root}">
  Options Indexes FollowSymLinks
  Require all granted
</Directory>
{extra}
""")
        return [*_unprivileged(), program("apache2"), "-DFOREGROUND", "-f", f"{folder}/apache.conf"]

    with _running(root, "http", command, access_log=True) as server:
        yield server


def _unprivileged() -> list[str]:
    """Apache refuses to serve as root: it becomes another user that may read what root may."""
    if os.geteuid() != 0:
        return []
    caps = "+dac_override"
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
            "--inh-caps", caps, "--ambient-caps", caps, "--pdeathsig", "TERM"]  # fmt: skip


@contextmanager
def lighttpd(root: Path, extra: str = "") -> Iterator[Server]:
    """lighttpd with mod_dirlisting."""

    def command(folder: Path, port: int) -> list[str]:
        (folder / "lighttpd.conf").write_text(f"""
server.modules = ("mod_dirlisting", "mod_accesslog")
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{root}"
server.errorlog = "{folder}/error.log"
accesslog.filename = "{folder}/access.log"
accesslog.format = "%>s %B %m %U"
dir-listing.activate = "enable"
mimetype.assign = (".html" => "text/html", ".txt" => "text/plain", "" => "application/octet-stream")
{extra}
""")
        return [program("lighttpd"), "-D", "-f", f"{folder}/lighttpd.conf"]

    with _running(root, "http", command, access_log=True) as server:
        yield server


@contextmanager
def rsyncd(root: Path, *, module: str = "m", extra: str = "") -> Iterator[Server]:
    """An rsync daemon with one module that is `root`; `url` ends in the module's name and a slash."""

    def command(folder: Path, port: int) -> list[str]:
        owner = "uid = 0\ngid = 0" if os.geteuid() == 0 else ""
        (folder / "rsyncd.conf").write_text(f"""
use chroot = no
{owner}
pid file = {folder}/rsyncd.pid
log file = {folder}/rsyncd.log
[{module}]
path = {root}
read only = yes
{extra}
""")
        return [program("rsync"), "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}",
                f"--config={folder}/rsyncd.conf"]  # fmt: skip

    with _running(root, "rsync", command) as server:
        server.url += f"{module}/"
        yield server


def _anonymous(root: Path) -> str:
    """The user that an FTP server becomes for its guests; it must be able to read `root`."""
    return "ftp" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


@contextmanager
def vsftpd(root: Path, extra: str = "", tls: Path | None = None) -> Iterator[Server]:
    """vsftpd for anonymous guests, who see `root` as `/`. `tls`: a file with key and certificate, and every
    connection is to be encrypted."""

    def command(folder: Path, port: int) -> list[str]:
        (folder / "empty").mkdir()
        encrypted = f"""
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file={tls}
rsa_private_key_file={tls}
"""
        (folder / "vsftpd.conf").write_text(f"""listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
write_enable=NO
anon_root={root}
no_anon_password=YES
anon_world_readable_only=NO
secure_chroot_dir={folder}/empty
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
hide_ids=YES
max_per_ip=0
connect_from_port_20=NO
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file={folder}/commands
{encrypted if tls else ""}{extra}
""")
        return [program("vsftpd"), f"{folder}/vsftpd.conf"]

    with _running(root, "ftps" if tls else "ftp", command) as server:
        server.notes["commands"] = str(server.folder / "commands")
        yield server


# Debian's FTP servers exclude each other: scripts/setup.sh installs one and unpacks the others here.
UNPACKED = Path(__file__).parent.parent / ".cache" / "ftp-servers"
GUEST = ("mirror", "correct horse")  # who may log in where there is no anonymous guest
HASHED = "$1$sideways$r3czDs0X49kGFQ1xG2rFx."  # the password by MD5: pure-pw itself takes seconds for one


def _unpacked(name: str) -> list[str]:
    """How a program of the unpacked packages is run."""
    found = UNPACKED / name
    if not found.exists():
        pytest.fail(f"{found}: not there; run make setup", pytrace=False)
    if os.geteuid() != 0:
        pytest.skip(
            f"{found.name} becomes its guests' user and locks them into a folder: only root can run it"
        )
    libraries = UNPACKED / "usr/lib/x86_64-linux-gnu"
    machine = next((UNPACKED / "usr/lib").glob("*-linux-gnu*"), libraries)
    return ["env", f"LD_LIBRARY_PATH={machine}", str(found)]


@contextmanager
def proftpd(root: Path, extra: str = "", tls: Path | None = None) -> Iterator[Server]:
    """ProFTPD for anonymous guests, who see `root` as `/`. `extra` goes outside of `<Anonymous>`."""

    def command(folder: Path, port: int) -> list[str]:
        modules = UNPACKED / "usr/lib/proftpd"
        encrypted = f"""
LoadModule mod_tls.c
TLSEngine on
TLSRequired on
TLSECCertificateFile {tls}
TLSECCertificateKeyFile {tls}
TLSProtocol TLSv1.2 TLSv1.3
"""
        (folder / "proftpd.conf").write_text(f"""ServerType standalone
ServerName test
ModulePath {modules}
Port {port}
DefaultAddress 127.0.0.1
SocketBindTight on
UseIPv6 off
User root
Group root
ScoreboardFile none
PidFile {folder}/proftpd.pid
SystemLog {folder}/proftpd.log
TransferLog none
WtmpLog off
DelayEngine off
UseReverseDNS off
RequireValidShell off
MaxInstances 100
{encrypted if tls else ""}{extra}
<Limit WRITE>
  DenyAll
</Limit>
<Anonymous {root}>
  User ftp
  Group nogroup
  UserAlias anonymous ftp
</Anonymous>
""")
        return [*_unpacked("usr/sbin/proftpd"), "-n", "-c", f"{folder}/proftpd.conf"]

    with _running(root, "ftps" if tls else "ftp", command) as server:
        yield server


@contextmanager
def pure_ftpd(root: Path, *options: str, tls: Path | None = None) -> Iterator[Server]:
    """Pure-FTPd for one user, GUEST, who sees `root` as `/`; `notes["credentials"]` is a file."""

    def command(folder: Path, port: int) -> list[str]:
        guest = pwd.getpwnam("ftp")
        line = f"{GUEST[0]}:{HASHED}:{guest.pw_uid}:{guest.pw_gid}::{root}/./{':' * 12}\n"
        (folder / "users").write_text(line)
        made = [*_unpacked("usr/bin/pure-pw"), "mkdb", f"{folder}/users.pdb", "-f", f"{folder}/users"]
        subprocess.run(made, check=True, capture_output=True)
        encrypted = ["-Y", "3", "-2", str(tls)] if tls else []
        return [*_unpacked("usr/sbin/pure-ftpd"), "-S", f"127.0.0.1,{port}", "-E", "-H", "-u", "1",
                "-c", "99", "-C", "99", "-l", f"puredb:{folder}/users.pdb", "-g", f"{folder}/pid",
                *encrypted, *options]  # fmt: skip

    with _running(root, "ftps" if tls else "ftp", command) as server:
        credentials = server.folder / "credentials"
        credentials.touch(0o600)
        credentials.write_text(":".join(GUEST) + "\n")
        server.notes["credentials"] = str(credentials)
        yield server
