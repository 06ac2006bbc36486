"""Every failure that the state machine found, by name, as the smallest script that showed it."""

from __future__ import annotations

from tests.simulation.actions import Apply, ClockWrong, Damage, GatewayRefuses, Reweigh, Wait, WaitFor
from tests.simulation.machine import replay
from tests.simulation.wishes import Wish


def test_a_clock_that_goes_back_lets_an_attempt_end() -> None:
    """The duration of the attempt was negative, which raised at every turn."""
    replay(
        [
            Apply(Wish()),
            Wait(60),
            Apply(Wish("2.0.0")),
            WaitFor("Progressing"),
            ClockWrong(-7200.0),
            Apply(Wish("3.0.0")),
            Wait(10),
        ]
    )


def test_a_weight_after_pods_without_traffic_waits_until_it_is_programmed() -> None:
    """The pinned rule was there before the weight, so its answer told nothing of the weight (I9)."""
    replay([Apply(Wish()), Wait(60), Apply(Wish("2.0.0", steps="pods"))])


def test_an_ab_test_that_a_person_ends_goes_to_all_traffic() -> None:
    """The weight on its way to all was taken for one that the spec had changed, and was taken back for ever."""
    replay(
        [Apply(Wish("2.0.0")), Wait(33), Apply(Wish(strategy="ABTest", steps="pods", decide="Approval"))],
    )


def test_a_recreate_taken_back_by_another_way_waits_for_pods() -> None:
    """The route of the new way was not there yet, which was taken for nothing to take back (I1)."""
    replay([Apply(Wish()), Wait(60), Apply(Wish("4.0.0", "Recreate", service=True)), Wait(33), Apply(Wish())])


def test_an_attempt_has_a_number_of_its_own_when_the_last_one_was_cut_from_the_status() -> None:
    replay([Apply(Wish()), Wait(33), Damage("rollout gone")])


def test_a_first_route_that_is_refused_and_given_up_has_no_users() -> None:
    replay(
        [
            GatewayRefuses(True),
            Apply(Wish()),
            Wait(10),
            Apply(Wish("2.0.0", "BlueGreen", service=True)),
        ]
    )


def test_a_stable_revision_that_somebody_removed_from_the_status_is_read_off_the_routes() -> None:
    """The next version became a first deployment beside live users."""
    replay([Apply(Wish()), Wait(20), Damage("stable gone"), Apply(Wish("2.0.0")), Wait(0.07), Reweigh((0, 1_000_000))])


def test_a_stable_revision_that_there_never_was_gets_no_users() -> None:
    replay([Apply(Wish()), Damage("stable nobody")])


def test_weights_edited_by_hand_take_no_pod_from_who_gets_them_back() -> None:
    """The fleets of a canary without room followed the edited weights, in the turn that put them right (I2)."""
    replay([Apply(Wish()), Wait(8.4), Apply(Wish("2.0.0", surge="50%")), Wait(10), Reweigh((3, 5))])


def test_an_attempt_whose_beginning_was_lost_does_not_spin() -> None:
    """Its evidence counted from now, which was another question at every turn (I12)."""
    replay([Apply(Wish(paused=True)), Wait(4.2), Damage("attempt garbage"), Wait(4.2)])


def test_a_recreate_taken_back_waits_until_its_home_is_armed() -> None:
    """The write after the armed one did not wait for it to be carried out (I9)."""
    replay([Apply(Wish()), Wait(60), Apply(Wish("3.0.0", "Recreate")), Wait(33), Apply(Wish())])
