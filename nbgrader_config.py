"""How nbgrader makes `labs/` from `solutions/`, and grades: read by nbgrader and by `make labs`.

An assignment is a unit: `source/3.2/02-cuda-model.ipynb`, so that `nbgrader autograde 3.2` grades
one lab, with a deadline of its own. Copy this file into the folder of your class.
"""

from pathlib import Path

c = get_config()  # noqa: F821  (nbgrader gives it)

# Graded cells are put right, whatever a learner has done to them: course/judging/autograding.py.
c.Autograde.sanitize_preprocessors = [
    "nbgrader.preprocessors.ClearOutput",
    "aiinfra_labs.course.judging.autograding.RestoreCells",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.CheckCellMetadata",
]
# Submissions are judged in a process that their code cannot reach: see course/judging/judge.py.
c.Autograde.autograde_preprocessors = [
    "aiinfra_labs.course.judging.autograding.ExecuteAndJudge",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

c.CourseDirectory.course_id = "aiinfra-labs"
if (Path(__file__).parent / "solutions").is_dir():  # in a clone of the course, for `make labs`
    c.CourseDirectory.source_directory = "solutions"
    c.CourseDirectory.release_directory = "labs"
    c.CourseDirectory.student_id = ""

# A starter is a comment: with the docstring above it the cell runs, and counts as not attempted.
c.ClearSolutions.begin_solution_delimeter = "### BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "### END SOLUTION"
c.ClearSolutions.code_stub = {"python": "# Write your code here."}
c.ClearSolutions.text_stub = "*Write your answer here.*"

# Cells tagged `instructor` stay in solutions/.
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {"instructor"}
c.GenerateAssignment.preprocessors = [
    "nbconvert.preprocessors.TagRemovePreprocessor",
    "nbgrader.preprocessors.LockCells",
    "nbgrader.preprocessors.ClearSolutions",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.CheckCellMetadata",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbgrader.preprocessors.ClearMarkScheme",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.CheckCellMetadata",
]
