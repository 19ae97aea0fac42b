"""A learner's way through lab 3.2, in a real JupyterLab: unsolved, wrong, half right, solved."""

import json

from aiinfra_labs.course.units import UNITS

LAB = UNITS["3.2"].notebook
EXERCISES = ["3.2.a", "3.2.b", "3.2.c", "3.2.d", "3.2.e"]
CELLS = {  # the cell of each exercise, by the definition that it holds
    "3.2.a": "def vector_add(",
    "3.2.b": "def add_many(",
}

WITHOUT_A_GUARD = """\
@cuda.jit
def vector_add(a, b, out):
    i = cuda.grid(1)
    out[i] = a[i] + b[i]
"""
BY_THREAD_ONLY = """\
@cuda.jit
def vector_add(a, b, out):
    i = cuda.threadIdx.x
    if i < out.size:
        out[i] = a[i] + b[i]
"""
NOT_A_KERNEL = """\
def vector_add(a, b, out):
    out[:] = a + b
"""
RIGHT = """\
@cuda.jit
def vector_add(a, b, out):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < out.size:
        out[i] = a[i] + b[i]
"""
HALF = """\
def add_many(kernel, x, y, times):
    total = x.copy()
    for _ in range(times):
        kernel[math.ceil(x.size / 128), 128](total, y, total)
    return total
"""
WRONG = [
    (
        BY_THREAD_ONLY,
        [
            "failed, 0 of 4 points",
            "out[64] is nan",
            "out[0] 4 times, by threads 0, 64, 128, 192",
            "marks an element that no thread wrote",
            "Hint 1 of",
        ],
    ),
    (
        NOT_A_KERNEL,
        ["is a plain Python function, not a kernel", "compiled with cuda.jit", "@cuda.jit on the"],
    ),
    (
        WITHOUT_A_GUARD,
        [
            "failed, 1 of 4 points",
            "n = 1, 1 block of 32 threads",
            "a[1] is outside the array: its shape is (1)",
            "31 threads go outside",
            "if i < a.size:",
            "Hint 1 of 3",
        ],
    ),
]


def test_from_the_site_through_a_lab(desk, course, lab_page, picture):
    lab, (site, _) = lab_page, course
    lab.page.goto(site)
    lab.page.get_by_role("link", name="The CUDA programming model").first.click()
    assert "The CUDA programming model" in lab.page.get_by_role("heading", level=1).inner_text()
    page = lab.page.url
    picture(lab.page, "0-page")
    lab.open()
    lab.run_all()
    assert lab.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert lab.page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    for id in EXERCISES:
        assert lab.shown(f'check("{id}"').endswith("not attempted"), id
        assert lab.shown(f'show("{id}"').endswith("not attempted"), id
    assert "60 minutes" in lab.shown('card("3.2")')
    back = lab.output('card("3.2")').get_by_role("link", name="The CUDA programming model")
    assert back.get_attribute("href") == page.partition("#")[0]
    picture(lab.page, "1-card")
    assert "Kernels run on the course's emulator" in lab.shown("print(where())")
    assert "skipped" in lab.shown('reveal("3.2.lab.idle"')
    lab.cell("WarpAccess(stride=32)")
    lab.page.locator(".aiinfra-widget svg").first.wait_for()
    picture(lab.page, "2-widget")

    lab.paste('predict("3.2.lab.idle"', 'predict("3.2.lab.idle", 100, "How many idle threads?")')
    lab.run('reveal("3.2.lab.idle"')
    assert lab.shown('reveal("3.2.lab.idle"').endswith("100 threads 24 threads")

    for number, (code, said) in enumerate(WRONG):
        lab.paste(CELLS["3.2.a"], code)
        lab.run('check("3.2.a"')
        text = lab.shown('check("3.2.a"')
        for part in said:
            assert part in text, text
        for part in ("What", "Why", "Try"):
            assert part in text, text
        picture(lab.page, f"3-wrong-{number}")
    lab.run('show("3.2.a"')
    assert "a[200] is outside the array" in lab.shown('show("3.2.a"')

    lab.paste(CELLS["3.2.b"], HALF)
    lab.run('check("3.2.b"')
    text = lab.shown('check("3.2.b"')
    assert "✔ returns x + y + ... + y" in text and "✘ copies each array once" in text
    assert "120,000 bytes were copied to the device where 8,000 suffice" in text
    assert "failed, 5 of 6 points" in text
    lab.run('show("3.2.b"')
    picture(lab.page, "4-half")

    lab.paste(CELLS["3.2.a"], RIGHT)
    lab.run('check("3.2.a"')
    text = lab.shown('check("3.2.a"')
    assert "passed, 4 of 4 points" in text and "✘" not in text and "Hint" not in text
    lab.run('show("3.2.a"')
    drawn = lab.output('show("3.2.a"').locator("img")
    drawn.scroll_into_view_if_needed()
    assert "200 of 200 written once" in drawn.get_attribute("alt")
    assert drawn.evaluate("image => image.complete && image.naturalWidth > 100")
    picture(lab.page, "5-solved")
    for name, width, theme in (("dark", "desktop", "Dark"), ("phone", "phone", "Light")):
        if picture.wanted:
            lab.look(width, theme)
            lab.output('check("3.2.b"').scroll_into_view_if_needed()
            picture(lab.page, f"6-{name}-half")
            lab.output('show("3.2.a"').scroll_into_view_if_needed()
            picture(lab.page, f"6-{name}-solved")
            lab.output('card("3.2")').scroll_into_view_if_needed()
            picture(lab.page, f"6-{name}-card")
            lab.look("desktop", "Light")
    lab.save()
    assert "cuda.blockDim.x" in json.dumps(json.loads((desk.work / LAB).read_text())["cells"])

    told = desk.aiinfra("progress")
    assert "3.2.a" in told and "solved" in told and "4/4" in told
    assert "5/6" in told and "tried" in told
    data = json.loads(desk.aiinfra("progress", "--json"))
    known = {e["id"]: (e["best"], e["attempts"], bool(e["solved"])) for e in data["exercises"]}
    assert known["3.2.a"] == (4, 3, True), "what is no kernel at all is no attempt"
    assert known["3.2.b"] == (5, 1, False)
    assert known["3.2.c"] == (0, 0, False)
    assert data["predictions"]["3.2.lab.idle"] == {"predicted": 100, "measured": 24}
