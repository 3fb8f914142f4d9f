"""Whether the learners are right: on tasks of which others, or a formula, say what is good.

`spread` is `mpe2.simple_spread_v3` for many environments at once, `mpe` plays mpe2 itself; `crowd`
has many agents and an optimum that can be computed. `study` is the file that says what is trained,
`learn_runs` trains it, `curves` draws it.
"""
