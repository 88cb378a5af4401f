"""A checkpoint is gone on with as it was written, or refused in one sentence."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hiersearch.errors import FileFormatError  # noqa: E402
from hiersearch.networks import TrainingSettings, train  # noqa: E402
from tests.networks.training.small_training import TINY, squares  # noqa: E402

IMAGES, INSTANCES = squares()
CLASSES = [np.minimum(labels, 1) for labels in INSTANCES]
SETTINGS = TrainingSettings(**{**TINY, "steps": 4, "validation": 0.25, "reading": "classes"})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return what a training of four steps leaves, with one validation."""
    file = tmp_path_factory.mktemp("whole") / "checkpoint.pt"
    train(IMAGES, CLASSES, replace(SETTINGS, steps=4), checkpoint=file)
    return torch.load(file, weights_only=True)


def standing(**changes):
    return lambda content: {**content, "standing": {**content["standing"], **changes}}


def without(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


def in_standing(name, change):
    def changed(content):
        old = content["standing"]
        return {**content, "standing": {**old, name: change(old[name])}}

    return changed


def expanded(weights):
    return {name: torch.zeros(1).expand(10**6, 10**6) for name in weights}


def misshapen(weights):
    return {**weights, "head.bias": torch.zeros(7)}


def first_moment(state):
    return {**state, "state": {**state["state"], 0: {}}}


def of_another_shape(state):
    own = {**state["state"][0], "exp_avg": torch.zeros(1)}
    return {**state, "state": {**state["state"], 0: own}}


FAULTS = {
    "no identity": (without("identity"), "does not say which training it is of"),
    "identity of another kind": (lambda c: {**c, "identity": 5}, "which training it is of"),
    "no standing": (without("standing"), "does not say where the training stood"),
    "standing of another kind": (lambda c: {**c, "standing": [1]}, "where the training stood"),
    "a standing that lacks something": (lambda c: {**c, "standing": {}}, "where the training"),
    "a standing with more": (standing(more=1), "where the training stood"),
    "no version": (without("version"), "its format has version None"),
    "a tensor as version": (lambda c: {**c, "version": torch.ones(3)}, "something else than"),
    "a tensor in the identity": (
        lambda c: {**c, "identity": {**c["identity"], "steps": torch.ones(2)}},
        "something else than",
    ),
    "losses that are none": (standing(losses=["a"] * 4), "must be numbers"),
    "losses of another kind": (standing(losses=None), "something else than"),
    "an infinite loss": (standing(losses=[1.0, float("inf")]), "finite losses of at most 4"),
    "more losses than steps": (standing(losses=[1.0] * 5), "finite losses of at most 4 steps"),
    "scores of no step": (standing(scores=[{"class_iou": 1.0}]), "something else than"),
    "scores of a step to come": (
        standing(losses=[1.0], scores=[{"step": 4}], best_step=4),
        "steps that were made",
    ),
    "scores twice": (standing(scores=[{"step": 4}, {"step": 4}]), "steps that were made"),
    "a best step of no validation": (standing(best_step=3), "those of a validation"),
    "no best weights": (standing(best_weights=None), "those of a validation"),
    "best weights of no validation": (standing(scores=[], best_step=0), "those of a validation"),
    "time of another kind": (standing(seconds="long"), "must be numbers"),
    "weights of stride 0": (in_standing("weights", expanded), "shape (1000000, 1000000)"),
    "weights of other shapes": (in_standing("weights", misshapen), "those of this network"),
    "weights of another kind": (standing(weights=[1]), "something else than"),
    "best weights of other shapes": (in_standing("best_weights", misshapen), "this network"),
    "no state of the optimiser": (standing(optimiser={}), "something else than"),
    "an optimiser that has not begun": (standing(optimiser={"state": {}}), "its optimiser is not"),
    "an optimiser without moments": (in_standing("optimiser", first_moment), "optimiser is not"),
    "moments of other shapes": (in_standing("optimiser", of_another_shape), "optimiser is not"),
    "a list": (lambda c: [c], "it is something else"),
    "a tensor": (lambda c: torch.ones(2), "it is something else"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_no_training_wrote_is_refused_in_one_sentence(tmp_path, written, fault):
    change, message = FAULTS[fault]
    file = tmp_path / "checkpoint.pt"
    torch.save(change(written), file)
    with pytest.raises(FileFormatError) as error:
        train(IMAGES, CLASSES, SETTINGS, checkpoint=file)
    text = str(error.value)
    assert text.startswith(f"cannot read {file} as a checkpoint: ")
    assert message in text
    assert "\n" not in text


def test_settings_of_the_optimiser_come_from_the_training(tmp_path, written):
    # They follow from its identity; whatever else the file says of them does not count.
    whole = train(IMAGES, CLASSES, SETTINGS)
    for groups in ([], [{"lr": "x", "betas": None}]):
        file = tmp_path / "checkpoint.pt"
        state = {**written["standing"]["optimiser"], "param_groups": groups}
        torch.save(standing(optimiser=state)(written), file)
        done = train(IMAGES, CLASSES, SETTINGS, checkpoint=file)
        assert all(torch.equal(done.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_file_of_module_objects_is_refused_without_advice(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "checkpoint.pt")
    with pytest.raises(FileFormatError, match="damaged, or holds what would") as error:
        train(IMAGES, CLASSES, SETTINGS, checkpoint=tmp_path / "checkpoint.pt")
    assert "weights_only" not in str(error.value)
