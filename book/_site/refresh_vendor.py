"""Bring the JavaScript and fonts below vendor/ up to date, from npm.

    python book/_site/refresh_vendor.py           write the files anew, and SHA256SUMS with them
    python book/_site/refresh_vendor.py --check   say which files differ from SHA256SUMS

A learner has Python and no npm, and the site asks no other host for anything: so the files stand
in the repository. To take a new version, change it here with the SHA-256 of its archive (which a
wrong one is answered with), run this, and run tests/site.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).resolve().parent / "vendor"
SUMS = VENDOR / "SHA256SUMS"


@dataclass(frozen=True)
class Package:
    """An npm package; `sha256` is that of its archive, `files` the patterns of what is kept."""

    name: str
    version: str
    sha256: str
    files: tuple[str, ...]


PACKAGES = (
    Package(
        "requirejs",
        "2.3.8",
        "777158e89275e16bd51aec3ef714fbcb5dc45789e7078659933bc814916d7dec",
        ("require.js",),
    ),
    Package(
        "@jupyter-widgets/html-manager",
        "1.0.15",
        "2b9d65cb7913e1c7d671757a10008b32c9c2448d4429513371e55c07d6107638",
        ("dist/embed-amd.js", "dist/embed.js.LICENSE.txt", "dist/*.woff2"),
    ),
    Package(
        "anywidget",
        "0.11.0",
        "44efed0d0c9999ec94cd3a86e317e902591f01df8edb3c8006b7e390b7e15ed8",
        ("dist/index.js", "LICENSE"),
    ),
    Package(
        "mathjax",
        "3.2.2",
        "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09",
        # The extensions are loaded when a formula uses one of their macros: \cancel, \color, ...
        (
            "LICENSE",
            "es5/tex-mml-chtml.js",
            "es5/input/tex/extensions/[!a]*.js",
            "es5/input/tex/extensions/a[cm]*.js",
            "es5/output/chtml/fonts/woff-v2/*.woff",
        ),
    ),
)


def sums(folder: Path = VENDOR) -> dict[str, str]:
    """The SHA-256 of each file below `folder` as it is now, by its path there."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (SUMS.name, "README.md")
    }


def recorded(folder: Path = VENDOR) -> dict[str, str]:
    """The SHA-256 of each file as SHA256SUMS has it (`sha256sum -c` reads it, too)."""
    lines = (folder / SUMS.name).read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def differing(folder: Path = VENDOR) -> list[str]:
    """Files that are missing, changed, or not on record."""
    now, then = sums(folder), recorded(folder)
    return sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))


def fetch(package: Package) -> bytes:
    """The package's archive, as `npm pack` gives it. Raises `SystemExit` when it is another."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        archive = next(Path(folder).glob("*.tgz")).read_bytes()
    found = hashlib.sha256(archive).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{package.name} {package.version}: SHA-256 is {found}, another was named")
    return archive


def unpack(package: Package, archive: bytes, folder: Path = VENDOR) -> None:
    """Replace the package's files below `folder`. A licence that is not in the archive stays."""
    home = folder / package.name
    old = [path for path in home.rglob("*") if path.is_file() and path.name != "LICENSE"]
    for path in old:
        path.unlink()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = member.name.removeprefix("package/")
            if member.isfile() and any(fnmatch.fnmatch(name, kept) for kept in package.files):
                path = home / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())


def main() -> int:
    parser = argparse.ArgumentParser(description="Refresh the vendored JavaScript and fonts.")
    parser.add_argument("--check", action="store_true", help="only say which files differ")
    if parser.parse_args().check:
        differ = differing()
        print("\n".join(differ) or "all files are as recorded")
        return 1 if differ else 0
    for package in PACKAGES:
        unpack(package, fetch(package))
        print(package.name, package.version)
    lines = [f"{digest}  {path}\n" for path, digest in sums().items()]
    SUMS.write_text("".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
