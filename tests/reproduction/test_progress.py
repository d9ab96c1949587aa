"""How far the runs of a suite are."""

from rlgd.reproduction import workers
from rlgd.reproduction.jobs import unfinished_jobs
from rlgd.reproduction.progress import JobsProgress
from rlgd.system.progress import Progress
from tests.support.tiny_suite import runs_of, scores, set_nothing_up


def test_runs_that_train_here_tell_how_far_they_are() -> None:
    runs, heard = runs_of(), list[Progress]()
    jobs = unfinished_jobs([runs])
    progress = JobsProgress(jobs, heard.append)
    workers.train_jobs(jobs, 1, set_nothing_up, lambda: None, lambda job, problem: progress.ended(job), [progress])
    assert [(heard[0].done, heard[0].share), (heard[-1].done, heard[-1].share)] == [(0, 0.0), (2, 1.0)]
    assert {(each.unit, each.number) for each in heard} == {("runs", 2)}
    shares = [each.share for each in heard if each.share is not None]
    assert shares == sorted(shares)
    assert {each.done for each in heard if each.compiling} == {0, 1}
    best = heard[-1].best
    assert best is not None
    assert best.score == max(score for score in scores(runs) if score is not None)
    assert best.label == f"{runs.row.name} seed {scores(runs).index(best.score)}"


def test_a_run_without_a_score_has_ended_too() -> None:
    runs, heard = runs_of(), list[Progress]()
    jobs = unfinished_jobs([runs])
    progress = JobsProgress(jobs, heard.append)
    progress.ended(jobs[0])
    assert (heard[-1].done, heard[-1].share, heard[-1].best) == (1, 0.5, None)
