"""The course's tokenizer.json serves as it trained: the same ids, bytes and text as unit 1.1's."""

from aiinfra_labs.cloud.serving.tokenizer import FileTokenizer
from aiinfra_labs.llm import bpe, page_model

TEXTS = (
    "",
    "def read(self):\n    return 'ä€ 中文'  <|end|> x\r\n",
    "\t\t  a\n\n  b'll 12345 <|end|><|pad|>",
)


def test_the_courses_file():
    file = page_model.folder() / "tokenizer.json"
    own, served = bpe.Tokenizer.load(file), FileTokenizer(file)
    assert len(own) == len(served)
    for text in TEXTS:
        ids = own.encode(text)
        assert served.encode(text) == ids
        assert served.decode(ids) == own.decode([i for i in ids if i >= len(own.special)])
        stream = served.stream()
        assert "".join(map(stream.feed, ids)) + stream.finish() == served.decode(ids)
    special = len(own.special)
    assert served.token_bytes()[:special] == [None] * special
    assert served.token_bytes()[special:] == [own.token_bytes(i) for i in range(special, len(own))]
