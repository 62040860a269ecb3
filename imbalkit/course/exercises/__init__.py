"""The exercises at the end of each lesson, which check themselves.

``from imbalkit.course.exercises import lesson03 as ex``, then for each exercise

    ex.q1.check(answer)    correct, not yet (and what is wrong), or not attempted
    ex.q1.hint()           the first hint; ex.q1.hint(2) the second
    ex.q1.solution()       one way to do it

Nothing is remembered from one call to the next, and nothing leaves the machine. Each exercise is
one small class; `imbalkit.course.exercises.base` has what they share.
"""
