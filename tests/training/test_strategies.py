"""Adversarial and consistency training against closed forms, dense derivatives and plain Keras."""

import keras
import numpy as np
import pytest
from keras import ops

from kexue.errors import ConfigError
from kexue.training import FGM, PGD, VAT, AdamW, GradientPenalty, RDrop, with_strategy
from kexue.training.strategies import Problem, Strategy
from kexue.training.strategies.base import Update
from kexue.training.strategies.divergence import Divergence

TABLE = "table/embeddings"
IDS = np.array([[0, 1, 2], [3, 1, 1], [4, 2, 0], [2, 2, 3]], "int32")
CLASSES = np.array([0, 2, 1, 1], "int32")
LOGISTIC = np.array([[1.0], [0.0], [0.0], [1.0]], "float32")


def classifier(outputs=3, dropout=0.0, hidden=None, seed=0, dtype=None, batch_norm=False):
    """Mean of embeddings, perhaps a hidden layer, logits."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 4, embeddings_initializer="normal", name="table", dtype=dtype)(ids)
    x = keras.layers.GlobalAveragePooling1D(dtype=dtype)(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
    if hidden:
        x = keras.layers.Dense(hidden, activation="tanh", name="hidden", dtype=dtype)(x)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype)(x)
    model = keras.Model(ids, keras.layers.Dense(outputs, name="logits", dtype="float32")(x))
    scaled = [v.numpy() * (20.0 if v.path == TABLE else 1.0) for v in model.weights]
    model.set_weights(scaled)
    return model


def sparse():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def arrays(model):
    return {v.path: ops.convert_to_numpy(v.value).astype("float64") for v in model.trainable_variables}


def trained(model, strategy, x=IDS, y=CLASSES, rate=0.5, loss=None, optimizer=None, **batch):
    """Loss in the logs, and by how much one step of gradient descent moved each weight, divided by the rate."""
    before = arrays(model)
    model = with_strategy(model, strategy)
    model.compile(optimizer or keras.optimizers.SGD(rate), loss or sparse(), metrics=["accuracy"])
    logs = model.train_on_batch(x, y, return_dict=True, **batch)
    after = arrays(model)
    return float(logs["loss"]), {path: (before[path] - after[path]) / rate for path in before}


def logistic(table, kernel, bias):
    """Loss and gradients of a logistic regression on mean embeddings, in float64."""
    counts = np.stack([np.bincount(row, minlength=5) for row in IDS]) / IDS.shape[1]
    z = counts @ table @ kernel + bias
    p = 1 / (1 + np.exp(-z))
    loss = np.mean(np.logaddexp(0, z) - LOGISTIC * z)
    back = (p - LOGISTIC) / len(IDS)
    return loss, counts.T @ back @ kernel.T, (counts @ table).T @ back, back.sum(0)


def logistic_model():
    model = classifier(outputs=1)
    w = arrays(model)
    return model, w[TABLE], w["logits/kernel"], w["logits/bias"]


def binary():
    return keras.losses.BinaryCrossentropy(from_logits=True)


@pytest.mark.parametrize("clean", [0.0, 1.0])
def test_fgm_is_the_closed_form(clean):
    model, *weights = logistic_model()
    plain = logistic(*weights)
    delta = 0.7 * plain[1] / np.linalg.norm(plain[1])
    expected = logistic(weights[0] + delta, *weights[1:])
    loss, moved = trained(model, FGM(epsilon=0.7, clean_weight=clean), y=LOGISTIC, loss=binary())
    assert loss == pytest.approx(expected[0] + clean * plain[0], rel=1e-5)
    for path, want, other in zip([TABLE, "logits/kernel", "logits/bias"], expected[1:], plain[1:], strict=True):
        np.testing.assert_allclose(moved[path], want + clean * other, atol=2e-6)


def test_pgd_is_the_closed_form_and_stays_in_the_ball():
    model, *weights = logistic_model()
    delta, long = np.zeros_like(weights[0]), []
    for _ in range(4):
        gradient = logistic(weights[0] + delta, *weights[1:])[1]
        delta = delta + 0.4 * gradient / np.linalg.norm(gradient)
        long.append(np.linalg.norm(delta))
        delta *= min(1.0, 1.0 / np.linalg.norm(delta))
    assert long[1] < 1.0 < long[2]  # both sides of the projection
    expected = logistic(weights[0] + delta, *weights[1:])
    loss, moved = trained(model, PGD(epsilon=1.0, step_size=0.4, steps=4), y=LOGISTIC, loss=binary())
    assert loss == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(moved[TABLE], expected[1], atol=2e-6)


def test_one_long_step_of_pgd_is_fgm():
    one = trained(classifier(hidden=6), PGD(epsilon=0.5, step_size=2.0, steps=1))
    other = trained(classifier(hidden=6), FGM(epsilon=0.5))
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    for path, value in one[1].items():
        np.testing.assert_allclose(value, other[1][path], atol=1e-6)


def test_the_gradient_penalty_against_finite_differences():
    """Loss and penalty in float64 with the gradient in closed form, and central differences of that."""
    model, *weights = logistic_model()
    epsilon, h = 0.8, 1e-5

    def total(table, kernel, bias):
        loss, gradient, *_ = logistic(table, kernel, bias)
        return loss + epsilon / 2 * np.sum(gradient**2)

    loss, moved = trained(model, GradientPenalty(epsilon=epsilon), y=LOGISTIC, loss=binary())
    assert loss == pytest.approx(total(*weights), rel=1e-5)
    assert loss - logistic(*weights)[0] > 1e-3  # the penalty is there
    for k, path in enumerate([TABLE, "logits/kernel", "logits/bias"]):
        numeric = np.zeros_like(weights[k])
        for place in np.ndindex(*numeric.shape):
            ends = []
            for sign in (1, -1):
                changed = [w.copy() for w in weights]
                changed[k][place] += sign * h
                ends.append(total(*changed))
            numeric[place] = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(moved[path], numeric, atol=5e-6)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def network(weights, table):
    counts = np.stack([np.bincount(row, minlength=5) for row in IDS]) / IDS.shape[1]
    return softmax(counts @ table @ weights["logits/kernel"] + weights["logits/bias"])


def kl(p, q):
    return np.mean(np.sum(p * np.log(p / q), -1))


def test_vat_finds_the_greatest_eigenvector_of_the_dense_hessian():
    model = classifier()
    w = arrays(model)
    counts = np.stack([np.bincount(row, minlength=5) for row in IDS]) / IDS.shape[1]
    p = network(w, w[TABLE])
    hessian = np.zeros((20, 20))
    for row, q in zip(counts, p, strict=True):
        jacobian = np.kron(row, w["logits/kernel"].T)  # (classes, table)
        hessian += jacobian.T @ (np.diag(q) - np.outer(q, q)) @ jacobian / len(p)
    values, vectors = np.linalg.eigh(hessian)
    assert values[-2] < 0.9 * values[-1]
    found = []

    class Spy(VAT):
        def direction(self, problem, constant):
            d = super().direction(problem, constant)
            found.append(ops.convert_to_numpy(d[0]))
            return d

    strategy = Spy(epsilon=0.6, xi=0.05, steps=60, weight=2.0)
    with_strategy(model, strategy).compile(keras.optimizers.SGD(0.5), sparse(), run_eagerly=True)
    loss = float(model.train_on_batch(IDS, CLASSES))
    assert abs(found[0].ravel() @ vectors[:, -1]) > 0.998
    # The loss in the logs is cross entropy plus the divergence along what was found.
    entropy = -np.mean(np.log(p[np.arange(4), CLASSES]))
    assert loss == pytest.approx(entropy + 2.0 * kl(p, network(w, w[TABLE] + 0.6 * found[0])), rel=1e-5)
    best = max(kl(p, network(w, w[TABLE] + s * 0.6 * vectors[:, -1].reshape(5, 4))) for s in (1, -1))
    assert kl(p, network(w, w[TABLE] + 0.6 * found[0])) > 0.9 * best


def test_vat_treats_the_clean_output_as_constant():
    """Gradient by the bias against differences of cross entropy + KL(constant || moved)."""
    model = classifier()
    w = arrays(model)
    p, delta = network(w, w[TABLE]), []

    class Fixed(VAT):
        def direction(self, problem, constant):
            d = np.zeros((5, 4), "float32")
            d[1, 2] = 1.0
            delta.append(0.9 * d)
            return [ops.convert_to_tensor(d)]

    _, moved = trained(model, Fixed(epsilon=0.9))

    def total(bias):
        changed = {**w, "logits/bias": bias}
        clean = network(changed, w[TABLE])
        return -np.mean(np.log(clean[np.arange(4), CLASSES])) + kl(p, network(changed, w[TABLE] + delta[0]))

    bias = w["logits/bias"]
    numeric = [(total(bias + 1e-5 * e) - total(bias - 1e-5 * e)) / 2e-5 for e in np.eye(3)]
    np.testing.assert_allclose(moved["logits/bias"], numeric, atol=5e-6)


class TwoFaced(keras.layers.Layer):
    """Adds another number in each pass: dropout that can be computed by hand."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seed_generator_state")

    def call(self, x):
        self.calls.assign(self.calls + 1.0)
        return x + ops.convert_to_tensor(self.calls) * ops.convert_to_tensor([0.3, -0.2, 0.1])


@pytest.mark.parametrize("weighted", [False, True])
def test_rdrop_by_hand(weighted):
    z = np.random.default_rng(0).normal(size=(4, 3))
    inputs = keras.Input((3,))
    model = keras.Model(inputs, TwoFaced()(keras.layers.Dense(3, name="logits")(inputs)))
    model.get_layer("logits").set_weights([np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    weight = np.array([1.0, 0.0, 2.0, 0.5]) if weighted else np.ones(4)
    shift = np.array([0.3, -0.2, 0.1])
    p, q = softmax(z + shift), softmax(z + 2 * shift)
    rows = np.arange(4)
    entropies = [-np.log(each[rows, CLASSES]) for each in (p, q)]
    apart = np.sum(p * np.log(p / q) + q * np.log(q / p), -1)
    expected = np.mean(weight * (sum(entropies) / 2 + 4.0 / 4 * apart))
    batch = {"sample_weight": weight.astype("float32")} if weighted else {}
    loss, _ = trained(model, RDrop(), x=z.astype("float32"), **batch)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert float(model.layers[-1].calls.value) == 2.0  # random states are those after both passes


def test_rdrop_without_dropout_is_cross_entropy_and_with_it_is_not():
    plain = trained(classifier(hidden=6), None)
    same = trained(classifier(hidden=6), RDrop())
    assert same[0] == pytest.approx(plain[0], rel=1e-6)
    for path, value in plain[1].items():
        np.testing.assert_allclose(same[1][path], value, atol=1e-6)
    dropped = trained(classifier(hidden=6, dropout=0.5), RDrop())[0]
    without = trained(classifier(hidden=6, dropout=0.5), RDrop(alpha=0.0))[0]
    assert dropped > without + 1e-4


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_bernoulli_divergence_by_hand(from_logits):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    expected = np.mean(np.sum(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)), (1, 2)))
    given = (a, b) if from_logits else (p, q)
    problem = type("P", (), {"sample_weight": None})
    value = Divergence("sigmoid", from_logits)(problem, *[ops.convert_to_tensor(t, "float32") for t in given])
    assert float(value) == pytest.approx(expected, rel=1e-5)


STRATEGIES = {
    "fgm": FGM(epsilon=0.3, clean_weight=0.5),
    "pgd": PGD(epsilon=0.5, step_size=0.2),
    "penalty": GradientPenalty(epsilon=0.5),
    "vat": VAT(epsilon=0.5, xi=0.1),
    "rdrop": RDrop(),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_rate_of_zero_leaves_the_weights_bit_for_bit(name):
    model = classifier(hidden=6, dropout=0.3)
    before = [v.numpy().copy() for v in model.trainable_variables]
    with_strategy(model, STRATEGIES[name]).compile(keras.optimizers.SGD(0.0), sparse())
    model.fit(IDS, CLASSES, batch_size=2, epochs=2, verbose=0)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


SLOW = [pytest.param(name, marks=[pytest.mark.slow] if name in ("pgd", "penalty") else []) for name in STRATEGIES]


@pytest.mark.parametrize("name", SLOW)
def test_fit_with_everything(name):
    """Fit, validation, metrics, accumulation, a schedule, sample weights, random dropout: the loss falls."""
    model = with_strategy(classifier(hidden=8, dropout=0.2, batch_norm=True), STRATEGIES[name])
    model.compile(AdamW(0.05, gradient_accumulation_steps=2), sparse(), metrics=["accuracy"])
    weights = np.array([1.0, 0.5, 1.0, 2.0], "float32")
    data = (np.tile(IDS, (4, 1)), np.tile(CLASSES, 4))
    history = model.fit(
        *data,
        sample_weight=np.tile(weights, 4),
        batch_size=4,
        epochs=15,
        shuffle=False,
        validation_data=data,
        verbose=0,
    ).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert int(model.optimizer.iterations) == 15 * 4 // 2


@pytest.mark.parametrize("name", ["fgm", "pgd", "penalty"])
def test_accumulation_of_one_batch_twice_is_the_batch(name):
    one = trained(classifier(hidden=6), STRATEGIES[name])[1]
    model = with_strategy(classifier(hidden=6), STRATEGIES[name])
    before = arrays(model)
    model.compile(keras.optimizers.SGD(0.5, gradient_accumulation_steps=2), sparse())
    for _ in range(2):
        model.train_on_batch(IDS, CLASSES)
    for path, value in arrays(model).items():
        np.testing.assert_allclose((before[path] - value) / 0.5, one[path], atol=2e-6)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fgm", "mixed_bfloat16"), ("fgm", "mixed_float16"), ("penalty", "mixed_float16"), ("rdrop", "mixed_float16")],
)
def test_mixed_precision_is_near_float32(name, dtype):
    exact = trained(classifier(hidden=6), STRATEGIES[name])
    optimizer = keras.optimizers.SGD(0.5)
    if dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)
    near = trained(classifier(hidden=6, dtype=dtype), STRATEGIES[name], optimizer=optimizer)
    assert near[0] == pytest.approx(exact[0], rel=0.03)
    for path, value in exact[1].items():
        np.testing.assert_allclose(near[1][path], value, atol=0.03 * np.abs(value).max() + 2e-3)


def test_only_the_first_pass_counts_for_statistics_and_metrics():
    plain, twice = classifier(batch_norm=True), classifier(batch_norm=True)
    trained(plain, None)
    trained(twice, FGM(epsilon=5.0))
    for one, other in zip(plain.non_trainable_variables, twice.non_trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)
    assert plain.get_metrics_result()["accuracy"] == twice.get_metrics_result()["accuracy"]


def test_losses_of_layers_are_minimised_too():
    def model():
        made = classifier(hidden=6)
        made.get_layer("logits").kernel.regularizer = keras.regularizers.L2(0.1)
        return made

    free, bound = trained(classifier(hidden=6), FGM(epsilon=1e-6)), trained(model(), FGM(epsilon=1e-6))
    kernel = arrays(model())["logits/kernel"]
    assert bound[0] - free[0] == pytest.approx(0.1 * np.sum(kernel**2), rel=1e-4)
    np.testing.assert_allclose(bound[1]["logits/kernel"] - free[1]["logits/kernel"], 0.2 * kernel, atol=5e-6)


def test_the_same_numbers_for_every_backend():
    """Three steps of each without random numbers, against figures computed once in float64 by central differences."""
    model, *weights = logistic_model()
    reference = logistic(*weights)[0]
    with_strategy(model, FGM(epsilon=0.3)).compile(keras.optimizers.SGD(0.5), binary())
    table, kernel, bias = weights
    for _ in range(3):
        gradient = logistic(table, kernel, bias)[1]
        shifted = table + 0.3 * gradient / np.linalg.norm(gradient)
        expected, *steps = logistic(shifted, kernel, bias)
        assert float(model.train_on_batch(IDS, LOGISTIC)) == pytest.approx(expected, rel=1e-5)
        table, kernel, bias = (w - 0.5 * g for w, g in zip((table, kernel, bias), steps, strict=True))
    assert expected < reference


def test_a_strategy_of_ones_own():
    class Sharp(Strategy):
        def update(self, problem: Problem) -> Update:
            _, outputs, g = problem.gradient(problem.forward, problem.values)
            up = [w + 0.05 * d for w, d in zip(problem.values, problem.unit(g), strict=True)]
            loss, _, g = problem.gradient(problem.forward, up)
            return Update(loss, outputs, g)

    model, *weights = logistic_model()
    plain = logistic(*weights)
    size = np.sqrt(sum(np.sum(g**2) for g in plain[1:]))
    expected = logistic(*[w + 0.05 * g / size for w, g in zip(weights, plain[1:], strict=True)])
    loss, moved = trained(model, Sharp(), y=LOGISTIC, loss=binary())
    assert loss == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(moved["logits/kernel"], expected[2], atol=2e-6)


def test_it_can_be_taken_off_and_is_not_saved(tmp_path):
    model = with_strategy(classifier(hidden=6), FGM())
    model.compile(keras.optimizers.SGD(0.5), sparse())
    model.train_on_batch(IDS, CLASSES)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(IDS, verbose=0), model.predict(IDS, verbose=0))
    assert type(model) is keras.Model or type(model).__name__ == "Functional"
    expected = float(model.evaluate(IDS, CLASSES, verbose=0))
    with_strategy(model, None)
    assert float(model.train_on_batch(IDS, CLASSES)) == pytest.approx(expected, rel=1e-5)


def test_the_first_number_may_stand_alone():
    assert FGM(2.0) == FGM(epsilon=2.0)
    assert (PGD(3.0).epsilon, GradientPenalty(0.1).epsilon, VAT(0.5).epsilon, RDrop(1.0).alpha) == (3.0, 0.1, 0.5, 1.0)
    with pytest.raises(TypeError):
        PGD(1.0, 0.3)  # two lengths would be mistaken for each other


def test_what_cannot_work_is_told():
    model = classifier()
    with pytest.raises(ConfigError, match=r"no trainable variable.*table/embeddings"):
        with_strategy(model, FGM(variables="word"))
    with pytest.raises(ConfigError, match="must be a Strategy"):
        with_strategy(model, "fgm")
    with pytest.raises(ConfigError, match="not built"):
        with_strategy(keras.Sequential([keras.layers.Dense(2)]), FGM())
    for make in (
        lambda: FGM(epsilon=0),
        lambda: FGM(clean_weight=-1),
        lambda: PGD(steps=0),
        lambda: RDrop(kind="other"),
        lambda: RDrop(alpha=-1),
        lambda: VAT(weight=0),
    ):
        with pytest.raises(ConfigError):
            make()
    a = keras.Input((2,))
    two = keras.Model(a, {"one": keras.layers.Dense(2)(a), "two": keras.layers.Dense(2)(a)})
    with pytest.raises(ConfigError, match="several outputs"):
        with_strategy(two, RDrop())
    with pytest.raises(ConfigError, match="no output 'three'"):
        with_strategy(two, RDrop(output="three"))
    with_strategy(two, RDrop(output="two"))
