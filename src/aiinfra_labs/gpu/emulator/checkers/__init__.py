"""What a sanitizer would find: races, unwritten memory, inactive lanes. Unit 3.4.

In the order of reading: `checking` (`cuda.check()`), `shadow` (who touched what), `ordering` (what
a barrier puts in order), `fresh` (what nobody wrote), `findings` (the words); `endings` (what
decides whether a loop ends), `counted` (how many rounds it has), `waiting` (for a change of
memory), `progress` (blocks, warps or lanes by turns), `adversary` (in a random order).
"""
