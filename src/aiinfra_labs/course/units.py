"""The course map: chapters and units, and where in the repository each has its files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Chapter:
    """`number` and `name` ("3", "gpu"); `folder` is its name in the trees of notebooks."""

    number: str
    name: str
    folder: str
    title: str


@dataclass(frozen=True)
class Unit:
    """A lab and its pages: `id` "3.2", `stem` "02-cuda-model".

    The first page has the lab's name. A further one has a word more, 02-cuda-model-grids.ipynb:
    its file and its line in _toc.yml are all that it takes.
    """

    id: str
    stem: str
    title: str

    @property
    def chapter(self) -> Chapter:
        """The chapter that its id begins with."""
        return CHAPTERS[self.id[0]]

    @property
    def notebook(self) -> str:
        """Its path below book/, solutions/, labs/ or work/: the same in each."""
        return f"{self.chapter.folder}/{self.stem}.ipynb"

    def pages(self, book: Path) -> list[Path]:
        """Its pages in the folder `book`, in the order of _toc.yml; the first one comes first."""
        folder = book / self.chapter.folder
        listed = {page: place for place, page in enumerate(_toc(book.parent))}
        further = sorted(
            folder.glob(f"{self.stem}-*.ipynb"),
            key=lambda path: (listed.get(path.relative_to(book.parent).as_posix(), 999), path),
        )
        first = book / self.notebook
        return [first, *further] if first.is_file() else further


CHAPTERS = {
    number: Chapter(number, name, folder, title)
    for number, name, folder, title in (
        ("1", "llm", "1-llm", "How large models work"),
        ("2", "coding", "2-coding", "AI programming"),
        ("3", "gpu", "3-gpu", "GPU architecture and CUDA"),
        ("4", "cloud", "4-cloud", "Cloud-native AI infrastructure"),
        ("5", "course", "5-outlook", "Summary and outlook"),
    )
}

_MAP = """
1.1 01-tokens Tokens
1.2 02-positions Embeddings and positions
1.3 03-attention Attention
1.4 04-transformer The transformer
1.5 05-generation Generation
1.6 06-scale Scale and cost
1.7 07-deepseek DeepSeek's ideas
1.8 08-emergence-multimodal Emergence and multimodal models
2.1 01-completion Code completion
2.2 02-agentic-loop The agentic loop
2.3 03-measuring Measuring the gain
3.1 01-cpu-and-gpu CPU and GPU
3.2 02-cuda-model The CUDA programming model
3.3 03-coalescing Coalesced access
3.4 04-shared-memory Shared memory
3.5 05-matmul Matrix multiplication
3.6 06-reductions-attention Reductions and attention
3.7 07-compute Making full use of the cores
3.8 08-profiling Profiling
3.9 09-gpu-sharing Sharing a GPU
4.1 01-stack-and-scheduling The stack and its scheduling
4.2 02-paged-kv-cache The paged KV cache
4.3 03-continuous-batching Continuous batching
4.4 04-speculative-decoding Speculative decoding
4.5 05-quantization Quantization
4.6 06-parallelism Parallelism
4.7 07-gateway-and-lora Gateway and LoRA
4.8 08-autoscaling-and-kv-tiers Autoscaling and KV tiers
4.9 09-rag Retrieval-augmented generation
4.10 10-agents Agents
4.11 11-operations Operations
5.1 01-skills Skills
5.2 02-capstone Capstone
5.3 03-what-the-talk-says What the talk says, checked
5.4 04-where-next Where next
"""

UNITS = {
    id: Unit(id, stem, title)
    for id, stem, title in (line.split(" ", 2) for line in _MAP.strip().splitlines())
}


def unit_of(page: str | Path) -> Unit | None:
    """The unit of a page or a lab, by folder and name: ".../1-llm/07-deepseek-moe.ipynb" is 1.7's.

    None for a notebook of no unit, such as the table of claims.
    """
    folder, stem = Path(page).parent.name, Path(page).stem
    for unit in UNITS.values():
        if unit.chapter.folder == folder and f"{stem}-".startswith(f"{unit.stem}-"):
            return unit
    return None


def _toc(root: Path) -> list[str]:
    """The pages that _toc.yml lists, as "book/1-llm/01-tokens.ipynb"; none where it is missing."""
    toc = root / "_toc.yml"
    text = toc.read_text(encoding="utf-8") if toc.is_file() else ""
    return [f"{name}.ipynb" for name in re.findall(r"^ *- file: *(\S+)", text, re.MULTILINE)]


def repository(start: Path | None = None) -> Path | None:
    """The course's checkout that holds `start` (the working directory), else this package's own.

    None when there is neither: the package is installed and the notebook was opened elsewhere.
    """
    here = (start or Path.cwd()).resolve()
    places = (here, *here.parents, *Path(__file__).resolve().parents)
    return next((place for place in places if (place / "nbgrader_config.py").is_file()), None)


def work_folder(start: Path | None = None) -> Path | None:
    """The learner's copy of the labs: `AIINFRA_WORK`, or the nearest `work/` going upwards."""
    if named := os.environ.get("AIINFRA_WORK"):
        return Path(named).expanduser()
    here = (start or Path.cwd()).resolve()
    for place in (here, *here.parents):
        if (place / ".released").is_dir():
            return place
        work = place / "work"  # a folder of that name may be anyone's: ours has a record, or labs/
        if (work / ".released").is_dir() or ((place / "labs").is_dir() and work.is_dir()):
            return work
    return None


def _standing() -> frozenset[str]:
    checkout = repository(Path(__file__).parent)
    if checkout is None:
        return frozenset()
    return frozenset(u.id for u in UNITS.values() if (checkout / "book" / u.notebook).is_file())


STANDING = _standing()
"""The units whose page exists: these are held to all that a unit must have."""
