"""Studies: many values and seeds trained side by side, and compared with confidence intervals."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.studies.api import resume_study as resume_study
    from rlgd.studies.api import study as study
    from rlgd.studies.arms import Arm as Arm
    from rlgd.studies.outcome import Outcome as Outcome
    from rlgd.studies.publish import StudyResult as StudyResult
    from rlgd.studies.question import Question as Question
    from rlgd.studies.question import read_question as read_question
    from rlgd.studies.seed_statistics import PointResult as PointResult

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.studies.api": ("resume_study", "study"),
        "rlgd.studies.arms": ("Arm",),
        "rlgd.studies.outcome": ("Outcome",),
        "rlgd.studies.publish": ("StudyResult",),
        "rlgd.studies.question": ("Question", "read_question"),
        "rlgd.studies.seed_statistics": ("PointResult",),
    },
)
