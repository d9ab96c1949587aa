"""Studies: many values and seeds trained side by side, compared with honest intervals."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.studies.api import resume_study as resume_study
    from rlgd.studies.api import study as study
    from rlgd.studies.arms import Arm as Arm
    from rlgd.studies.publish import StudyResult as StudyResult
    from rlgd.studies.question import Question as Question

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.studies.api": (
            "resume_study",
            "study",
        ),
        "rlgd.studies.arms": ("Arm",),
        "rlgd.studies.publish": ("StudyResult",),
        "rlgd.studies.question": ("Question",),
    },
)
