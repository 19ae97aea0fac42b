"""What the scripts of widgets share: put in whole, each piece where two or more have it."""

from pathlib import Path

import pytest

import aiinfra_labs
from aiinfra_labs.course import framing

PACKAGE = Path(aiinfra_labs.__file__).parent
SCRIPTS = sorted(PACKAGE.glob("*/widgets/*.js"))
PIECES = sorted(Path(framing.__file__).parent.glob("frame_*.js"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_its_pieces_and_is_whole(script):
    text = framing.scripted(script)
    assert "here stands" not in text and text.endswith("export default { render };\n")
    for piece in PIECES:
        named = f"// here stands {piece.name}\n" in script.read_text(encoding="utf-8")
        assert text.count(piece.read_text(encoding="utf-8")) == named  # not written out beside it


@pytest.mark.parametrize("piece", PIECES, ids=lambda path: path.stem)
def test_a_piece_is_what_several_scripts_share(piece):
    users = [s for s in SCRIPTS if f"stands {piece.name}\n" in s.read_text(encoding="utf-8")]
    assert len(users) >= 2


def test_what_a_script_names_has_to_be_there(tmp_path):
    script = tmp_path / "widget.js"
    script.write_text("  // here stands frame_nothing.js\n")
    with pytest.raises(FileNotFoundError, match=r"frame_nothing\.js"):
        framing.scripted(script)
