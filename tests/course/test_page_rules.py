"""Each rule of a page finds what it is there to find, and nothing on a page without fault."""

import pytest

from aiinfra_labs.course import page_rules
from aiinfra_labs.course.predictions import Comparison

FIGURE = (
    '<figure class="aiinfra-figure"><svg role="img" width="500" viewBox="0 0 374.4 200">'
    '<g transform="translate(1 2) scale({scale} -{scale})"><path/></g></svg></figure>'
)


def code(source, *tags, outputs=(), **metadata):
    metadata |= {"tags": list(tags)}
    return {"cell_type": "code", "id": "c", "metadata": metadata, "source": source,
            "outputs": list(outputs)}  # fmt: skip


def prose(text, **metadata):
    return {"cell_type": "markdown", "id": "m", "metadata": metadata, "source": text}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def html(text, plain="x"):
    data = {"text/html": [text], "text/plain": [plain]}
    return {"output_type": "execute_result", "data": data}


def drawn(scale="0.1"):
    return html(FIGURE.format(scale=scale))


def asked(text="How many?", number=32, sentence="A load of a warp.", tags=("hide-cell",)):
    shown = Comparison("p", None, number)
    return [
        prose(sentence),
        code(f'predict("p", ..., "{text}")', "hide-input"),
        code('reveal("p", n)', *tags, outputs=[html(shown._repr_html_(), str(shown))]),
    ]


def page(*cells):
    return {"cells": [code("figures.show(fig)", outputs=[drawn()]), *cells]}


def wrong(*cells):
    """The rules that a page breaks."""
    notebook = page(*cells)
    return {name for name, rule in page_rules.RULES.items() if rule(notebook)}


def test_a_page_without_fault():
    lines = code("\n".join(["x = 1"] * 30))
    good = printed("a line of 60 columns at most".ljust(70))
    assert wrong(*asked(), lines, code('print(f"{n:.1f} bytes, {n:,}")', outputs=[good])) == set()


def test_a_visible_cell_of_31_lines():
    long = "\n".join(["x = 1"] * 31)
    assert wrong(*asked(), code(long)) == {"long_cells"}
    assert wrong(*asked(), code(long, "hide-input"), code(long, "remove-cell")) == set()
    source = {"source": "aiinfra_labs.course.streams.joined"}
    fence = f"```python\n{long}\n```\n\n*`joined` in [streams.py](x)*"
    assert wrong(*asked(), prose(fence, **source)) == {"long_cells"}


@pytest.mark.parametrize(
    "line",
    [
        'print(f"{name:12} {n}")',
        'print(f"{n:>8}")',
        'print(f"{n:8.1f}")',
        'print(f"{name:{width}}")',
        'print("tokens     reserved")',
        "print(name.ljust(12), n)",
        'for n in x:\n    print(*(f"{n:7.1f}" for n in x))',
    ],
)
def test_a_table_by_hand(line):
    assert wrong(*asked(), code(line)) == {"tables_by_hand"}
    assert wrong(*asked(), code(line, "hide-input")) == {"tables_by_hand"}
    assert wrong(*asked(), code(line, "remove-output")) == set()


@pytest.mark.parametrize("line", ['print(f"{n:.2f} {n:,} {n:03d} {n:%}")', 'f"{n:8}"', "%time x"])
def test_what_is_no_table(line):
    assert wrong(*asked(), code(line)) == set()


def test_61_columns():
    assert wrong(*asked(), code("p", outputs=[printed("x" * 61)])) == {"wide_outputs"}
    assert wrong(*asked(), code("p", outputs=[printed("核" * 31)])) == {"wide_outputs"}
    assert wrong(*asked(), code("p", outputs=[html("<p>", "x" * 99)])) == set()
    plain = {"output_type": "execute_result", "data": {"text/plain": ["x" * 61]}}
    assert wrong(*asked(), code("p", outputs=[plain])) == {"wide_outputs"}


def test_what_failed_for_want_of_a_gpu():
    said = [printed("Not compared here. CUDA finds no device\n(cudaErrorInsufficientDriver)")]
    assert wrong(*asked(), code("p", outputs=said)) == {"gpu_failures"}


def test_the_first_figure():
    located = code('figures.show(frontispiece.draw("3.2"))', outputs=[drawn()])
    assert page_rules.first_figure({"cells": [located, *page()["cells"]]})
    assert page_rules.first_figure({"cells": [prose("No figure.")]}) == ["the page has no figure"]


def test_a_label_that_is_small_on_a_phone():
    """374.4 points are as wide as 358 pixels: 9.5 points are 9.1 of them, 9 are 8.6."""
    assert wrong(*asked(), code("f", outputs=[drawn("0.095")])) == set()
    assert wrong(*asked(), code("f", outputs=[drawn("0.09")])) == {"small_labels"}


@pytest.mark.parametrize(
    "cells",
    [
        [],
        asked("A warp has 32 lanes: how many sectors?"),
        asked(sentence="Each of the 32 lanes asks. How many?"),
        asked(number=1400, sentence="There are 1,400."),
        asked(tags=()),
        asked()[2:],
    ],
)
def test_a_prediction_that_is_none(cells):
    assert wrong(*cells) == {"predictions"}


def test_a_prediction_with_other_numbers_about_it():
    assert wrong(*asked("Of 320 lanes?", sentence="First.\n\nThere are 3.2, 132 and 8.")) == set()
    assert wrong(*asked(number=8, sentence="Step 8 asks.")) == set()  # one digit says little


ALONE = "有一句没有英文的话。"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"The talk says {ALONE} And so on.", True),
        (f"| page | the talk says |\n|---|---|\n| 3 | {ALONE} |", True),
        (f'The talk says {ALONE} ("a sentence without English").', False),
        (f"The talk says {ALONE} (a sentence without English).", False),
        (f"| {ALONE} | a sentence without English |", False),
        ("The **table of all blocks** (所有块的表格和名称) is kept.", False),
        ("A **block** (内部碎片).", False),
        (f"```\n{ALONE}\n```\n\nand `{ALONE}`", False),
    ],
)
def test_chinese_without_english(text, fault):
    assert wrong(*asked(), prose(text)) == ({"chinese_alone"} if fault else set())


def test_the_figures_of_a_page():
    function = code("import x\n\n\ndef f():\n    return 1\n\n\nprint(f())")
    source = {"source": "aiinfra_labs.course.streams.joined"}
    shown = prose("```python\ndef joined():\n    pass\n```\n\n*`joined` in [a](b)*", **source)
    notebook = page(prose("Three words here."), function, shown)
    figures = page_rules.figures_of(notebook)
    assert (figures.visible, figures.included) == (1 + 8 + 2, 2)
    assert figures.share == pytest.approx((2 + 2) / 11)
    assert (figures.longest, figures.widest) == (8, 0) and figures.words >= 3


def test_the_command_prints_them(tmp_path, capsys):
    import json

    path = tmp_path / "3-gpu" / "02-cuda-model.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(page(*asked(), code("p", outputs=[printed("x" * 99)]))))
    assert page_rules.main([str(path)]) == 1
    out = capsys.readouterr().out
    assert "3-gpu/02-cuda-model" in out and "prints 99 columns" in out
    assert page_rules.main([str(path), "--figures"]) == 0
