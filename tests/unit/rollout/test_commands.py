"""Every command in every phase: carried out or refused with a reason, once, and recorded with who gave it."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.status import ModelDeploymentStatus, Outcome, Phase, Verdict
from modelrollout.rollout.complete import QUIET
from tests.builders import ERRORS, name_of
from tests.unit.rollout.courses import COURSES
from tests.unit.rollout.given import V1, V2, Given, layout, reasons
from tests.unit.rollout.strategies.golden import forgetting, serving, trying
from tests.unit.rollout.walk import Walk

V3 = name_of("3.0.0")
PAUSING = ({**ERRORS, "onBreach": "Pause"},)
SHADOW_END: dict[str, Any] = COURSES["shadow, then end"]


def before_users(phase: Phase) -> Walk:
    return serving().apply("2.0.0").until_phase(phase)


def first() -> Walk:
    return Walk("1.0.0").until_phase(Phase.VERIFYING)


def stepping() -> Walk:
    walk = serving().apply("2.0.0")
    return walk.until(walk.at_step(2))


def waiting() -> Walk:
    return trying(steps=((10, "30s"), {"pause": {}}, (50, "30s")))


def paused_by_guard() -> Walk:
    walk = serving(guards=PAUSING).apply("2.0.0", guards=PAUSING)
    walk.until(walk.at_step(1)).breach(V2)
    return walk.until_phase(Phase.AWAITING_APPROVAL)


def baking() -> Walk:
    return serving().apply("2.0.0").until_phase(Phase.BAKING)


def rolling_back() -> Walk:
    walk = stepping().breach(V2)
    return walk.until_phase(Phase.ROLLING_BACK)


def rolled_back() -> Walk:
    walk = stepping().breach(V2).rest()
    walk.bad.clear()
    return walk


def concluded() -> Walk:
    return trying(**SHADOW_END)


def promoted() -> Walk:
    return trying()


def invalid() -> Walk:
    walk = promoted()
    return walk.apply("3.0.0", replicas=2).problem("there is no pool gpu").rest()


PLACES = {
    "idle": serving,
    "first": first,
    "preparing": lambda: before_users(Phase.PREPARING),
    "verifying": lambda: before_users(Phase.VERIFYING),
    "stepping": stepping,
    "waiting": waiting,
    "guard paused": paused_by_guard,
    "baking": baking,
    "rolling back": rolling_back,
    "rolled back": rolled_back,
    "concluded": concluded,
    "promoted": promoted,
    "invalid": invalid,
}
NO_ATTEMPT = "no attempt is under way"
FIRST = "there is no other revision to go back to; delete it or apply another spec"
NOT_YET = "the attempt under way is not over yet"
RETURNING = "a rollback is under way already"
NONE_WAITS = "nothing waits for approval"
HINT = f"{NONE_WAITS}; skip-step ends a hold, promote:full all of them"
NO_WAY = "no attempt is on its way to all traffic"
NO_STEP = "no step is under way"
FULL = f"{V2} goes to all traffic without its remaining steps"
ABORTED = f"{V2} was aborted by command"
TAKEN = f"{V2} was taken back by command"

TABLE: dict[str, dict[str, str]] = {
    "promote": {
        **dict.fromkeys(("idle", "rolling back", "rolled back", "concluded", "promoted", "invalid"), NONE_WAITS),
        **dict.fromkeys(("first", "preparing", "verifying", "stepping", "baking"), HINT),
        **dict.fromkeys(("waiting", "guard paused"), f"+{V2} goes on by approval"),
    },
    "promote:full": {
        **dict.fromkeys(("idle", "baking", "rolling back", "rolled back", "concluded", "promoted", "invalid"), NO_WAY),
        **dict.fromkeys(("preparing", "verifying", "stepping", "waiting", "guard paused"), f"+{FULL}"),
        "first": f"+{V1} goes to all traffic without its remaining steps",
    },
    "abort": {
        **dict.fromkeys(("idle", "rolled back", "concluded", "promoted", "invalid"), NO_ATTEMPT),
        **dict.fromkeys(("preparing", "verifying", "stepping", "waiting", "guard paused", "baking"), f"+{ABORTED}"),
        "rolling back": RETURNING,
        "first": FIRST,
    },
    "rollback": {
        **dict.fromkeys(("preparing", "verifying", "stepping", "waiting", "guard paused", "baking"), f"+{TAKEN}"),
        **dict.fromkeys(
            ("idle", "rolled back", "concluded"),
            "no revision is not known good: there is none within the history",
        ),
        "promoted": f"+going back from {V2} to {V1}",
        "rolling back": RETURNING,
        "first": FIRST,
        "invalid": "there is no pool gpu",
    },
    "skip-step": {
        **dict.fromkeys(
            (
                *("idle", "first", "preparing", "verifying"),
                *("rolling back", "rolled back", "concluded", "promoted", "invalid"),
            ),
            NO_STEP,
        ),
        **dict.fromkeys(("stepping", "waiting"), "+step 2 ends once every guard passes"),
        "guard paused": "+step 1 ends once every guard passes",
        "baking": "+the bake ends once every guard passes",
    },
    "retry": {
        "idle": f"{V1} is not quarantined",
        "first": f"{V1} is not quarantined",
        **dict.fromkeys(
            ("preparing", "verifying", "stepping", "waiting", "guard paused", "baking", "rolling back", "promoted"),
            f"{V2} is not quarantined",
        ),
        **dict.fromkeys(("rolled back", "concluded"), f"+{V2} gets another attempt"),
        "invalid": f"{V3} is not quarantined",
    },
    "pause": dict.fromkeys(PLACES, "+steps are frozen until resume; guards stay on"),
    "resume": dict.fromkeys(PLACES, "it is not paused by command"),
    "retrain": {
        **dict.fromkeys(PLACES, "spec.observation.drift.retraining names no webhook"),
        "first": "nothing serves yet",
        "invalid": "there is no pool gpu",
    },
    "dance": dict.fromkeys(
        PLACES,
        "unknown command, one of promote, abort, pause, resume, retry, skip-step, rollback, retrain is needed, "
        "like promote/1",
    ),
    "abort:all": dict.fromkeys(PLACES, "abort takes no argument 'all'"),
    "promote:half": dict.fromkeys(PLACES, "promote takes no argument 'half'"),
}
CASES = [(verb, place, message) for verb, places in TABLE.items() for place, message in places.items()]


def without_record(status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """Without what every command leaves behind: its record, and what every write carries with it."""
    rollout = status.rollout and status.rollout.model_copy(update={"guards": (), "arms": ()})
    told = tuple(each for each in status.conditions if each.type not in QUIET)
    kept = {"handled_command": None, "commands": (), "rollout": rollout, "conditions": told}
    return status.model_copy(update=kept)


def test_the_table_is_whole() -> None:
    assert all(set(places) == set(PLACES) for places in TABLE.values())


@pytest.mark.parametrize(("verb", "place", "message"), CASES)
def test_a_command(verb: str, place: str, message: str) -> None:
    walk = PLACES[place]()
    other = forgetting(walk.fork())
    other.turn()
    forgetting(walk).command(f"{verb}/n1@anna@example.com").turn()
    record, accepted = walk.status.commands[0], message.startswith("+")
    assert (record.message, record.accepted) == (message.removeprefix("+"), accepted)
    assert (record.command, record.by) == (verb, "anna@example.com")
    assert walk.status.handled_command == f"{verb}/n1@anna@example.com"
    kinds = {"CommandAccepted", "CommandRefused"} & set(walk.events)
    assert kinds == {"CommandAccepted" if accepted else "CommandRefused"}
    assert walk.told[0].endswith("(by anna@example.com)")
    if not accepted:
        assert without_record(walk.status) == without_record(other.status)
        assert walk.log == other.log
    walk.turn()
    assert len(walk.status.commands) == 1, "it acts once"


@pytest.mark.parametrize("text", ["abort", "abort/", "abort/@anna", "promote:full/"])
def test_a_command_needs_a_word_of_its_own(text: str) -> None:
    walk = stepping().command(text)
    walk.turn()
    wish = text.partition("/")[0]
    assert walk.status.commands[0].message == f"a word of its own must follow, like {wish}/1, so that it acts once"
    assert walk.status.phase is Phase.PROGRESSING


def test_who_wrote_the_annotation_is_recorded_where_the_command_does_not_say() -> None:
    walk = stepping().command("pause/1")
    metadata = walk.wish.metadata.model_copy(update={"commanded_by": "kubectl-annotate"})
    walk.wish = walk.wish.model_copy(update={"metadata": metadata})
    walk.turn()
    assert walk.status.commands[0].by == "kubectl-annotate"


def test_the_record_of_the_attempt_has_its_commands() -> None:
    given = Given(command="abort/1@bob").serving().trying(Phase.PREPARING)
    (attempt,) = given.decide().revision_status[V2].attempts
    assert [(each.command, each.by) for each in attempt.commands] == [("abort", "bob")]


@pytest.mark.parametrize("first", ["pause", "resume"])
def test_pause_and_resume_are_refused_twice(first: str) -> None:
    walk = stepping().command("pause/1")
    walk.turn()
    if first == "resume":
        walk.command("resume/2").turn()
    walk.command(f"{first}/3").turn()
    assert not walk.status.commands[0].accepted


def test_resume_cannot_lift_what_the_spec_says() -> None:
    walk = serving(paused=True).command("resume/1")
    walk.turn()
    assert walk.status.commands[0].message.endswith("the spec is, set rollout.paused to false")


def test_what_was_accepted_while_paused_says_that_it_waits() -> None:
    walk = stepping().command("pause/1")
    walk.turn()
    walk.command("promote:full/2").turn()
    assert walk.status.commands[0].message.endswith("but not while it is paused (by command, resume goes on)")


def test_a_wait_that_was_paused_is_told_as_a_wait_again() -> None:
    """After resume the line still said paused."""
    walk = waiting()
    before = walk.status.message
    walk.command("pause/1").rest().command("resume/2").rest()
    assert (walk.status.phase, walk.status.message) == (Phase.AWAITING_APPROVAL, before)


def test_a_wait_during_an_outage_is_told_as_a_wait_again() -> None:
    walk = waiting()
    before = walk.status.message
    walk.kill(V1).turn()
    assert walk.status.message.startswith(f"{V1} has no ready pods; ")
    walk.heal().rest()
    assert walk.status.message == before


def test_an_approval_is_for_one_step() -> None:
    walk = paused_by_guard().command("promote/1")
    walk.until(walk.at_step(2))
    assert walk.status.rollout is not None
    assert (walk.status.rollout.approved, walk.status.rollout.skip) == (False, False)
    assert walk.rest().status.phase is Phase.AWAITING_APPROVAL


def test_a_setback_ends_the_permission_to_go_to_all_traffic() -> None:
    walk = stepping().apply("2.0.0", paused=True).command("promote:full/1")
    walk.turn()
    assert walk.status.rollout is not None
    assert walk.status.rollout.full
    walk.kill(V2).turn()
    assert walk.status.rollout.full is False


class TestRollback:
    """Back to a revision of the history, by the fast track."""

    def three(self) -> Walk:
        walk = trying()
        return forgetting(walk.apply("3.0.0").rest())

    def test_to_the_one_before(self) -> None:
        walk = self.three().command("rollback/1@bob").rest()
        assert walk.status.revisions.stable == V2
        assert walk.status.quarantined == (V3,)
        assert walk.status.phase is Phase.ROLLED_BACK
        assert f"{V2} was asked for by command" in walk.status.message
        assert walk.log == ["V2 has 2 pods", "V3=1 V2=999999", "V2=1000000 V2=0", "V3 has 0 pods"] or len(walk.log) == 5

    def test_to_one_by_name(self) -> None:
        walk = self.three().command(f"rollback:{V1}/1").rest()
        assert walk.status.revisions.stable == V1
        assert walk.status.quarantined == (V3,)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (V3, f"{V3} serves already"),
            ("digits-none", f"digits-none is not known good: one of {', '.join(sorted((V1, V2)))}"),
        ],
    )
    def test_to_one_that_makes_no_sense(self, target: str, message: str) -> None:
        walk = self.three().command(f"rollback:{target}/1")
        walk.turn()
        assert (walk.status.commands[0].accepted, walk.status.commands[0].message) == (False, message)

    def test_during_an_attempt_only_to_its_home(self) -> None:
        walk = self.three().apply("4.0.0")
        walk.until(walk.at_step(1))
        refused = walk.fork().command(f"rollback:{V1}/1")
        refused.turn()
        assert "abort it first" in refused.status.commands[0].message
        walk.command(f"rollback:{V3}/1").rest()
        assert walk.status.history[0].outcome is Outcome.ROLLED_BACK

    def test_a_new_spec_meanwhile_is_tried_next(self) -> None:
        walk = self.three().command("rollback/1")
        walk.until(walk.at(Phase.VERIFYING))
        walk.apply("4.0.0").rest()
        assert walk.status.revisions.stable == name_of("4.0.0")
        assert walk.status.quarantined == ()

    def test_the_target_as_spec_meanwhile_goes_on(self) -> None:
        walk = self.three().command("rollback/1")
        walk.until(walk.at(Phase.BAKING))
        walk.apply("2.0.0").rest()
        assert (walk.status.revisions.stable, walk.status.phase) == (V2, Phase.IDLE)
        assert len([e for e in walk.events if e == "RolloutStarted"]) == 1

    def test_that_is_taken_back_itself_frees_what_it_went_away_from(self) -> None:
        """V3 serves again, and stayed in quarantine: it could never be asked for after another one."""
        walk = self.three().command("rollback/1")
        walk.until(walk.at(Phase.BAKING))
        assert walk.status.quarantined == (V3,)
        walk.breach(V2).rest()
        assert (walk.status.revisions.stable, walk.status.quarantined) == (V3, (V2,))
        assert walk.status.phase is Phase.IDLE

    def test_without_a_route_to_read_goes_home_from_the_bake_all_the_same(self) -> None:
        """It quarantined the revision that serves."""
        from modelrollout.rollout.observed import Route

        given = Given(command="abort/1").baking().seeing(route=Route())
        plan = given.decide()
        assert plan.status.revisions.stable == V1
        assert layout(plan) == {V1: 1_000_000}
        assert "CommandAccepted" in reasons(plan)


def test_retry_of_a_query_that_could_not_be_judged() -> None:
    """It was Invalid until the spec changed, although the fault was in the metrics."""
    given = Given().serving().trying(Phase.VERIFYING).judged(Verdict.NO_DATA, invalid="answers 7 series")
    from modelrollout.rollout.observed import GateState

    given.gate(GateState.PASSED)
    given.after(given.decide())
    assert given.status.phase is Phase.INVALID
    again = Given(command="retry/1").having(**dict(given.status)).seeing(**vars(given.observed)).decide()
    assert again.status.phase is Phase.PREPARING
