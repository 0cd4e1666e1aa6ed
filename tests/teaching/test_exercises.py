"""Every exercise of the lessons: its solution passes its check, and each mistake that is known fails with its own hint.

A mistake is made here as a student makes it: by another line in the solution that stands in the notebook.
"""

from pathlib import Path

import nbformat
import pytest

from dglab.teaching.checks import EXERCISES, check, exercise

pytestmark = pytest.mark.numerical

LONG = 600.0  # seconds: a test waits for a machine that is busy, where a student would be told

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

# exercise -> what the mistake is -> (line of the solution, line of the mistake), ...
EDITS = {
    "00.2": {
        "counts what is predicted at ignored pixels": [("known = label != 255", "known = label != 256")],
        "takes classes that occur nowhere for zeros": [
            ("if union > 0", "if True"), ("/ union)", "/ union.clamp(min=1))")
        ],
        "divides by the labelled pixels (recall)": [("((p == c) | (t == c)).sum()", "(t == c).sum()")],
        "leaves out a class that is predicted but never labelled": [("if union > 0", "if (t == c).any()")],
        "returns the share of right pixels": [("torch.stack(ious).mean()", "(p == t).double().mean()")],
    },
    "00.3": {
        "takes the biased variance": [("own.var(1)", "own.var(1, correction=0)")],
        "has the momentum the wrong way round": [
            ("mean, variance = 0.0, 1.0", "mean, variance, momentum = 0.0, 1.0, 1 - momentum")
        ],
        "averages all batches alike": [
            ("mean, variance = 0.0, 1.0", "own = [x.transpose(0, 1).flatten(1) for x in batches]\n    return "
             "sum(o.mean(1) for o in own) / len(own), sum(o.var(1) for o in own) / len(own)")
        ],
        "starts the variance at 0": [("0.0, 1.0", "0.0, 0.0")],
        "collects the deviation": [("own.var(1)", "own.std(1)")],
    },
    "01.2": {
        "leaves the pixels in 0 to 255": [(" / 255", "")],
        "takes the unbiased deviation, which is torch's default": [(", correction=0", "")],
        "returns the variance": [("values.std", "values.var")],
        "averages over the channels instead of the pixels": [("mean((1, 2))", "mean(0)"), ("std((1, 2)", "std(0")],
    },
    "01.3": {
        "divides by all pixels, ignored ones included": [("len(labelled)", "labels.numel()")],
        "returns percent": [("return ", "return 100 * ")],
        "averages the shares of single images": [
            ("torch.bincount(labelled, minlength=19) / len(labelled)", "sum(class_shares(one) for one in labels) / 3"),
            ("labelled = labels", "if labels.ndim == 2: return torch.bincount(labels[labels != 255], minlength=19) "
             "/ (labels != 255).sum()\n    labelled = labels"),
        ],
        "returns counts": [(" / len(labelled)", "")],
    },
    "01.4": {"chooses three styles that obey the inequality": [("(0.0, 1.0), (0.0, 2.0)", "(0.0, 1.0), (1.0, 4.0)")]},
    "01.5": {
        "takes one direction of KL only": [("(there + back)", "there")],
        "takes the other direction of KL only": [("(there + back)", "back")],
        "adds over channels instead of averaging": [(".mean()", ".sum()")],
        "forgets the -1/2": [(" - 0.5", "")],
        "puts sigma where sigma squared belongs": [("sigma_i**2", "sigma_i"), ("sigma_j**2", "sigma_j")],
        "returns the distance of each channel": [(".mean()", "")],
    },
    "02.2": {
        "leaves out the power": [(" ** 0.9", "")],
        "takes the power of step / steps alone": [("(1 - step / steps) ** 0.9", "(1 - (step / steps) ** 0.9)")],
        "counts from 1": [("step / steps", "(step + 1) / steps")],
        "returns the factor without the initial rate": [("lr * ", "")],
    },
    "02.3": {
        "divides by all pixels, ignored ones included": [("[labelled].mean()", "[labelled].sum() / labels.numel()")],
        "averages the losses of single images": [
            ("of_label[labelled].mean()", "sum(p[k].mean() for p, k in zip(of_label, labelled)) / len(labels)")
        ],
        "takes ignored pixels for class 0": [("[labelled].mean()", ".mean()")],
        "forgets the minus": [("-of_label", "of_label")],
        "takes the softmax over the rows of the image instead of the classes": [("log_softmax(1)", "log_softmax(2)")],
        "adds the pixels instead of averaging": [(".mean()", ".sum()")],
    },
    "02.4": {
        "averages the parts' means": [(', reduction="sum") / labelled', ") / parts")],
        "adds the parts' means": [(', reduction="sum") / labelled', ")")],
        "keeps the last part's gradient alone": [
            (', reduction="sum") / labelled', ")"), ("[t + g for t, g in zip(total, grad)]", "list(grad)")
        ],
    },
    "03.2": {
        "leaves out the factor (first order)": [("factor @ ", "")],
        "applies the factor to both gradients": [(")) + grad_ds", ")) + factor @ grad_ds")],
        "has the sign of the factor wrong": [("- eta * a_ds", "+ eta * a_ds")],
        "takes the curvature of meta-test": [("- eta * a_ds", "- eta * a_dg")],
        "takes the gradient of meta-test at theta": [("(ahead - c_dg)", "(theta - c_dg)")],
    },
    "03.3": {
        "takes both inner steps along the gradient at theta": [
            ("gradient(ahead, meta_train)", "gradient(model, meta_train)")
        ],
        "stops after one inner step": [("range(2)", "range(1)")],
        "takes the gradient of L_ds at the last point": [
            ("gradient(model, meta_train))]", "gradient(ahead, meta_train))]")
        ],
        "takes the gradient of L_ds after one step": [("gradient(model, meta_train))]", "grad)]")],
        "forgets alpha": [("alpha * ds", "ds")],
        "takes the gradient of L_dg at theta": [("gradient(ahead, meta_test)", "gradient(model, meta_test)")],
    },
    "03.4": {
        "treats the two lists as independent": [
            ("differences.std(ddof=1)", "(np.var(tn, ddof=1) + np.var(bn, ddof=1)) ** 0.5")
        ],
        "takes 1.96 for the quantile": [("stats.t.ppf(0.975, len(differences) - 1)", "1.96")],
        "takes the exact normal quantile": [("stats.t.ppf(0.975, len(differences) - 1)", "stats.norm.ppf(0.975)")],
        "divides the variance by n instead of n - 1": [("ddof=1", "ddof=0")],
        "forgets the root of n": [(" / len(differences) ** 0.5", "")],
        "has the difference the other way round": [("subtract(tn, bn)", "subtract(bn, tn)")],
        "leaves 10 % outside instead of 5 %": [("0.975", "0.95")],
    },
    "04.2": {
        "has prior and 1 - prior the wrong way round": [("mean = ", "prior = 1 - prior\n    mean = ")],
        "ignores the prior": [("mean = ", "prior = 0\n    mean = ")],
        "blends the deviations instead of the variances": [
            ("x.var((0, 2, 3), correction=0)", "x.std((0, 2, 3), correction=0)"),
            ("layer.running_var", "layer.running_var.sqrt()"), ("(variance + layer.eps)", "(variance**2 + layer.eps)"),
        ],
        "takes the unbiased variance": [(", correction=0", "")],
        "blends the outputs of TN and source BN": [
            ("normalized = ", "def bn(m, v): return torch.nn.functional.batch_norm(x, m, v, layer.weight, layer.bias)\n"
             "    own = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)\n    return (1 - prior) * bn(*own) + "
             "prior * bn(layer.running_mean, layer.running_var)\n    normalized = ")
        ],
        "blends the mean alone": [("variance = (1 - prior) * ", "variance = "), (" + prior * layer.running_var", "")],
        "forgets the layer's scale and shift": [
            ("return layer.weight.view(1, -1, 1, 1) * normalized + layer.bias.view(1, -1, 1, 1)", "return normalized")
        ],
    },
    "04.3": {
        "averages the variances and forgets the spread of the means": [(" + (means - mean) ** 2", "")],
        "lets every batch weigh the same": [("[len(x) for", "[1 for")],
        "averages means and variances as they are": [("[len(x) for", "[1 for"), (" + (means - mean) ** 2", "")],
        "takes the last batch": [("mean = (weights * means).sum(0)", "return means[-1], variances[-1]")],
        "takes the unbiased variance": [
            ("return mean, (weights * (variances + (means - mean) ** 2)).sum(0)",
             "return mean, torch.cat(batches).var((0, 2, 3))")
        ],
    },
    "04.4": {
        "divides by the variance": [("(layer.running_var + layer.eps).sqrt()", "layer.running_var")],
        "forgets the absolute value": [("off.abs()", "off")],
        "divides by the batch's own deviation": [("layer.running_var", "x.var((0, 2, 3), correction=0)")],
        "does not divide": [("(off.abs() / (layer.running_var + layer.eps).sqrt())", "off.abs()")],
        "returns one number for each channel": [(".sqrt()).mean()", ".sqrt())")],
    },
    "05.2": {
        "takes the oldest images of the bank": [("self.bank[-self.M :]", "self.bank[: self.M]")],
        "stores the image before it chooses": [
            ("batch = ", "self.bank = [*self.bank, image][-self.Q :]\n        batch = ")
        ],
        "normalizes the image alone": [("[image, *self.bank[-self.M :]]", "[image]")],
        "returns the logits of the neighbours, too": [("(batch)[:1]", "(batch)")],
    },
    "05.3": {
        "forgets the gap": [(" - min_gap", "")],
        "takes the most distant": [("key=lambda place: distances[place]", "key=lambda place: -distances[place]")],
        "prefers the newer of equal ones": [("sorted(places", "sorted(reversed(places)")],
        "returns them in the order of arrival": [
            ("return sorted(", "return sorted(sorted("), ("[:neighbors]", "[:neighbors])")
        ],
        "leaves out the oldest instead of the newest": [
            ("range(len(distances) - min_gap)", "range(min_gap, len(distances))")
        ],
        "returns the distances": [
            ("return sorted(", "return [distances[p] for p in sorted("), ("[:neighbors]", "[:neighbors]]")
        ],
    },
    "05.4": {
        "does not divide by the sum": [(" / (there + back).sum()", "")],
        "divides by the mean": [(".sum()", ".mean()")],
        "takes one direction of KL": [("(there + back) / (there + back)", "there / there")],
        "compares means alone": [("(there + back) / (there + back)", "square / square")],
        "takes the softmax": [("(there + back) / (there + back).sum()", "(there + back).softmax(0)")],
    },
    "06.2": {
        "averages the recordings' mIoUs": [
            ("counts = sum", "if len(matrices) > 1: return sum(pooled_miou([m]) for m in matrices) / len(matrices)\n"
             "    counts = sum")
        ],
        "takes classes that occur nowhere for zeros": [
            ("(hits[union > 0] / union[union > 0])", "(hits / union.clamp(min=1))")
        ],
        "counts the hits twice in the union": [(" - hits", "")],
        "divides by the rows alone": [("counts.sum(0) + counts.sum(1) - hits", "counts.sum(1)")],
    },
    "06.3": {
        "takes every training for a draw of its own": [("np.mean(differences, axis=1)", "np.ravel(differences)")],
        "averages over the recordings: the trainings become the draws": [("axis=1", "axis=0")],
        "takes 1.96 for the quantile": [("stats.t.ppf(0.975, len(each) - 1)", "1.96")],
        "divides the variance by n instead of n - 1": [("ddof=1", "ddof=0")],
        "forgets the root of n": [(" / len(each) ** 0.5", "")],
    },
    "07.2": {
        "compares with the mean of all, itself included": [
            ("(totals.sum() - totals) / (len(totals) - 1)", "totals.mean()")
        ],
        "compares with the sum of the others": [(" / (len(totals) - 1)", "")],
        "has the fraction the other way round": [("totals / others", "others / totals")],
        "averages the ratios of single images": [
            ("totals = q.sum(1)", "return (q / ((q.sum(0) - q) / (len(q) - 1))).mean(1)")
        ],
    },
    "07.3": {
        "averages the angles of the parameters": [
            ("c, d = (", "if len(g_c) > 1: return sum(angle([a], [b]) for a, b in zip(g_c, g_d)) / len(g_c)\n"
             "    c, d = (")
        ],
        "returns radians": [("torch.rad2deg(torch.acos(c", "(torch.acos(c")],
        "returns the cosine": [("torch.rad2deg(torch.acos(c", "((c")],
        "takes the angle between the lines, at most 90": [("c @ d /", "(c @ d).abs() /")],
    },
    "08.2": {
        "takes the logarithm to base 2": [(".mean()", ".mean() / np.log(2)")],
        "takes the softmax over the rows of the image": [("softmax(1)", "softmax(2)"), (".sum(1)", ".sum(2)")],
        "takes the mean over the classes, too": [(".sum(1).mean()", ".mean()")],
        "adds the pixels instead of averaging": [(".mean()", ".sum()")],
        "forgets the minus": [("return -", "return ")],
    },
    "08.3": {
        "correlates the values (Pearson)": [("np.argsort(np.argsort(values))", "values")],
        "takes argsort for ranks": [("np.argsort(np.argsort(values))", "np.argsort(values)")],
        "ranks one list downwards": [("(x, y)]", "(x, np.negative(y))]")],
        "takes the covariance of the ranks": [("corrcoef", "cov")],
    },
    "08.4": {
        "has the layers the wrong way round": [("if name", "if not name")],
        "uses target statistics everywhere": [('name.startswith(("stem", "layer1"))', "True")],
        "uses source statistics everywhere": [('"stem", "layer1"', '"Stem", "Layer1"')],
        "takes the unbiased variance": [(", correction=0", "")],
        "returns the deviation for the variance": [("x.var", "x.std")],
        "leaves out the stem": [('("stem", "layer1")', '"layer1"')],
    },
    "09.2": {
        "lets the interval shrink with n instead of its root": [("factor**2", "factor")],
        "rounds to the nearest number": [("math.floor(trainings * factor**2) + 1", "round(trainings * factor**2)")],
        "has the ratio the other way round": [("half_width / abs(mean)", "abs(mean) / half_width")],
        "forgets how many trainings there were": [("trainings * factor**2", "factor**2")],
    },
    "09.3": {
        "forgets that two trainings differ, not one": [("deviation * 2**0.5", "deviation")],
        "adds the deviations instead of the variances": [("2**0.5", "2")],
        "counts losses of that size, too": [("return ", "return 2 * ")],
        "returns the chance of a smaller gain": [("norm.sf", "norm.cdf")],
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(exercise, "SECONDS", LONG)


def cells(number):
    """The imports of a lesson's exercises, and the solution of one of them."""
    [path] = NOTEBOOKS.glob(f"{number[:2]}_*.ipynb")
    by_id = {cell["id"]: cell.source for cell in nbformat.read(path, 4).cells}
    return by_id["exercise-imports"], by_id[f"answer-{number.replace('.', '-')}"]


def written(number, *edits):
    """The student's function: the solution, with some of its lines written otherwise."""
    imports, solution = cells(number)
    for right, wrong in edits:
        assert right in solution, f"the solution of {number} has no {right!r}"
        solution = solution.replace(right, wrong)
    names = {}
    exec(imports, names)
    exec(solution, names)
    return names[EXERCISES[number].name]


@pytest.mark.parametrize("number", EXERCISES)
def test_the_solution_passes_its_check(number):
    for seed in range(3):
        verdict = check(number, written(number), seed)
        assert verdict.right, verdict


def test_every_mistake_is_made():
    known = {number: [mistake.what for mistake in exercise.mistakes] for number, exercise in EXERCISES.items()}
    assert known == {number: list(edits) for number, edits in EDITS.items()}


@pytest.mark.parametrize(("number", "what"), [(number, what) for number, edits in EDITS.items() for what in edits])
def test_a_mistake_gets_its_own_hint(number, what):
    [mistake] = [mistake for mistake in EXERCISES[number].mistakes if mistake.what == what]
    verdict = check(number, written(number, *EDITS[number][what]))
    assert not verdict.right and verdict.hint == mistake.hint


@pytest.mark.parametrize("number", EXERCISES)
def test_hints_do_not_give_the_solution_away(number):
    """No line of the solution's code stands in a hint."""
    hints = " ".join([EXERCISES[number].hint, *(mistake.hint for mistake in EXERCISES[number].mistakes)])
    body = cells(number)[1].split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
    for line in body.splitlines():
        line = line.split("  #")[0].strip().removeprefix("return ")
        assert len(line) < 8 or line not in hints


def test_every_coding_exercise_of_a_lesson_has_its_check():
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        found = nbformat.read(path, 4).cells
        numbers = [n for n in EXERCISES if n.startswith(path.stem[:2])]
        checks = [cell.source for cell in found if "check" in cell.metadata.get("tags", [])]
        assert checks == [f'check("{number}", {EXERCISES[number].name})' for number in numbers]
