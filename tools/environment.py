"""Make the course's environment `.venv`, if it is not whole, and run Python in it.

    python3 tools/environment.py [ARGUMENT ...]

The arguments are given to the Python of `.venv`: `-m pytest` runs the tests. The standard library
is enough, and any Python from 3.6 on can run this file, to say that it is too old for the course.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

NEEDED = (3, 11)
MACOS = 14  # the oldest that the pinned PyTorch has wheels for
GIGABYTES = 4.0  # free space asked for: .venv takes 3.0 GB, pip's copies of the downloads the rest
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
# What .venv was made from, as JSON. `{}` stands in it while an installation is under way, so that
# one which was broken off is seen; an environment that somebody else made has no such file.
RECORD = VENV / "made-from.json"


class Stop(Exception):
    """Why there can be no environment, in one line."""


def main(arguments: list) -> int:
    """Make .venv whole; then become its Python, if there are arguments. Returns the exit code."""
    try:
        with one_at_a_time():
            make()
    except Stop as reason:
        print(reason, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or VENV}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next start begins the installation anew.", file=sys.stderr)
        return 130
    if arguments:
        os.chdir(str(ROOT))
        os.execv(str(PYTHON), [str(PYTHON), *arguments])
    return 0


def make() -> None:
    """Create or update .venv, unless it was made from what stands here now."""
    check_place()
    record, version = read_record(), version_of(PYTHON)
    wanted = {"requirements": fingerprint(), "python": version, "folder": str(ROOT)}
    if version and record == wanted:
        return
    mine = record is not None or not VENV.exists() or not any(VENV.iterdir())
    if not mine and version < list(NEEDED):
        raise Stop(
            f"{VENV} was not made by this course, and holds no Python {dotted(NEEDED)}: "
            "remove it, and try again."
        )
    # A changed requirements.txt needs what changed; all else is safer begun anew.
    kept = record and all(record.get(key) == wanted[key] for key in ("python", "folder"))
    check_space()
    if mine and not kept:
        check_python()
        check_emptying()
        say(f"Making the environment .venv with Python {dotted(sys.version_info[:3])}.")
        VENV.mkdir(exist_ok=True)
        RECORD.write_text("{}")
        create()
    if mine:
        RECORD.write_text("{}")
    install()
    wanted["python"] = version_of(PYTHON)
    RECORD.write_text(json.dumps(wanted))


def check_place() -> None:
    """Raise `Stop` where .venv is no folder of this course's own: nothing behind it is touched."""
    if VENV.is_symlink():
        raise Stop(
            f"{VENV} is a link to {os.path.realpath(str(VENV))}: what lies there is left alone; "
            "remove the link, and try again."
        )
    if VENV.exists() and not VENV.is_dir():
        raise Stop(f"{VENV} is a file, and must be a folder: move it away, and try again.")


def check_emptying() -> None:
    """Raise `Stop` where emptying .venv would empty another disk, or somebody else's folder."""
    if not VENV.exists():
        return
    others = {path.name for path in VENV.iterdir()} - {RECORD.name, LOG.name}
    if others and not others & {"pyvenv.cfg", "bin", "lib"}:
        raise Stop(
            f"{VENV} holds {sorted(others)[0]}, and no environment: what lies there is left alone; "
            "move it away, and try again."
        )
    for folder, folders, _ in os.walk(str(VENV)):  # links are listed, and not followed
        for path in [folder, *(os.path.join(folder, name) for name in folders)]:
            if others and os.path.ismount(path):
                raise Stop(
                    f"{path} is another disk, mounted here: what lies there is left alone; "
                    "unmount it, and try again."
                )


def check_python() -> None:
    """Raise `Stop` unless this Python can make the environment."""
    here = f"Python {dotted(sys.version_info[:3])} ({sys.executable})"
    if sys.version_info[:2] < NEEDED:
        newer = next(filter(None, map(found, range(14, NEEDED[1] - 1, -1))), None)
        way = f"set PYTHON={newer}" if newer else "install a newer one, and set PYTHON to it"
        raise Stop(f"{here} is too old: the course needs {dotted(NEEDED)} or newer; {way}.")
    mac = platform.mac_ver()[0]
    if mac and int(mac.split(".")[0]) < MACOS:
        raise Stop(f"macOS {mac} is too old: PyTorch's wheels need macOS {MACOS} or newer.")
    for name in ("venv", "ensurepip"):
        try:
            __import__(name)
        except ImportError:
            raise Stop(
                f"{here} has no module {name}, which makes environments; "
                "on Debian and Ubuntu: sudo apt install python3-venv."
            ) from None


def found(minor: int) -> str:
    """The name of a Python 3.`minor` that can be run here; empty if there is none."""
    name = f"python3.{minor}"
    path = shutil.which(name)
    return name if path and version_of(Path(path)) == [3, minor] else ""


def version_of(python: Path) -> list:
    """Major and minor version of an interpreter; empty if it does not run."""
    try:
        script = "import sys; print(*sys.version_info[:2])"
        out = subprocess.check_output([str(python), "-c", script], stderr=subprocess.DEVNULL)
        return [int(number) for number in out.split()]
    except (OSError, ValueError, subprocess.CalledProcessError):
        return []


def check_space() -> None:
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if not LOG.exists() and free < GIGABYTES:
        raise Stop(
            f"The disk of {ROOT} has {free:.1f} GB free: the installation needs {GIGABYTES:.1f} GB."
        )


def create() -> None:
    """An empty environment in .venv, whatever environment was there before."""
    for path in VENV.iterdir():
        if path != RECORD:
            shutil.rmtree(str(path)) if path.is_dir() and not path.is_symlink() else path.unlink()
    with LOG.open("w") as log:
        command = [sys.executable, "-m", "venv", str(VENV)]
        if subprocess.call(command, stdout=log, stderr=subprocess.STDOUT) != 0:
            raise Stop(f"The environment could not be made: {why()}. {its_log()}")


def install() -> None:
    """The pinned requirements, then the course itself, editable."""
    began = time.monotonic()
    say("Installing the requirements. The first time this takes some minutes.")
    pip(["-r", str(ROOT / "requirements.txt")])
    # The requirements hold the build's own, pinned, too: nothing else is fetched.
    pip(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    say(f"Installed in {time.monotonic() - began:.0f} s.")


def pip(arguments: list) -> None:
    """pip's words go to the log; what it is at is shown."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", *arguments]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    all_of_them = sum(bool(re.match(r"\w", line)) for line in lines)
    env = dict(os.environ, PYTHONUNBUFFERED="1")
    with LOG.open("a", encoding="utf-8") as log:
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            encoding="utf-8",
            errors="replace",
        )
        try:
            show(child.stdout, log, all_of_them)
        except BaseException:
            child.terminate()
            raise
        finally:
            child.wait()
    if child.returncode != 0:
        raise Stop(f"The packages could not be installed: {why()}. {its_log()}")


def show(lines, log, all_of_them: int) -> None:
    """Copy `lines` to the log; say how far pip is: on one line of a terminal, or now and then."""
    live, count, shown = sys.stdout.isatty(), 0, 0
    for line in lines:
        log.write(line)
        log.flush()
        named = re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)==", line)
        if named:
            count = min(count + 1, all_of_them)
            text = f"  {count} of {all_of_them} packages: {named.group(1)}"
            if live:
                print(f"\r{text:70.70}", end="", flush=True)
            elif count - shown >= 40:
                shown = count
                say(text)
        elif line.startswith("Installing collected packages") and line.count(",") > 10:
            text = f"  unpacking {line.count(',') + 1} packages"
            say(f"\r{text:70}" if live else text)


def why() -> str:
    """What went wrong, from the log's words, in a few of our own."""
    text = LOG.read_text(encoding="utf-8", errors="replace")
    for pattern, reason in (
        (r"No space left on device|Disk quota exceeded", "the disk is full"),
        (r"Permission denied|Read-only file system", "a folder cannot be written to"),
        (
            r"connection broken|NewConnectionError|name resolution|ProxyError|[Tt]imed? ?out",
            "no network: pip reached no package index",
        ),
    ):
        if re.search(pattern, text):
            return reason
    errors = re.findall(r"(?i)^(?:error: *)(.+)", text, re.MULTILINE)
    last = (errors or text.strip().splitlines() or ["no reason was given"])[-1]
    return last.strip().rstrip(".")


def its_log() -> str:
    return f"All that was said stands in {LOG}."


def read_record():
    """The record as a dict; None where there is none, {} where it cannot be read."""
    try:
        record = json.loads(RECORD.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def fingerprint() -> str:
    """One number for all that decides what is installed."""
    files = (ROOT / "requirements.txt", ROOT / "pyproject.toml")
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


@contextlib.contextmanager
def one_at_a_time():
    """A second start waits for the first one's installation, where the system has file locks."""
    with open(__file__) as lock:
        try:
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Waiting for another start that is making the environment.")
                fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass  # then whoever starts two at once must wait by hand
        yield


def dotted(version) -> str:
    return ".".join(map(str, version))


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
