"""How a kernel becomes lane code, and of which types. Unit 3.2. In the order of reading:

`source` (its syntax tree), `lowering` and `folding` (what is simplified, and what is known, before
it runs), `names` (what it assigns and reads), `translator` (statements), `expressions`, `calls`;
then types: `promotion`, `values`, `inference`,
`signatures`. What a kernel may call of Python's own: `functions`, `scalars`, `calling`.
"""
