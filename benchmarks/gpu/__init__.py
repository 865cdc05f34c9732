"""Operations on a GPU beside their peers and the ceilings of that GPU: `python -m benchmarks.gpu`.

`cases` says what is measured, `checks` that it computes the right thing, `graphs` times it,
`ceiling` and `cutlass` are compiled when it is measured, `table` makes rows and verdicts of times.
"""
