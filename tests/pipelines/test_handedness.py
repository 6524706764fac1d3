import numpy as np
import pytest

from pipelines.handedness import STEP, Hand, Slots, assign_slots, interpolate

LEFT, RIGHT = slice(0, 21), slice(21, 42)


def hand(x: float, y: float, right: float, size: float = 0.2, arm: str = "below") -> Hand:
    """An open hand around (x, y), its wrist towards where the arm comes from."""
    along = np.array([0.5, *np.tile(np.linspace(0.3, -0.5, 4), 5)])
    across = np.array([0.0, *np.repeat(np.linspace(-0.4, 0.4, 5), 4)])
    sign = 1 if arm == "below" else -1
    joints = np.stack([across, sign * along], axis=1) * size + [x, y]
    return Hand(joints.astype(np.float32), right)


def assign(clip: list[list[Hand]]) -> Slots:
    return assign_slots(clip, aspect=1.0)


def centres(slots: Slots, joints: slice) -> list[float]:
    """x of a slot's hand in each frame, 0 where there is none."""
    return slots.joints[:, joints, 0].mean(axis=1).tolist()


def is_hand(joints: np.ndarray, expected: Hand) -> bool:
    return bool((joints == expected.joints).all())


def test_left_and_right_hands_get_their_slots_whatever_their_order():
    for order in ([0, 1], [1, 0]):
        hands = [hand(0.2, 0.5, 0.1), hand(0.7, 0.5, 0.9)]
        slots = assign([[hands[i] for i in order]])
        assert slots.detected.tolist() == [[True, True]]
        assert is_hand(slots.joints[0, LEFT], hands[0])
        assert is_hand(slots.joints[0, RIGHT], hands[1])
        assert slots.score[0] == pytest.approx([0.9, 0.9])
        assert slots.reassigned == 0


def test_undetected_hands_are_zero():
    slots = assign([[], [hand(0.2, 0.5, 0.0)]])
    assert slots.detected.tolist() == [[False, False], [True, False]]
    assert not slots.joints[0].any() and not slots.joints[1, RIGHT].any()
    assert slots.score[0].tolist() == [0, 0]
    assert slots.track.tolist() == [[-1, -1], [0, -1]]


def test_a_clip_without_hands_and_one_without_frames_have_none():
    assert not assign([[], []]).detected.any()
    assert assign([[], []]).reassigned == assign([]).reassigned == 0
    assert len(assign([]).joints) == 0


def test_joints_that_are_all_one_point_are_a_hand():
    slots = assign([[Hand(np.full((21, 2), 0.5, np.float32), 0.9)]] * 2)
    assert slots.detected.tolist() == [[False, True]] * 2


# Left or right


def test_one_doubtful_frame_does_not_swap_a_hands_slot_and_is_counted():
    slots = assign([[hand(0.2 + 0.02 * k, 0.5, 0.9 if k == 3 else 0.1)] for k in range(8)])
    assert slots.detected[:, 0].all() and not slots.detected[:, 1].any()
    assert slots.reassigned == 1 / 8


@pytest.mark.parametrize("label", [0.02, 0.98])
def test_of_two_hands_called_the_same_one_is_the_other_hand_over_the_whole_clip(label):
    """They are told apart by which lies left of the other, whoever is labelled more surely."""
    clip = [
        [hand(0.3, 0.6, label + 0.01 * (-1) ** k), hand(0.7, 0.6, label - 0.01 * (-1) ** k)]
        for k in range(8)
    ]
    slots = assign(clip)
    assert slots.detected.all()
    assert centres(slots, LEFT) == pytest.approx([0.3] * 8)
    assert centres(slots, RIGHT) == pytest.approx([0.7] * 8)
    assert slots.reassigned == 1


def test_a_hand_called_like_the_other_in_some_frames_keeps_its_slot_when_alone():
    clip = [[hand(0.3, 0.6, 0.8), hand(0.7, 0.6, 0.98)] for _ in range(5)]
    clip += [[hand(0.3, 0.6, 0.8)] for _ in range(2)]
    slots = assign(clip)
    assert slots.detected.tolist() == [[True, True]] * 5 + [[True, False]] * 2


def test_labels_that_agree_overrule_the_order_of_the_hands():
    slots = assign([[hand(0.3, 0.6, 0.95), hand(0.7, 0.6, 0.05)] for _ in range(5)])
    assert centres(slots, RIGHT) == pytest.approx([0.3] * 5)
    assert slots.reassigned == 0


def test_one_hand_seen_twice_is_one_hand_and_nothing_is_reassigned():
    slots = assign([[hand(0.3, 0.5, 0.9), hand(0.31, 0.5, 0.3)]])
    assert slots.detected.tolist() == [[False, True]]
    assert slots.reassigned == 0


@pytest.mark.parametrize("doubt", [0.5, 0.9])
def test_hands_that_cross_keep_their_slots(doubt):
    """The labels fail where the hands pass each other: both are doubtful, or called right."""
    clip = []
    for k in range(11):
        passing = k in (4, 5, 6)
        left = hand(0.2 + 0.06 * k, 0.5, doubt if passing else 0.05)
        right = hand(0.8 - 0.06 * k, 0.7, doubt if passing else 0.95)
        clip.append([left, right] if k % 2 else [right, left])
    slots = assign(clip)
    assert slots.detected.all()
    assert centres(slots, LEFT) == pytest.approx([0.2 + 0.06 * k for k in range(11)])


def test_hands_that_cross_at_one_height_are_followed_by_their_motion():
    xs = [0.2, 0.35, 0.45, 0.55, 0.65, 0.8]
    clip = [[hand(1 - x, 0.6, 0.6), hand(x, 0.6, 0.4)] for x in xs]
    assert centres(assign(clip), LEFT) == pytest.approx(xs)


def test_a_hand_that_comes_back_keeps_its_slot_though_it_is_called_the_other():
    clip = [[hand(0.3, 0.6, 0.03)] for _ in range(5)]
    clip += [[] for _ in range(6)] + [[hand(0.3, 0.6, 0.6)] for _ in range(2)]
    slots = assign(clip)
    assert slots.detected[:, 0].sum() == 7 and not slots.detected[:, 1].any()


# Whose hand


def wearers() -> list[Hand]:
    return [hand(0.3, 0.7, 0.03), hand(0.7, 0.7, 0.97)]


def reaching_in(k: int, right: float) -> Hand:
    """A person opposite: the arm comes in over the upper border, further with each frame."""
    return hand(0.35, 0.1 + 0.03 * k, right, size=0.15, arm="above")


@pytest.mark.parametrize("right", [0.02, 0.98])
def test_a_bystander_reaching_in_beside_the_wearers_hands_is_left_out(right):
    clip = [[*wearers(), reaching_in(k, right)][:: (-1) ** k] for k in range(8)]
    slots = assign(clip)
    assert all(is_hand(slots.joints[k, LEFT], clip[0][0]) for k in range(8))
    assert all(is_hand(slots.joints[k, RIGHT], clip[0][1]) for k in range(8))
    assert slots.reassigned == 1


@pytest.mark.parametrize("right", [0.02, 0.98])
def test_a_bystander_reaching_in_while_the_wearers_hands_are_away_is_left_out(right):
    clip = [wearers() for _ in range(8)]
    clip[3:] = [[reaching_in(k, right)] for k in range(5)]
    slots = assign(clip)
    assert slots.detected.tolist() == [[True, True]] * 3 + [[False, False]] * 5
    assert slots.reassigned == 5 / 8


def test_a_bystanders_raised_hand_is_left_out_because_it_is_further_away():
    clip = [[wearers()[0], hand(0.6, 0.3, 0.97, size=0.06)] for _ in range(8)]
    slots = assign(clip)
    assert slots.detected.tolist() == [[True, False]] * 8


def test_of_three_hands_like_the_wearers_the_nearest_two_are_taken():
    clip = [[*wearers(), hand(0.5, 0.4, 0.99, size=0.1)] for _ in range(8)]
    assert centres(assign(clip), RIGHT) == pytest.approx([0.7] * 8)


@pytest.mark.parametrize("right", [0.02, 0.98])
def test_a_clip_of_no_wearer_keeps_the_hands_it_shows(right):
    slots = assign([[reaching_in(k, right)] for k in range(8)])
    assert slots.detected[:, int(right > 0.5)].all()
    assert slots.reassigned == 0


# No jumps


def test_a_slot_never_jumps_by_two_thirds_of_the_frame_at_once():
    """Both are like a wearer's right hand. Neither goes to the left slot for that."""
    slots = assign([[hand(0.17, 0.7, 0.97)]] * 6 + [[hand(0.83, 0.7, 0.97)]] * 6)
    assert centres(slots, RIGHT) == pytest.approx([0.17] * 6 + [0] + [0.83] * 5)
    assert not slots.detected[:, 0].any()
    assert slots.reassigned == 1 / 12


def test_a_slot_stays_with_one_of_two_people_far_apart_who_are_seen_in_turns():
    slots = assign([[hand(0.17, 0.7, 0.97)], [hand(0.83, 0.7, 0.97)]] * 6)
    assert {*np.round(centres(slots, RIGHT), 3).tolist()} in ({0, 0.17}, {0, 0.83})


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_detected_slots_hold_single_detections_and_do_not_jump(seed):
    random = np.random.default_rng(seed)
    clip = [
        [
            hand(*random.uniform(0.1, 0.9, 2), random.uniform(), random.choice([0.1, 0.2, 0.3]))
            for _ in range(random.integers(0, 5))
        ]
        for _ in range(12)
    ]
    slots = assign(clip)
    assert slots.detected.any()
    for k, hands in enumerate(clip):
        held = [joints for joints in (LEFT, RIGHT) if slots.joints[k, joints].any()]
        owners = [i for j in held for i, h in enumerate(hands) if is_hand(slots.joints[k, j], h)]
        assert len({*owners}) == len(held) == slots.detected[k].sum()
    for slot, joints in enumerate((LEFT, RIGHT)):
        middles = slots.joints[:, joints].mean(axis=1)
        both = slots.detected[1:, slot] & slots.detected[:-1, slot]
        assert (np.linalg.norm(np.diff(middles, axis=0), axis=1)[both] <= STEP + 1e-6).all()


def test_a_slot_is_open_to_another_place_once_its_hand_has_been_away():
    clip = [[hand(0.17, 0.7, 0.97)]] * 5 + [[]] * 4 + [[hand(0.83, 0.7, 0.97)]] * 5
    assert assign(clip).detected[:, 1].tolist() == [True] * 5 + [False] * 4 + [True] * 5


def test_a_slot_does_not_go_to_and_fro_between_two_people():
    """In turns MediaPipe sees the wearer's right hand and one opposite, called right as well."""
    mine, theirs = hand(0.8, 0.75, 0.97), hand(0.3, 0.25, 0.97, size=0.15, arm="above")
    slots = assign([[mine], [theirs]] * 6)
    assert slots.detected.tolist() == [[False, True], [False, False]] * 6
    assert centres(slots, RIGHT)[::2] == pytest.approx([0.8] * 6)


def test_distances_across_wide_frames_count_as_those_along_their_height():
    """0.3 of the width of a frame twice as wide as high is 0.6 of its height: too far at once."""
    clip = [[hand(0.2, 0.7, 0.97)]] * 5 + [[hand(0.5, 0.7, 0.97)]] * 2
    assert assign_slots(clip, aspect=1.0).detected[:, 1].all()
    assert assign_slots(clip, aspect=2.0).detected[:, 1].tolist() == [True] * 5 + [False, True]


# Between detections


def test_skipped_frames_are_interpolated_between_detections():
    detections = [[hand(0.2, 0.5, 0.0)], [hand(0.3, 0.6, 0.0)], []]
    slots = interpolate(assign(detections), length=6, stride=2)
    assert slots.detected[:, 0].tolist() == [True, True, True, False, False, False]
    assert slots.joints[1, LEFT] == pytest.approx(hand(0.25, 0.55, 0.0).joints)
    assert not slots.joints[3].any()
    assert slots.score[1, 0] == 1.0
    assert slots.track[:, 0].tolist() == [0, 0, 0, -1, -1, -1]


def test_frames_between_two_tracks_of_a_slot_are_not_interpolated():
    """0.4 of the frame away the hand is another track, which may take the slot over."""
    clip = [[hand(0.2, 0.7, 0.97)]] * 2 + [[hand(0.6, 0.7, 0.97)]] * 2
    sampled = assign(clip)
    assert sampled.detected[:, 1].all() and len({*sampled.track[:, 1].tolist()}) == 2
    slots = interpolate(sampled, length=8, stride=2)
    assert slots.detected[:, 1].tolist() == [True] * 3 + [False] + [True] * 3 + [False]
    assert not slots.joints[3].any()
    x = [c for c in centres(slots, RIGHT) if c]
    assert x == pytest.approx([0.2] * 3 + [0.6] * 3)


def test_the_share_of_reassigned_frames_outlasts_interpolation():
    sampled = assign([[hand(0.2, 0.5, 0.9 if k == 1 else 0.1)] for k in range(4)])
    assert interpolate(sampled, length=8, stride=2).reassigned == sampled.reassigned == 0.25
