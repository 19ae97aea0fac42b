"""The course on this machine: what `make course` runs.

    python -m aiinfra_labs.course.start

Fills work/, builds the site from the stored outputs, and serves both, side by side, until Ctrl-C.
`PORT`, `LAB_PORT` and `BROWSER` in the environment say where, and with which browser.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from . import progress, work
from .parts import CourseError
from .units import UNITS, repository

HOST = "127.0.0.1"  # this machine alone: JupyterLab runs whatever it is told
PORTS = {"PORT": 8000, "LAB_PORT": 8888}
SERVES = {"PORT": "the site", "LAB_PORT": "JupyterLab"}
# Without these JupyterLab asks its project's servers for news and newer versions.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    }
}
# nbgrader's panels are the instructor's: a learner who opens one can only break the notebook.
CONFIGURATION = {
    "labconfig/page_config.json": {"disabledExtensions": {"@jupyter/nbgrader": True}},
    "jupyter_server_config.d/nbgrader.json": {
        "ServerApp": {
            "jpserver_extensions": {
                f"nbgrader.server_extensions.{name}": False
                for name in ("assignment_list", "course_list", "formgrader", "validate_assignment")
            }
        }
    },
}


def log_file() -> Path:
    """What JupyterLab says goes there: a file of this user's."""
    return progress.folder() / "jupyterlab.log"


class StartError(CourseError):
    """Why the course cannot start, in one line."""


def main() -> int:
    """Start all, and end all at Ctrl-C, SIGTERM or a closed terminal. Returns the exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), _end)
    try:
        return start()
    except KeyboardInterrupt:
        return 0
    except CourseError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
    return 1


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def start() -> int:
    """Serve the site and JupyterLab until the latter ends."""
    root = repository(Path(__file__).parent)
    if root is None:
        raise StartError("The course starts from its own folder: run `make course` in a clone.")
    terminal = watched_terminal()
    ports = {name: port(name) for name in PORTS}
    if len(set(ports.values())) < len(ports):
        raise StartError("PORT and LAB_PORT are the same: the site and JupyterLab need one each.")
    with site_server(ports["PORT"], site(root)) as server:
        check_free("LAB_PORT", ports["LAB_PORT"])
        mine = fill(root)
        token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(16)
        # The card of a lab links to its page there.
        os.environ["AIINFRA_SITE"] = f"http://{HOST}:{ports['PORT']}/"
        lab = jupyterlab(mine, ports["LAB_PORT"], token)
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        try:
            serving.start()
            wait_for(lab, ports["LAB_PORT"])
            addresses = {
                "The site": os.environ["AIINFRA_SITE"],
                "JupyterLab": f"http://{HOST}:{ports['LAB_PORT']}/lab{first(mine)}?token={token}",
            }
            print()
            for name, address in addresses.items():
                print(f"  {name + ':':12} {address}")
            print("\nCtrl-C ends both.", flush=True)
            open_browser(list(addresses.values()))
            return stay(lab, terminal)
        finally:
            end(lab)
            if serving.is_alive():
                server.shutdown()


# --- before anything is served -----------------------------------------------------------------


def port(name: str) -> int:
    """The port that the environment names, or the usual one. Raises `StartError` if it is none."""
    text = os.environ.get(name) or str(PORTS[name])
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise StartError(f"{name}={text} is no port: choose a number from 1024 to 65535.")
    check_free(name, int(text))
    return int(text)


def check_free(name: str, number: int) -> None:
    """Raises `StartError` when another program has the port."""
    if not is_free(number):
        other = next(n for n in range(number + 1, 65536) if is_free(n))
        raise StartError(
            f"Port {number}, for {SERVES[name]}, is taken by another program: "
            f"choose another, for example {name}={other}."
        )


def is_free(number: int) -> bool:
    """Whether nobody listens at this port of the machine."""
    # Where addresses may be used anew, one that another program has on all hosts can still be
    # bound: so ask first whether anybody answers.
    with socket.socket() as asking:
        if asking.connect_ex((HOST, number)) == 0:
            return False
    with socket.socket() as binding:
        binding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            binding.bind((HOST, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def fill(root: Path) -> Path:
    """Bring what is new in labs/ into the learner's folder, and return it."""
    mine = work.environment_folder() or root / "work"
    for line in work.fill(mine, root / "labs"):
        print(f"work/: {line}", flush=True)
    return mine


def site(root: Path) -> Path:
    """The folder of the site, built anew when what it is made from has changed."""
    from . import site as builder

    stamp = root / "_build" / "html" / builder.STAMP
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != builder.fingerprint(root):
        print("Building the site.", flush=True)
    return builder.build(root)


def first(mine: Path) -> str:
    """What to add to JupyterLab's address so that it opens on the first lab there is."""
    there = (unit.notebook for unit in UNITS.values() if (mine / unit.notebook).is_file())
    return "".join(f"/tree/{notebook}" for notebook in list(there)[:1])


# --- what is started, and ended ----------------------------------------------------------------


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder; a browser asks again each time, so that a rebuilt page shows."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the two addresses."""


def site_server(number: int, folder: Path) -> ThreadingHTTPServer:
    """A server that holds the port; it answers once `serve_forever` runs."""
    handler = functools.partial(Handler, directory=str(folder))
    return ThreadingHTTPServer((HOST, number), handler)


def jupyterlab(mine: Path, number: int, token: str) -> subprocess.Popen[bytes]:
    """JupyterLab on `mine`, with the kernels of this environment and no others."""
    overrides = Path(sys.prefix, "share", "jupyter", "lab", "settings", "overrides.json")
    work.write_whole(overrides, json.dumps(_known(overrides) | SETTINGS, indent=1).encode())
    configuration = Path(sys.prefix, "etc", "aiinfra-course")
    for name, content in CONFIGURATION.items():
        work.write_whole(configuration / name, json.dumps(content, indent=1).encode())
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    options = {
        "ServerApp.root_dir": mine,
        "ServerApp.ip": HOST,
        "ServerApp.port": number,
        "ServerApp.port_retries": 0,
        "ServerApp.answer_yes": True,
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
        "KernelSpecManager.allowed_kernelspecs": "python3",
    }
    command += [f"--{name}={value}" for name, value in options.items()]
    ours = {
        "JUPYTER_TOKEN": token,  # not among the options, which every user of the machine can list
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_PATH": os.pathsep.join(
            filter(None, [str(configuration), os.environ.get("JUPYTER_CONFIG_PATH")])
        ),
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    log_file().parent.mkdir(parents=True, exist_ok=True)
    with log_file().open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | ours,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def _known(overrides: Path) -> dict[str, Any]:
    """The settings that stand there already: in an environment of the learner's own, theirs."""
    try:
        known = json.loads(overrides.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _end_with_parent() -> None:
    """Linux ends this process when its parent is gone, even if that was killed outright."""
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for(lab: subprocess.Popen[bytes], number: int, seconds: float = 120) -> None:
    """Until JupyterLab answers. Raises `StartError` when it ends instead, or takes too long."""
    until = time.monotonic() + seconds
    while lab.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{number}/api", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise StartError(f"JupyterLab did not start. What it said stands in {log_file()}.")


def open_browser(addresses: list[str]) -> None:
    """Show the addresses, unless BROWSER is empty or there is nothing to show them on."""
    chosen = os.environ.get("BROWSER")
    display = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if chosen or (chosen is None and display):
        # A browser that runs in the terminal returns when it is closed.
        show = functools.partial(list, map(webbrowser.open, addresses))
        threading.Thread(target=show, daemon=True).start()


def watched_terminal() -> select.poll:
    """Tells when the terminal is closed. Made early: of a closed one nobody knows what it was.

    Of a closed terminal the system tells only the first program in it, and `make` tells no other.
    """
    terminal = select.poll()
    if sys.platform == "linux" and os.isatty(0):
        terminal.register(0, select.POLLHUP)
    return terminal


def stay(lab: subprocess.Popen[bytes], terminal: select.poll) -> int:
    """Until JupyterLab ends, which gives its exit code, or the terminal is closed."""
    while lab.poll() is None:
        if terminal.poll(500):  # milliseconds
            raise KeyboardInterrupt
    return lab.returncode


def end(lab: subprocess.Popen[bytes], seconds: float = 15) -> None:
    """End JupyterLab, which ends its kernels; a second Ctrl-C does not wait for them."""
    lab.terminate()
    try:
        lab.wait(seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        lab.kill()
        lab.wait()


if __name__ == "__main__":
    sys.exit(main())
